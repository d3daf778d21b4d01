// BrokerLink: one logged-in connection to one broker, as the parts above see it: synchronous
// declarations, writes that do not wait for an answer, and a stream of events. RabbitLink is the
// real one (librabbitmq); tests have a double. Used from one thread at a time.
//
// Three channels: consumers and their acknowledgements, declarations (a refused one costs only that
// channel), and publishing with confirms. An Error of code Unavailable or Timeout means that the
// link is dead; any other code is the broker's refusal of that one operation, and the channel it
// was made on is open again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "api/amqp/topology.h"
#include "base/result.h"

namespace kumoi::amqp {

struct Delivery {
    std::string consumer_tag;
    uint64_t delivery_tag = 0;
    uint64_t epoch = 0;  // of the connection's consumer channel; set by ConsumerSet
    bool redelivered = false;
    std::string body;
    std::string compression;               // kombu's header
    std::optional<int64_t> stream_offset;  // of a stream queue
    bool oversized = false;                // more than kMessageBytesMax: body is empty
};
struct Confirm {
    uint64_t sequence = 0;  // of the publish, from 1 on each publishing channel
    bool multiple = false;
    bool accepted = true;  // false: basic.nack
};
struct Returned {  // comes before the confirm of the same message
    int code = 0;
    std::string text;
    std::string exchange;
    std::string routing_key;
    std::string body;
};
struct ConsumerCancelled {
    std::string consumer_tag;
};
struct BlockedChanged {
    bool blocked = false;
    std::string reason;
};
enum class LinkChannel { Consume = 1, Declare = 2, Publish = 3 };
struct ChannelClosed {
    LinkChannel channel = LinkChannel::Consume;
    int code = 0;
    std::string text;
};
using LinkEvent = std::variant<std::monostate, Delivery, Confirm, Returned, ConsumerCancelled,
                               BlockedChanged, ChannelClosed>;  // monostate: nothing has come

struct OutgoingMessage {
    std::string exchange;
    std::string routing_key;
    std::string body;
    std::string expiration;  // milliseconds; empty: none
    std::string compression;
    bool mandatory = false;
};

// Whether the link is dead, and not just one operation refused.
inline bool is_dead(const Error& error) {
    return error.code == ErrorCode::Unavailable || error.code == ErrorCode::Timeout;
}

class BrokerLink {
public:
    virtual ~BrokerLink() = default;
    virtual int fd() const = 0;  // readable: ask next_event() until it has nothing
    virtual Result<LinkEvent> next_event() = 0;
    virtual int64_t heartbeat_s() const = 0;  // as agreed with the broker; 0: none

    virtual Result<void> declare_exchange(const ExchangeSpec& exchange) = 0;
    virtual Result<void> declare_queue(const QueueSpec& queue) = 0;
    // Number of its consumers; NotFound when there is no such queue.
    virtual Result<int64_t> inspect_queue(const std::string& name) = 0;
    virtual Result<void> bind_queue(const std::string& queue, const std::string& exchange,
                                    const std::string& routing_key) = 0;
    virtual Result<void> delete_queue(const std::string& name) = 0;

    virtual Result<void> consume(const std::string& queue, const std::string& consumer_tag,
                                 int64_t prefetch, const Json& arguments) = 0;
    virtual Result<void> cancel(const std::string& consumer_tag) = 0;
    virtual Result<void> ack(uint64_t delivery_tag) = 0;
    virtual Result<void> requeue(uint64_t delivery_tag) = 0;
    virtual Result<void> open_consume_channel() = 0;

    virtual Result<void> open_publish_channel() = 0;  // sequence numbers begin at 1 again
    virtual Result<void> publish(const OutgoingMessage& message) = 0;
};

}  // namespace kumoi::amqp
