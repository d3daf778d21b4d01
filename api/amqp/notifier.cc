#include "api/amqp/notifier.h"

#include <algorithm>

#include "api/amqp/envelope.h"
#include "base/log.h"
#include "base/python_json.h"
#include "base/uuid.h"

namespace kumoi::amqp {
namespace {

constexpr int64_t kDeliveryNsMax = 300 * kNanosPerSecond;

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char letter) { return static_cast<char>(::tolower(letter)); });
    return text;
}

// "2026-11-23 09:38:58.194221", as Python prints a datetime.
std::string python_time(int64_t wall_ns) {
    std::string text = iso8601_micros(wall_ns);
    std::replace(text.begin(), text.end(), 'T', ' ');
    text.pop_back();  // the Z
    return text;
}

}  // namespace

Result<std::unique_ptr<Notifier>> Notifier::create(Transport& transport) {
    const AmqpOptions& options = transport.options();
    std::unique_ptr<Transport> own;
    if (!options.notification_transport_url.empty() &&
        options.notification_transport_url != options.transport_url) {
        AmqpOptions other = options;
        other.transport_url = options.notification_transport_url;
        own = TRY_CONTEXT(
            Transport::create({transport.clock(), transport.random(), transport.metrics()},
                              std::move(other)),
            "[oslo_messaging_notifications]");
    }
    Transport& used = own ? *own : transport;
    std::unique_ptr<Notifier> notifier(new Notifier(std::move(own), used));
    for (const std::string& driver : options.notification_drivers) {
        if (driver == "messaging") {
            notifier->messaging_ = true;
        } else if (driver == "messagingv2") {
            notifier->messagingv2_ = true;
        } else if (driver == "log") {
            notifier->log_ = true;
        } else if (driver != "noop") {
            log_warn("notify", "a notification driver is not offered and does nothing",
                     {{"driver", driver}, {"offered", "messaging, messagingv2, log, noop"}});
        }
    }
    return notifier;
}

Notifier::Notifier(std::unique_ptr<Transport> own, Transport& transport)
    : own_transport_(std::move(own)),
      transport_(transport),
      sent_(transport.metrics().counter("kumoi_notifications_total",
                                        "Notifications the broker has taken.")),
      lost_(transport.metrics().counter("kumoi_notifications_lost_total",
                                        "Notifications given up.")) {}

bool Notifier::wants(Format format) const {
    const std::string& chosen = transport_.options().notification_format;
    const bool chosen_format =
        chosen == "both" || chosen == (format == Format::Legacy ? "unversioned" : "versioned");
    return chosen_format && (messaging_ || messagingv2_ || log_);
}

void Notifier::notify(Format format, const std::string& priority, const std::string& publisher,
                      const std::string& event_type, const Json& payload, const Json& context) {
    if (!wants(format)) {
        return;
    }
    Json message = Json::object({{"message_id", Uuid::generate(transport_.random()).text()},
                                 {"publisher_id", publisher},
                                 {"event_type", event_type},
                                 {"priority", priority},
                                 {"payload", payload},
                                 {"timestamp", python_time(transport_.clock().wall_ns())}});
    if (log_) {
        log_info("notify", event_type, {{"priority", priority}, {"message", message.dump()}});
    }
    if (!messaging_ && !messagingv2_) {
        return;
    }
    const AmqpOptions& options = transport_.options();
    for (const std::string& topic : format == Format::Legacy
                                        ? options.notification_topics
                                        : options.versioned_notification_topics) {
        message.set("_unique_id", transport_.new_id());
        if (context.is_object()) {
            for (const auto& [key, value] : context.as_object()) {
                message.set("_context_" + key, value);
            }
        }
        const std::string routing_key = topic + "." + lower(priority);
        if (messaging_) {
            publish(routing_key, message, false);
        }
        if (messagingv2_) {
            publish(routing_key, message, true);
        }
    }
}

void Notifier::publish(const std::string& topic, const Json& message, bool envelope) {
    const AmqpOptions& options = transport_.options();
    Publication publication;
    // Declared here, so that a listener that comes later finds what happened before.
    publication.queue = notification_queue(options, options.control_exchange, topic);
    publication.message.exchange = options.control_exchange;
    publication.message.routing_key = topic;
    publication.message.body = envelope ? seal(message) : python_dump(message);
    publication.deadline_ns = transport_.clock().monotonic_ns() + kDeliveryNsMax;
    transport_.publishing().publish(std::move(publication),
                                    [&sent = sent_, &lost = lost_](const Result<void>& outcome) {
                                        (outcome.ok() ? sent : lost).increment();
                                    });
}

}  // namespace kumoi::amqp
