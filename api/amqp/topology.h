// Topology: which exchanges and queues oslo.messaging's RabbitMQ driver uses, with which arguments.
// Pure functions of the options; other processes declare the same names, so every flag counts.
#pragma once

#include <optional>
#include <string>

#include "api/amqp/amqp_options.h"
#include "base/json.h"

namespace kumoi::amqp {

struct ExchangeSpec {
    std::string name;
    std::string type;  // topic, fanout
    bool durable = false;
    bool auto_delete = false;
};

struct QueueSpec {
    std::string name;
    bool durable = false;
    bool auto_delete = false;
    Json arguments = Json::object();
};

// A queue with what feeds it: without an exchange it is reached by its name alone.
struct Subscription {
    QueueSpec queue;
    std::optional<ExchangeSpec> exchange;
    std::string routing_key;
    Json consume_arguments = Json::object();
    int64_t prefetch = 0;
    bool ours_alone = false;  // nobody else consumes it: one consumer must always be there
};

ExchangeSpec topic_exchange(const AmqpOptions& options, const std::string& exchange);
ExchangeSpec fanout_exchange(const AmqpOptions& options, const std::string& topic);

// `key` is `<topic>` (shared by all servers) or `<topic>.<server>` (`ours_alone`).
Subscription topic_subscription(const AmqpOptions& options, const std::string& exchange,
                                const std::string& key, bool ours_alone);
// `unique` is 32 hexadecimal digits or the queue manager's name; unused with rabbit_stream_fanout.
Subscription fanout_subscription(const AmqpOptions& options, const std::string& topic,
                                 const std::string& unique);
Subscription reply_subscription(const AmqpOptions& options, const std::string& unique);

// A queue for messages nobody may be consuming yet: notifications.
Subscription notification_queue(const AmqpOptions& options, const std::string& exchange,
                                const std::string& topic_and_priority);

}  // namespace kumoi::amqp
