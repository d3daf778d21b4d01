#include "api/cluster/network_rpc.h"

#include <algorithm>

#include "api/cluster/network_codec.h"
#include "api/nova/oslo_context.h"
#include "base/log.h"
#include "compute/clients/vif_json.h"
#include "compute/conductor/instance_codec.h"

namespace kumoi::cluster {
namespace {

using compute::RequestContext;

amqp::Target network_target() {
    amqp::Target target;
    target.topic = kNetworkTopic;
    target.version = "1.0";
    return target;
}

RequestContext admin_of(const amqp::RpcRequest& request) {
    RequestContext context = nova::request_context(request.context);
    context.is_admin = true;
    return context;
}

Json vifs_json(const std::vector<compute::VifInfo>& vifs) {
    return Json(clients::network_info_text(vifs));
}

Result<std::vector<compute::VifInfo>> vifs_from(const Json& answer) {
    return clients::parse_network_info(answer.is_string() ? answer.as_string() : "[]");
}

// Where a network's frames go between nodes: 24 bits of its id, never 0.
int64_t vni_of(const std::string& network_id) {
    int64_t number = 0;
    for (const char c : network_id) {
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit >= 0) {
            number = (number * 31 + digit + 1) & 0xffffff;
        }
    }
    return std::max<int64_t>(number, 1);
}

}  // namespace

Result<Json> NetworkEndpoint::handle(const amqp::RpcRequest& request) {
    return request.args.contains("server") ? of_server(request) : of_node(request);
}

Result<Json> NetworkEndpoint::of_server(const amqp::RpcRequest& request) {
    compute::NetworkService& networks = borders_.networks;
    const RequestContext context = admin_of(request);
    const compute::Instance server = server_from_json(*request.args.find("server"));
    const std::string& method = request.method;
    std::vector<compute::RequestedNetwork> requested;
    const Json* asked = request.args.find("requested");
    if (asked != nullptr && asked->is_array()) {
        for (const Json& one : asked->as_array()) {
            requested.push_back(compute::requested_network_from_json(one));
        }
    }
    if (method == "allocate_for_instance") {
        return vifs_json(TRY(networks.allocate_for_instance(context, server, requested)));
    }
    if (method == "allocate_port_for_instance" && requested.size() == 1) {
        const auto vif = TRY(networks.allocate_port_for_instance(context, server, requested[0]));
        return vifs_json({vif});
    }
    if (method == "deallocate_for_instance") {
        TRY(networks.deallocate_for_instance(context, server));
        return Json();
    }
    if (method == "deallocate_port_for_instance") {
        TRY(networks.deallocate_port_for_instance(context, server,
                                                  request.args.string_or("port_id")));
        return Json();
    }
    if (method == "rebind") {
        TRY(networks.rebind(context, server, request.args.string_or("host")));
        return Json();
    }
    return Error::unsupported("The network service does not answer {}", method)
        .with_fault("NoSuchMethod");
}

Result<Json> NetworkEndpoint::network(const std::string& id) {
    compute::NetworkSpec spec = TRY(borders_.networks.node_network(id));
    spec.peers = borders_.addresses();
    spec.vni = vni_of(id);
    return network_to_json(spec);
}

Result<Json> NetworkEndpoint::port_plugged(const Json& args) {
    const std::string id = args.string_or("id");
    const bool plugged = args.bool_or("plugged");
    compute::RequestContext admin;
    admin.is_admin = true;
    const auto ports = TRY(borders_.networks.list_ports(admin, {.ids = {id}}));
    // The host that a server has left says nothing about its port any more.
    if (!ports.empty() && !plugged && ports[0].host_id != args.string_or("host")) {
        return Json();
    }
    TRY(borders_.networks.port_plugged(id, plugged));
    return Json();
}

Result<Json> NetworkEndpoint::of_node(const amqp::RpcRequest& request) {
    const std::string id = request.args.string_or("id");
    const std::string& method = request.method;
    if (method == "node_network") {
        return network(id);
    }
    if (method == "node_port") {
        return port_to_json(TRY(borders_.networks.node_port(id)));
    }
    if (method == "security_group_addresses") {
        return Json::array_of(TRY(borders_.networks.security_group_addresses(id)));
    }
    if (method == "port_plugged") {
        return port_plugged(request.args);
    }
    if (method == "network_info") {
        return vifs_json(TRY(borders_.networks.network_info(id)));
    }
    if (method == "report_node" && request.args.contains("node")) {
        TRY(borders_.report(compute::compute_node_from_json(*request.args.find("node"))));
        return Json();
    }
    return Error::unsupported("The network service does not answer {}", method)
        .with_fault("NoSuchMethod");
}

void NetworkNews::tell(const char* method, const std::string& id) {
    amqp::Target target;
    target.topic = kNewsTopic;
    target.version = "1.0";
    target.fanout = true;
    const auto told =
        rpc_.cast(target, nova::admin_context(clock_, random_), method, Json::object({{"id", id}}));
    if (!told.ok()) {
        log_warn("cluster", "nodes were not told of a change of the network",
                 {{"what", method}, {"id", id}, {"why", told.error().text()}});
    }
}

void NetworkNews::network_changed(const std::string& network_id) {
    tell("network_changed", network_id);
}
void NetworkNews::port_changed(const std::string& port_id) {
    tell("port_changed", port_id);
}
void NetworkNews::security_group_changed(const std::string& group_id) {
    tell("security_group_changed", group_id);
}

void NetworkNews::nodes_changed(const std::vector<std::string>& network_ids) {
    for (const std::string& id : network_ids) {
        network_changed(id);
    }
}

Result<Json> NetworkNews::deliver(const amqp::RpcRequest& request, compute::NetworkListener& node) {
    const std::string id = request.args.string_or("id");
    if (request.method == "network_changed") {
        node.network_changed(id);
    } else if (request.method == "port_changed") {
        node.port_changed(id);
    } else if (request.method == "security_group_changed") {
        node.security_group_changed(id);
    }
    return Json();
}

Result<Json> RemoteNetwork::call(const Json& context, const char* method, Json args) {
    return rpc_.call(network_target(), context, method, std::move(args));
}

Result<Json> RemoteNetwork::call_for(const Context& context, const char* method,
                                     const Instance& instance, Json args) {
    args.set("server", server_to_json(instance));
    return call(nova::wire_context(context, clock_, random_), method, std::move(args));
}

Result<std::vector<compute::VifInfo>> RemoteNetwork::allocate_for_instance(
    const Context& context, const Instance& instance,
    const std::vector<RequestedNetwork>& requested) {
    Json asked = Json::array();
    for (const RequestedNetwork& one : requested) {
        asked.push_back(compute::requested_network_to_json(one));
    }
    return vifs_from(TRY(call_for(context, "allocate_for_instance", instance,
                                  Json::object({{"requested", std::move(asked)}}))));
}

Result<void> RemoteNetwork::deallocate_for_instance(const Context& context,
                                                    const Instance& instance) {
    TRY(call_for(context, "deallocate_for_instance", instance));
    return {};
}

Result<compute::VifInfo> RemoteNetwork::allocate_port_for_instance(
    const Context& context, const Instance& instance, const RequestedNetwork& requested) {
    Json asked = Json::array();
    asked.push_back(compute::requested_network_to_json(requested));
    auto vifs = TRY(vifs_from(TRY(call_for(context, "allocate_port_for_instance", instance,
                                           Json::object({{"requested", std::move(asked)}})))));
    if (vifs.size() != 1) {
        return Error::corrupt("the controller made {} ports instead of one", vifs.size());
    }
    return std::move(vifs.front());
}

Result<void> RemoteNetwork::deallocate_port_for_instance(const Context& context,
                                                         const Instance& instance,
                                                         const std::string& port_id) {
    TRY(call_for(context, "deallocate_port_for_instance", instance,
                 Json::object({{"port_id", port_id}})));
    return {};
}

Result<std::vector<compute::VifInfo>> RemoteNetwork::network_info(
    const std::string& instance_uuid) {
    return vifs_from(TRY(call(nova::admin_context(clock_, random_), "network_info",
                              Json::object({{"id", instance_uuid}}))));
}

Result<void> RemoteNetwork::rebind(const Context& context, const Instance& instance,
                                   const std::string& host) {
    TRY(call_for(context, "rebind", instance, Json::object({{"host", host}})));
    return {};
}

Result<void> RemoteNetwork::unbind(const Context& context, const Instance& instance) {
    return rebind(context, instance, "");
}

Result<compute::NetworkSpec> RemoteNetwork::node_network(const std::string& network_id) {
    return network_from_json(TRY(call(nova::admin_context(clock_, random_), "node_network",
                                      Json::object({{"id", network_id}}))));
}

Result<compute::PortSpec> RemoteNetwork::node_port(const std::string& port_id) {
    return port_from_json(TRY(
        call(nova::admin_context(clock_, random_), "node_port", Json::object({{"id", port_id}}))));
}

Result<std::vector<std::string>> RemoteNetwork::security_group_addresses(const std::string& id) {
    const Json answer = TRY(call(nova::admin_context(clock_, random_), "security_group_addresses",
                                 Json::object({{"id", id}})));
    std::vector<std::string> addresses;
    if (answer.is_array()) {
        for (const Json& address : answer.as_array()) {
            addresses.push_back(address.is_string() ? address.as_string() : "");
        }
    }
    return addresses;
}

Result<void> RemoteNetwork::port_plugged(const std::string& port_id, bool plugged) {
    TRY(call(nova::admin_context(clock_, random_), "port_plugged",
             Json::object({{"id", port_id}, {"plugged", plugged}, {"host", host_}})));
    return {};
}

Result<void> RemoteNetwork::report(const compute::ComputeNode& node) {
    TRY(call(nova::admin_context(clock_, random_), "report_node",
             Json::object({{"node", compute::compute_node_to_json(node)}})));
    return {};
}

}  // namespace kumoi::cluster
