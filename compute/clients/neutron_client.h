// NeutronClient: Neutron's REST calls a compute node makes; records stay JSON. The caller decides
// in whose name: with a user's token what the user may do, Caller::as_service() for bindings and
// other people's records. Thread safe; blocks.
//
// Errors carry Nova's exception in `fault`, from Neutron's own error type where it tells more than
// the call: PortNotFound, NetworkNotFound, PortLimitExceeded, NoMoreFixedIps, FixedIpAlreadyInUse,
// SecurityGroupNotFound, PortBindingFailed, PortBindingActivationFailed,
// PortBindingDeletionFailed, PortUpdateFailed, UnableToQueryPorts.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "compute/clients/service_client.h"

namespace kumoi::clients {

class NeutronClient {
public:
    // service and clock must outlive this.
    NeutronClient(ServiceClient& service, const Clock& clock, int64_t extension_sync_ns)
        : service_(service), clock_(clock), extension_sync_ns_(extension_sync_ns) {}

    // "dns-integration", "binding-extended", ...; remembered for a while.
    Result<bool> has_extension(const Caller& caller, const std::string& alias);

    Result<Json::Array> networks(const Caller& caller, const QueryString& query);
    Result<Json::Array> subnets(const Caller& caller, const std::vector<std::string>& ids);
    Result<Json::Array> subnets_of(const Caller& caller, const std::string& network_id);
    // The network that Neutron makes for a project that has none.
    Result<std::string> auto_allocated_network(const Caller& caller, const std::string& project_id);
    Result<Json::Array> floating_ips(const Caller& caller,
                                     const std::vector<std::string>& port_ids);
    Result<Json::Array> security_groups(const Caller& caller, const std::string& project_id);

    Result<Json::Array> ports(const Caller& caller, const QueryString& query);
    Result<Json> port(const Caller& caller, const std::string& id);
    Result<Json> create_port(const Caller& caller, const Json& port);
    Result<Json> update_port(const Caller& caller, const std::string& id, const Json& changes);
    Result<void> delete_port(const Caller& caller, const std::string& id);  // absent is fine

    // A port's bindings to hosts (several while a server moves). nullopt: none to that host.
    Result<std::optional<Json>> binding(const Caller& caller, const std::string& port_id,
                                        const std::string& host);
    Result<Json> create_binding(const Caller& caller, const std::string& port_id,
                                const Json& binding);
    // Active already is fine.
    Result<void> activate_binding(const Caller& caller, const std::string& port_id,
                                  const std::string& host);
    Result<void> delete_binding(const Caller& caller, const std::string& port_id,
                                const std::string& host);  // absent is fine

private:
    Result<HttpReply> send(const Caller& caller, std::string method, std::string path,
                           std::optional<Json> body = {});
    Result<Json::Array> list(const Caller& caller, const std::string& resource,
                             const QueryString& query, const std::string& fault_class);
    Result<Json> send_port(const Caller& caller, const std::string& method, const std::string& path,
                           const Json& port, const std::string& fault_class);

    ServiceClient& service_;
    const Clock& clock_;
    const int64_t extension_sync_ns_;
    std::mutex mutex_;
    std::set<std::string> extensions_;
    std::optional<int64_t> extensions_read_ns_;
};

// Nova's exception for a refusal of Neutron; `otherwise` when its type says nothing special.
std::string neutron_fault(const HttpReply& reply, const std::string& otherwise);

}  // namespace kumoi::clients
