// ComputeEndpoint, part six: addresses of servers, and the host itself.
#include "api/nova/compute_endpoint.h"
#include "api/nova/compute_endpoint_call.h"

namespace kumoi::nova {
namespace {

Error not_here(const std::string& method) {
    return Error::unsupported("This node does not offer {}", method)
        .with_fault("NotImplementedError");
}

}  // namespace

Result<Json> ComputeEndpoint::add_fixed_ip(Call& call) {
    const std::string uuid = TRY(adopt(call));
    if (borders_.fixed_ips == nullptr) {
        return not_here(call.request.method);
    }
    TRY(borders_.fixed_ips->add(call.context, uuid, call.text("network_id")));
    return Json();
}

Result<Json> ComputeEndpoint::remove_fixed_ip(Call& call) {
    const std::string uuid = TRY(adopt(call));
    if (borders_.fixed_ips == nullptr) {
        return not_here(call.request.method);
    }
    TRY(borders_.fixed_ips->remove(call.context, uuid, call.text("address")));
    return Json();
}

Result<Json> ComputeEndpoint::inject_network_info(Call& call) {
    const std::string uuid = TRY(adopt(call));
    if (borders_.fixed_ips == nullptr) {
        return not_here(call.request.method);
    }
    TRY(borders_.fixed_ips->refresh(call.context, uuid));
    return Json();
}

Result<Json> ComputeEndpoint::host_power_action(Call& call) {
    if (borders_.host_power == nullptr) {
        return not_here(call.request.method);
    }
    return Json(TRY(borders_.host_power->act(call.text("action"))));
}

}  // namespace kumoi::nova
