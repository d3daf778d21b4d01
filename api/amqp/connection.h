// Connection: one connection to whichever broker of the transport_url answers, kept up for ever.
// One thread polls it: the one that runs its EventLoop. Connecting waits on a thread of its own, so
// that timers of the loop keep time. When the link is lost, the next host is tried after a pause,
// queues are declared and consumed again, and unconfirmed messages are sent again.
//
// Methods may be called from any thread unless they say otherwise; callbacks come on the loop's
// thread. Time, randomness and the way to a broker are
// injected.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "api/amqp/amqp_options.h"
#include "api/amqp/broker_link.h"
#include "api/amqp/consumer_set.h"
#include "api/amqp/declarer.h"
#include "api/amqp/host_rotation.h"
#include "api/amqp/outbox.h"
#include "api/amqp/transport_url.h"
#include "base/event_loop.h"
#include "base/metrics.h"

namespace kumoi::amqp {

// Starts one attempt to connect to a host and calls back on the loop's thread, once, with the link
// or why there is none (code Unauthenticated: the host answered and refused the login).
class Connector {
public:
    using Done = std::function<void(Result<std::unique_ptr<BrokerLink>>)>;
    virtual ~Connector() = default;
    virtual void connect(const TransportUrl::Host& host, Done done) = 0;
    virtual void stop() = 0;  // no Done is called after it; any thread, may wait for an attempt
};

class Connection {
public:
    struct Needs {
        EventLoop& loop;
        const Clock& clock;
        Random& random;
        Metrics& metrics;
        Connector& connector;
    };
    // `name` is "rpc" or "publish", for logs and metrics.
    Connection(Needs needs, const AmqpOptions& options, TransportUrl url, std::string name);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    void start();
    // Fails what is waiting, closes the link. On the loop's thread, or after the loop has ended.
    void stop();

    void publish(Publication publication, PublishDone done);
    ConsumerSet::Id add_consumer(Subscription subscription, ConsumerSet::Handlers handlers);
    // `removed` is called when no delivery can come any more.
    void remove_consumer(ConsumerSet::Id id, bool delete_queue, std::function<void()> removed);
    // Loop thread: writes the acknowledgement. False: it could not be, and the message comes again.
    bool acknowledge(uint64_t epoch, uint64_t delivery_tag);
    void requeue(uint64_t epoch, uint64_t delivery_tag);  // loop thread
    void probe();
    // Gives the link up and connects again: for whoever finds that it only seems to work.
    void renew(std::string why);

    bool is_up() const { return up_.load(); }
    bool is_blocked() const { return blocked_now_.load(); }
    EventLoop& loop() { return loop_; }

private:
    void try_connect();
    void connected(Result<std::unique_ptr<BrokerLink>> link);
    Result<void> bring_up();
    void lose_link(const Error& error);
    void drain();
    Result<void> dispatch(LinkEvent event);
    Result<void> take_closed(const ChannelClosed& closed);
    void tick();
    void schedule_tick();
    void settle(const Result<void>& result);  // loses the link on error, else drains soon
    void drain_soon();
    void on_loop(std::function<void()> function);

    EventLoop& loop_;
    const Clock& clock_;
    Connector& connector_;
    const AmqpOptions& options_;
    const TransportUrl url_;
    const std::string name_;
    HostRotation rotation_;
    Declarer declarer_;
    Outbox outbox_;
    ConsumerSet consumers_;
    std::unique_ptr<BrokerLink> link_;
    EventLoop::Watch watch_;
    EventLoop::TimerId tick_timer_ = 0;
    EventLoop::TimerId connect_timer_ = 0;
    bool stopped_ = false;
    bool drain_posted_ = false;
    bool said_down_ = false;
    std::atomic<bool> up_{false};
    std::atomic<bool> blocked_now_{false};
    std::atomic<ConsumerSet::Id> next_consumer_{1};
    Gauge& up_gauge_;
    Gauge& blocked_gauge_;
    Counter& connects_;
    Counter& losses_;
    Counter& returned_;
};

}  // namespace kumoi::amqp
