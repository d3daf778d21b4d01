#include "api/amqp/rpc_server.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>

#include "api/amqp/envelope.h"
#include "api/amqp/reply_sender.h"
#include "api/amqp/rpc_failure.h"
#include "api/amqp/rpc_message.h"
#include "api/amqp/unique_ids.h"
#include "base/log.h"

namespace kumoi::amqp {
namespace {

constexpr size_t kWaitingMax = 1024;  // acknowledged requests that wait for a thread
constexpr auto kLastRepliesMax = std::chrono::seconds(5);

Result<RequestMessage> read_request(const Delivery& delivery) {
    if (delivery.oversized) {
        return Error::too_large("a request is larger than {} bytes", kMessageBytesMax);
    }
    if (delivery.compression.empty()) {
        return RequestMessage::decode(TRY(open(delivery.body)));
    }
    const std::string body = TRY(decompress(delivery.body, delivery.compression));
    return RequestMessage::decode(TRY(open(body)));
}

}  // namespace

class RpcServer::State : public std::enable_shared_from_this<State> {
public:
    State(Transport& transport, WorkerPool& pool, std::string exchange)
        : transport_(transport),
          pool_(pool),
          exchange_(exchange.empty() ? transport.options().control_exchange : exchange),
          replies_(std::make_shared<ReplySender>(transport)),
          requests_(transport.metrics().counter("kumoi_rpc_requests_total",
                                                "Requests taken from the broker.")),
          failures_(transport.metrics().counter("kumoi_rpc_failures_total",
                                                "Requests that ended in a failure.")),
          duplicates_(transport.metrics().counter("kumoi_rpc_duplicates_total",
                                                  "Second copies of a request, dropped.")) {}

    void start(const std::vector<std::string>& topics, const std::string& server,
               RpcHandler handler);
    void stop();
    bool wait_until_listening(int64_t timeout_ms);
    bool is_listening() const;

private:
    struct Incoming {
        Delivery delivery;
        std::string topic;
    };
    void subscribe(Subscription subscription, const std::string& topic, bool delete_at_end);
    void deliver(Incoming incoming);
    void accept(Incoming incoming);
    void take_held();
    void run(const Incoming& incoming);
    void answer(const RequestMessage& message, const RpcRequest& request);
    void changed(size_t index, bool consuming);

    Transport& transport_;
    WorkerPool& pool_;
    const std::string exchange_;
    const std::shared_ptr<ReplySender> replies_;  // shared with its own callbacks
    Counter& requests_;
    Counter& failures_;
    Counter& duplicates_;
    RpcHandler handler_;
    UniqueIds unique_ids_;
    std::deque<Incoming> held_;  // loop thread: unacknowledged, waiting for room

    mutable std::mutex mutex_;
    std::condition_variable state_changed_;
    struct Queue {
        ConsumerSet::Id consumer = 0;
        bool delete_at_end = false;
    };
    std::vector<Queue> queues_;
    std::set<size_t> consuming_;  // indices into queues_
    size_t running_ = 0;
    size_t replying_ = 0;
    std::atomic<bool> stopping_{false};
    std::atomic<bool> holding_{false};  // held_ is not empty
};

void RpcServer::State::start(const std::vector<std::string>& topics, const std::string& server,
                             RpcHandler handler) {
    handler_ = std::move(handler);
    const AmqpOptions& options = transport_.options();
    for (const std::string& topic : topics) {
        subscribe(topic_subscription(options, exchange_, topic, false), topic, false);
        subscribe(topic_subscription(options, exchange_, topic + "." + server, true), topic, false);
        const std::string unique =
            options.rabbit_stream_fanout ? std::string() : transport_.unique_queue_part();
        subscribe(fanout_subscription(options, topic, unique), topic,
                  !options.use_queue_manager && !options.rabbit_stream_fanout);
    }
}

void RpcServer::State::subscribe(Subscription subscription, const std::string& topic,
                                 bool delete_at_end) {
    const std::lock_guard lock(mutex_);
    const size_t index = queues_.size();
    const auto self = shared_from_this();
    const ConsumerSet::Id id = transport_.consuming().add_consumer(
        std::move(subscription),
        {.delivered =
             [self, topic](Delivery&& delivery) {
                 self->deliver({std::move(delivery), topic});
             },
         .changed = [self, index](bool consuming) { self->changed(index, consuming); }});
    queues_.push_back({id, delete_at_end});
}

void RpcServer::State::changed(size_t index, bool consuming) {
    const std::lock_guard lock(mutex_);
    if (consuming) {
        consuming_.insert(index);
    } else {
        consuming_.erase(index);
    }
    state_changed_.notify_all();
}

bool RpcServer::State::is_listening() const {
    const std::lock_guard lock(mutex_);
    return !queues_.empty() && consuming_.size() == queues_.size();
}

bool RpcServer::State::wait_until_listening(int64_t timeout_ms) {
    std::unique_lock lock(mutex_);
    return state_changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [this] {
        return !queues_.empty() && consuming_.size() == queues_.size();
    });
}

void RpcServer::State::deliver(Incoming incoming) {
    if (stopping_) {
        transport_.consuming().requeue(incoming.delivery.epoch, incoming.delivery.delivery_tag);
        return;
    }
    if (!held_.empty() || pool_.queue_length() >= kWaitingMax) {
        held_.push_back(std::move(incoming));  // bounded by the prefetch count
        holding_ = true;
        return;
    }
    accept(std::move(incoming));
}

void RpcServer::State::accept(Incoming incoming) {
    if (!transport_.consuming().acknowledge(incoming.delivery.epoch,
                                            incoming.delivery.delivery_tag)) {
        return;  // it comes again
    }
    requests_.increment();
    {
        const std::lock_guard lock(mutex_);
        ++running_;
    }
    auto shared = std::make_shared<Incoming>(std::move(incoming));  // a function is copyable
    const Result<void> queued =
        pool_.submit([self = shared_from_this(), shared] { self->run(*shared); });
    if (!queued.ok()) {
        log_error("rpc", "a request was lost: its threads have ended",
                  {{"error", queued.error().text()}});
        const std::lock_guard lock(mutex_);
        --running_;
        state_changed_.notify_all();
    }
}

void RpcServer::State::take_held() {
    while (!held_.empty() && !stopping_ && pool_.queue_length() < kWaitingMax) {
        Incoming next = std::move(held_.front());
        held_.pop_front();
        accept(std::move(next));
    }
    holding_ = !held_.empty();
}

void RpcServer::State::run(const Incoming& incoming) {
    Result<RequestMessage> message = read_request(incoming.delivery);
    if (!message.ok()) {
        log_warn("rpc", "a request cannot be read",
                 {{"topic", incoming.topic}, {"error", message.error().text()}});
    } else if (!unique_ids_.is_new(message->unique_id)) {
        duplicates_.increment();
    } else {
        RpcRequest request;
        request.context = std::move(message->context);
        request.method = message->method;
        request.namespace_ = message->namespace_;
        request.version = message->version.empty() ? "1.0" : message->version;
        request.args = std::move(message->args);
        request.wants_reply = !message->message_id.empty() && !message->reply_queue.empty();
        request.call_monitor_timeout_s = message->call_monitor_timeout_s.value_or(0);
        request.topic = incoming.topic;
        answer(*message, request);
    }
    if (holding_) {
        transport_.consuming().loop().post([self = shared_from_this()] { self->take_held(); });
    }
    const std::lock_guard lock(mutex_);
    --running_;
    state_changed_.notify_all();
}

void RpcServer::State::answer(const RequestMessage& message, const RpcRequest& request) {
    auto heartbeat = request.wants_reply ? replies_->beat(message.reply_queue, message.message_id,
                                                          request.call_monitor_timeout_s)
                                         : nullptr;
    const LogScope scope({{"request", request.context.string_or("request_id")}});
    Result<Json> result = handler_(request);
    heartbeat.reset();
    if (!result.ok()) {
        failures_.increment();
        log_warn("rpc", "a request failed",
                 {{"method", request.method}, {"error", result.error().text()}});
    }
    if (!request.wants_reply) {
        return;
    }
    ReplyMessage reply;
    reply.message_id = message.message_id;
    reply.unique_id = transport_.new_id();
    if (result.ok()) {
        reply.result = std::move(result).value();
    } else {
        reply.failure = failure_from(result.error()).encode();
    }
    {
        const std::lock_guard lock(mutex_);
        ++replying_;
    }
    replies_->reply(message.reply_queue, reply, [self = shared_from_this()] {
        const std::lock_guard lock(self->mutex_);
        --self->replying_;
        self->state_changed_.notify_all();
    });
}

void RpcServer::State::stop() {
    std::unique_lock lock(mutex_);
    if (stopping_.exchange(true)) {
        return;
    }
    auto left = std::make_shared<size_t>(queues_.size());  // guarded by mutex_; for the callbacks
    for (const Queue& queue : queues_) {
        transport_.consuming().remove_consumer(queue.consumer, queue.delete_at_end,
                                               [self = shared_from_this(), left] {
                                                   const std::lock_guard guard(self->mutex_);
                                                   --*left;
                                                   self->state_changed_.notify_all();
                                               });
    }
    transport_.consuming().loop().post([self = shared_from_this()] {
        for (const Incoming& incoming : self->held_) {
            self->transport_.consuming().requeue(incoming.delivery.epoch,
                                                 incoming.delivery.delivery_tag);
        }
        self->held_.clear();
    });
    state_changed_.wait(lock, [&] { return *left == 0 && running_ == 0; });
    state_changed_.wait_for(lock, kLastRepliesMax, [this] { return replying_ == 0; });
    queues_.clear();
}

std::unique_ptr<WorkerPool> RpcServer::make_pool(size_t thread_count) {
    return std::make_unique<WorkerPool>("rpc", thread_count, 4 * kWaitingMax);
}

RpcServer::RpcServer(Transport& transport, Settings settings) {
    if (settings.pool == nullptr) {
        own_pool_ = make_pool(static_cast<size_t>(transport.options().executor_thread_pool_size));
    }
    state_ =
        std::make_shared<State>(transport, settings.pool == nullptr ? *own_pool_ : *settings.pool,
                                std::move(settings.exchange));
}

RpcServer::~RpcServer() {
    stop();
}

void RpcServer::start(const std::vector<std::string>& topics, const std::string& server,
                      RpcHandler handler) {
    state_->start(topics, server, std::move(handler));
}

bool RpcServer::wait_until_listening(int64_t timeout_ms) {
    return state_->wait_until_listening(timeout_ms);
}

bool RpcServer::is_listening() const {
    return state_->is_listening();
}

void RpcServer::stop() {
    state_->stop();
    if (own_pool_) {
        own_pool_->stop();
        own_pool_->join();
    }
}

}  // namespace kumoi::amqp
