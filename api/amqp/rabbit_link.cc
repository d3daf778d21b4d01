#include "api/amqp/rabbit_link.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "api/amqp/content_reader.h"
#include "api/amqp/rabbit_values.h"
#include "base/version.h"

#if __has_include(<rabbitmq-c/ssl_socket.h>)
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

namespace kumoi::amqp {
namespace {

constexpr int kFrameBytesMax = 131072;
constexpr int kChannelsMax = 2047;

timeval to_timeval(int64_t milliseconds) {
    return {milliseconds / 1000, (milliseconds % 1000) * 1000};
}

Error dead(int status, std::string_view doing) {
    return Error::unavailable("{}: {}", doing, ::amqp_error_string2(status));
}

struct Destroy {
    void operator()(amqp_connection_state_t_* state) const { ::amqp_destroy_connection(state); }
};
using State = std::unique_ptr<amqp_connection_state_t_, Destroy>;

// A broker that is frozen or gone must not hold a write for ever.
void bound_writes(int fd, int64_t timeout_ms) {
    const auto user_timeout = static_cast<unsigned>(timeout_ms);
    ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout, sizeof(user_timeout));
    const timeval timeout = to_timeval(timeout_ms);
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

Result<amqp_socket_t*> make_tls_socket(amqp_connection_state_t state, const AmqpOptions& options) {
    amqp_socket_t* socket = ::amqp_ssl_socket_new(state);
    if (socket == nullptr) {
        return Error::exhausted("no memory for a TLS connection to the broker");
    }
    const bool verify = !options.ssl_ca_file.empty();
    ::amqp_ssl_socket_set_verify_peer(socket, verify ? 1 : 0);
    ::amqp_ssl_socket_set_verify_hostname(
        socket, verify && options.ssl_enforce_hostname_verification ? 1 : 0);
    ::amqp_ssl_socket_set_ssl_versions(socket, AMQP_TLSv1_2, AMQP_TLSvLATEST);
    if (verify && ::amqp_ssl_socket_set_cacert(socket, options.ssl_ca_file.c_str()) != 0) {
        return Error::invalid("ssl_ca_file {} cannot be read as PEM certificates",
                              options.ssl_ca_file);
    }
    if (!options.ssl_cert_file.empty() &&
        ::amqp_ssl_socket_set_key(socket, options.ssl_cert_file.c_str(),
                                  options.ssl_key_file.c_str()) != 0) {
        return Error::invalid("ssl_cert_file {} and ssl_key_file {} are no PEM certificate and key",
                              options.ssl_cert_file, options.ssl_key_file);
    }
    return socket;
}

Result<void> open_socket(amqp_connection_state_t state, const TransportUrl::Host& host,
                         const AmqpOptions& options) {
    amqp_socket_t* socket = nullptr;
    if (options.ssl) {
        socket = TRY(make_tls_socket(state, options));
    } else {
        socket = ::amqp_tcp_socket_new(state);
        if (socket == nullptr) {
            return Error::exhausted("no memory for a connection to the broker");
        }
    }
    const timeval timeout = to_timeval(options.connect_timeout_ms);
    const int status = ::amqp_socket_open_noblock(socket, host.host.c_str(), host.port, &timeout);
    if (status != AMQP_STATUS_OK) {
        return dead(status, fmt::format("connecting to broker {}", host.text()));
    }
    bound_writes(::amqp_get_sockfd(state), options.send_timeout_ms);
    return {};
}

// Product, version, name for the broker's management page, and what we can be told.
class LoginProperties {
public:
    explicit LoginProperties(const std::string& connection_name) : name_(connection_name) {
        capabilities_ = {true_entry("authentication_failure_close"),
                         true_entry("connection.blocked"), true_entry("consumer_cancel_notify")};
        entries_ = {text_entry("product", "kumoi"), text_entry("version", kVersion),
                    text_entry("connection_name", name_), text_entry("capabilities", "")};
        entries_[3].value.kind = AMQP_FIELD_KIND_TABLE;
        entries_[3].value.value.table = {static_cast<int>(capabilities_.size()),
                                         capabilities_.data()};
        table_ = {static_cast<int>(entries_.size()), entries_.data()};
    }
    const amqp_table_t& table() const { return table_; }

private:
    static amqp_table_entry_t text_entry(std::string_view key, std::string_view value) {
        amqp_table_entry_t entry{};
        entry.key = as_bytes(key);
        entry.value.kind = AMQP_FIELD_KIND_UTF8;
        entry.value.value.bytes = as_bytes(value);
        return entry;
    }
    static amqp_table_entry_t true_entry(std::string_view key) {
        amqp_table_entry_t entry{};
        entry.key = as_bytes(key);
        entry.value.kind = AMQP_FIELD_KIND_BOOLEAN;
        entry.value.value.boolean = 1;
        return entry;
    }
    const std::string& name_;
    std::array<amqp_table_entry_t, 3> capabilities_;
    std::array<amqp_table_entry_t, 4> entries_;
    amqp_table_t table_{};
};

Result<void> log_in(amqp_connection_state_t state, const TransportUrl::Host& host,
                    const std::string& vhost, const AmqpOptions& options,
                    const std::string& connection_name) {
    const LoginProperties properties(connection_name);
    const auto heartbeat = static_cast<int>(options.heartbeat_timeout_threshold_s);
    const bool external = options.rabbit_login_method == "EXTERNAL";
    const amqp_rpc_reply_t reply =
        external
            ? ::amqp_login_with_properties(state, vhost.c_str(), kChannelsMax, kFrameBytesMax,
                                           heartbeat, &properties.table(),
                                           AMQP_SASL_METHOD_EXTERNAL, host.user.c_str())
            : ::amqp_login_with_properties(state, vhost.c_str(), kChannelsMax, kFrameBytesMax,
                                           heartbeat, &properties.table(), AMQP_SASL_METHOD_PLAIN,
                                           host.user.c_str(), host.password.c_str());
    const std::string doing =
        fmt::format("logging in at broker {} as {}, vhost {}", host.text(), host.user, vhost);
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION) {
        const Refusal refusal = read_refusal(reply);
        return Error::unauthenticated("{}: {} {}", doing, refusal.code, refusal.text)
            .with_hint("Check user, password and vhost of transport_url with rabbitmqctl.");
    }
    return reply.reply_type == AMQP_RESPONSE_NORMAL ? Result<void>()
                                                    : dead(reply.library_error, doing);
}

class RabbitLink final : public BrokerLink {
public:
    RabbitLink(State state, std::string name) : state_(std::move(state)), name_(std::move(name)) {}
    ~RabbitLink() override {
        // Says goodbye without waiting for the answer, so that the broker logs no lost connection.
        amqp_connection_close_t goodbye{200, as_bytes("bye"), 0, 0};
        ::amqp_send_method(state_.get(), 0, AMQP_CONNECTION_CLOSE_METHOD, &goodbye);
    }

    int fd() const override { return ::amqp_get_sockfd(state_.get()); }
    int64_t heartbeat_s() const override { return ::amqp_get_heartbeat(state_.get()); }

    Result<LinkEvent> next_event() override {
        while (true) {
            amqp_frame_t frame;
            const timeval now{0, 0};
            const int status = ::amqp_simple_wait_frame_noblock(state_.get(), &frame, &now);
            if (status == AMQP_STATUS_TIMEOUT) {
                return LinkEvent();
            }
            if (status != AMQP_STATUS_OK) {
                return dead(status, fmt::format("connection to broker {}", name_));
            }
            LinkEvent event = TRY(take_frame(frame));
            ::amqp_maybe_release_buffers_on_channel(state_.get(), frame.channel);
            if (!std::holds_alternative<std::monostate>(event)) {
                return event;
            }
        }
    }

    Result<void> declare_exchange(const ExchangeSpec& exchange) override {
        TRY(open(LinkChannel::Declare));
        ::amqp_exchange_declare(state_.get(), number(LinkChannel::Declare), as_bytes(exchange.name),
                                as_bytes(exchange.type), 0, exchange.durable ? 1 : 0,
                                exchange.auto_delete ? 1 : 0, 0, amqp_empty_table);
        return answer(LinkChannel::Declare, fmt::format("declaring exchange {}", exchange.name));
    }

    Result<void> declare_queue(const QueueSpec& queue) override {
        TRY(open(LinkChannel::Declare));
        const ArgumentTable arguments(queue.arguments);
        ::amqp_queue_declare(state_.get(), number(LinkChannel::Declare), as_bytes(queue.name), 0,
                             queue.durable ? 1 : 0, 0, queue.auto_delete ? 1 : 0,
                             arguments.table());
        return answer(LinkChannel::Declare, fmt::format("declaring queue {}", queue.name));
    }

    Result<int64_t> inspect_queue(const std::string& name) override {
        TRY(open(LinkChannel::Declare));
        const amqp_queue_declare_ok_t* found =
            ::amqp_queue_declare(state_.get(), number(LinkChannel::Declare), as_bytes(name), 1, 0,
                                 0, 0, amqp_empty_table);
        const int64_t consumers = found == nullptr ? 0 : found->consumer_count;
        TRY(answer(LinkChannel::Declare, fmt::format("looking for queue {}", name)));
        return consumers;
    }

    Result<void> bind_queue(const std::string& queue, const std::string& exchange,
                            const std::string& routing_key) override {
        TRY(open(LinkChannel::Declare));
        ::amqp_queue_bind(state_.get(), number(LinkChannel::Declare), as_bytes(queue),
                          as_bytes(exchange), as_bytes(routing_key), amqp_empty_table);
        return answer(LinkChannel::Declare,
                      fmt::format("binding queue {} to exchange {}", queue, exchange));
    }

    Result<void> delete_queue(const std::string& name) override {
        TRY(open(LinkChannel::Declare));
        ::amqp_queue_delete(state_.get(), number(LinkChannel::Declare), as_bytes(name), 0, 0);
        return answer(LinkChannel::Declare, fmt::format("deleting queue {}", name));
    }

    Result<void> consume(const std::string& queue, const std::string& consumer_tag,
                         int64_t prefetch, const Json& arguments) override {
        const amqp_channel_t channel = number(LinkChannel::Consume);
        if (prefetch != prefetch_) {
            ::amqp_basic_qos(state_.get(), channel, 0, static_cast<uint16_t>(prefetch), 0);
            TRY(answer(LinkChannel::Consume, "setting the prefetch count"));
            prefetch_ = prefetch;
        }
        const ArgumentTable table(arguments);
        ::amqp_basic_consume(state_.get(), channel, as_bytes(queue), as_bytes(consumer_tag), 0, 0,
                             0, table.table());
        return answer(LinkChannel::Consume, fmt::format("consuming queue {}", queue));
    }

    Result<void> cancel(const std::string& consumer_tag) override {
        ::amqp_basic_cancel(state_.get(), number(LinkChannel::Consume), as_bytes(consumer_tag));
        return answer(LinkChannel::Consume, "ending a consumer");
    }

    Result<void> ack(uint64_t delivery_tag) override {
        return written(
            ::amqp_basic_ack(state_.get(), number(LinkChannel::Consume), delivery_tag, 0),
            "acknowledging a message");
    }

    Result<void> requeue(uint64_t delivery_tag) override {
        return written(
            ::amqp_basic_reject(state_.get(), number(LinkChannel::Consume), delivery_tag, 1),
            "giving a message back");
    }

    Result<void> open_consume_channel() override {
        prefetch_ = 0;
        return open(LinkChannel::Consume);
    }

    Result<void> open_publish_channel() override {
        TRY(open(LinkChannel::Publish));
        ::amqp_confirm_select(state_.get(), number(LinkChannel::Publish));
        return answer(LinkChannel::Publish, "asking for publisher confirms");
    }

    Result<void> publish(const OutgoingMessage& message) override {
        const MessageProperties properties(message);
        return written(::amqp_basic_publish(
                           state_.get(), number(LinkChannel::Publish), as_bytes(message.exchange),
                           as_bytes(message.routing_key), message.mandatory ? 1 : 0, 0,
                           properties.get(), as_bytes(message.body)),
                       "publishing a message");
    }

private:
    static amqp_channel_t number(LinkChannel channel) {
        return static_cast<amqp_channel_t>(channel);
    }
    bool& is_open(amqp_channel_t channel) { return open_[channel]; }

    Result<void> open(LinkChannel channel) {
        if (is_open(number(channel))) {
            return {};
        }
        reader_.forget(number(channel));
        ::amqp_channel_open(state_.get(), number(channel));
        TRY(answer(channel, "opening a channel"));
        is_open(number(channel)) = true;
        return {};
    }

    Result<void> written(int status, std::string_view doing) {
        return status == AMQP_STATUS_OK ? Result<void>() : dead(status, doing);
    }

    // What the last synchronous method got as its answer.
    Result<void> answer(LinkChannel channel, const std::string& doing) {
        const amqp_rpc_reply_t reply = ::amqp_get_rpc_reply(state_.get());
        if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
            return {};
        }
        if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION) {
            return dead(reply.library_error, doing);
        }
        const Refusal refusal = read_refusal(reply);
        if (!refusal.channel_only) {
            return Error::unavailable("{}: the broker closed the connection: {} {}", doing,
                                      refusal.code, refusal.text);
        }
        TRY(channel_closed(number(channel)));
        prefetch_ = channel == LinkChannel::Consume ? 0 : prefetch_;
        TRY(open(channel));
        return refusal_error(refusal, doing);
    }

    Result<void> channel_closed(amqp_channel_t channel) {
        amqp_channel_close_ok_t ok{};
        const int status =
            ::amqp_send_method(state_.get(), channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
        is_open(channel) = false;
        ::amqp_maybe_release_buffers_on_channel(state_.get(), channel);
        return written(status, "answering a closed channel");
    }

    Result<LinkEvent> take_frame(const amqp_frame_t& frame) {
        if (frame.frame_type == AMQP_FRAME_METHOD && frame.channel == 0) {
            return take_connection_method(frame.payload.method);
        }
        if (frame.channel < 1 || frame.channel >= open_.size()) {
            return Error::unavailable("broker {} sent a frame on channel {}", name_, frame.channel);
        }
        if (frame.frame_type == AMQP_FRAME_METHOD &&
            frame.payload.method.id == AMQP_CHANNEL_CLOSE_METHOD) {
            const auto* close =
                static_cast<const amqp_channel_close_t*>(frame.payload.method.decoded);
            ChannelClosed closed{static_cast<LinkChannel>(frame.channel), close->reply_code,
                                 to_text(close->reply_text)};
            TRY(channel_closed(frame.channel));
            return LinkEvent(std::move(closed));
        }
        return reader_.take(frame);
    }

    Result<LinkEvent> take_connection_method(const amqp_method_t& method) {
        if (method.id == AMQP_CONNECTION_BLOCKED_METHOD) {
            const auto* blocked = static_cast<const amqp_connection_blocked_t*>(method.decoded);
            return LinkEvent(BlockedChanged{true, to_text(blocked->reason)});
        }
        if (method.id == AMQP_CONNECTION_UNBLOCKED_METHOD) {
            return LinkEvent(BlockedChanged{});
        }
        if (method.id == AMQP_CONNECTION_CLOSE_METHOD) {
            const auto* close = static_cast<const amqp_connection_close_t*>(method.decoded);
            amqp_connection_close_ok_t ok{};
            ::amqp_send_method(state_.get(), 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
            return Error::unavailable("broker {} closed the connection: {} {}", name_,
                                      close->reply_code, to_text(close->reply_text));
        }
        return LinkEvent();
    }

    State state_;
    const std::string name_;
    std::array<bool, 4> open_{};
    int64_t prefetch_ = 0;  // that the consumer channel has
    ContentReader reader_;
};

}  // namespace

Result<std::unique_ptr<BrokerLink>> connect_rabbit(const TransportUrl::Host& host,
                                                   const std::string& vhost,
                                                   const AmqpOptions& options,
                                                   const std::string& connection_name) {
    State state(::amqp_new_connection());
    if (!state) {
        return Error::exhausted("no memory for a connection to the broker");
    }
    const timeval timeout = to_timeval(options.connect_timeout_ms);
    ::amqp_set_handshake_timeout(state.get(), &timeout);
    ::amqp_set_rpc_timeout(state.get(), &timeout);
    TRY(open_socket(state.get(), host, options));
    TRY(log_in(state.get(), host, vhost, options, connection_name));
    return std::unique_ptr<BrokerLink>(std::make_unique<RabbitLink>(std::move(state), host.text()));
}

}  // namespace kumoi::amqp
