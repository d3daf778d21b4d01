#include "api/amqp/topology.h"

#include <fmt/format.h>

namespace kumoi::amqp {
namespace {

constexpr int64_t kPrefetchDefault = 256;  // ample for 64 workers; bounds what waits in memory

void add_quorum_arguments(const AmqpOptions& options, Json& arguments) {
    arguments.set("x-queue-type", "quorum");
    if (options.rabbit_quorum_delivery_limit > 0) {
        arguments.set("x-delivery-limit", options.rabbit_quorum_delivery_limit);
    }
    if (options.rabbit_quorum_max_memory_length > 0) {
        arguments.set("x-max-in-memory-length", options.rabbit_quorum_max_memory_length);
    }
    if (options.rabbit_quorum_max_memory_bytes > 0) {
        arguments.set("x-max-in-memory-bytes", options.rabbit_quorum_max_memory_bytes);
    }
}

bool shared_durable(const AmqpOptions& options) {
    return options.amqp_durable_queues || options.rabbit_quorum_queue;
}

Json transient_arguments(const AmqpOptions& options) {
    Json arguments = Json::object();
    if (options.rabbit_transient_quorum_queue) {
        add_quorum_arguments(options, arguments);
    }
    if (options.rabbit_transient_queues_ttl_s > 0) {
        arguments.set("x-expires", options.rabbit_transient_queues_ttl_s * 1000);
    }
    return arguments;
}

int64_t prefetch(const AmqpOptions& options) {
    return options.rabbit_qos_prefetch_count > 0 ? options.rabbit_qos_prefetch_count
                                                 : kPrefetchDefault;
}

Json consume_arguments(const AmqpOptions& options) {
    Json arguments = Json::object();
    if (options.enable_cancel_on_failover) {
        arguments.set("x-cancel-on-ha-failover", true);
    }
    return arguments;
}

}  // namespace

ExchangeSpec topic_exchange(const AmqpOptions& options, const std::string& exchange) {
    return {exchange, "topic", shared_durable(options), options.amqp_auto_delete};
}

ExchangeSpec fanout_exchange(const AmqpOptions& options, const std::string& topic) {
    return {topic + "_fanout", "fanout", options.rabbit_transient_quorum_queue, true};
}

Subscription topic_subscription(const AmqpOptions& options, const std::string& exchange,
                                const std::string& key, bool ours_alone) {
    Subscription made;
    made.queue = {key, shared_durable(options), options.amqp_auto_delete, Json::object()};
    if (options.rabbit_ha_queues) {
        made.queue.arguments.set("x-ha-policy", "all");
    }
    if (options.rabbit_quorum_queue) {
        add_quorum_arguments(options, made.queue.arguments);
    }
    made.exchange = topic_exchange(options, exchange);
    made.routing_key = key;
    made.consume_arguments = consume_arguments(options);
    made.prefetch = prefetch(options);
    made.ours_alone = ours_alone;
    return made;
}

Subscription fanout_subscription(const AmqpOptions& options, const std::string& topic,
                                 const std::string& unique) {
    Subscription made;
    made.exchange = fanout_exchange(options, topic);
    made.routing_key = topic;
    made.consume_arguments = consume_arguments(options);
    made.prefetch = prefetch(options);
    if (options.rabbit_stream_fanout) {
        made.queue = {topic + "_fanout", true, false, Json::object()};
        made.queue.arguments.set("x-queue-type", "stream");
        if (options.rabbit_transient_queues_ttl_s > 0) {
            made.queue.arguments.set("x-max-age",
                                     fmt::format("{}s", options.rabbit_transient_queues_ttl_s));
        }
        made.consume_arguments.set("x-stream-offset", "last");
        return made;
    }
    made.queue = {topic + "_fanout_" + unique, options.rabbit_transient_quorum_queue, false,
                  transient_arguments(options)};
    made.ours_alone = true;
    return made;
}

Subscription reply_subscription(const AmqpOptions& options, const std::string& unique) {
    Subscription made;
    made.queue = {"reply_" + unique, options.rabbit_transient_quorum_queue, false,
                  transient_arguments(options)};
    made.routing_key = made.queue.name;
    made.consume_arguments = consume_arguments(options);
    made.prefetch = prefetch(options);
    made.ours_alone = true;
    return made;
}

Subscription notification_queue(const AmqpOptions& options, const std::string& exchange,
                                const std::string& topic_and_priority) {
    return topic_subscription(options, exchange, topic_and_priority, false);
}

}  // namespace kumoi::amqp
