// The part of NeutronNetwork that moves ports between hosts.
#include <algorithm>

#include "base/log.h"
#include "compute/clients/neutron_network.h"

namespace kumoi::clients {
namespace {

Json profile_of(const Json& port) {
    const Json* profile = port.find("binding:profile");
    return profile != nullptr && profile->is_object() ? *profile : Json::object();
}

Error not_bound(const std::string& port_id, const std::string& host) {
    return Error::conflict("Neutron could not bind port {} to host {}", port_id, host)
        .with_hint("see the agent and mechanism driver of that host")
        .with_fault("PortBindingFailed");
}

bool is_unbound(const std::string& vif_type) {
    return vif_type == "unbound" || vif_type == "binding_failed";
}

// Nova's order of these, and its filter where it names a host.
QueryString ports_query(const compute::Instance& instance) {
    return QueryString().add("device_id", instance.uuid).add("tenant_id", instance.project_id);
}

}  // namespace

Result<void> NeutronNetwork::rebind(const Context& context, const Instance& instance,
                                    const std::string& host) {
    const Caller service = caller_of(context).as_service();
    const std::string owner = device_owner(instance);
    for (const Json& port : TRY(neutron_.ports(service, ports_query(instance)))) {
        Json profile = profile_of(port);
        const bool was_moving = profile.erase("migrating_to");
        const bool here = port.string_or("binding:host_id") == host &&
                          !is_unbound(port.string_or("binding:vif_type"));
        if (here && !was_moving) {
            continue;
        }
        Json changes = Json::object({{"binding:host_id", host}, {"device_owner", owner}});
        if (was_moving) {
            changes.set("binding:profile", std::move(profile));
        }
        const std::string id = port.string_or("id");
        const Json bound = TRY(neutron_.update_port(service, id, changes));
        if (bound.string_or("binding:vif_type") == "binding_failed") {
            return not_bound(id, host);
        }
    }
    return {};
}

Result<void> NeutronNetwork::unbind(const Context& context, const Instance& instance) {
    const Caller service = caller_of(context).as_service();
    for (const Json& port : TRY(neutron_.ports(service, ports_query(instance)))) {
        Json profile = profile_of(port);
        for (const char* member :
             {"pci_vendor_info", "pci_slot", "physical_network", "allocation", "card_serial_number",
              "vf_num", "pf_mac_address", "device_mac_address", "migrating_to"}) {
            profile.erase(member);
        }
        auto outcome = neutron_.update_port(
            service, port.string_or("id"),
            Json::object({{"binding:host_id", nullptr}, {"binding:profile", std::move(profile)}}));
        if (!outcome.ok() && outcome.error().code != ErrorCode::NotFound) {
            return std::move(outcome).error();
        }
    }
    return {};
}

Result<void> NeutronNetwork::set_migrating_to(const Context& context, const Instance& instance,
                                              const std::string& source,
                                              const std::string& destination) {
    const Caller service = caller_of(context).as_service();
    QueryString query = ports_query(instance);
    if (!source.empty()) {
        query.add("binding:host_id", source);
    }
    for (const Json& port : TRY(neutron_.ports(service, query))) {
        Json profile = profile_of(port);
        if (profile.string_or("migrating_to") == destination) {
            continue;
        }
        if (destination.empty()) {
            profile.erase("migrating_to");
        } else {
            profile.set("migrating_to", destination);
        }
        TRY(neutron_.update_port(service, port.string_or("id"),
                                 Json::object({{"binding:profile", std::move(profile)}})));
    }
    return {};
}

Result<std::vector<Json>> NeutronNetwork::create_bindings(const Context& context,
                                                          const Instance& instance,
                                                          const std::string& host) {
    const Caller service = caller_of(context).as_service();
    std::vector<Json> bindings;
    std::vector<std::string> done;
    const auto undo = [&] {
        for (const std::string& port_id : done) {
            if (auto outcome = neutron_.delete_binding(service, port_id, host); !outcome.ok()) {
                log_warn("clients", "a binding of a failed attempt stays behind",
                         {{"port", port_id}, {"host", host}, {"why", outcome.error().message}});
            }
        }
    };
    for (const Json& port : TRY(neutron_.ports(service, ports_query(instance)))) {
        const std::string id = port.string_or("id");
        auto binding = neutron_.create_binding(
            service, id,
            Json::object({{"host", host},
                          {"vnic_type", port.string_or("binding:vnic_type", "normal")},
                          {"profile", profile_of(port)}}));
        if (!binding.ok()) {
            undo();
            return std::move(binding).error();
        }
        done.push_back(id);
        if (binding->string_or("vif_type") == "binding_failed") {
            undo();
            return not_bound(id, host);
        }
        bindings.push_back(std::move(binding).value());
    }
    return bindings;
}

Result<void> NeutronNetwork::activate_bindings(const Context& context, const Instance& instance,
                                               const std::string& host) {
    const Caller service = caller_of(context).as_service();
    for (const VifInfo& vif : instance.network_info) {
        const auto binding = TRY(neutron_.binding(service, vif.port_id, host));
        if (binding && binding->string_or("status") != "ACTIVE") {
            TRY(neutron_.activate_binding(service, vif.port_id, host));
        }
    }
    return {};
}

Result<void> NeutronNetwork::delete_bindings(const Context& context, const Instance& instance,
                                             const std::string& host) {
    const Caller service = caller_of(context).as_service();
    Result<void> outcome;
    for (const VifInfo& vif : instance.network_info) {
        auto deleted = neutron_.delete_binding(service, vif.port_id, host);
        if (!deleted.ok()) {
            outcome = std::move(deleted);
        }
    }
    return outcome;
}

}  // namespace kumoi::clients
