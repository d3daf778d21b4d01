#include "api/amqp/reply_sender.h"

#include "api/amqp/envelope.h"
#include "base/log.h"

namespace kumoi::amqp {
namespace {

constexpr int64_t kRetryNs = 250 * kNanosPerMilli;
constexpr int64_t kObsoleteNs = 60 * kNanosPerSecond;
constexpr size_t kObsoleteMax = 200;

}  // namespace

ReplySender::ReplySender(Transport& transport)
    : transport_(transport),
      retries_(transport.metrics().counter("kumoi_rpc_reply_retries_total",
                                           "Replies sent again because their queue was missing.")),
      lost_(transport.metrics().counter("kumoi_rpc_replies_lost_total",
                                        "Replies given up: nobody could be reached.")) {}

void ReplySender::reply(const std::string& queue, const ReplyMessage& message,
                        std::function<void()> sent) {
    auto attempt = std::make_shared<Attempt>();
    attempt->queue = queue;
    attempt->body = seal(message.encode());
    const AmqpOptions& options = transport_.options();
    if (!options.kombu_compression.empty()) {
        std::string header;
        auto packed = compress(attempt->body, options.kombu_compression, header);
        if (packed.ok()) {
            attempt->body = std::move(packed).value();
            attempt->compression = std::move(header);
        }
    }
    const int64_t patience_s =
        is_obsolete(queue) ? 0 : options.kombu_missing_consumer_retry_timeout_s;
    attempt->give_up_ns = transport_.clock().monotonic_ns() + patience_s * kNanosPerSecond;
    attempt->sent = std::move(sent);
    send(std::move(attempt));
}

void ReplySender::send(std::shared_ptr<Attempt> attempt) {
    Publication publication;
    publication.message.routing_key = attempt->queue;
    publication.message.body = attempt->body;
    publication.message.compression = attempt->compression;
    publication.message.mandatory = transport_.options().direct_mandatory_flag;
    publication.deadline_ns =
        std::max(attempt->give_up_ns, transport_.clock().monotonic_ns() + kRetryNs);
    transport_.publishing().publish(
        std::move(publication),
        [self = shared_from_this(), attempt = std::move(attempt)](const Result<void>& result) {
            self->outcome(attempt, result);
        });
}

void ReplySender::outcome(const std::shared_ptr<Attempt>& attempt, const Result<void>& result) {
    if (result.ok()) {
        attempt->sent();
        return;
    }
    const bool missing = result.error().fault == "MessageUndeliverable";
    if (missing && transport_.clock().monotonic_ns() + kRetryNs < attempt->give_up_ns) {
        retries_.increment();
        transport_.publishing().loop().call_after(
            kRetryNs, [self = shared_from_this(), attempt] { self->send(attempt); });
        return;
    }
    lost_.increment();
    log_error("rpc", "a reply was given up",
              {{"queue", attempt->queue}, {"error", result.error().text()}});
    if (missing) {
        mark_obsolete(attempt->queue);
    }
    attempt->sent();
}

bool ReplySender::is_obsolete(const std::string& queue) {
    const std::lock_guard lock(mutex_);
    const auto found = obsolete_until_ns_.find(queue);
    return found != obsolete_until_ns_.end() && found->second > transport_.clock().monotonic_ns();
}

void ReplySender::mark_obsolete(const std::string& queue) {
    const std::lock_guard lock(mutex_);
    const int64_t now = transport_.clock().monotonic_ns();
    std::erase_if(obsolete_until_ns_, [now](const auto& item) { return item.second <= now; });
    if (obsolete_until_ns_.size() < kObsoleteMax) {
        obsolete_until_ns_[queue] = now + kObsoleteNs;
    }
}

std::unique_ptr<ReplySender::Heartbeat> ReplySender::beat(const std::string& queue,
                                                          const std::string& message_id,
                                                          int64_t monitor_timeout_s) {
    auto running = std::make_shared<std::atomic<bool>>(true);
    const int64_t interval_s = monitor_timeout_s / 2;  // as oslo.messaging: whole seconds
    if (interval_s >= 1 && !message_id.empty()) {
        next_beat(queue, message_id, interval_s * kNanosPerSecond, running);
    }
    return std::make_unique<Heartbeat>(std::move(running));
}

void ReplySender::next_beat(const std::string& queue, const std::string& message_id,
                            int64_t interval_ns, std::shared_ptr<std::atomic<bool>> running) {
    transport_.publishing().loop().post(
        [self = shared_from_this(), queue, message_id, interval_ns, running = std::move(running)] {
            self->transport_.publishing().loop().call_after(
                interval_ns, [self, queue, message_id, interval_ns, running] {
                    if (!*running) {
                        return;
                    }
                    ReplyMessage alive;
                    alive.ending = false;
                    alive.message_id = message_id;
                    alive.unique_id = self->transport_.new_id();
                    Publication publication;
                    publication.message.routing_key = queue;
                    publication.message.body = seal(alive.encode());
                    publication.deadline_ns = self->transport_.clock().monotonic_ns() + interval_ns;
                    self->transport_.publishing().publish(std::move(publication),
                                                          [](const Result<void>&) {});
                    self->next_beat(queue, message_id, interval_ns, running);
                });
        });
}

}  // namespace kumoi::amqp
