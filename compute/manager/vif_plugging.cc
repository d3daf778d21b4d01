#include "compute/manager/vif_plugging.h"

#include "base/log.h"
#include "compute/manager/external_events.h"

namespace kumoi::compute {
namespace {

constexpr char kRemoteManaged[] = "remote-managed";  // a SmartNIC plugs it, nobody here is told

std::vector<std::string> awaited_events(const Instance& instance) {
    std::vector<std::string> keys;
    for (const VifInfo& vif : instance.network_info) {
        if (!vif.active && vif.vnic_type != kRemoteManaged) {
            keys.push_back("network-vif-plugged-" + vif.port_id);
        }
    }
    return keys;
}

}  // namespace

Result<std::vector<VifInfo>> plug_and_wait(NodeServices& services, const Instance& instance) {
    const std::vector<std::string> keys = awaited_events(instance);
    const int64_t timeout_s = services.options.vif_plugging_timeout_s;
    if (services.events == nullptr || keys.empty() || timeout_s == 0) {
        return plug_all(services, instance);
    }
    auto expected = services.events->expect(instance.uuid, keys);
    std::vector<VifInfo> vifs = TRY(plug_all(services, instance));
    const auto arrived = expected.wait(timeout_s * kNanosPerSecond);
    if (arrived.ok()) {
        for (VifInfo& vif : vifs) {
            vif.active = true;
        }
        return vifs;
    }
    if (services.options.vif_plugging_is_fatal) {
        Error error = arrived.error();
        return std::move(error)
            .with_hint(
                "See whether Neutron's agent on this host is alive and whether nova-api "
                "gets Neutron's events.")
            .with_fault("VirtualInterfaceCreateException");
    }
    log_warn("compute", "the server starts before its network is ready",
             {{"why", arrived.error().text()}});
    return vifs;
}

}  // namespace kumoi::compute
