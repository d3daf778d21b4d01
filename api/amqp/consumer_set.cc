#include "api/amqp/consumer_set.h"

#include <algorithm>
#include <charconv>

#include "base/log.h"

namespace kumoi::amqp {
namespace {

constexpr int64_t kRetryNsMax = 5 * kNanosPerSecond;

}  // namespace

ConsumerSet::ConsumerSet(EventLoop& loop, Declarer& declarer, std::function<void(Error)> dead)
    : loop_(loop), declarer_(declarer), dead_(std::move(dead)) {}

Result<void> ConsumerSet::add(Id id, Subscription subscription, Handlers handlers) {
    Consumer& consumer = consumers_[id];
    consumer.subscription = std::move(subscription);
    consumer.handlers = std::move(handlers);
    return set_up(id);
}

Result<void> ConsumerSet::remove(Id id, bool delete_queue) {
    const auto found = consumers_.find(id);
    if (found == consumers_.end()) {
        return {};
    }
    loop_.cancel(found->second.retry);
    const bool was_up = found->second.up;
    const std::string queue = found->second.subscription.queue.name;
    consumers_.erase(found);
    if (link_ == nullptr || !was_up) {
        return {};
    }
    Result<void> ended = link_->cancel(std::to_string(id));
    if (ended.ok() && delete_queue) {
        ended = link_->delete_queue(queue);
    }
    return !ended.ok() && is_dead(ended.error()) ? ended : Result<void>();
}

Result<void> ConsumerSet::link_up(BrokerLink& link) {
    link_ = &link;
    return set_up_all();
}

void ConsumerSet::link_down() {
    link_ = nullptr;
    ++epoch_;
    for (auto& [id, consumer] : consumers_) {
        loop_.cancel(consumer.retry);
        set_state(consumer, false);
    }
}

Result<void> ConsumerSet::set_up_all() {
    ++epoch_;  // what was delivered before cannot be acknowledged any more
    TRY(link_->open_consume_channel());
    std::vector<Id> ids;
    for (auto& [id, consumer] : consumers_) {
        loop_.cancel(consumer.retry);
        set_state(consumer, false);
        ids.push_back(id);
    }
    for (const Id id : ids) {
        TRY(set_up(id));
    }
    return {};
}

Result<void> ConsumerSet::set_up(Id id) {
    const auto found = consumers_.find(id);
    if (link_ == nullptr || found == consumers_.end() || found->second.up) {
        return {};
    }
    const uint64_t epoch = epoch_;
    Result<void> made = try_set_up(id, found->second);
    if (!made.ok() && is_dead(made.error())) {
        return made;
    }
    if (epoch != epoch_) {
        return {};  // refused, and every consumer is set up again by its timer
    }
    if (!made.ok()) {
        retry_later(id, found->second, made.error());
        return {};
    }
    found->second.failures = 0;
    set_state(found->second, true);
    return {};
}

Result<void> ConsumerSet::try_set_up(Id id, Consumer& consumer) {
    const Subscription& wanted = consumer.subscription;
    TRY(declarer_.subscription(wanted));
    Result<void> made = link_->consume(wanted.queue.name, std::to_string(id), wanted.prefetch,
                                       wanted.consume_arguments);
    if (made.ok() || is_dead(made.error())) {
        return made;
    }
    // The refusal closed the channel, and with it every other consumer.
    retry_later(id, consumer, made.error());
    ++epoch_;
    for (auto& [other_id, other] : consumers_) {
        if (other.up) {
            set_state(other, false);
            other.retry = loop_.call_after(0, [this, other_id = other_id] {
                if (Result<void> again = set_up(other_id); !again.ok()) {
                    dead_(again.error());
                }
            });
        }
    }
    return {};
}

void ConsumerSet::retry_later(Id id, Consumer& consumer, const Error& error) {
    const int64_t delay = std::min(
        kRetryNsMax, (int64_t{250} << std::min<int64_t>(consumer.failures, 8)) * kNanosPerMilli);
    ++consumer.failures;
    log_warn("amqp",
             fmt::format("queue {} cannot be consumed yet; trying again",
                         consumer.subscription.queue.name),
             {{"error", error.text()}, {"delay_ms", delay / kNanosPerMilli}});
    loop_.cancel(consumer.retry);
    consumer.retry = loop_.call_after(delay, [this, id] {
        if (Result<void> again = set_up(id); !again.ok()) {
            dead_(again.error());
        }
    });
}

void ConsumerSet::set_state(Consumer& consumer, bool up) {
    if (consumer.up == up) {
        return;
    }
    consumer.up = up;
    if (consumer.handlers.changed) {
        consumer.handlers.changed(up);
    }
}

void ConsumerSet::deliver(Delivery delivery) {
    Id id = 0;
    const std::string& tag = delivery.consumer_tag;
    std::from_chars(tag.data(), tag.data() + tag.size(), id);
    const auto found = consumers_.find(id);
    if (found == consumers_.end()) {
        return;  // removed meanwhile; the broker keeps the message
    }
    if (delivery.stream_offset) {
        // A stream is read on from here when it is consumed again.
        found->second.subscription.consume_arguments.set("x-stream-offset",
                                                         *delivery.stream_offset + 1);
    }
    delivery.epoch = epoch_;
    found->second.handlers.delivered(std::move(delivery));
}

Result<void> ConsumerSet::cancelled(const std::string& consumer_tag) {
    Id id = 0;
    std::from_chars(consumer_tag.data(), consumer_tag.data() + consumer_tag.size(), id);
    const auto found = consumers_.find(id);
    if (found == consumers_.end()) {
        return {};
    }
    log_warn("amqp", "the broker ended a consumer: its queue was deleted or moved",
             {{"queue", found->second.subscription.queue.name}});
    set_state(found->second, false);
    return set_up(id);
}

Result<void> ConsumerSet::channel_closed() {
    return link_ == nullptr ? Result<void>() : set_up_all();
}

Result<bool> ConsumerSet::ack(uint64_t epoch, uint64_t delivery_tag) {
    if (link_ == nullptr || epoch != epoch_) {
        return false;
    }
    TRY(link_->ack(delivery_tag));
    return true;
}

Result<bool> ConsumerSet::requeue(uint64_t epoch, uint64_t delivery_tag) {
    if (link_ == nullptr || epoch != epoch_) {
        return false;
    }
    TRY(link_->requeue(delivery_tag));
    return true;
}

Result<void> ConsumerSet::probe() {
    if (link_ == nullptr) {
        return {};
    }
    std::vector<Id> ids;
    for (const auto& [id, consumer] : consumers_) {
        if (consumer.up) {
            ids.push_back(id);
        }
    }
    for (const Id id : ids) {
        const auto found = consumers_.find(id);
        if (found == consumers_.end() || !found->second.up) {
            continue;
        }
        const Subscription& wanted = found->second.subscription;
        Result<int64_t> consumers = link_->inspect_queue(wanted.queue.name);
        if (!consumers.ok() && is_dead(consumers.error())) {
            return consumers.error();
        }
        const bool missing = !consumers.ok() && consumers.error().code == ErrorCode::NotFound;
        if (missing || (consumers.ok() && wanted.ours_alone && *consumers == 0)) {
            log_warn("amqp", "a queue had lost its consumer; consuming it again",
                     {{"queue", wanted.queue.name}, {"queue_missing", missing}});
            set_state(found->second, false);
            TRY(set_up(id));
        }
    }
    return {};
}

size_t ConsumerSet::consuming() const {
    return static_cast<size_t>(std::count_if(consumers_.begin(), consumers_.end(),
                                             [](const auto& item) { return item.second.up; }));
}

}  // namespace kumoi::amqp
