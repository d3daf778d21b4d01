#include "api/amqp/outbox.h"

#include "base/log.h"

namespace kumoi::amqp {

Outbox::Outbox(EventLoop& loop, const Clock& clock, Declarer& declarer)
    : loop_(loop), clock_(clock), declarer_(declarer) {}

Result<void> Outbox::add(Publication publication, PublishDone done) {
    if (entries_.size() >= kMessagesMax) {
        done(Error::exhausted("{} messages wait for the broker already", entries_.size())
                 .with_hint("The broker is gone, blocked or too slow; see its log."));
        return {};
    }
    const uint64_t id = next_id_++;
    const int64_t delay = publication.deadline_ns - clock_.monotonic_ns();
    Entry& entry = entries_[id];
    entry.publication = std::move(publication);
    entry.done = std::move(done);
    entry.timer = loop_.call_after(delay, [this, id] { expire(id); });
    pending_.push_back(id);
    return flush();
}

Result<void> Outbox::link_up(BrokerLink& link) {
    link_ = &link;
    blocked_ = false;
    next_sequence_ = 1;
    TRY(link.open_publish_channel());
    return flush();
}

void Outbox::link_down() {
    link_ = nullptr;
    blocked_ = false;
    unsend_all();
}

// What was sent and not confirmed goes back to the front, in its order.
void Outbox::unsend_all() {
    for (auto sent = unconfirmed_.rbegin(); sent != unconfirmed_.rend(); ++sent) {
        if (const auto found = entries_.find(sent->second); found != entries_.end()) {
            found->second.returned.reset();
            pending_.push_front(sent->second);
        }
    }
    unconfirmed_.clear();
}

Result<void> Outbox::channel_closed() {
    // Most likely an exchange that has deleted itself since we declared it.
    unsend_all();
    declarer_.forget();
    if (link_ == nullptr) {
        return {};
    }
    return link_up(*link_);
}

Result<void> Outbox::set_blocked(bool blocked) {
    blocked_ = blocked;
    return flush();
}

Result<void> Outbox::flush() {
    while (link_ != nullptr && !blocked_ && !pending_.empty() &&
           unconfirmed_.size() < kUnconfirmedMax) {
        const uint64_t id = pending_.front();
        const auto found = entries_.find(id);
        if (found == entries_.end()) {
            pending_.pop_front();
            continue;
        }
        TRY(send(id, found->second));
    }
    return {};
}

Result<void> Outbox::send(uint64_t id, Entry& entry) {
    Result<void> declared = declare(entry.publication);
    if (!declared.ok()) {
        if (is_dead(declared.error())) {
            return declared;
        }
        pending_.pop_front();
        finish(id, declared.error());
        return {};
    }
    TRY(link_->publish(entry.publication.message));
    pending_.pop_front();
    entry.sent_ns = clock_.monotonic_ns();
    unconfirmed_.emplace(next_sequence_++, id);
    return {};
}

Result<void> Outbox::declare(const Publication& publication) {
    if (publication.exchange) {
        TRY(declarer_.exchange(*publication.exchange));
    }
    if (publication.queue) {
        TRY(declarer_.subscription_once(*publication.queue));
    }
    return {};
}

void Outbox::returned(const Returned& returned) {
    // A return names no sequence; the body is as unique as its _unique_id.
    for (const auto& [sequence, id] : unconfirmed_) {
        const auto found = entries_.find(id);
        if (found == entries_.end() || found->second.returned) {
            continue;
        }
        const OutgoingMessage& message = found->second.publication.message;
        if (message.exchange == returned.exchange && message.routing_key == returned.routing_key &&
            message.body == returned.body) {
            found->second.returned =
                Error::not_found("no queue takes messages of exchange \"{}\" for {}: {} {}",
                                 returned.exchange, returned.routing_key, returned.code,
                                 returned.text)
                    .with_fault("MessageUndeliverable");
            return;
        }
    }
}

Result<void> Outbox::confirmed(const Confirm& confirm) {
    auto sent = confirm.multiple ? unconfirmed_.begin() : unconfirmed_.find(confirm.sequence);
    while (sent != unconfirmed_.end() && sent->first <= confirm.sequence) {
        const uint64_t id = sent->second;
        sent = unconfirmed_.erase(sent);
        const auto found = entries_.find(id);
        if (found == entries_.end()) {
            continue;
        }
        if (!confirm.accepted) {
            log_warn("amqp", "the broker refused a message for now; sending it again",
                     {{"routing_key", found->second.publication.message.routing_key}});
            pending_.push_back(id);
        } else if (found->second.returned) {
            finish(id, std::move(*found->second.returned));
        } else {
            finish(id, Result<void>());
        }
    }
    return flush();
}

void Outbox::expire(uint64_t id) {
    const auto found = entries_.find(id);
    if (found == entries_.end()) {
        return;
    }
    const char* state = link_ == nullptr            ? "no broker can be reached"
                        : blocked_                  ? "the broker blocks publishers"
                        : found->second.sent_ns > 0 ? "the broker did not confirm it"
                                                    : "it was not sent";
    finish(id, Error::timeout("a message for {} was not delivered in time: {}",
                              found->second.publication.message.routing_key, state)
                   .with_fault("MessageDeliveryFailure"));
}

void Outbox::finish(uint64_t id, Result<void> outcome) {
    const auto found = entries_.find(id);
    const PublishDone done = std::move(found->second.done);
    loop_.cancel(found->second.timer);
    entries_.erase(found);
    if (done) {
        done(std::move(outcome));
    }
}

void Outbox::fail_all(const Error& error) {
    while (!entries_.empty()) {
        finish(entries_.begin()->first, error);
    }
    pending_.clear();
    unconfirmed_.clear();
}

std::optional<int64_t> Outbox::waiting_since_ns() const {
    if (blocked_) {
        return std::nullopt;
    }
    for (const auto& [sequence, id] : unconfirmed_) {
        if (const auto found = entries_.find(id); found != entries_.end()) {
            return found->second.sent_ns;
        }
    }
    return std::nullopt;
}

}  // namespace kumoi::amqp
