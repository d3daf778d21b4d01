#include "compute/network/vif_plug.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/subprocess.h"
#include "compute/instance_properties.h"
#include "compute/network/device_names.h"
#include "compute/network/netlink.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kMillisPerSecond = 1000;

std::string device(const char* prefix, const VifInfo& vif) {
    return prefix + short_id(vif.port_id);
}

Result<void> without_ipv6(const std::string& name) {
    const std::string path = "ipv6/conf/" + name + "/disable_ipv6";
    return path_exists("/proc/sys/net/" + path) ? write_net_sysctl(path, "1") : Result<void>();
}

}  // namespace

VifWiring wiring_of(const VifInfo& vif) {
    VifWiring wiring;
    const auto detail = [&](const char* name) {
        const auto found = vif.details.find(name);
        return found == vif.details.end() ? std::string() : found->second;
    };
    wiring.bridge = detail("bridge_name").empty() ? vif.bridge : detail("bridge_name");
    wiring.ovs_hybrid = detail("ovs_hybrid_plug") == "true";
    wiring.ovs_interface_id = vif.port_id;
    const auto raw = Json::parse(vif.raw);
    if (raw.ok()) {
        const Json* create = raw->find_path({"network", "meta", "should_create_bridge"});
        wiring.may_create_bridge = create != nullptr && *create == Json(true);
        const std::string id = raw->string_or("ovs_interfaceid");
        wiring.ovs_interface_id = id.empty() ? vif.port_id : id;
    }
    return wiring;
}

VifPlug::VifPlug(Options options, Run run)
    : options_(std::move(options)),
      run_(run ? std::move(run) : [this](const std::vector<std::string>& argv) {
          CommandOptions command;
          command.timeout_ms = (options_.ovs_timeout_s + 1) * kMillisPerSecond;
          return run_checked(argv, command);
      }) {}

Result<std::string> VifPlug::plug(const Instance& instance, const VifInfo& vif) {
    const std::lock_guard lock(mutex_);
    const VifWiring wiring = wiring_of(vif);
    if (vif.vif_type == "bridge") {
        TRY(ensure_bridge(vif, wiring.bridge, wiring.may_create_bridge));
        TRY(make_tap(instance, vif, wiring.bridge));
    } else if (vif.vif_type == "ovs") {
        TRY(wiring.ovs_hybrid ? plug_hybrid(instance, vif) : plug_ovs(instance, vif));
    } else if (vif.vif_type == "tap") {
        TRY(make_tap(instance, vif, ""));
    } else {
        return Error::unsupported("port {} is bound as '{}'; this host plugs bridge, ovs and tap",
                                  vif.port_id, vif.vif_type)
            .with_hint("Check the mechanism drivers of Neutron for this host.")
            .with_fault("VirtualInterfacePlugException");
    }
    return device("tap", vif);
}

Result<void> VifPlug::ensure_bridge(const VifInfo& vif, const std::string& bridge,
                                    bool may_create) {
    if (bridge.empty()) {
        return Error::invalid("port {} is bound to a bridge and names none", vif.port_id)
            .with_fault("VirtualInterfacePlugException");
    }
    if (TRY(find_link(bridge))) {
        return {};
    }
    if (!may_create) {
        return Error::unavailable("bridge {} of port {} is not on this host", bridge, vif.port_id)
            .with_hint("Neutron's agent makes it; see whether it runs here.")
            .with_fault("VirtualInterfacePlugException");
    }
    BridgeOptions made;
    made.mtu = vif.mtu;
    TRY(create_bridge(bridge, made));
    TRY(without_ipv6(bridge));
    return change_link(bridge, {.up = true});
}

Result<void> VifPlug::make_tap(const Instance& instance, const VifInfo& vif,
                               const std::string& bridge) {
    const std::string tap = device("tap", vif);
    if (!TRY(find_link(tap))) {
        TRY(create_tap(tap, options_.tap_owner_uid, wants_multi_queue(instance)));
    }
    TRY(without_ipv6(tap));
    LinkChange change{.mtu = vif.mtu, .up = true, .alias = device_alias(vif.port_id)};
    if (!bridge.empty()) {
        const auto link = TRY(find_link(bridge));
        if (!link) {
            return Error::unavailable("bridge {} vanished", bridge);
        }
        change.master_index = link->index;
    }
    return change_link(tap, change);
}

Result<void> VifPlug::add_ovs_port(const Instance& instance, const VifInfo& vif,
                                   const std::string& port) {
    const VifWiring wiring = wiring_of(vif);
    const std::string bridge = wiring.bridge.empty() ? options_.integration_bridge : wiring.bridge;
    TRY(run_({"ovs-vsctl", fmt::format("--timeout={}", options_.ovs_timeout_s), "--", "--may-exist",
              "add-port", bridge, port, "--", "set", "Interface", port,
              "external-ids:iface-id=" + wiring.ovs_interface_id,
              "external-ids:iface-status=active", "external-ids:attached-mac=" + vif.mac,
              "external-ids:vm-uuid=" + instance.uuid, fmt::format("mtu_request={}", vif.mtu)}));
    return {};
}

Result<void> VifPlug::plug_ovs(const Instance& instance, const VifInfo& vif) {
    TRY(make_tap(instance, vif, ""));
    return add_ovs_port(instance, vif, device("tap", vif));
}

// For security groups done with iptables: the packets pass a Linux bridge on their way to OVS.
Result<void> VifPlug::plug_hybrid(const Instance& instance, const VifInfo& vif) {
    const std::string bridge = device("qbr", vif);
    const std::string inner = device("qvb", vif);
    const std::string outer = device("qvo", vif);
    TRY(ensure_bridge(vif, bridge, true));
    if (!TRY(find_link(inner))) {
        TRY(run_({"ip", "link", "add", inner, "type", "veth", "peer", "name", outer}));
    }
    const auto link = TRY(find_link(bridge));
    if (!link) {
        return Error::unavailable("bridge {} vanished", bridge);
    }
    TRY(change_link(inner, {.master_index = link->index, .mtu = vif.mtu, .up = true}));
    TRY(change_link(outer, {.mtu = vif.mtu, .up = true}));
    TRY(make_tap(instance, vif, bridge));
    return add_ovs_port(instance, vif, outer);
}

Result<void> VifPlug::unplug(const Instance& /*instance*/, const VifInfo& vif) {
    const std::lock_guard lock(mutex_);
    const VifWiring wiring = wiring_of(vif);
    if (vif.vif_type == "ovs") {
        const std::string port = device(wiring.ovs_hybrid ? "qvo" : "tap", vif);
        const std::string bridge =
            wiring.bridge.empty() ? options_.integration_bridge : wiring.bridge;
        TRY(run_({"ovs-vsctl", fmt::format("--timeout={}", options_.ovs_timeout_s), "--",
                  "--if-exists", "del-port", bridge, port}));
    }
    TRY(delete_link(device("tap", vif)));
    TRY(delete_link(device("qvb", vif)));  // takes qvo with it
    return delete_link(device("qbr", vif));
}

Result<void> VifPlug::reconcile(const std::vector<Instance>& instances) {
    for (const Instance& instance : instances) {
        if (instance.host.empty()) {
            continue;
        }
        for (const VifInfo& vif : instance.network_info) {
            const auto plugged = plug(instance, vif);
            if (!plugged.ok()) {
                log_error("network", "a port was not plugged again",
                          {{"server", instance.uuid}, {"why", plugged.error().text()}});
            }
        }
    }
    return {};
}

}  // namespace kumoi::compute
