#include "api/amqp/amqp_rpc_client.h"

#include <algorithm>
#include <utility>

#include "api/amqp/envelope.h"
#include "api/amqp/pending_calls.h"
#include "api/amqp/rpc_failure.h"
#include "api/amqp/rpc_message.h"
#include "base/log.h"

namespace kumoi::amqp {
namespace {

constexpr int64_t kRetryNs = 250 * kNanosPerMilli;
constexpr int64_t kCastRetryNs = 5 * kNanosPerSecond;

std::string routing_key(const Target& target) {
    return target.server.empty() ? target.topic : target.topic + "." + target.server;
}

}  // namespace

class AmqpRpcClient::State : public std::enable_shared_from_this<State> {
public:
    explicit State(Transport& transport)
        : transport_(transport),
          clock_(transport.clock()),
          late_replies_(transport.metrics().counter("kumoi_rpc_late_replies_total",
                                                    "Replies that nobody waited for any more.")),
          deaf_(transport.metrics().counter("kumoi_rpc_deaf_total",
                                            "Times the reply queue was found deaf and mended.")),
          seconds_(transport.metrics().histogram("kumoi_rpc_call_seconds",
                                                 "From a call of ours to its answer.")),
          subscription_(reply_subscription(transport.options(), transport.unique_queue_part())) {}

    void start();
    void close();
    Result<Json> call(const Target& target, const Json& context, const std::string& method,
                      Json args, const CallOptions& options);
    Result<Json> cast(const Target& target, const Json& context, const std::string& method,
                      Json args);
    void post_check();
    bool is_listening() const { return calls_.is_ready(); }
    const std::string& reply_queue() const { return subscription_.queue.name; }

private:
    struct Sending {
        Publication publication;
        std::string id;
        bool wants_reply = false;
        int64_t give_up_ns = 0;  // when no queue takes it
    };
    RequestMessage make_message(const Target& target, const Json& context,
                                const std::string& method, Json args);
    Result<Json> request(const Target& target, const RequestMessage& message, int64_t timeout_ms);
    void check_reply_queue();
    Result<Publication> pack(const Target& target, const RequestMessage& message,
                             int64_t timeout_ms) const;
    void send(std::shared_ptr<Sending> sending);
    void sent(const std::shared_ptr<Sending>& sending, Result<void> outcome);
    void take_reply(Delivery&& delivery);
    void arm();
    void expire();
    void next_watchdog();
    void mend(std::string_view why);

    Transport& transport_;
    const Clock& clock_;
    Counter& late_replies_;
    Counter& deaf_;
    Histogram& seconds_;
    const Subscription subscription_;
    ConsumerSet::Id consumer_ = 0;
    PendingCalls calls_;
    std::atomic<int64_t> armed_ns_{INT64_MAX};
    std::atomic<bool> closed_{false};
    std::string probe_id_;  // loop thread: of the watchdog's message under way
};

void AmqpRpcClient::State::start() {
    const auto self = shared_from_this();
    consumer_ = transport_.consuming().add_consumer(
        subscription_,
        {.delivered = [self](Delivery&& delivery) { self->take_reply(std::move(delivery)); },
         .changed = [self](bool consuming) { self->calls_.set_ready(consuming); }});
    transport_.consuming().loop().post([self] { self->next_watchdog(); });
}

void AmqpRpcClient::State::close() {
    closed_ = true;
    // A managed name is this service's for good: its next run takes the queue with what is in it.
    transport_.consuming().remove_consumer(consumer_, !transport_.options().use_queue_manager, {});
    calls_.close(Error::cancelled("the RPC client is being closed"));
}

Result<Publication> AmqpRpcClient::State::pack(const Target& target, const RequestMessage& message,
                                               int64_t timeout_ms) const {
    const AmqpOptions& options = transport_.options();
    Publication made;
    made.message.body = seal(message.encode());
    if (!options.kombu_compression.empty()) {
        made.message.body =
            TRY(compress(made.message.body, options.kombu_compression, made.message.compression));
    }
    if (target.fanout) {
        made.exchange = fanout_exchange(options, target.topic);
    } else {
        made.exchange = topic_exchange(
            options, target.exchange.empty() ? options.control_exchange : target.exchange);
        made.message.routing_key = routing_key(target);
        // Nova leaves this flag off and lets a request without a queue time out; we send it again.
        made.message.mandatory = true;
    }
    made.message.exchange = made.exchange->name;
    if (!message.message_id.empty()) {
        made.message.expiration = std::to_string(timeout_ms);
    }
    made.deadline_ns = clock_.monotonic_ns() + timeout_ms * kNanosPerMilli;
    return made;
}

RequestMessage AmqpRpcClient::State::make_message(const Target& target, const Json& context,
                                                  const std::string& method, Json args) {
    RequestMessage message;
    message.method = method;
    message.namespace_ = target.namespace_;
    message.version = target.version;
    message.args = std::move(args);
    message.context = context;
    message.unique_id = transport_.new_id();
    return message;
}

Result<Json> AmqpRpcClient::State::call(const Target& target, const Json& context,
                                        const std::string& method, Json args,
                                        const CallOptions& options) {
    RequestMessage message = make_message(target, context, method, std::move(args));
    message.message_id = transport_.new_id();
    message.reply_queue = reply_queue();
    if (options.call_monitor_timeout_s > 0) {
        message.call_monitor_timeout_s = options.call_monitor_timeout_s;
    }
    const int64_t begin_ns = clock_.monotonic_ns();
    auto answer =
        request(target, message,
                options.timeout_ms > 0 ? options.timeout_ms
                                       : transport_.options().rpc_response_timeout_s * 1000);
    seconds_.observe(static_cast<double>(clock_.monotonic_ns() - begin_ns) / 1e9);
    return answer;
}

Result<Json> AmqpRpcClient::State::cast(const Target& target, const Json& context,
                                        const std::string& method, Json args) {
    return request(target, make_message(target, context, method, std::move(args)),
                   transport_.options().rpc_response_timeout_s * 1000);
}

void AmqpRpcClient::State::post_check() {
    transport_.consuming().loop().post([self = shared_from_this()] { self->check_reply_queue(); });
}

Result<Json> AmqpRpcClient::State::request(const Target& target, const RequestMessage& message,
                                           int64_t timeout_ms) {
    auto sending = std::make_shared<Sending>();
    sending->wants_reply = !message.message_id.empty();
    sending->id = sending->wants_reply ? message.message_id : message.unique_id;
    sending->publication = TRY(pack(target, message, timeout_ms));
    const int64_t now = clock_.monotonic_ns();
    sending->give_up_ns = sending->wants_reply
                              ? sending->publication.deadline_ns
                              : std::min(sending->publication.deadline_ns, now + kCastRetryNs);
    const std::string what =
        fmt::format("{}.{}", target.fanout ? target.topic : routing_key(target), message.method);
    const int64_t monitor_ns = message.call_monitor_timeout_s.value_or(0) * kNanosPerSecond;
    // Without a reply nothing but the broker can be late; its own deadline tells why.
    const int64_t grace_ns = sending->wants_reply ? 0 : kNanosPerSecond;
    if (!calls_.add(
            sending->id, what,
            {.deadline_ns = sending->publication.deadline_ns + grace_ns, .monitor_ns = monitor_ns},
            now)) {
        return Error::cancelled("{}: the RPC client is closed", what);
    }
    const std::string id = sending->id;
    arm();
    // A reply to a queue that is not there yet would only come with the server's next try.
    if (!sending->wants_reply || calls_.wait_ready(id)) {
        send(std::move(sending));
    }
    return calls_.wait(id);
}

void AmqpRpcClient::State::send(std::shared_ptr<Sending> sending) {
    Publication copy = sending->publication;
    transport_.publishing().publish(std::move(copy),
                                    [self = shared_from_this(), sending](Result<void> outcome) {
                                        self->sent(sending, std::move(outcome));
                                    });
}

void AmqpRpcClient::State::sent(const std::shared_ptr<Sending>& sending, Result<void> outcome) {
    if (outcome.ok()) {
        if (!sending->wants_reply) {
            calls_.settle(sending->id, Json());
        }
        return;
    }
    Error error = std::move(outcome).error();
    const bool undeliverable = error.fault == "MessageUndeliverable";
    if (undeliverable && clock_.monotonic_ns() + kRetryNs < sending->give_up_ns &&
        calls_.waits(sending->id)) {
        transport_.publishing().loop().call_after(
            kRetryNs, [self = shared_from_this(), sending] { self->send(sending); });
        return;
    }
    if (undeliverable) {
        error.code = ErrorCode::Unavailable;
        error.hint = "See whether that service runs and uses the same transport_url.";
    }
    calls_.settle(sending->id, std::move(error));
}

void AmqpRpcClient::State::take_reply(Delivery&& delivery) {
    transport_.consuming().acknowledge(delivery.epoch, delivery.delivery_tag);
    if (delivery.oversized) {
        log_error("rpc", "a reply is too large and was dropped", {{"queue", reply_queue()}});
        return;
    }
    Result<ReplyMessage> reply = [&]() -> Result<ReplyMessage> {
        const bool plain = delivery.compression.empty();
        const std::string body =
            plain ? std::move(delivery.body) : TRY(decompress(delivery.body, delivery.compression));
        Json message = TRY(open(body));
        return ReplyMessage::decode(std::move(message));
    }();
    if (!reply.ok()) {
        log_warn("rpc", "a reply cannot be read", {{"error", reply.error().text()}});
        return;
    }
    if (!probe_id_.empty() && reply->message_id == probe_id_) {
        probe_id_.clear();
        return;
    }
    if (!reply->ending && !reply->failure) {
        calls_.alive(reply->message_id, clock_.monotonic_ns());
        return;
    }
    Result<Json> outcome = reply->failure
                               ? Result<Json>(error_from(RpcFailure::decode(*reply->failure)))
                               : Result<Json>(std::move(reply->result));
    if (!calls_.settle(reply->message_id, std::move(outcome))) {
        late_replies_.increment();
        log_debug("rpc", "a reply came too late", {{"message", reply->message_id}});
    }
}

// Sees to it that a timer of the loop fires at the earliest deadline. Any thread.
void AmqpRpcClient::State::arm() {
    const auto next = calls_.next_deadline_ns();
    if (!next) {
        return;
    }
    int64_t armed = armed_ns_.load();
    while (*next < armed) {
        if (armed_ns_.compare_exchange_weak(armed, *next)) {
            transport_.consuming().loop().post([self = shared_from_this(), deadline = *next] {
                EventLoop& loop = self->transport_.consuming().loop();
                loop.call_after(deadline - self->clock_.monotonic_ns(), [self] { self->expire(); });
            });
            return;
        }
    }
}

void AmqpRpcClient::State::expire() {
    armed_ns_ = INT64_MAX;
    calls_.expire(clock_.monotonic_ns());
    arm();
}

void AmqpRpcClient::State::next_watchdog() {
    // Holds no reference: a client that is gone has no watchdog.
    transport_.consuming().loop().call_after(
        transport_.options().probe_interval_ms * kNanosPerMilli, [weak = weak_from_this()] {
            const auto self = weak.lock();
            if (self && !self->closed_) {
                self->check_reply_queue();
                self->next_watchdog();
            }
        });
}

// Loop thread: sends a message through the broker to our own reply queue.
void AmqpRpcClient::State::check_reply_queue() {
    transport_.consuming().probe();
    if (!transport_.consuming().is_up() || !transport_.publishing().is_up() ||
        transport_.publishing().is_blocked() || !probe_id_.empty()) {
        return;
    }
    probe_id_ = transport_.new_id();
    ReplyMessage probe;
    probe.message_id = probe_id_;
    probe.unique_id = probe_id_;
    Publication publication;
    publication.message.routing_key = reply_queue();
    publication.message.body = seal(probe.encode());
    const int64_t patience_ms = transport_.options().probe_answer_ms;
    publication.message.expiration = std::to_string(patience_ms);
    publication.deadline_ns = clock_.monotonic_ns() + patience_ms * kNanosPerMilli;
    transport_.publishing().publish(std::move(publication), [](const Result<void>&) {});
    transport_.consuming().loop().call_after(patience_ms * kNanosPerMilli, [weak = weak_from_this(),
                                                                            id = probe_id_] {
        const auto self = weak.lock();
        if (!self || self->closed_ || self->probe_id_ != id) {
            return;
        }
        self->probe_id_.clear();
        // A publisher that is down or blocked explains the silence; it mends itself.
        if (self->transport_.publishing().is_up() && !self->transport_.publishing().is_blocked() &&
            self->transport_.consuming().is_up()) {
            self->mend("a message to our own reply queue did not come back");
        }
    });
}

void AmqpRpcClient::State::mend(std::string_view why) {
    deaf_.increment();
    log_error("rpc", "the reply queue is deaf; connecting again",
              {{"queue", reply_queue()}, {"why", why}});
    transport_.consuming().renew(std::string(why));
}

AmqpRpcClient::AmqpRpcClient(Transport& transport) : state_(std::make_shared<State>(transport)) {
    state_->start();
}

AmqpRpcClient::~AmqpRpcClient() {
    state_->close();
}

Result<Json> AmqpRpcClient::call(const Target& target, const Json& context,
                                 const std::string& method, Json args, CallOptions options) {
    if (target.fanout) {
        return Error::invalid("{}: a call cannot go to all servers of {}", method, target.topic);
    }
    return state_->call(target, context, method, std::move(args), options);
}

Result<void> AmqpRpcClient::cast(const Target& target, const Json& context,
                                 const std::string& method, Json args) {
    TRY(state_->cast(target, context, method, std::move(args)));
    return {};
}

bool AmqpRpcClient::is_listening() const {
    return state_->is_listening();
}

std::string AmqpRpcClient::reply_queue() const {
    return state_->reply_queue();
}

void AmqpRpcClient::check_reply_queue() {
    state_->post_check();
}

}  // namespace kumoi::amqp
