// VifPlug: joins guests to networks that somebody else's agents wire (Neutron's Linux bridge or
// Open vSwitch agent), by the port's binding:vif_type and vif_details as os-vif does it:
//   bridge   a TAP in bridge `network.bridge`, made when meta.should_create_bridge allows
//   ovs      a TAP as port of the OVS bridge with iface-id, attached-mac, vm-uuid; with
//            details.ovs_hybrid_plug behind a Linux bridge qbr and a veth pair qvb/qvo
//   tap      a TAP alone (Calico and its kind route it)
// Names are Neutron's: tap, qbr, qvb, qvo and the first 11 characters of the port's id. Unplugging
// removes what plugging made and leaves Neutron's bridges alone. Any thread; blocks for system
// calls, and for ovs-vsctl.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "compute/manager/network_api.h"

namespace kumoi::compute {

class VifPlug final : public VifDriver {
public:
    using Run = std::function<Result<std::string>(const std::vector<std::string>& argv)>;
    struct Options {
        int64_t tap_owner_uid = -1;
        std::string integration_bridge = "br-int";  // [neutron] ovs_bridge
        int64_t ovs_timeout_s = 120;                // [os_vif_ovs] ovs_vsctl_timeout
    };
    // `run`: how commands are run; empty: run_checked().
    explicit VifPlug(Options options, Run run = {});

    Result<std::string> plug(const Instance& instance, const VifInfo& vif) override;
    Result<void> unplug(const Instance& instance, const VifInfo& vif) override;
    // The agents own the host's devices: only those of the given servers are repaired.
    Result<void> reconcile(const std::vector<Instance>& instances) override;

private:
    Result<void> make_tap(const Instance& instance, const VifInfo& vif, const std::string& bridge);
    Result<void> ensure_bridge(const VifInfo& vif, const std::string& bridge, bool may_create);
    Result<void> plug_ovs(const Instance& instance, const VifInfo& vif);
    Result<void> plug_hybrid(const Instance& instance, const VifInfo& vif);
    Result<void> add_ovs_port(const Instance& instance, const VifInfo& vif,
                              const std::string& device);

    const Options options_;
    const Run run_;
    std::mutex mutex_;  // bridges are looked up and made by one at a time
};

// What a VIF says about its wiring.
struct VifWiring {
    std::string bridge;  // of network.bridge or details.bridge_name
    bool may_create_bridge = false;
    bool ovs_hybrid = false;
    std::string ovs_interface_id;
};
VifWiring wiring_of(const VifInfo& vif);

}  // namespace kumoi::compute
