#include "api/amqp/amqp_options.h"

#include <openssl/evp.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace kumoi::amqp {
namespace {

constexpr std::string_view kRabbit = "oslo_messaging_rabbit";

// One option of [oslo_messaging_rabbit]: where it lands in AmqpOptions and its old spelling.
struct RabbitOption {
    const char* name;
    const char* old_name;  // nullptr: none
    OptionType type;
    const char* default_value;
    const char* help;
    int64_t min = 0;
    int64_t max = 0;  // 0: no limits
    bool AmqpOptions::*boolean = nullptr;
    int64_t AmqpOptions::*integer = nullptr;
    double AmqpOptions::*floating = nullptr;
    std::string AmqpOptions::*string = nullptr;
};

constexpr RabbitOption kRabbitOptions[] = {
    {.name = "amqp_durable_queues",
     .old_name = "rabbit_durable_queues",
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "Shared queues and exchanges survive a restart of the broker. Must be as in the other "
             "services of the cloud.",
     .boolean = &AmqpOptions::amqp_durable_queues},
    {.name = "amqp_auto_delete",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "The broker deletes shared queues when their last consumer leaves.",
     .boolean = &AmqpOptions::amqp_auto_delete},
    {.name = "rabbit_ha_queues",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "Declares shared queues with x-ha-policy, for classic mirrored queues.",
     .boolean = &AmqpOptions::rabbit_ha_queues},
    {.name = "rabbit_quorum_queue",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "Shared queues are quorum queues, and durable. Excludes rabbit_ha_queues.",
     .boolean = &AmqpOptions::rabbit_quorum_queue},
    {.name = "rabbit_transient_quorum_queue",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "Reply and fanout queues are quorum queues too (2026.1).",
     .boolean = &AmqpOptions::rabbit_transient_quorum_queue},
    {.name = "rabbit_quorum_delivery_limit",
     .old_name = nullptr,
     .type = OptionType::Integer,
     .default_value = "0",
     .help = "How often a quorum queue delivers one message again. 0: no limit.",
     .min = 0,
     .max = 2147483648,
     .integer = &AmqpOptions::rabbit_quorum_delivery_limit},
    {.name = "rabbit_quorum_max_memory_length",
     .old_name = "rabbit_quroum_max_memory_length",
     .type = OptionType::Integer,
     .default_value = "0",
     .help = "Messages that a quorum queue keeps in memory. 0: no limit.",
     .min = 0,
     .max = 2147483648,
     .integer = &AmqpOptions::rabbit_quorum_max_memory_length},
    {.name = "rabbit_quorum_max_memory_bytes",
     .old_name = "rabbit_quroum_max_memory_bytes",
     .type = OptionType::Integer,
     .default_value = "0",
     .help = "Bytes that a quorum queue keeps in memory. 0: no limit.",
     .min = 0,
     .max = 1099511627776,
     .integer = &AmqpOptions::rabbit_quorum_max_memory_bytes},
    {.name = "rabbit_transient_queues_ttl",
     .old_name = nullptr,
     .type = OptionType::Integer,
     .default_value = "1800",
     .help = "Seconds after which an unused reply or fanout queue vanishes. 0: never (2026.1).",
     .min = 0,
     .max = 2147483648,
     .integer = &AmqpOptions::rabbit_transient_queues_ttl_s},
    {.name = "rabbit_qos_prefetch_count",
     .old_name = nullptr,
     .type = OptionType::Integer,
     .default_value = "0",
     .help = "Messages that the broker sends ahead of acknowledgements. 0: 256, enough to keep "
             "every worker busy.",
     .min = 0,
     .max = 65535,
     .integer = &AmqpOptions::rabbit_qos_prefetch_count},
    {.name = "rabbit_stream_fanout",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "Fanouts use one stream a topic (2026.1). Needs rabbit_transient_quorum_queue and "
             "rabbit_qos_prefetch_count.",
     .boolean = &AmqpOptions::rabbit_stream_fanout},
    {.name = "enable_cancel_on_failover",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "Asks the broker to cancel consumers when a mirrored queue fails over.",
     .boolean = &AmqpOptions::enable_cancel_on_failover},
    {.name = "direct_mandatory_flag",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "true",
     .help = "Replies are returned when their queue is missing, and tried again.",
     .boolean = &AmqpOptions::direct_mandatory_flag},
    {.name = "use_queue_manager",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "Reply and fanout queues have repeatable names, host:process:number, and stay when "
             "the process ends (2026.1).",
     .boolean = &AmqpOptions::use_queue_manager},
    {.name = "hostname",
     .old_name = nullptr,
     .type = OptionType::String,
     .default_value = "",
     .help = "Name of this host in queue names. Empty: the machine's host name.",
     .string = &AmqpOptions::hostname},
    {.name = "processname",
     .old_name = nullptr,
     .type = OptionType::String,
     .default_value = "",
     .help = "Name of this process in queue names. Empty: nova-compute.",
     .string = &AmqpOptions::processname},
    {.name = "heartbeat_timeout_threshold",
     .old_name = nullptr,
     .type = OptionType::Integer,
     .default_value = "60",
     .help = "Seconds without a sign of life after which a connection is dead. 0: no heartbeats.",
     .min = 0,
     .max = 65535,
     .integer = &AmqpOptions::heartbeat_timeout_threshold_s},
    {.name = "heartbeat_rate",
     .old_name = nullptr,
     .type = OptionType::Integer,
     .default_value = "2",
     .help = "How many times in heartbeat_timeout_threshold the connection is checked.",
     .min = 1,
     .max = 100,
     .integer = &AmqpOptions::heartbeat_rate},
    {.name = "heartbeat_in_pthread",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "Taken for compatibility: every connection has its own thread here."},
    {.name = "kombu_reconnect_delay",
     .old_name = nullptr,
     .type = OptionType::Float,
     .default_value = "1.0",
     .help = "Seconds before the first attempt to connect again.",
     .floating = &AmqpOptions::kombu_reconnect_delay_s},
    {.name = "kombu_reconnect_splay",
     .old_name = nullptr,
     .type = OptionType::Float,
     .default_value = "0.0",
     .help = "Up to this many random seconds are added to kombu_reconnect_delay (2026.1).",
     .floating = &AmqpOptions::kombu_reconnect_splay_s},
    {.name = "kombu_compression",
     .old_name = nullptr,
     .type = OptionType::String,
     .default_value = "",
     .help = "Compresses sent messages: gzip or bz2. Both are always understood.",
     .string = &AmqpOptions::kombu_compression},
    {.name = "kombu_missing_consumer_retry_timeout",
     .old_name = "kombu_reconnect_timeout",
     .type = OptionType::Integer,
     .default_value = "60",
     .help = "Seconds for which a reply to a missing queue is tried again.",
     .min = 0,
     .max = 86400,
     .integer = &AmqpOptions::kombu_missing_consumer_retry_timeout_s},
    {.name = "kombu_failover_strategy",
     .old_name = nullptr,
     .type = OptionType::String,
     .default_value = "round-robin",
     .help = "Which host of transport_url is next after a failure: round-robin or shuffle.",
     .string = &AmqpOptions::kombu_failover_strategy},
    {.name = "rabbit_login_method",
     .old_name = nullptr,
     .type = OptionType::String,
     .default_value = "AMQPLAIN",
     .help = "SASL mechanism: PLAIN, AMQPLAIN (sent as PLAIN, with the same rights) or EXTERNAL.",
     .string = &AmqpOptions::rabbit_login_method},
    {.name = "rabbit_retry_interval",
     .old_name = nullptr,
     .type = OptionType::Integer,
     .default_value = "1",
     .help = "Seconds between the first two rounds over all hosts.",
     .min = 1,
     .max = 3600,
     .integer = &AmqpOptions::rabbit_retry_interval_s},
    {.name = "rabbit_retry_backoff",
     .old_name = nullptr,
     .type = OptionType::Integer,
     .default_value = "2",
     .help = "Seconds by which each further pause grows.",
     .min = 0,
     .max = 3600,
     .integer = &AmqpOptions::rabbit_retry_backoff_s},
    {.name = "rabbit_interval_max",
     .old_name = nullptr,
     .type = OptionType::Integer,
     .default_value = "30",
     .help = "Longest pause between two rounds, in seconds. A host whose port is closed is looked "
             "at every two seconds all the same.",
     .min = 1,
     .max = 3600,
     .integer = &AmqpOptions::rabbit_interval_max_s},
    {.name = "ssl",
     .old_name = "rabbit_use_ssl",
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "Connects with TLS.",
     .boolean = &AmqpOptions::ssl},
    {.name = "ssl_version",
     .old_name = "kombu_ssl_version",
     .type = OptionType::String,
     .default_value = "",
     .help = "Accepted for nova.conf's sake and without effect: TLS 1.2 is the lowest version.",
     .string = &AmqpOptions::ssl_version},
    {.name = "ssl_key_file",
     .old_name = "kombu_ssl_keyfile",
     .type = OptionType::Path,
     .default_value = "",
     .help = "Key of the client certificate, PEM.",
     .string = &AmqpOptions::ssl_key_file},
    {.name = "ssl_cert_file",
     .old_name = "kombu_ssl_certfile",
     .type = OptionType::Path,
     .default_value = "",
     .help = "Client certificate, PEM.",
     .string = &AmqpOptions::ssl_cert_file},
    {.name = "ssl_ca_file",
     .old_name = "kombu_ssl_ca_certs",
     .type = OptionType::Path,
     .default_value = "",
     .help = "Authorities that may sign the broker's certificate, PEM. Empty: the certificate is "
             "not checked.",
     .string = &AmqpOptions::ssl_ca_file},
    {.name = "ssl_enforce_hostname_verification",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "The certificate must name the host of transport_url. Needs ssl_ca_file.",
     .boolean = &AmqpOptions::ssl_enforce_hostname_verification},
    {.name = "ssl_enforce_fips_mode",
     .old_name = nullptr,
     .type = OptionType::Boolean,
     .default_value = "false",
     .help = "Refuses to start unless OpenSSL runs in FIPS mode.",
     .boolean = &AmqpOptions::ssl_enforce_fips_mode},
};

Option as_option(const RabbitOption& option, std::string name) {
    Option made{.section = std::string(kRabbit),
                .name = std::move(name),
                .type = option.type,
                .default_value = option.default_value,
                .help = option.help};
    if (option.max > 0) {
        made.min = option.min;
        made.max = option.max;
    }
    return made;
}

Option plain_option(const char* section, const char* name, OptionType type, const char* value,
                    const char* help) {
    return {.section = section, .name = name, .type = type, .default_value = value, .help = help};
}

std::vector<Option> general_options() {
    std::vector<Option> table = {
        plain_option(
            "DEFAULT", "transport_url", OptionType::String, "rabbit://",
            "The message brokers of this cell, rabbit://USER:PASSWORD@HOST:PORT,.../VHOST. "
            "Must be that of the cell's nova-conductor."),
        plain_option("DEFAULT", "control_exchange", OptionType::String, "nova",
                     "Exchange that RPC and notifications go through."),
        plain_option("DEFAULT", "rpc_response_timeout", OptionType::Integer, "60",
                     "Seconds to wait for the answer to a remote call."),
        plain_option("DEFAULT", "executor_thread_pool_size", OptionType::Integer, "64",
                     "Remote calls that are served at the same time."),
        plain_option("DEFAULT", "rpc_ping_enabled", OptionType::Boolean, "false",
                     "Answers oslo_rpc_server_ping, for monitoring."),
        plain_option(
            "oslo_messaging_notifications", "driver", OptionType::Multi, "",
            "Where notifications go: messaging, messagingv2, log or noop. May be repeated; "
            "unset: nowhere."),
        plain_option("oslo_messaging_notifications", "transport_url", OptionType::String, "",
                     "Brokers for notifications. Empty: those of RPC."),
        plain_option("oslo_messaging_notifications", "topics", OptionType::List, "notifications",
                     "Topics of unversioned notifications."),
        plain_option("notifications", "notification_format", OptionType::String, "unversioned",
                     "unversioned, versioned or both."),
        plain_option("notifications", "versioned_notifications_topics", OptionType::List,
                     "versioned_notifications", "Topics of versioned notifications."),
    };
    table[0].secret = true;
    table[2].min = 1;
    table[2].max = 86400;
    table[3].min = 1;
    table[3].max = 4096;
    table[6].secret = true;
    table[8].choices = {"unversioned", "versioned", "both"};
    return table;
}

std::optional<bool> parse_boolean(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char letter) { return static_cast<char>(::tolower(letter)); });
    if (text == "1" || text == "true" || text == "yes" || text == "on") {
        return true;
    }
    if (text == "0" || text == "false" || text == "no" || text == "off") {
        return false;
    }
    return std::nullopt;
}

template <class T>
std::optional<T> parse_number(const std::string& text) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() ? std::optional(value)
                                                                    : std::nullopt;
}

void take(AmqpOptions& options, const RabbitOption& option, const Config& config,
          std::string_view name) {
    if (option.boolean != nullptr) {
        options.*option.boolean = config.boolean(kRabbit, name);
    } else if (option.integer != nullptr) {
        options.*option.integer = config.integer(kRabbit, name);
    } else if (option.floating != nullptr) {
        options.*option.floating = config.floating(kRabbit, name);
    } else if (option.string != nullptr) {
        options.*option.string = config.string(kRabbit, name);
    }
}

bool take_text(AmqpOptions& options, const RabbitOption& option, const std::string& value) {
    if (option.boolean != nullptr) {
        const auto parsed = parse_boolean(value);
        options.*option.boolean = parsed.value_or(options.*option.boolean);
        return parsed.has_value();
    }
    if (option.integer != nullptr) {
        const auto parsed = parse_number<int64_t>(value);
        const bool fits = parsed && *parsed >= option.min && *parsed <= option.max;
        options.*option.integer = fits ? *parsed : options.*option.integer;
        return fits;
    }
    if (option.floating != nullptr) {
        const auto parsed = parse_number<double>(value);
        const bool fits = parsed && *parsed >= 0 && *parsed <= 3600;
        options.*option.floating = fits ? *parsed : options.*option.floating;
        return fits;
    }
    if (option.string != nullptr) {
        options.*option.string = value;
    }
    return true;
}

}  // namespace

std::vector<Option> amqp_option_table() {
    std::vector<Option> table = general_options();
    for (const RabbitOption& option : kRabbitOptions) {
        table.push_back(as_option(option, option.name));
        if (option.old_name != nullptr) {
            Option old = as_option(option, option.old_name);
            old.help = fmt::format("Old spelling of {}, taken when that is not set.", option.name);
            table.push_back(std::move(old));
        }
    }
    return table;
}

AmqpOptions AmqpOptions::from_config(const Config& config) {
    AmqpOptions options;
    options.transport_url = config.string("DEFAULT", "transport_url");
    options.control_exchange = config.string("DEFAULT", "control_exchange");
    options.rpc_response_timeout_s = config.integer("DEFAULT", "rpc_response_timeout");
    options.executor_thread_pool_size = config.integer("DEFAULT", "executor_thread_pool_size");
    options.rpc_ping_enabled = config.boolean("DEFAULT", "rpc_ping_enabled");
    const std::string_view notifications = "oslo_messaging_notifications";
    options.notification_drivers = config.list(notifications, "driver");
    std::erase(options.notification_drivers, "");
    options.notification_transport_url = config.string(notifications, "transport_url");
    options.notification_topics = config.list(notifications, "topics");
    options.notification_format = config.string("notifications", "notification_format");
    options.versioned_notification_topics =
        config.list("notifications", "versioned_notifications_topics");
    for (const RabbitOption& option : kRabbitOptions) {
        const bool old = option.old_name != nullptr && config.is_set(kRabbit, option.old_name) &&
                         !config.is_set(kRabbit, option.name);
        take(options, option, config, old ? option.old_name : option.name);
    }
    return options;
}

Result<void> AmqpOptions::apply(std::string_view name, const std::string& value) {
    for (const RabbitOption& option : kRabbitOptions) {
        if (name != option.name && (option.old_name == nullptr || name != option.old_name)) {
            continue;
        }
        if (!take_text(*this, option, value)) {
            return Error::invalid("transport_url: \"{}\" is no value for {}", value, name);
        }
        return {};
    }
    return {};  // oslo.messaging ignores what it does not know
}

Result<void> AmqpOptions::check() const {
    if (rabbit_quorum_queue && rabbit_ha_queues) {
        return Error::invalid("rabbit_quorum_queue and rabbit_ha_queues exclude each other")
            .with_hint("Leave rabbit_ha_queues unset; quorum queues are replicated by themselves.");
    }
    if (rabbit_stream_fanout && !rabbit_transient_quorum_queue) {
        return Error::invalid("rabbit_stream_fanout needs rabbit_transient_quorum_queue = true");
    }
    if (rabbit_stream_fanout && rabbit_qos_prefetch_count == 0) {
        return Error::invalid("rabbit_stream_fanout needs a rabbit_qos_prefetch_count above 0");
    }
    if (!kombu_compression.empty() && kombu_compression != "gzip" && kombu_compression != "bz2") {
        return Error::invalid("kombu_compression is \"{}\"; gzip and bz2 are offered",
                              kombu_compression);
    }
    if (rabbit_login_method != "PLAIN" && rabbit_login_method != "AMQPLAIN" &&
        rabbit_login_method != "EXTERNAL") {
        return Error::invalid(
            "rabbit_login_method is \"{}\"; PLAIN, AMQPLAIN and EXTERNAL are "
            "offered",
            rabbit_login_method);
    }
    if (ssl_enforce_fips_mode && ::EVP_default_properties_is_fips_enabled(nullptr) != 1) {
        return Error::unsupported("ssl_enforce_fips_mode is set and OpenSSL is not in FIPS mode")
            .with_hint("Enable the FIPS provider in openssl.cnf.");
    }
    return {};
}

}  // namespace kumoi::amqp
