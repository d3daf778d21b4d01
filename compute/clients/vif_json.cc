#include "compute/clients/vif_json.h"

#include <algorithm>
#include <charconv>

#include "base/python_json.h"

namespace kumoi::clients {
namespace {

using compute::FixedIp;
using compute::VifInfo;

constexpr size_t kVifsMax = 1000;
constexpr size_t kAddressesMax = 1000;
// Member of `meta` with what only this node knows of a VIF. Nova keeps `meta` as it comes.
constexpr char kOwnMember[] = "kumoi";
constexpr int64_t kSlotMax = 31;  // of a PCI bus

const Json::Array& items_of(const Json& object, std::string_view name) {
    static const Json::Array kNone;
    const Json* value = object.find(name);
    return value != nullptr && value->is_array() ? value->as_array() : kNone;
}

std::string address_in(const Json& object, std::string_view name) {
    const Json* ip = object.find(name);
    return ip == nullptr ? "" : ip->string_or("address");
}

int prefix_length_of(const std::string& cidr) {
    const size_t slash = cidr.find('/');
    int length = 0;
    if (slash != std::string::npos) {
        std::from_chars(cidr.data() + slash + 1, cidr.data() + cidr.size(), length);
    }
    return length >= 0 && length <= 128 ? length : 0;
}

void take_subnet(const Json& subnet, VifInfo& vif) {
    for (const Json& ip : items_of(subnet, "ips")) {
        FixedIp fixed;
        fixed.address = ip.string_or("address");
        fixed.cidr = subnet.string_or("cidr");
        fixed.prefix_length = prefix_length_of(fixed.cidr);
        fixed.ip_version = fixed.address.find(':') == std::string::npos ? 4 : 6;
        if (const std::string gateway = address_in(subnet, "gateway"); !gateway.empty()) {
            fixed.gateway = gateway;
        }
        for (const Json& server : items_of(subnet, "dns")) {
            fixed.dns_servers.push_back(server.string_or("address"));
        }
        for (const Json& route : items_of(subnet, "routes")) {
            fixed.routes.emplace_back(route.string_or("cidr"), address_in(route, "gateway"));
        }
        const Json* meta = subnet.find("meta");
        fixed.enable_dhcp = meta != nullptr && meta->contains("dhcp_server");
        vif.fixed_ips.push_back(std::move(fixed));
    }
}

Result<void> take_network(const Json& network, VifInfo& vif) {
    vif.network_id = network.string_or("id");
    vif.network_name = network.string_or("label");
    vif.bridge = network.string_or("bridge");
    if (const Json* meta = network.find("meta")) {
        const int64_t mtu = meta->integer_or("mtu", 1500);
        vif.mtu = mtu >= 68 && mtu <= 65'535 ? mtu : 1500;
    }
    for (const Json& subnet : items_of(network, "subnets")) {
        take_subnet(subnet, vif);
        if (vif.fixed_ips.size() > kAddressesMax) {
            return Error::too_large("VIF {} has more than {} addresses", vif.port_id,
                                    kAddressesMax);
        }
    }
    return {};
}

// The members a plug needs are texts, numbers and booleans; deeper ones stay in `raw`.
compute::Properties plain_members(const Json& object) {
    compute::Properties properties;
    for (const auto& [name, value] : object.as_object()) {
        if (value.is_string()) {
            properties[name] = value.as_string();
        } else if (value.is_bool() || value.is_number()) {
            properties[name] = value.dump();
        }
    }
    return properties;
}

Json plain_ip(const std::string& address, const char* type) {
    return Json::object({{"address", address},
                         {"type", type},
                         {"version", address.find(':') == std::string::npos ? 4 : 6},
                         {"meta", Json::object()}});
}

// For a VIF that did not come from Neutron.
Json json_of_members(const VifInfo& vif) {
    Json subnets = Json::array();
    for (const FixedIp& ip : vif.fixed_ips) {
        Json dns = Json::array();
        for (const std::string& server : ip.dns_servers) {
            dns.push_back(plain_ip(server, "dns"));
        }
        Json address = plain_ip(ip.address, "fixed");
        address.set("floating_ips", Json::array());
        Json subnet = Json::object({{"cidr", ip.cidr}, {"dns", std::move(dns)}});
        subnet.set("gateway", ip.gateway ? plain_ip(*ip.gateway, "gateway") : Json());
        subnet.set("ips", Json(Json::Array{std::move(address)}));
        subnet.set("routes", Json::array());
        subnet.set("version", ip.ip_version);
        subnet.set("meta", Json::object());
        subnets.push_back(std::move(subnet));
    }
    Json network = Json::object({{"id", vif.network_id},
                                 {"bridge", vif.bridge},
                                 {"label", vif.network_name},
                                 {"subnets", std::move(subnets)},
                                 {"meta", Json::object({{"mtu", vif.mtu}})}});
    return Json::object({{"id", vif.port_id},
                         {"address", vif.mac},
                         {"network", std::move(network)},
                         {"type", vif.vif_type},
                         {"details", Json::object()},
                         {"devname", vif.devname},
                         {"active", vif.active},
                         {"vnic_type", vif.vnic_type.empty() ? "normal" : vif.vnic_type},
                         {"profile", Json::object()},
                         {"preserve_on_delete", !vif.created_by_nova},
                         {"meta", Json::object()}});
}

void take_own_members(const Json& json, VifInfo& vif) {
    const Json* own = json.find_path({"meta", kOwnMember});
    if (own == nullptr || !own->is_object()) {
        return;
    }
    const int64_t slot = own->integer_or("pci_slot", 0);
    vif.pci_slot = slot > 0 && slot <= kSlotMax ? static_cast<unsigned>(slot) : 0;
    vif.tag = own->string_or("tag");
    vif.detaching = own->bool_or("detaching");
}

void put_own_members(const VifInfo& vif, Json& json) {
    Json own = Json::object();
    if (vif.pci_slot != 0) {
        own.set("pci_slot", static_cast<int64_t>(vif.pci_slot));
    }
    if (!vif.tag.empty()) {
        own.set("tag", vif.tag);
    }
    if (vif.detaching) {
        own.set("detaching", true);
    }
    Json* meta = json.find("meta");
    if (own.size() == 0) {
        if (meta != nullptr && meta->is_object()) {
            meta->erase(kOwnMember);
        }
        return;
    }
    if (meta == nullptr || !meta->is_object()) {
        json.set("meta", Json::object());
        meta = json.find("meta");
    }
    meta->set(kOwnMember, std::move(own));
}

Json json_of(const VifInfo& vif) {
    auto raw = Json::parse(vif.raw);
    const bool from_nova = !vif.raw.empty() && raw.ok() && raw->is_object();
    Json json = from_nova ? std::move(raw).value() : json_of_members(vif);
    json.set("active", vif.active);
    put_own_members(vif, json);
    return json;
}

}  // namespace

Result<VifInfo> parse_vif(const Json& json) {
    const JsonView view(json, "vif");
    VifInfo vif;
    vif.port_id = TRY(view.string("id"));
    vif.mac = json.string_or("address");
    const JsonView network = TRY(view.object("network"));
    TRY(take_network(network.json(), vif));
    vif.vif_type = json.string_or("type");
    vif.vnic_type = json.string_or("vnic_type", "normal");
    vif.devname = json.string_or("devname");
    vif.active = TRY(view.boolean_or("active", false));
    vif.created_by_nova = !TRY(view.boolean_or("preserve_on_delete", false));
    if (const Json* details = json.find("details"); details != nullptr && details->is_object()) {
        vif.details = plain_members(*details);
    }
    take_own_members(json, vif);
    vif.raw = python_dump(json);
    return vif;
}

Result<std::vector<VifInfo>> parse_network_info(std::string_view text) {
    std::vector<VifInfo> vifs;
    if (text.empty()) {
        return vifs;
    }
    const Json json = TRY_CONTEXT(Json::parse(text), "network_info");
    if (!json.is_array() || json.size() > kVifsMax) {
        return Error::invalid("network_info is no array of at most {} VIFs", kVifsMax);
    }
    for (const Json& one : json.as_array()) {
        vifs.push_back(TRY(parse_vif(one)));
    }
    return vifs;
}

std::string vif_text(const VifInfo& vif) {
    return python_dump(json_of(vif));
}

std::string network_info_text(const std::vector<VifInfo>& vifs) {
    Json list = Json::array();
    for (const VifInfo& vif : vifs) {
        list.push_back(json_of(vif));
    }
    return python_dump(list);
}

}  // namespace kumoi::clients
