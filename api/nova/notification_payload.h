// What Nova's notifications about servers say, made from the Instance object: the legacy payload (a
// flat dictionary) and the versioned one (Instance...Payload objects of both releases). Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "api/nova/nova_object.h"
#include "api/nova/release.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::nova {

// The dictionary of unversioned notifications, without what single events add. `image_base`: URL of
// the image service; "" leaves the image's id alone.
Json legacy_payload(const NovaObject& instance, const std::string& image_base);
// [{address, ..., label, vif_mac}], which some of them add as fixed_ips.
Json legacy_fixed_ips(const NovaObject& instance);

// A primitive of class `name` (a subclass of InstanceActionPayload, or InstanceExistsPayload) with
// `extra` beside the common fields. `context`: of the request, without prefix.
Json versioned_payload(Release release, std::string_view name, const NovaObject& instance,
                       const Json& context, const Json& extra);
// What InstanceCreatePayload adds.
Json create_extra(const NovaObject& instance);
// BlockDevicePayloads of the volumes in a BlockDeviceMappingList's primitive.
Json block_device_payloads(const Json& list);
Json flavor_payload(const NovaObject& flavor);
// ExceptionPayload.
Json exception_payload(const Error& error, std::string_view function);

struct AuditPeriod {
    int64_t begin_ns = 0;
    int64_t end_ns = 0;
};
// The month that runs.
AuditPeriod current_audit_period(int64_t wall_ns);
Json audit_period_payload(const AuditPeriod& period);

}  // namespace kumoi::nova
