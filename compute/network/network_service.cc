#include "compute/network/network_service.h"

#include <algorithm>

#include "base/uuid.h"
#include "compute/network/network_store.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kMtuMin = 68;  // RFC 791: every module must forward 68 bytes
constexpr int64_t kMtuMax = 65'535;

Result<void> apply(const NetworkUpdate& update, Network& network) {
    if (update.mtu && (*update.mtu < kMtuMin || *update.mtu > kMtuMax)) {
        return network_errors::invalid_input(
            fmt::format("mtu must be {} to {}, got {}", kMtuMin, kMtuMax, *update.mtu));
    }
    network.name = update.name.value_or(network.name);
    network.description = update.description.value_or(network.description);
    network.admin_state_up = update.admin_state_up.value_or(network.admin_state_up);
    network.shared = update.shared.value_or(network.shared);
    network.port_security = update.port_security.value_or(network.port_security);
    network.mtu = update.mtu.value_or(network.mtu);
    return {};
}

bool is_infrastructure(const Port& port) {
    return port.device_owner == "network:dhcp";
}

}  // namespace

namespace network_errors {

Error network_not_found(const std::string& id) {
    return Error::not_found("Network {} could not be found.", id).with_fault("NetworkNotFound");
}
Error subnet_not_found(const std::string& id) {
    return Error::not_found("Subnet {} could not be found.", id).with_fault("SubnetNotFound");
}
Error port_not_found(const std::string& id) {
    return Error::not_found("Port {} could not be found.", id).with_fault("PortNotFound");
}
Error security_group_not_found(const std::string& id) {
    return Error::not_found("Security group {} does not exist", id)
        .with_fault("SecurityGroupNotFound");
}
Error invalid_input(const std::string& what) {
    return Error::invalid("Invalid input for operation: {}.", what).with_fault("InvalidInput");
}
Error not_allowed(const std::string& what) {
    return Error::forbidden("{} is disallowed by policy", what).with_fault("PolicyNotAuthorized");
}

}  // namespace network_errors

using namespace network_errors;  // NOLINT: this folder's own names

Result<std::unique_ptr<NetworkService>> NetworkService::create(Database& database,
                                                               const Clock& clock, Random& random,
                                                               NetworkServiceOptions options) {
    TRY(network_store::migrate(database));
    return std::unique_ptr<NetworkService>(
        new NetworkService(database, clock, random, std::move(options)));
}

void NetworkService::Changes::add(const Port& port) {
    networks.insert(port.network_id);
    ports.insert(port.id);
    groups.insert(port.security_group_ids.begin(), port.security_group_ids.end());
}

void NetworkService::notify(const Changes& changes) {
    if (listener_ == nullptr) {
        return;
    }
    for (const std::string& id : changes.networks) {
        listener_->network_changed(id);
    }
    for (const std::string& id : changes.ports) {
        listener_->port_changed(id);
    }
    for (const std::string& id : changes.groups) {
        listener_->security_group_changed(id);
    }
}

std::string NetworkService::new_id() const {
    return Uuid::generate(random_).text();
}

void NetworkService::stamp_new(NetworkRecordBase& record) {
    record.id = new_id();
    record.created_ns = clock_.wall_ns();
    record.updated_ns = record.created_ns;
    record.revision = 1;
}

void NetworkService::stamp_changed(NetworkRecordBase& record) {
    record.updated_ns = clock_.wall_ns();
    ++record.revision;
}

Result<Network> NetworkService::visible_network(SqlSession& sql, const RequestContext& context,
                                                const std::string& id) {
    auto networks = TRY(network_store::list_networks(sql, {.ids = {id}}));
    if (networks.empty() || (!context.is_admin && !networks[0].shared &&
                             networks[0].project_id != context.project_id)) {
        return network_not_found(id);
    }
    return std::move(networks[0]);
}

Result<Network> NetworkService::network_to_change(SqlSession& sql, const RequestContext& context,
                                                  const std::string& id) {
    Network network = TRY(visible_network(sql, context, id));
    if (!context.is_admin && network.project_id != context.project_id) {
        return not_allowed("Changing the shared network " + id + " of another project");
    }
    return network;
}

Result<std::vector<Network>> NetworkService::list_networks(const RequestContext& context,
                                                           const RecordFilter& filter) {
    auto networks = TRY(
        database_.read([&](SqlSession& sql) { return network_store::list_networks(sql, filter); }));
    if (!context.is_admin) {
        std::erase_if(networks, [&](const Network& network) {
            return !network.shared && network.project_id != context.project_id;
        });
    }
    return networks;
}

Result<std::vector<Network>> NetworkService::create_networks(
    const RequestContext& context, const std::vector<NetworkCreate>& requests) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<std::vector<Network>> {
        (void)changes;
        std::vector<Network> networks;
        for (const NetworkCreate& request : requests) {
            if (!context.is_admin && request.values.shared.value_or(false)) {
                return not_allowed("Creating a shared network");
            }
            TRY(check_quota(sql, "network", request.project_id));
            Network network;
            stamp_new(network);
            network.project_id = request.project_id;
            network.mtu = options_.mtu;
            TRY(apply(request.values, network));
            TRY(network_store::insert_network(sql, network));
            networks.push_back(std::move(network));
        }
        return networks;
    });
}

Result<Network> NetworkService::update_network(const RequestContext& context, const std::string& id,
                                               const NetworkUpdate& update) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<Network> {
        Network network = TRY(network_to_change(sql, context, id));
        if (update.shared && *update.shared != network.shared) {
            if (!context.is_admin) {
                return not_allowed("Changing the sharing of network " + id);
            }
            for (const Port& port : TRY(network_store::list_ports(sql, {.network_ids = {id}}))) {
                if (!*update.shared && port.project_id != network.project_id &&
                    !is_infrastructure(port)) {
                    return Error::conflict(
                               "Unable to reconfigure sharing settings for network {}. Multiple "
                               "tenants are using it.",
                               id)
                        .with_fault("InvalidSharedSetting");
                }
            }
        }
        TRY(apply(update, network));
        stamp_changed(network);
        TRY(network_store::update_network(sql, network));
        changes.networks.insert(id);
        return network;
    });
}

Result<void> NetworkService::delete_network(const RequestContext& context, const std::string& id) {
    return change([&](SqlSession& sql, Changes& changes) -> Result<void> {
        TRY(network_to_change(sql, context, id));
        const auto ports = TRY(network_store::list_ports(sql, {.network_ids = {id}}));
        for (const Port& port : ports) {
            if (!is_infrastructure(port)) {
                return Error::conflict(
                           "Unable to complete operation on network {}. There are one or more "
                           "ports still in use on the network.",
                           id)
                    .with_fault("NetworkInUse")
                    .with_hint(fmt::format("Delete port {} first", port.id));
            }
        }
        for (const Port& port : ports) {
            TRY(remove_port(sql, port, changes));
        }
        for (const Subnet& subnet : TRY(network_store::list_subnets(sql, {.network_ids = {id}}))) {
            TRY(network_store::delete_subnet(sql, subnet.id));
        }
        return network_store::delete_network(sql, id);
    });
}

Result<void> NetworkService::set_tags(const RequestContext& context, const std::string& table,
                                      const std::string& id, const std::vector<std::string>& tags) {
    return database_.write([&](SqlSession& sql) -> Result<void> {
        if (table == "networks") {
            TRY(network_to_change(sql, context, id));
        } else if (table == "subnets") {
            TRY(subnet_to_change(sql, context, id));
        } else if (table == "ports") {
            TRY(port_to_change(sql, context, id));
        } else {
            KUMOI_ASSERT(table == "security_groups");
            TRY(group_to_change(sql, context, id));
        }
        return network_store::set_tags(sql, table, id, tags, clock_.wall_ns());
    });
}

const std::map<std::string, int64_t>& NetworkService::default_quotas() {
    // Neutron's defaults (neutron.conf [quotas]).
    static const std::map<std::string, int64_t> quotas = {{"network", 100},
                                                          {"subnet", 100},
                                                          {"port", 500},
                                                          {"security_group", 10},
                                                          {"security_group_rule", 100}};
    return quotas;
}

Result<void> NetworkService::check_quota(SqlSession& sql, const std::string& resource,
                                         const std::string& project_id) {
    const int64_t limit = TRY(network_store::quota_limit(sql, project_id, resource))
                              .value_or(default_quotas().at(resource));
    const int64_t used = TRY(network_store::count(sql, resource + "s", project_id));
    if (limit >= 0 && used >= limit) {
        return Error::exhausted("Quota exceeded for resources: ['{}'].", resource)
            .with_fault("OverQuota")
            .with_hint(fmt::format("The project has {} of {}; delete some or raise the quota", used,
                                   limit));
    }
    return {};
}

Result<NetworkQuotas> NetworkService::quotas(const std::string& project_id) {
    return database_.read([&](SqlSession& sql) -> Result<NetworkQuotas> {
        NetworkQuotas quotas;
        for (const auto& [resource, limit] : default_quotas()) {
            quotas[resource] = {
                TRY(network_store::quota_limit(sql, project_id, resource)).value_or(limit),
                TRY(network_store::count(sql, resource + "s", project_id))};
        }
        return quotas;
    });
}

Result<void> NetworkService::set_quotas(const std::string& project_id,
                                        const std::map<std::string, int64_t>& limits) {
    return database_.write([&](SqlSession& sql) -> Result<void> {
        for (const auto& [resource, limit] : limits) {
            if (!default_quotas().contains(resource) || limit < -1) {
                return invalid_input(fmt::format("quota {} = {}", resource, limit));
            }
            TRY(network_store::set_quota_limit(sql, project_id, resource, limit));
        }
        return {};
    });
}

Result<void> NetworkService::reset_quotas(const std::string& project_id) {
    return database_.write(
        [&](SqlSession& sql) { return network_store::clear_quota(sql, project_id); });
}

}  // namespace kumoi::compute
