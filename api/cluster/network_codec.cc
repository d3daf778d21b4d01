#include "api/cluster/network_codec.h"

#include "compute/conductor/instance_codec.h"

namespace kumoi::cluster {
namespace {

using compute::NetworkSpec;
using compute::PortSpec;
using compute::SecurityRule;
using compute::SubnetSpec;

Error not_that(const char* what) {
    return Error::invalid("what came from the controller is no {}", what);
}

std::optional<std::string> optional_text(const Json& json, std::string_view key) {
    const Json* value = json.find(key);
    return value != nullptr && value->is_string() ? std::optional(value->as_string())
                                                  : std::nullopt;
}

std::optional<int64_t> optional_number(const Json& json, std::string_view key) {
    const Json* value = json.find(key);
    return value == nullptr ? std::nullopt : value->to_int64();
}

std::vector<std::string> texts(const Json& json, std::string_view key) {
    std::vector<std::string> all;
    const Json* values = json.find(key);
    if (values != nullptr && values->is_array()) {
        for (const Json& value : values->as_array()) {
            if (value.is_string()) {
                all.push_back(value.as_string());
            }
        }
    }
    return all;
}

const Json::Array& members(const Json& json, std::string_view key) {
    static const Json::Array kNone;
    const Json* values = json.find(key);
    return values != nullptr && values->is_array() ? values->as_array() : kNone;
}

Json subnet_to_json(const SubnetSpec& subnet) {
    Json routes = Json::array();
    for (const auto& [destination, hop] : subnet.host_routes) {
        routes.push_back(Json::array_of(std::vector<std::string>{destination, hop}));
    }
    return Json::object({{"id", subnet.id},
                         {"cidr", subnet.cidr},
                         {"ip_version", subnet.ip_version},
                         {"gateway", Json(subnet.gateway)},
                         {"host_address", Json(subnet.host_address)},
                         {"dhcp", subnet.dhcp},
                         {"dns_servers", Json::array_of(subnet.dns_servers)},
                         {"host_routes", std::move(routes)}});
}

SubnetSpec subnet_from_json(const Json& json) {
    SubnetSpec subnet;
    subnet.id = json.string_or("id");
    subnet.cidr = json.string_or("cidr");
    subnet.ip_version = static_cast<int>(json.integer_or("ip_version", 4));
    subnet.gateway = optional_text(json, "gateway");
    subnet.host_address = optional_text(json, "host_address");
    subnet.dhcp = json.bool_or("dhcp", true);
    subnet.dns_servers = texts(json, "dns_servers");
    for (const Json& route : members(json, "host_routes")) {
        if (route.is_array() && route.size() == 2 && route.as_array()[0].is_string() &&
            route.as_array()[1].is_string()) {
            subnet.host_routes.emplace_back(route.as_array()[0].as_string(),
                                            route.as_array()[1].as_string());
        }
    }
    return subnet;
}

Json rule_to_json(const SecurityRule& rule) {
    return Json::object({{"id", rule.id},
                         {"ingress", rule.ingress},
                         {"ip_version", rule.ip_version},
                         {"protocol", Json(rule.protocol)},
                         {"port_min", Json(rule.port_min)},
                         {"port_max", Json(rule.port_max)},
                         {"remote_prefix", Json(rule.remote_prefix)},
                         {"remote_group_id", Json(rule.remote_group_id)}});
}

SecurityRule rule_from_json(const Json& json) {
    SecurityRule rule;
    rule.id = json.string_or("id");
    rule.ingress = json.bool_or("ingress", true);
    rule.ip_version = static_cast<int>(json.integer_or("ip_version", 4));
    rule.protocol = optional_text(json, "protocol");
    rule.port_min = optional_number(json, "port_min");
    rule.port_max = optional_number(json, "port_max");
    rule.remote_prefix = optional_text(json, "remote_prefix");
    rule.remote_group_id = optional_text(json, "remote_group_id");
    return rule;
}

}  // namespace

Json network_to_json(const NetworkSpec& network) {
    Json subnets = Json::array();
    for (const SubnetSpec& subnet : network.subnets) {
        subnets.push_back(subnet_to_json(subnet));
    }
    Json hosts = Json::array();
    for (const compute::DhcpHostSpec& host : network.dhcp_hosts) {
        hosts.push_back(Json::object(
            {{"mac", host.mac}, {"address", host.address}, {"host_name", host.host_name}}));
    }
    return Json::object({{"id", network.id},
                         {"mtu", network.mtu},
                         {"subnets", std::move(subnets)},
                         {"dhcp_hosts", std::move(hosts)},
                         {"vni", network.vni},
                         {"peers", Json::array_of(network.peers)}});
}

Result<NetworkSpec> network_from_json(const Json& json) {
    NetworkSpec network;
    network.id = json.string_or("id");
    if (network.id.empty()) {
        return not_that("network");
    }
    network.mtu = json.integer_or("mtu", 1500);
    for (const Json& subnet : members(json, "subnets")) {
        network.subnets.push_back(subnet_from_json(subnet));
    }
    for (const Json& host : members(json, "dhcp_hosts")) {
        network.dhcp_hosts.push_back(
            {host.string_or("mac"), host.string_or("address"), host.string_or("host_name")});
    }
    network.vni = json.integer_or("vni");
    network.peers = texts(json, "peers");
    return network;
}

Json port_to_json(const PortSpec& port) {
    Json pairs = Json::array();
    for (const compute::AddressPair& pair : port.allowed_address_pairs) {
        pairs.push_back(Json::object({{"mac", pair.mac}, {"cidr", pair.cidr}}));
    }
    Json rules = Json::array();
    for (const SecurityRule& rule : port.rules) {
        rules.push_back(rule_to_json(rule));
    }
    return Json::object({{"id", port.id},
                         {"network_id", port.network_id},
                         {"mac", port.mac},
                         {"addresses", Json::array_of(port.addresses)},
                         {"allowed_address_pairs", std::move(pairs)},
                         {"port_security", port.port_security},
                         {"admin_state_up", port.admin_state_up},
                         {"security_group_ids", Json::array_of(port.security_group_ids)},
                         {"rules", std::move(rules)}});
}

Result<PortSpec> port_from_json(const Json& json) {
    PortSpec port;
    port.id = json.string_or("id");
    port.network_id = json.string_or("network_id");
    port.mac = json.string_or("mac");
    if (port.id.empty() || port.network_id.empty() || port.mac.empty()) {
        return not_that("port");
    }
    port.addresses = texts(json, "addresses");
    for (const Json& pair : members(json, "allowed_address_pairs")) {
        port.allowed_address_pairs.push_back({pair.string_or("mac"), pair.string_or("cidr")});
    }
    port.port_security = json.bool_or("port_security", true);
    port.admin_state_up = json.bool_or("admin_state_up", true);
    port.security_group_ids = texts(json, "security_group_ids");
    for (const Json& rule : members(json, "rules")) {
        port.rules.push_back(rule_from_json(rule));
    }
    return port;
}

Json server_to_json(const compute::Instance& instance) {
    return Json::object({{"uuid", instance.uuid},
                         {"project_id", instance.project_id},
                         {"user_id", instance.user_id},
                         {"definition", compute::instance_definition_to_json(instance)},
                         {"state", compute::instance_state_to_json(instance)}});
}

compute::Instance server_from_json(const Json& json) {
    const Json* definition = json.find("definition");
    const Json* state = json.find("state");
    const Json nothing = Json::object();
    compute::Instance instance = compute::instance_from_json(
        definition == nullptr ? nothing : *definition, state == nullptr ? nothing : *state);
    instance.uuid = json.string_or("uuid");
    instance.project_id = json.string_or("project_id");
    instance.user_id = json.string_or("user_id");
    return instance;
}

}  // namespace kumoi::cluster
