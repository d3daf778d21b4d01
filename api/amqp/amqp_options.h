// AmqpOptions: [oslo_messaging_rabbit], [oslo_messaging_notifications] and the messaging options of
// [DEFAULT], under the names that oslo.messaging of OpenStack Zed and of 2026.1 give them, old
// spellings included. A wrong value here declares a shared queue with other arguments than the
// other processes of the cloud do, so the defaults are theirs. A plain value, read once at start.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/config.h"
#include "base/result.h"

namespace kumoi::amqp {

struct AmqpOptions {
    std::string transport_url = "rabbit://";
    std::string control_exchange = "nova";
    int64_t rpc_response_timeout_s = 60;
    int64_t executor_thread_pool_size = 64;
    bool rpc_ping_enabled = false;

    bool amqp_durable_queues = false;
    bool amqp_auto_delete = false;
    bool rabbit_ha_queues = false;
    bool rabbit_quorum_queue = false;
    bool rabbit_transient_quorum_queue = false;
    int64_t rabbit_quorum_delivery_limit = 0;
    int64_t rabbit_quorum_max_memory_length = 0;
    int64_t rabbit_quorum_max_memory_bytes = 0;
    int64_t rabbit_transient_queues_ttl_s = 1800;
    int64_t rabbit_qos_prefetch_count = 0;
    bool rabbit_stream_fanout = false;
    bool enable_cancel_on_failover = false;
    bool direct_mandatory_flag = true;
    bool use_queue_manager = false;
    std::string hostname;     // for queue names; empty: this machine's
    std::string processname;  // for queue names; empty: this program's

    int64_t heartbeat_timeout_threshold_s = 60;
    int64_t heartbeat_rate = 2;
    double kombu_reconnect_delay_s = 1.0;
    double kombu_reconnect_splay_s = 0.0;
    std::string kombu_compression;
    int64_t kombu_missing_consumer_retry_timeout_s = 60;
    std::string kombu_failover_strategy = "round-robin";
    std::string rabbit_login_method = "AMQPLAIN";
    int64_t rabbit_retry_interval_s = 1;
    int64_t rabbit_retry_backoff_s = 2;
    int64_t rabbit_interval_max_s = 30;

    bool ssl = false;
    std::string ssl_version;
    std::string ssl_key_file;
    std::string ssl_cert_file;
    std::string ssl_ca_file;
    bool ssl_enforce_hostname_verification = false;
    bool ssl_enforce_fips_mode = false;

    std::vector<std::string> notification_drivers;  // messaging, messagingv2, log, noop
    std::string notification_transport_url;         // empty: transport_url
    std::vector<std::string> notification_topics = {"notifications"};
    std::vector<std::string> versioned_notification_topics = {"versioned_notifications"};
    std::string notification_format = "unversioned";  // versioned, both

    // Not in any file: how long one step towards a broker may take, and how often the reply queue
    // is tried out.
    int64_t connect_timeout_ms = 5000;
    int64_t send_timeout_ms = 5000;
    int64_t confirm_timeout_ms = 15000;
    int64_t probe_interval_ms = 60000;
    int64_t probe_answer_ms = 10000;

    static AmqpOptions from_config(const Config& config);
    // Members of a transport_url's query, by their names in [oslo_messaging_rabbit].
    Result<void> apply(std::string_view name, const std::string& value);
    // Refuses combinations that oslo.messaging refuses too.
    Result<void> check() const;
};

std::vector<Option> amqp_option_table();

}  // namespace kumoi::amqp
