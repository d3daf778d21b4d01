// ComputeEndpoint, part five: methods that need the agent in a guest.
#include "api/nova/compute_endpoint.h"
#include "api/nova/compute_endpoint_call.h"

namespace kumoi::nova {
namespace {

// Block device records in their old form: [{source_type, snapshot_id, ...}].
std::vector<std::string> snapshots_of(const Json* mapping) {
    constexpr size_t kMappingMax = 1000;
    std::vector<std::string> ids;
    if (mapping == nullptr || !mapping->is_array()) {
        return ids;
    }
    for (const Json& device : mapping->as_array()) {
        if (device.is_object() && device.string_or("source_type") == "snapshot" &&
            !device.string_or("snapshot_id").empty() && ids.size() < kMappingMax) {
            ids.push_back(device.string_or("snapshot_id"));
        }
    }
    return ids;
}

}  // namespace

Result<Json> ComputeEndpoint::set_admin_password(Call& call) {
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.set_admin_password({call.context, uuid, call.text("new_pass")}));
    return Json();
}

Result<Json> ComputeEndpoint::quiesce(Call& call) {
    TRY(borders_.manager.quiesce_instance(call.context, TRY(adopt(call))));
    return Json();
}

Result<Json> ComputeEndpoint::unquiesce(Call& call) {
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.unquiesce_instance(call.context, uuid,
                                            snapshots_of(call.argument("mapping"))));
    return Json();
}

}  // namespace kumoi::nova
