#include "compute/clients/neutron_network.h"

#include <algorithm>

#include "base/clock.h"
#include "base/log.h"

namespace kumoi::clients {
namespace {

using compute::Instance;
using compute::RequestedNetwork;
using compute::VifInfo;

// Members of binding:profile that belong to a host, not to the user's port.
constexpr const char* kHostProfileMembers[] = {
    "pci_vendor_info",    "pci_slot", "allocation",     "arq_uuid",           "physical_network",
    "card_serial_number", "vf_num",   "pf_mac_address", "device_mac_address", "migrating_to"};

Json profile_of(const Json& port) {
    const Json* profile = port.find("binding:profile");
    return profile != nullptr && profile->is_object() ? *profile : Json::object();
}

const Json* by_id(const Json::Array& items, const std::string& id) {
    const auto found = std::find_if(items.begin(), items.end(),
                                    [&](const Json& item) { return item.string_or("id") == id; });
    return found == items.end() ? nullptr : &*found;
}

Error binding_failed(const std::string& port_id, const std::string& host) {
    return Error::conflict("Neutron could not bind port {} to host {}", port_id, host)
        .with_hint(
            "see the agent and mechanism driver of that host: is it alive, does it know "
            "the network's physical network?")
        .with_fault("PortBindingFailed");
}

// The error that `fault` names, about one port.
Error port_error(ErrorCode code, const char* fault, std::string message) {
    return Error{code, std::move(message), {}, fault};
}

// What Neutron knows of a VIF, over what this node has noted about it.
VifInfo merged(const VifInfo* known, VifInfo fresh) {
    if (known == nullptr) {
        return fresh;
    }
    VifInfo vif = *known;
    vif.network_id = std::move(fresh.network_id);
    vif.network_name = std::move(fresh.network_name);
    vif.mac = std::move(fresh.mac);
    vif.mtu = fresh.mtu;
    vif.fixed_ips = std::move(fresh.fixed_ips);
    vif.created_by_nova = fresh.created_by_nova;
    vif.vif_type = std::move(fresh.vif_type);
    vif.vnic_type = std::move(fresh.vnic_type);
    vif.bridge = std::move(fresh.bridge);
    vif.devname = std::move(fresh.devname);
    vif.details = std::move(fresh.details);
    vif.active = fresh.active;
    vif.raw = std::move(fresh.raw);
    return vif;
}

void add_once(std::vector<std::string>& ids, std::string id) {
    if (!id.empty() && std::find(ids.begin(), ids.end(), id) == ids.end()) {
        ids.push_back(std::move(id));
    }
}

}  // namespace

std::string device_owner(const Instance& instance) {
    return "compute:" + (instance.availability_zone.empty() ? "nova" : instance.availability_zone);
}

Result<std::vector<RequestedNetwork>> NeutronNetwork::validate_networks(
    const Context& context, std::vector<RequestedNetwork> requested, bool automatic,
    const std::vector<std::string>& security_groups) {
    (void)security_groups;  // looked up when ports are made
    const Caller user = caller_of(context);
    if (!requested.empty() || !automatic) {
        std::vector<Json> ports;
        for (const RequestedNetwork& one : requested) {
            ports.push_back(one.port_id ? TRY(neutron_.port(user, *one.port_id)) : Json());
        }
        TRY(networks_of(user, requested, ports));
        return requested;
    }
    Json::Array available = TRY(neutron_.networks(
        user, QueryString().add("tenant_id", context.project_id).add("shared", "False")));
    Json::Array shared = TRY(neutron_.networks(user, QueryString().add("shared", "True")));
    for (Json& network : shared) {
        if (by_id(available, network.string_or("id")) == nullptr) {
            available.push_back(std::move(network));
        }
    }
    std::erase_if(available,
                  [](const Json& network) { return network.bool_or("router:external"); });
    if (available.size() > 1) {
        return port_error(ErrorCode::Conflict, "NetworkAmbiguous",
                          fmt::format("Project {} may use {} networks: name the ones the server "
                                      "shall have",
                                      context.project_id, available.size()));
    }
    for (const Json& network : available) {
        requested.push_back({.network_id = network.string_or("id")});
    }
    return requested;
}

Result<Json::Array> NeutronNetwork::networks_of(const Caller& user,
                                                const std::vector<RequestedNetwork>& requested,
                                                const std::vector<Json>& ports) {
    std::vector<std::string> ids;
    for (size_t i = 0; i < requested.size(); ++i) {
        add_once(ids, ports[i].is_object() ? ports[i].string_or("network_id")
                                           : requested[i].network_id.value_or(""));
    }
    if (ids.empty()) {
        return Json::Array();
    }
    QueryString query;
    for (const std::string& id : ids) {
        query.add("id", id);
    }
    Json::Array networks = TRY(neutron_.networks(user, query));
    for (const std::string& id : ids) {
        if (by_id(networks, id) == nullptr) {
            return port_error(ErrorCode::NotFound, "NetworkNotFound",
                              fmt::format("Network {} does not exist for this project", id));
        }
    }
    return networks;
}

Result<Json> NeutronNetwork::usable_port(const Caller& user, const Instance& instance,
                                         const std::string& port_id) {
    Json port = TRY(neutron_.port(user, port_id));
    const std::string device = port.string_or("device_id");
    if (!device.empty() && device != instance.uuid) {
        return port_error(ErrorCode::Conflict, "PortInUse",
                          fmt::format("Port {} is used by {}", port_id, device));
    }
    if (port.string_or("tenant_id") != instance.project_id) {
        return port_error(ErrorCode::InvalidArgument, "PortNotUsable",
                          fmt::format("Port {} is not of project {}, to which server {} belongs",
                                      port_id, instance.project_id, instance.uuid));
    }
    const Json* addresses = port.find("fixed_ips");
    if ((addresses == nullptr || addresses->size() == 0) &&
        port.string_or("ip_allocation") != "deferred" &&
        port.string_or("ip_allocation") != "none") {
        return port_error(ErrorCode::InvalidArgument, "PortRequiresFixedIP",
                          fmt::format("Port {} has no address", port_id));
    }
    return port;
}

Result<std::vector<std::string>> NeutronNetwork::security_group_ids(const Caller& user,
                                                                    const Instance& instance) {
    std::vector<std::string> ids;
    const auto& wanted = instance.security_groups;
    // Neutron gives every port the project's default group by itself.
    if (wanted.empty() || (wanted.size() == 1 && wanted[0] == "default")) {
        return ids;
    }
    const Json::Array groups = TRY(neutron_.security_groups(user, instance.project_id));
    for (const std::string& name : wanted) {
        std::vector<std::string> found;
        for (const Json& group : groups) {
            if (group.string_or("id") == name || group.string_or("name") == name) {
                add_once(found, group.string_or("id"));
            }
        }
        if (found.size() != 1) {
            return port_error(found.empty() ? ErrorCode::NotFound : ErrorCode::Conflict,
                              found.empty() ? "SecurityGroupNotFound" : "NoUniqueMatch",
                              fmt::format("{} security groups of project {} are called {}",
                                          found.size(), instance.project_id, name));
        }
        add_once(ids, found[0]);
    }
    return ids;
}

Result<Json> NeutronNetwork::make_port(const Caller& user, const Instance& instance,
                                       const RequestedNetwork& requested, const Json& network,
                                       const std::vector<std::string>& security_groups) {
    const std::string network_id = network.string_or("id");
    const Json* subnets = network.find("subnets");
    const bool secured = network.bool_or("port_security_enabled", true);
    if (!security_groups.empty() && (subnets == nullptr || subnets->size() == 0 || !secured)) {
        return port_error(ErrorCode::InvalidArgument, "SecurityGroupCannotBeApplied",
                          fmt::format("Network {} has no subnet or no port security: security "
                                      "groups do not work there",
                                      network_id));
    }
    Json port = Json::object({{"device_id", instance.uuid}});
    if (requested.fixed_ip) {
        port.set("fixed_ips",
                 Json(Json::Array{Json::object({{"ip_address", *requested.fixed_ip}})}));
    }
    port.set("network_id", network_id);
    port.set("admin_state_up", true);
    port.set("tenant_id", instance.project_id);
    if (!security_groups.empty()) {
        port.set("security_groups", Json::array_of(security_groups));
    }
    Json made = TRY(neutron_.create_port(user, port));
    const Json* addresses = made.find("fixed_ips");
    if (requested.fixed_ip && (addresses == nullptr || addresses->size() == 0)) {
        TRY(neutron_.delete_port(user, made.string_or("id")));
        return port_error(ErrorCode::Exhausted, "NoMoreFixedIps",
                          fmt::format("Network {} gave port no address", network_id));
    }
    return made;
}

Result<Json> NeutronNetwork::bind_port(const Caller& user, const Instance& instance,
                                       const Json& port, const Json& network) {
    const Caller service = user.as_service();
    const std::string id = port.string_or("id");
    Json changes = Json::object({{"device_id", instance.uuid},
                                 {"device_owner", device_owner(instance)},
                                 {"binding:host_id", instance.host}});
    const bool named = TRY(neutron_.has_extension(service, "dns-integration"));
    const bool own_domain = !network.string_or("dns_domain").empty();
    if (named && !own_domain) {
        changes.set("dns_name", instance.hostname);
    }
    Json bound = TRY(neutron_.update_port(service, id, changes));
    if (bound.string_or("binding:vif_type") == "binding_failed") {
        return binding_failed(id, instance.host);
    }
    // In a network with a domain of its own only the project may name its ports.
    if (named && own_domain) {
        TRY(neutron_.update_port(user, id, Json::object({{"dns_name", instance.hostname}})));
    }
    return bound;
}

Result<void> NeutronNetwork::allocate_ports(const Caller& user, const Instance& instance,
                                            const std::vector<RequestedNetwork>& requested,
                                            std::vector<Allocated>& allocated) {
    std::vector<Json> ports;
    for (const RequestedNetwork& one : requested) {
        ports.push_back(one.port_id ? TRY(usable_port(user, instance, *one.port_id)) : Json());
    }
    const Json::Array networks = TRY(networks_of(user, requested, ports));
    const auto groups = TRY(security_group_ids(user, instance));
    for (size_t i = 0; i < requested.size(); ++i) {
        const bool own = ports[i].is_object();
        const Json& network =
            *by_id(networks, own ? ports[i].string_or("network_id") : *requested[i].network_id);
        if (!own) {
            ports[i] = TRY(make_port(user, instance, requested[i], network, groups));
        }
        allocated.push_back({ports[i].string_or("id"), !own});
        if (own) {
            remember_users_port(ports[i].string_or("id"), true);
        }
        TRY(bind_port(user, instance, ports[i], network));
    }
    return {};
}

// What a build gets that names no network: the project's only one, or ("auto") one made for it.
Result<std::vector<RequestedNetwork>> NeutronNetwork::chosen_for(
    const Context& context, const std::vector<RequestedNetwork>& asked) {
    if (asked.size() != 1 || asked[0].port_id || asked[0].network_id.value_or("auto") != "auto") {
        return asked;
    }
    std::vector<RequestedNetwork> found = TRY(validate_networks(context, {}, true, {}));
    if (found.empty() && asked[0].network_id) {
        found.push_back({.network_id = TRY(neutron_.auto_allocated_network(caller_of(context),
                                                                           context.project_id))});
    }
    return found;
}

Result<std::vector<VifInfo>> NeutronNetwork::allocate_for_instance(
    const Context& context, const Instance& instance, const std::vector<RequestedNetwork>& asked) {
    const Caller user = caller_of(context);
    // A server that came here before has its ports; the second call takes them over.
    if (!asked.empty() && !instance.network_info.empty()) {
        return refresh(context, instance);
    }
    const std::vector<RequestedNetwork> requested = TRY(chosen_for(context, asked));
    if (requested.empty()) {
        return std::vector<VifInfo>();
    }
    for (const RequestedNetwork& one : requested) {
        if (!one.port_id && !one.network_id) {
            return Error::invalid("A requested network of server {} names neither network nor port",
                                  instance.uuid);
        }
    }
    std::vector<Allocated> allocated;
    auto outcome = allocate_ports(user, instance, requested, allocated);
    Result<std::vector<VifInfo>> vifs = std::vector<VifInfo>();
    if (outcome.ok()) {
        const Caller service = user.as_service();
        if (auto ports = ports_of(service, instance); ports.ok()) {
            vifs = build_vifs(service, *ports, {}, allocated);
        } else {
            vifs = std::move(ports).error();
        }
    } else {
        vifs = std::move(outcome).error();
    }
    if (!vifs.ok()) {
        undo(user, allocated);
    }
    return vifs;
}

void NeutronNetwork::undo(const Caller& user, const std::vector<Allocated>& allocated) {
    for (const Allocated& one : allocated) {
        auto outcome = one.created ? neutron_.delete_port(user.as_service(), one.port_id)
                                   : release_port(user, one.port_id);
        if (!outcome.ok()) {
            log_warn("clients", "a port of a failed allocation stays behind",
                     {{"port", one.port_id}, {"why", outcome.error().message}});
        }
    }
}

Result<void> NeutronNetwork::release_port(const Caller& user, const std::string& port_id) {
    const Caller service = user.as_service();
    auto port = neutron_.port(service, port_id);
    if (!port.ok()) {
        return port.error().code == ErrorCode::NotFound ? Result<void>()
                                                        : Result<void>(std::move(port).error());
    }
    Json profile = profile_of(*port);
    for (const char* member : kHostProfileMembers) {
        profile.erase(member);
    }
    Json changes = Json::object({{"binding:host_id", nullptr},
                                 {"binding:profile", std::move(profile)},
                                 {"device_id", ""},
                                 {"device_owner", ""}});
    if (TRY(neutron_.has_extension(service, "dns-integration"))) {
        changes.set("dns_name", "");
    }
    auto outcome = neutron_.update_port(service, port_id, changes);
    if (!outcome.ok() && outcome.error().code != ErrorCode::NotFound) {
        return std::move(outcome).error();
    }
    remember_users_port(port_id, false);
    return {};
}

void NeutronNetwork::remember_users_port(const std::string& port_id, bool bound) {
    const std::lock_guard lock(mutex_);
    if (bound) {
        users_ports_.insert(port_id);
    } else {
        users_ports_.erase(port_id);
    }
}

// After a crash in the middle of a build no cache names the user's ports; deleting one of them
// would be worse than anything else. One that Nova makes is never older than its server.
bool NeutronNetwork::is_users_own(const Json& port, const Instance& instance) const {
    const std::string id = port.string_or("id");
    const auto noted = std::find_if(instance.network_info.begin(), instance.network_info.end(),
                                    [&](const VifInfo& vif) { return vif.port_id == id; });
    if (noted != instance.network_info.end() && !noted->created_by_nova) {
        return true;
    }
    const auto created_ns = parse_iso8601(port.string_or("created_at"));
    if (created_ns && instance.created_ns != 0 &&
        *created_ns / kNanosPerSecond < instance.created_ns / kNanosPerSecond) {
        return true;
    }
    const std::lock_guard lock(mutex_);
    return users_ports_.contains(id);
}

Result<void> NeutronNetwork::deallocate_for_instance(const Context& context,
                                                     const Instance& instance) {
    const Caller user = caller_of(context);
    const Caller service = user.as_service();
    const Json::Array ports =
        TRY(neutron_.ports(service, QueryString().add("device_id", instance.uuid)));
    Result<void> outcome;
    for (const Json& port : ports) {
        const std::string id = port.string_or("id");
        auto freed = is_users_own(port, instance) ? release_port(user, id)
                                                  : neutron_.delete_port(service, id);
        if (!freed.ok()) {  // the others are freed all the same
            outcome = std::move(freed);
        }
    }
    return outcome;
}

Result<VifInfo> NeutronNetwork::allocate_port_for_instance(const Context& context,
                                                           const Instance& instance,
                                                           const RequestedNetwork& requested) {
    const Caller user = caller_of(context);
    std::vector<RequestedNetwork> one = {requested};
    if (!requested.port_id && !requested.network_id) {
        one = TRY(validate_networks(context, {}, true, {}));
        if (one.empty()) {
            return port_error(ErrorCode::InvalidArgument, "InterfaceAttachFailedNoNetwork",
                              fmt::format("Project {} has no network to attach server {} to",
                                          instance.project_id, instance.uuid));
        }
    }
    std::vector<Allocated> allocated;
    auto outcome = allocate_ports(user, instance, one, allocated);
    if (!outcome.ok()) {
        undo(user, allocated);
        return std::move(outcome).error();
    }
    const Caller service = user.as_service();
    const auto vif = [&]() -> Result<VifInfo> {
        const Json port = TRY(neutron_.port(service, allocated[0].port_id));
        auto vifs = TRY(build_vifs(service, {port}, {}, allocated));
        return std::move(vifs[0]);
    }();
    if (!vif.ok()) {
        undo(user, allocated);
    }
    return vif;
}

Result<void> NeutronNetwork::deallocate_port_for_instance(const Context& context,
                                                          const Instance& instance,
                                                          const std::string& port_id) {
    const Caller user = caller_of(context);
    const Json noted = Json::object({{"id", port_id}});
    return is_users_own(noted, instance) ? release_port(user, port_id)
                                         : neutron_.delete_port(user.as_service(), port_id);
}

Result<std::vector<VifInfo>> NeutronNetwork::network_info(const std::string& instance_uuid) {
    const Caller service;
    const Json::Array ports =
        TRY(neutron_.ports(service, QueryString().add("device_id", instance_uuid)));
    std::vector<Allocated> users_own;
    {
        const std::lock_guard lock(mutex_);
        for (const Json& port : ports) {
            if (users_ports_.contains(port.string_or("id"))) {
                users_own.push_back({port.string_or("id"), false});
            }
        }
    }
    return build_vifs(service, ports, {}, users_own);
}

Result<std::vector<VifInfo>> NeutronNetwork::refresh(const Context& context,
                                                     const Instance& instance) {
    const Caller service = caller_of(context).as_service();
    const Json::Array ports = TRY(ports_of(service, instance));
    std::vector<Allocated> users_own;
    for (const Json& port : ports) {
        const std::string id = port.string_or("id");
        const bool known = std::any_of(instance.network_info.begin(), instance.network_info.end(),
                                       [&](const VifInfo& vif) { return vif.port_id == id; });
        if (!known && is_users_own(port, instance)) {
            users_own.push_back({id, false});
        }
    }
    return build_vifs(service, ports, instance.network_info, users_own);
}

Result<Json::Array> NeutronNetwork::ports_of(const Caller& service, const Instance& instance) {
    return neutron_.ports(
        service,
        QueryString().add("tenant_id", instance.project_id).add("device_id", instance.uuid));
}

// Five requests, however many ports there are.
Result<NeutronRecords> NeutronNetwork::records_of(const Caller& service, const Json::Array& ports) {
    NeutronRecords records;
    std::vector<std::string> port_ids, network_ids, subnet_ids;
    for (const Json& port : ports) {
        add_once(port_ids, port.string_or("id"));
        add_once(network_ids, port.string_or("network_id"));
        if (const Json* fixed = port.find("fixed_ips"); fixed != nullptr && fixed->is_array()) {
            for (const Json& ip : fixed->as_array()) {
                add_once(subnet_ids, ip.string_or("subnet_id"));
            }
        }
    }
    if (network_ids.empty()) {
        return records;
    }
    QueryString by_network, dhcp;
    for (const std::string& id : network_ids) {
        by_network.add("id", id);
        dhcp.add("network_id", id);
    }
    records.networks = TRY(neutron_.networks(service, by_network));
    records.subnets = TRY(neutron_.subnets(service, subnet_ids));
    if (!subnet_ids.empty()) {
        records.dhcp_ports = TRY(neutron_.ports(service, dhcp.add("device_owner", "network:dhcp")));
        records.floating_ips = TRY(neutron_.floating_ips(service, port_ids));
    }
    return records;
}

Result<std::vector<VifInfo>> NeutronNetwork::build_vifs(const Caller& service,
                                                        const Json::Array& ports,
                                                        const std::vector<VifInfo>& known,
                                                        const std::vector<Allocated>& allocated) {
    const NeutronRecords records = TRY(records_of(service, ports));
    std::vector<std::string> order;
    for (const VifInfo& vif : known) {
        add_once(order, vif.port_id);
    }
    for (const Allocated& one : allocated) {
        add_once(order, one.port_id);
    }
    for (const Json& port : ports) {
        add_once(order, port.string_or("id"));
    }
    std::vector<VifInfo> vifs;
    for (const std::string& id : order) {
        const Json* port = by_id(ports, id);
        if (port == nullptr) {
            continue;  // gone from Neutron
        }
        const auto noted = std::find_if(known.begin(), known.end(),
                                        [&](const VifInfo& vif) { return vif.port_id == id; });
        const auto fresh = std::find_if(allocated.begin(), allocated.end(),
                                        [&](const Allocated& one) { return one.port_id == id; });
        const bool users_own = (noted != known.end() && !noted->created_by_nova) ||
                               (fresh != allocated.end() && !fresh->created);
        const Json json = TRY(build_vif(
            *port, records, {.ovs_bridge = ovs_bridge_, .preserve_on_delete = users_own}));
        VifInfo vif = TRY(parse_vif(json));
        vifs.push_back(merged(noted == known.end() ? nullptr : &*noted, std::move(vif)));
    }
    return vifs;
}

}  // namespace kumoi::clients
