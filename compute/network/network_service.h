// NetworkService: the network part of the standalone control plane, in Neutron's rules and error
// names: networks, subnets, ports with addresses, security groups, quotas. Implements NetworkApi
// for the manager and NetworkRecords for nodes. Any thread; state lives in the Database, whose
// single writer makes address allocation free of duplicates. Every change is one transaction: bulk
// requests happen wholly or not at all. The listener hears of changes after they are durable.
//
// Tenancy: what a project may not see is NotFound; what it may see (a shared network) and not
// change is Forbidden. An admin sees and changes everything.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/manager/network_api.h"
#include "compute/network/network_objects.h"
#include "compute/network/node_records.h"

namespace kumoi::compute {

struct NetworkServiceOptions {
    int64_t mtu = 1500;                         // of networks created without one
    std::vector<std::string> dns_servers = {};  // told to guests of subnets that name none
};

struct NetworkQuota {
    int64_t limit = 0;
    int64_t used = 0;
};
using NetworkQuotas = std::map<std::string, NetworkQuota>;

class NetworkService final : public NetworkApi, public NetworkRecords {
public:
    static Result<std::unique_ptr<NetworkService>> create(Database& database, const Clock& clock,
                                                          Random& random,
                                                          NetworkServiceOptions options = {});
    void set_listener(NetworkListener* listener) { listener_ = listener; }  // before use

    // Each is narrowed to what the context may see; admins see all projects.
    Result<std::vector<Network>> list_networks(const RequestContext& context,
                                               const RecordFilter& filter);
    Result<std::vector<Subnet>> list_subnets(const RequestContext& context,
                                             const RecordFilter& filter);
    Result<std::vector<Port>> list_ports(const RequestContext& context, const RecordFilter& filter);
    // Also makes the caller's default group when it is missing.
    Result<std::vector<SecurityGroup>> list_security_groups(const RequestContext& context,
                                                            const RecordFilter& filter);

    Result<std::vector<Network>> create_networks(const RequestContext& context,
                                                 const std::vector<NetworkCreate>& requests);
    Result<Network> update_network(const RequestContext& context, const std::string& id,
                                   const NetworkUpdate& update);
    Result<void> delete_network(const RequestContext& context, const std::string& id);

    Result<std::vector<Subnet>> create_subnets(const RequestContext& context,
                                               const std::vector<SubnetCreate>& requests);
    Result<Subnet> update_subnet(const RequestContext& context, const std::string& id,
                                 const SubnetUpdate& update);
    Result<void> delete_subnet(const RequestContext& context, const std::string& id);

    Result<std::vector<Port>> create_ports(const RequestContext& context,
                                           const std::vector<PortCreate>& requests);
    Result<Port> update_port(const RequestContext& context, const std::string& id,
                             const PortUpdate& update);
    Result<void> delete_port(const RequestContext& context, const std::string& id);

    // Only project, name, description and stateful are read from the request.
    Result<std::vector<SecurityGroup>> create_security_groups(
        const RequestContext& context, const std::vector<SecurityGroup>& requests);
    Result<SecurityGroup> update_security_group(const RequestContext& context,
                                                const std::string& id,
                                                const std::optional<std::string>& name,
                                                const std::optional<std::string>& description);
    Result<void> delete_security_group(const RequestContext& context, const std::string& id);
    Result<std::vector<SecurityGroupRule>> create_rules(
        const RequestContext& context, const std::vector<SecurityGroupRule>& requests);
    Result<void> delete_rule(const RequestContext& context, const std::string& id);

    // `table`: networks, subnets, ports or security_groups; the record must be the caller's.
    Result<void> set_tags(const RequestContext& context, const std::string& table,
                          const std::string& id, const std::vector<std::string>& tags);

    Result<NetworkQuotas> quotas(const std::string& project_id);
    Result<void> set_quotas(const std::string& project_id,
                            const std::map<std::string, int64_t>& limits);
    Result<void> reset_quotas(const std::string& project_id);
    static const std::map<std::string, int64_t>& default_quotas();

    // The server whose port has this address on this network; for the metadata service.
    Result<std::string> server_at(const std::string& network_id, const std::string& address);

    Result<std::vector<RequestedNetwork>> validate_networks(
        const RequestContext& context, std::vector<RequestedNetwork> requested, bool automatic,
        const std::vector<std::string>& security_groups) override;
    Result<std::vector<VifInfo>> allocate_for_instance(
        const RequestContext& context, const Instance& instance,
        const std::vector<RequestedNetwork>& requested) override;
    Result<void> deallocate_for_instance(const RequestContext& context,
                                         const Instance& instance) override;
    Result<VifInfo> allocate_port_for_instance(const RequestContext& context,
                                               const Instance& instance,
                                               const RequestedNetwork& requested) override;
    Result<void> deallocate_port_for_instance(const RequestContext& context,
                                              const Instance& instance,
                                              const std::string& port_id) override;
    Result<std::vector<VifInfo>> network_info(const std::string& instance_uuid) override;
    Result<void> rebind(const RequestContext& context, const Instance& instance,
                        const std::string& host) override;
    Result<void> unbind(const RequestContext& context, const Instance& instance) override;
    // A port has one binding here: the active one.
    Result<void> activate_bindings(const RequestContext& context, const Instance& instance,
                                   const std::string& host) override {
        return rebind(context, instance, host);
    }

    Result<NetworkSpec> node_network(const std::string& network_id) override;
    Result<PortSpec> node_port(const std::string& port_id) override;
    Result<std::vector<std::string>> security_group_addresses(const std::string& id) override;
    Result<void> port_plugged(const std::string& port_id, bool plugged) override;

private:
    // What a transaction touched; told to the listener afterwards.
    struct Changes {
        std::set<std::string> networks;
        std::set<std::string> ports;
        std::set<std::string> groups;
        void add(const Port& port);
    };

    NetworkService(Database& database, const Clock& clock, Random& random,
                   NetworkServiceOptions options)
        : database_(database), clock_(clock), random_(random), options_(std::move(options)) {}

    template <class Function>
    auto change(Function&& function) {
        Changes changes;
        auto result = database_.write([&](SqlSession& sql) { return function(sql, changes); });
        if (result.ok()) {
            notify(changes);
        }
        return result;
    }
    void notify(const Changes& changes);
    void stamp_new(NetworkRecordBase& record);
    void stamp_changed(NetworkRecordBase& record);
    std::string new_id() const;
    Result<void> check_quota(SqlSession& sql, const std::string& resource,
                             const std::string& project_id);

    // Lookups that apply tenancy; *_to_change also demands ownership.
    static Result<Network> visible_network(SqlSession& sql, const RequestContext& context,
                                           const std::string& id);
    static Result<Network> network_to_change(SqlSession& sql, const RequestContext& context,
                                             const std::string& id);
    static Result<Subnet> subnet_to_change(SqlSession& sql, const RequestContext& context,
                                           const std::string& id);
    static Result<Port> port_to_change(SqlSession& sql, const RequestContext& context,
                                       const std::string& id);
    static Result<SecurityGroup> group_to_change(SqlSession& sql, const RequestContext& context,
                                                 const std::string& id);

    Result<Subnet> create_subnet(SqlSession& sql, const RequestContext& context,
                                 const SubnetCreate& request);
    Result<Port> create_port(SqlSession& sql, const RequestContext& context,
                             const PortCreate& request);
    Result<void> apply_port_update(SqlSession& sql, const RequestContext& context,
                                   const Network& network, const PortUpdate& update, Port& port);
    Result<void> remove_port(SqlSession& sql, const Port& port, Changes& changes);

    Result<std::string> pick_mac(SqlSession& sql, const std::string& network_id,
                                 const std::optional<std::string>& wanted,
                                 const std::string& port_id);
    Result<std::vector<PortAddress>> allocate_addresses(
        SqlSession& sql, const Port& port,
        const std::optional<std::vector<FixedIpRequest>>& requests);
    Result<PortAddress> allocate_address(SqlSession& sql, const Port& port,
                                         const std::vector<Subnet>& subnets,
                                         const FixedIpRequest& request,
                                         const std::vector<PortAddress>& taken);
    Result<std::optional<PortAddress>> any_address(SqlSession& sql, const Port& port,
                                                   const Subnet& subnet,
                                                   const std::vector<PortAddress>& taken);

    Result<std::string> default_group(SqlSession& sql, const std::string& project_id);
    SecurityGroup make_default_group(const std::string& project_id);
    SecurityGroupRule make_rule(const SecurityGroup& group, bool ingress, int ip_version) const;
    Result<SecurityGroupRule> create_rule(SqlSession& sql, const RequestContext& context,
                                          const SecurityGroupRule& request);
    Result<std::vector<std::string>> group_ids_by_name(SqlSession& sql,
                                                       const std::string& project_id,
                                                       const std::vector<std::string>& names);

    Result<Port> bind_for_instance(SqlSession& sql, const RequestContext& context,
                                   const Instance& instance, const RequestedNetwork& request,
                                   const std::vector<std::string>& group_ids);
    Result<void> release_port(SqlSession& sql, Port port, Changes& changes);
    Result<std::vector<VifInfo>> vifs_of(SqlSession& sql, const std::string& device_id);
    std::vector<std::string> dns_servers_of(const Subnet& subnet) const;
    Result<std::optional<std::string>> host_address(SqlSession& sql, const Subnet& subnet);

    Database& database_;
    const Clock& clock_;
    Random& random_;
    const NetworkServiceOptions options_;
    NetworkListener* listener_ = nullptr;
};

// Errors with Neutron's exception names, shared by the parts of the service.
namespace network_errors {
Error network_not_found(const std::string& id);
Error subnet_not_found(const std::string& id);
Error port_not_found(const std::string& id);
Error security_group_not_found(const std::string& id);
Error invalid_input(const std::string& what);
Error not_allowed(const std::string& what);  // visible, but somebody else's
}  // namespace network_errors

}  // namespace kumoi::compute
