#include "compute/clients/neutron_client.h"

#include <map>

#include "compute/clients/service_fault.h"

namespace kumoi::clients {
namespace {

constexpr const char* kPorts = "/v2.0/ports";

std::string port_path(const std::string& id) {
    return fmt::format("{}/{}", kPorts, url_escape(id));
}

std::string binding_path(const std::string& port_id, const std::string& host) {
    return fmt::format("{}/bindings/{}", port_path(port_id), url_escape(host));
}

Error neutron_refusal(const std::string& what, const HttpReply& reply,
                      const std::string& fault_class) {
    return refusal("Neutron", what, reply, neutron_fault(reply, fault_class));
}

// The member `name` of a reply: {"port": {...}}.
Result<Json> member_of(const HttpReply& reply, const std::string& name, const std::string& what) {
    Json body = TRY_CONTEXT(reply.json(), "Neutron's reply to {}", what);
    Json* member = body.find(name);
    if (member == nullptr || !member->is_object()) {
        return Error::corrupt("Neutron's reply to {} has no {}", what, name);
    }
    return std::move(*member);
}

}  // namespace

std::string neutron_fault(const HttpReply& reply, const std::string& otherwise) {
    static const std::map<std::string, std::string> kFaults = {
        {"OverQuota", "PortLimitExceeded"},
        {"IpAddressGenerationFailure", "NoMoreFixedIps"},
        {"IpAddressInUse", "FixedIpAlreadyInUse"},
        {"IpAddressAlreadyAllocated", "FixedIpAlreadyInUse"},
        {"MacAddressInUse", "PortInUse"},
        {"PortNotFound", "PortNotFound"},
        {"NetworkNotFound", "NetworkNotFound"},
        {"SecurityGroupNotFound", "SecurityGroupNotFound"},
        {"PortSecurityAndIPRequiredForSecurityGroups", "SecurityGroupCannotBeApplied"},
        {"PortSecurityPortHasSecurityGroup", "SecurityGroupCannotBeApplied"},
    };
    if (reply.status == 401) {
        return "Unauthorized";
    }
    const auto found = kFaults.find(parse_fault(reply).type);
    return found == kFaults.end() ? otherwise : found->second;
}

Result<HttpReply> NeutronClient::send(const Caller& caller, std::string method, std::string path,
                                      std::optional<Json> body) {
    return service_.send(
        caller, {.method = std::move(method), .path = std::move(path), .body = std::move(body)});
}

Result<Json::Array> NeutronClient::list(const Caller& caller, const std::string& resource,
                                        const QueryString& query, const std::string& fault_class) {
    // "security-groups" is "security_groups" in the body.
    std::string member = resource;
    for (char& letter : member) {
        letter = letter == '-' ? '_' : letter;
    }
    const std::string path = "/v2.0/" + resource + query.text();
    const HttpReply reply = TRY(send(caller, "GET", path));
    if (!reply.ok()) {
        return neutron_refusal("GET " + path, reply, fault_class);
    }
    Json body = TRY_CONTEXT(reply.json(), "Neutron's reply to GET {}", path);
    Json* items = body.find(member);
    if (items == nullptr || !items->is_array()) {
        return Error::corrupt("Neutron's reply to GET {} has no list of {}", path, member);
    }
    return std::move(items->as_array());
}

Result<bool> NeutronClient::has_extension(const Caller& caller, const std::string& alias) {
    const std::lock_guard lock(mutex_);
    const int64_t now_ns = clock_.monotonic_ns();
    if (!extensions_read_ns_ || now_ns - *extensions_read_ns_ >= extension_sync_ns_) {
        const Json::Array items =
            TRY(list(caller.as_service(), "extensions", {}, "UnableToQueryPorts"));
        extensions_.clear();
        for (const Json& extension : items) {
            extensions_.insert(extension.string_or("alias"));
        }
        extensions_read_ns_ = now_ns;
    }
    return extensions_.contains(alias);
}

Result<Json::Array> NeutronClient::networks(const Caller& caller, const QueryString& query) {
    return list(caller, "networks", query, "NetworkNotFound");
}

Result<Json::Array> NeutronClient::subnets(const Caller& caller,
                                           const std::vector<std::string>& ids) {
    if (ids.empty()) {
        return Json::Array();
    }
    QueryString query;
    for (const std::string& id : ids) {
        query.add("id", id);
    }
    return list(caller, "subnets", query, "NetworkNotFound");
}

Result<Json::Array> NeutronClient::subnets_of(const Caller& caller, const std::string& network_id) {
    return list(caller, "subnets", QueryString().add("network_id", network_id), "NetworkNotFound");
}

Result<std::string> NeutronClient::auto_allocated_network(const Caller& caller,
                                                          const std::string& project_id) {
    const std::string what = fmt::format("make a network for project {}", project_id);
    const HttpReply reply =
        TRY(send(caller, "GET", "/v2.0/auto-allocated-topology/" + url_escape(project_id)));
    if (!reply.ok()) {
        return neutron_refusal(what, reply, "UnableToAutoAllocateNetwork");
    }
    const Json topology = TRY(member_of(reply, "auto_allocated_topology", what));
    return topology.string_or("id");
}

Result<Json::Array> NeutronClient::floating_ips(const Caller& caller,
                                                const std::vector<std::string>& port_ids) {
    if (port_ids.empty()) {
        return Json::Array();
    }
    QueryString query;
    for (const std::string& id : port_ids) {
        query.add("port_id", id);
    }
    return list(caller, "floatingips", query, "FloatingIpNotFound");
}

Result<Json::Array> NeutronClient::security_groups(const Caller& caller,
                                                   const std::string& project_id) {
    return list(
        caller, "security-groups",
        QueryString().add("fields", "id").add("fields", "name").add("tenant_id", project_id),
        "SecurityGroupNotFound");
}

Result<Json::Array> NeutronClient::ports(const Caller& caller, const QueryString& query) {
    return list(caller, "ports", query, "UnableToQueryPorts");
}

Result<Json> NeutronClient::port(const Caller& caller, const std::string& id) {
    const HttpReply reply = TRY(send(caller, "GET", port_path(id)));
    if (!reply.ok()) {
        return neutron_refusal("show port " + id, reply,
                               reply.status == 404 ? "PortNotFound" : "UnableToQueryPorts");
    }
    return member_of(reply, "port", "GET port " + id);
}

Result<Json> NeutronClient::send_port(const Caller& caller, const std::string& method,
                                      const std::string& path, const Json& port,
                                      const std::string& fault_class) {
    const HttpReply reply = TRY(send(caller, method, path, Json::object({{"port", port}})));
    if (!reply.ok()) {
        return neutron_refusal(method + " " + path, reply, fault_class);
    }
    return member_of(reply, "port", method + " " + path);
}

Result<Json> NeutronClient::create_port(const Caller& caller, const Json& port) {
    return send_port(caller, "POST", kPorts, port, "PortUpdateFailed");
}

Result<Json> NeutronClient::update_port(const Caller& caller, const std::string& id,
                                        const Json& changes) {
    return send_port(caller, "PUT", port_path(id), changes, "PortUpdateFailed");
}

Result<void> NeutronClient::delete_port(const Caller& caller, const std::string& id) {
    const HttpReply reply = TRY(send(caller, "DELETE", port_path(id)));
    if (reply.ok() || reply.status == 404) {
        return {};
    }
    return neutron_refusal("delete port " + id, reply, "PortUpdateFailed");
}

Result<std::optional<Json>> NeutronClient::binding(const Caller& caller, const std::string& port_id,
                                                   const std::string& host) {
    const HttpReply reply = TRY(send(caller, "GET", binding_path(port_id, host)));
    if (reply.status == 404) {
        return std::optional<Json>();
    }
    const std::string what = fmt::format("show the binding of port {} to {}", port_id, host);
    if (!reply.ok()) {
        return neutron_refusal(what, reply, "UnableToQueryPorts");
    }
    return std::optional<Json>(TRY(member_of(reply, "binding", what)));
}

Result<Json> NeutronClient::create_binding(const Caller& caller, const std::string& port_id,
                                           const Json& binding) {
    const std::string what = fmt::format("bind port {} to {}", port_id, binding.string_or("host"));
    const HttpReply reply = TRY(send(caller, "POST", port_path(port_id) + "/bindings",
                                     Json::object({{"binding", binding}})));
    if (!reply.ok()) {
        return neutron_refusal(what, reply, "PortBindingFailed");
    }
    return member_of(reply, "binding", what);
}

Result<void> NeutronClient::activate_binding(const Caller& caller, const std::string& port_id,
                                             const std::string& host) {
    const HttpReply reply = TRY(send(caller, "PUT", binding_path(port_id, host) + "/activate"));
    if (reply.ok() || reply.status == 409) {
        return {};
    }
    return neutron_refusal(fmt::format("activate the binding of port {} to {}", port_id, host),
                           reply, "PortBindingActivationFailed");
}

Result<void> NeutronClient::delete_binding(const Caller& caller, const std::string& port_id,
                                           const std::string& host) {
    const HttpReply reply = TRY(send(caller, "DELETE", binding_path(port_id, host)));
    if (reply.ok() || reply.status == 404) {
        return {};
    }
    return neutron_refusal(fmt::format("delete the binding of port {} to {}", port_id, host), reply,
                           "PortBindingDeletionFailed");
}

}  // namespace kumoi::clients
