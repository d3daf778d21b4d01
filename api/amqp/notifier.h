// Notifier: tells whoever listens what happened, in Nova's two formats: legacy (unversioned) ones
// go to `notifications.<priority>`, versioned ones to `versioned_notifications.<priority>`. Where
// to is said by [oslo_messaging_notifications] driver: messaging (no envelope), messagingv2, log,
// noop; none: nowhere. Which formats, by [notifications] notification_format. notify() never
// waits; a message that cannot be delivered in five minutes is dropped and counted. Thread safe.
#pragma once

#include <memory>
#include <string>

#include "api/amqp/transport.h"
#include "base/json.h"

namespace kumoi::amqp {

class Notifier {
public:
    enum class Format { Legacy, Versioned };

    // `transport` carries them when notification_transport_url is empty, else a transport of its
    // own is made. Must outlive this.
    static Result<std::unique_ptr<Notifier>> create(Transport& transport);

    // `priority`: "INFO", "ERROR", ... `publisher` as Nova names it: "compute.HOST" for legacy,
    // "nova-compute:HOST" for versioned ones.
    void notify(Format format, const std::string& priority, const std::string& publisher,
                const std::string& event_type, const Json& payload, const Json& context);
    bool wants(Format format) const;  // so that nobody makes a payload for nothing

private:
    Notifier(std::unique_ptr<Transport> own, Transport& transport);
    void publish(const std::string& topic, const Json& message, bool envelope);

    std::unique_ptr<Transport> own_transport_;
    Transport& transport_;
    Counter& sent_;
    Counter& lost_;
    bool messaging_ = false;    // version 1: bare
    bool messagingv2_ = false;  // version 2: in the envelope
    bool log_ = false;
};

}  // namespace kumoi::amqp
