// ConsumerSet: the queues that one connection consumes. Each is declared, bound and consumed when a
// link comes up, and again when its consumer is cancelled (its queue was deleted), when the channel
// is closed, or when a probe finds that nobody consumes a queue of ours. Loop thread; handlers are
// called there and must not wait.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "api/amqp/broker_link.h"
#include "api/amqp/declarer.h"
#include "base/event_loop.h"

namespace kumoi::amqp {

class ConsumerSet {
public:
    using Id = uint64_t;
    struct Handlers {
        std::function<void(Delivery&&)> delivered;
        std::function<void(bool consuming)> changed;  // may be empty
    };

    // `dead` is told about a link that failed outside of the calls below.
    ConsumerSet(EventLoop& loop, Declarer& declarer, std::function<void(Error)> dead);

    // An Error of these means that the link is dead.
    Result<void> add(Id id, Subscription subscription, Handlers handlers);
    // Ends consuming; no delivery comes after it. Unacknowledged ones stay with the broker.
    Result<void> remove(Id id, bool delete_queue);
    Result<void> link_up(BrokerLink& link);
    void link_down();
    void deliver(Delivery delivery);
    Result<void> cancelled(const std::string& consumer_tag);
    Result<void> channel_closed();
    // True when it was written; false when the channel it came on is gone.
    Result<bool> ack(uint64_t epoch, uint64_t delivery_tag);
    Result<bool> requeue(uint64_t epoch, uint64_t delivery_tag);
    Result<void> probe();
    size_t consuming() const;

private:
    struct Consumer {
        Subscription subscription;
        Handlers handlers;
        bool up = false;
        int64_t failures = 0;
        EventLoop::TimerId retry = 0;
    };
    Result<void> set_up(Id id);
    Result<void> try_set_up(Id id, Consumer& consumer);
    Result<void> set_up_all();
    void set_state(Consumer& consumer, bool up);
    void retry_later(Id id, Consumer& consumer, const Error& error);

    EventLoop& loop_;
    Declarer& declarer_;
    const std::function<void(Error)> dead_;
    BrokerLink* link_ = nullptr;
    uint64_t epoch_ = 0;
    std::map<Id, Consumer> consumers_;
};

}  // namespace kumoi::amqp
