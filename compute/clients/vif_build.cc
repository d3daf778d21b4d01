// build_vif() of vif_json.h: from Neutron's records to Nova's VIF.
#include <algorithm>

#include "compute/clients/vif_json.h"

namespace kumoi::clients {
namespace {

constexpr size_t kDeviceNameLength = 14;  // Nova's NIC_NAME_LEN

Json ip_json(const Json& address, const char* type) {
    Json version;
    if (address.is_string()) {
        version = address.as_string().find(':') == std::string::npos ? 4 : 6;
    }
    return Json::object(
        {{"address", address}, {"type", type}, {"version", version}, {"meta", Json::object()}});
}

Json string_or_null(const Json& object, std::string_view name) {
    const Json* value = object.find(name);
    return value != nullptr && value->is_string() ? *value : Json();
}

const Json* find_by(const Json::Array& items, std::string_view member, const std::string& value) {
    const auto found = std::find_if(items.begin(), items.end(), [&](const Json& item) {
        return item.string_or(member) == value;
    });
    return found == items.end() ? nullptr : &*found;
}

const Json::Array& array_of(const Json& object, std::string_view name) {
    static const Json::Array kNone;
    const Json* value = object.find(name);
    return value != nullptr && value->is_array() ? value->as_array() : kNone;
}

Json fixed_ip_json(const Json& fixed, const Json& port, const NeutronRecords& records) {
    Json ip = ip_json(string_or_null(fixed, "ip_address"), "fixed");
    Json floating = Json::array();
    for (const Json& one : records.floating_ips) {
        if (one.string_or("port_id") == port.string_or("id") &&
            one.string_or("fixed_ip_address") == fixed.string_or("ip_address")) {
            floating.push_back(ip_json(string_or_null(one, "floating_ip_address"), "floating"));
        }
    }
    ip.set("floating_ips", std::move(floating));
    return ip;
}

// The DHCP agent's address, or the gateway, where OVN answers without any agent.
std::optional<std::string> dhcp_server(const Json& subnet, const NeutronRecords& records) {
    for (const Json& port : records.dhcp_ports) {
        for (const Json& fixed : array_of(port, "fixed_ips")) {
            if (fixed.string_or("subnet_id") == subnet.string_or("id")) {
                return fixed.string_or("ip_address");
            }
        }
    }
    const std::string gateway = subnet.string_or("gateway_ip");
    return subnet.bool_or("enable_dhcp") && !gateway.empty() ? std::optional(gateway)
                                                             : std::nullopt;
}

Json subnet_json(const Json& subnet, Json::Array ips, const NeutronRecords& records) {
    Json dns = Json::array();
    for (const Json& server : array_of(subnet, "dns_nameservers")) {
        dns.push_back(ip_json(server, "dns"));
    }
    Json routes = Json::array();
    for (const Json& route : array_of(subnet, "host_routes")) {
        routes.push_back(
            Json::object({{"cidr", string_or_null(route, "destination")},
                          {"gateway", ip_json(string_or_null(route, "nexthop"), "gateway")},
                          {"interface", nullptr},
                          {"meta", Json::object()}}));
    }
    Json meta = Json::object();
    if (const std::string mode = subnet.string_or("ipv6_address_mode"); !mode.empty()) {
        meta.set("ipv6_address_mode", mode);
    }
    if (const auto server = dhcp_server(subnet, records)) {
        meta.set("dhcp_server", *server);
    }
    const std::string cidr = subnet.string_or("cidr");
    return Json::object({{"cidr", cidr},
                         {"dns", std::move(dns)},
                         {"gateway", ip_json(string_or_null(subnet, "gateway_ip"), "gateway")},
                         {"ips", Json(std::move(ips))},
                         {"routes", std::move(routes)},
                         {"version", cidr.find(':') == std::string::npos ? 4 : 6},
                         {"meta", std::move(meta)}});
}

Json subnets_json(const Json& port, const NeutronRecords& records) {
    Json subnets = Json::array();
    std::vector<std::string> done;
    for (const Json& fixed : array_of(port, "fixed_ips")) {
        const std::string id = fixed.string_or("subnet_id");
        const Json* subnet = find_by(records.subnets, "id", id);
        if (subnet == nullptr || std::find(done.begin(), done.end(), id) != done.end()) {
            continue;
        }
        done.push_back(id);
        Json::Array ips;
        for (const Json& other : array_of(port, "fixed_ips")) {
            if (other.string_or("subnet_id") == id) {
                ips.push_back(fixed_ip_json(other, port, records));
            }
        }
        subnets.push_back(subnet_json(*subnet, std::move(ips), records));
    }
    return subnets;
}

struct Bridging {
    Json bridge;           // null: none
    Json ovs_interfaceid;  // null: not on Open vSwitch
    bool make_bridge = false;
};

Bridging bridging_of(const Json& port, const Json& details, const std::string& ovs_bridge) {
    const std::string type = port.string_or("binding:vif_type");
    const std::string linux_bridge = "brq" + port.string_or("network_id");
    Bridging bridging;
    if (type == "ovs" || type == "agilio_ovs" ||
        (type == "vhostuser" && details.bool_or("vhostuser_ovs_plug"))) {
        bridging.bridge = details.string_or("bridge_name", ovs_bridge);
        bridging.ovs_interfaceid = port.string_or("id");
    } else if (type == "bridge" || (type == "vhostuser" && details.bool_or("vhostuser_fp_plug"))) {
        bridging.bridge = details.string_or("bridge_name", linux_bridge);
        bridging.make_bridge = type == "bridge";
    }
    if (bridging.bridge.is_string()) {
        bridging.bridge = bridging.bridge.as_string().substr(0, kDeviceNameLength);
    }
    return bridging;
}

// Where the network leaves the host: a provider's physical network, or a tunnel.
void take_physical(const Json& network, Json& meta) {
    Json physical = string_or_null(network, "provider:physical_network");
    const std::string type = network.string_or("provider:network_type");
    bool tunneled = type == "vxlan" || type == "gre" || type == "geneve";
    for (const Json& segment : array_of(network, "segments")) {
        if (const Json name = string_or_null(segment, "provider:physical_network");
            name.is_string()) {
            physical = name;
            tunneled = false;
            break;
        }
    }
    meta.set("physical_network", std::move(physical));
    meta.set("tunneled", tunneled);
}

Json network_json(const Json& port, const NeutronRecords& records, const Bridging& bridging) {
    const std::string id = port.string_or("network_id");
    static const Json kUnknown = Json::object();
    const Json* found = find_by(records.networks, "id", id);
    const Json& network = found != nullptr ? *found : kUnknown;
    Json meta = Json::object(
        {{"injected", false},
         {"tenant_id", string_or_null(found != nullptr ? network : port, "tenant_id")}});
    const Json* mtu = network.find("mtu");
    meta.set("mtu", mtu != nullptr && mtu->is_integer() ? *mtu : Json());
    take_physical(network, meta);
    if (bridging.make_bridge) {
        meta.set("should_create_bridge", true);
    }
    return Json::object({{"id", id},
                         {"bridge", bridging.bridge},
                         {"label", string_or_null(network, "name")},
                         {"subnets", subnets_json(port, records)},
                         {"meta", std::move(meta)}});
}

Json object_or_empty(const Json& port, std::string_view name) {
    const Json* value = port.find(name);
    return value != nullptr && value->is_object() ? *value : Json::object();
}

}  // namespace

Result<Json> build_vif(const Json& port, const NeutronRecords& records,
                       const VifBuildOptions& options) {
    const std::string id = TRY(JsonView(port, "port").string("id"));
    const std::string mac = TRY(JsonView(port, "port").string("mac_address"));
    const Json details = object_or_empty(port, "binding:vif_details");
    const Bridging bridging = bridging_of(port, details, options.ovs_bridge);
    // A port that is switched off never becomes active; nobody may wait for it.
    const bool active =
        !port.bool_or("admin_state_up", true) || port.string_or("status") == "ACTIVE";
    return Json::object({{"id", id},
                         {"address", mac},
                         {"network", network_json(port, records, bridging)},
                         {"type", string_or_null(port, "binding:vif_type")},
                         {"details", details},
                         {"devname", ("tap" + id).substr(0, kDeviceNameLength)},
                         {"ovs_interfaceid", bridging.ovs_interfaceid},
                         {"qbh_params", nullptr},
                         {"qbg_params", nullptr},
                         {"active", active},
                         {"vnic_type", port.string_or("binding:vnic_type", "normal")},
                         {"profile", object_or_empty(port, "binding:profile")},
                         {"preserve_on_delete", options.preserve_on_delete},
                         {"delegate_create", true},
                         {"meta", Json::object()}});
}

}  // namespace kumoi::clients
