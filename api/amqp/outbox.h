// Outbox: messages on their way to the broker. A message is done when the broker has confirmed it,
// returned it as undeliverable, or when its deadline has passed; until then it is kept, and sent
// again on the next link (with the same _unique_id, by which receivers drop a second copy).
// While the broker blocks publishers nothing is sent. Loop thread; `done` is called there too.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "api/amqp/broker_link.h"
#include "api/amqp/declarer.h"
#include "base/clock.h"
#include "base/event_loop.h"

namespace kumoi::amqp {

struct Publication {
    OutgoingMessage message;
    std::optional<ExchangeSpec> exchange;  // declared before the first message of a link
    std::optional<Subscription> queue;     // declared as well: nobody may be consuming it yet
    int64_t deadline_ns = 0;               // monotonic
};
// Undeliverable: code NotFound, fault "MessageUndeliverable". Too late: Timeout.
using PublishDone = std::function<void(Result<void>)>;

class Outbox {
public:
    static constexpr size_t kMessagesMax = 20000;
    static constexpr size_t kUnconfirmedMax = 1000;

    Outbox(EventLoop& loop, const Clock& clock, Declarer& declarer);

    // Takes and, if it can, sends. An Error means that the link is dead (the message is kept).
    Result<void> add(Publication publication, PublishDone done);
    Result<void> link_up(BrokerLink& link);
    void link_down();
    Result<void> confirmed(const Confirm& confirm);
    void returned(const Returned& returned);
    Result<void> channel_closed();
    Result<void> set_blocked(bool blocked);
    void fail_all(const Error& error);

    bool is_blocked() const { return blocked_; }
    size_t size() const { return entries_.size(); }
    // Since when the oldest sent message waits for its confirm; nothing when none waits.
    std::optional<int64_t> waiting_since_ns() const;

private:
    struct Entry {
        Publication publication;
        PublishDone done;
        EventLoop::TimerId timer = 0;
        int64_t sent_ns = 0;
        std::optional<Error> returned;
    };
    Result<void> flush();
    Result<void> send(uint64_t id, Entry& entry);
    Result<void> declare(const Publication& publication);
    void finish(uint64_t id, Result<void> outcome);
    void unsend_all();
    void expire(uint64_t id);

    EventLoop& loop_;
    const Clock& clock_;
    Declarer& declarer_;
    BrokerLink* link_ = nullptr;
    bool blocked_ = false;
    uint64_t next_id_ = 1;
    uint64_t next_sequence_ = 1;
    std::unordered_map<uint64_t, Entry> entries_;
    std::deque<uint64_t> pending_;              // ids, oldest first; a finished one is skipped
    std::map<uint64_t, uint64_t> unconfirmed_;  // sequence to id
};

}  // namespace kumoi::amqp
