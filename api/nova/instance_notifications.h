// InstanceNotifications: what a node tells listeners about its servers, as nova-compute does: for
// each action its start and end (or error), in the legacy and the versioned format. instance.update
// is not among them: nova-conductor sends it when a record is saved. All of them are listed in
// docs/reference/notifications.md. Never waits. Thread safe.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "api/amqp/notifier.h"
#include "api/nova/notification_payload.h"
#include "api/nova/nova_object.h"
#include "api/nova/release.h"
#include "base/clock.h"
#include "compute/manager/cloud_records.h"

namespace kumoi::nova {

class InstanceNotifications {
public:
    using Format = amqp::Notifier::Format;
    // The way out; an amqp::Notifier's, or a test's.
    struct Sink {
        std::function<bool(Format)> wants;
        std::function<void(Format, const std::string& priority, const std::string& publisher,
                           const std::string& event_type, const Json& payload, const Json& context)>
            send;
    };
    // What single actions say besides: of the request.
    struct Details {
        std::string image_id;    // the image to fill (snapshot), or to boot (rescue)
        std::string image_name;  // create
        Json block_devices;      // create: the request's BlockDeviceMappingList
        Json new_flavor;         // resize_prep: the request's Flavor
    };

    // `image_endpoint`: [glance] endpoint_override; "": that of the request's catalogue.
    InstanceNotifications(Sink sink, Release release, std::string host, std::string image_endpoint,
                          const Clock& clock);

    // Whether anybody listens: without, nothing needs to be looked up.
    bool wanted() const { return sink_.wants(Format::Legacy) || sink_.wants(Format::Versioned); }

    // `event`: name of the action's event, "compute_pause_instance".
    void started(std::string_view event, const NovaObject& instance, const Json& context,
                 const Details& details) const;
    void finished(std::string_view event, const NovaObject& instance, const Json& context,
                  const Details& details, const std::optional<Error>& failure) const;

    void volume_started(const compute::VolumeNews& news, const NovaObject& instance,
                        const Json& context) const;
    void volume_ended(const compute::VolumeNews& news, const NovaObject& instance,
                      const Json& context, const std::optional<Error>& failure) const;
    // What a server used in a period; of the audit, and before what ends its use.
    void exists(const NovaObject& instance, const Json& context, const AuditPeriod& period) const;

private:
    struct Action;
    struct Message;
    static const Action* find(std::string_view event);
    void send_volume(const compute::VolumeNews& news, std::string_view phase,
                     const NovaObject& instance, const Json& context,
                     const std::optional<Error>& failure) const;
    void send(const Action& action, const Message& message) const;
    std::string image_base(const Json& context) const;

    const Sink sink_;
    const Release release_;
    const std::string host_;
    const std::string image_endpoint_;
    const Clock& clock_;
};

}  // namespace kumoi::nova
