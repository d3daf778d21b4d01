// NeutronNetwork: compute::NetworkApi on Neutron, as nova-compute does it. A port is made in the
// user's name and bound to this host in ours; the result is Nova's VIF list, which the caller
// writes into the info cache. It waits for no events. Thread safe; blocks.
#pragma once

#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "compute/clients/neutron_client.h"
#include "compute/clients/vif_json.h"
#include "compute/manager/network_api.h"

namespace kumoi::clients {

// What Neutron shows as the owner of a server's ports.
std::string device_owner(const compute::Instance& instance);

class NeutronNetwork final : public compute::NetworkApi {
public:
    using Context = compute::RequestContext;
    using Instance = compute::Instance;
    using VifInfo = compute::VifInfo;
    using RequestedNetwork = compute::RequestedNetwork;

    // neutron must outlive this.
    NeutronNetwork(NeutronClient& neutron, std::string ovs_bridge)
        : neutron_(neutron), ovs_bridge_(std::move(ovs_bridge)) {}

    Result<std::vector<RequestedNetwork>> validate_networks(
        const Context& context, std::vector<RequestedNetwork> requested, bool automatic,
        const std::vector<std::string>& security_groups) override;
    Result<std::vector<VifInfo>> allocate_for_instance(
        const Context& context, const Instance& instance,
        const std::vector<RequestedNetwork>& requested) override;
    Result<void> deallocate_for_instance(const Context& context, const Instance& instance) override;
    // Attach and detach of one interface.
    Result<VifInfo> allocate_port_for_instance(const Context& context, const Instance& instance,
                                               const RequestedNetwork& requested) override;
    Result<void> deallocate_port_for_instance(const Context& context, const Instance& instance,
                                              const std::string& port_id) override;
    Result<std::vector<VifInfo>> network_info(const std::string& instance_uuid) override;

    // The server's VIFs as Neutron sees them now, in the order of instance.network_info, new ones
    // last. Which ports are the user's own is taken from there too.
    Result<std::vector<VifInfo>> refresh(const Context& context, const Instance& instance) override;

    // Binds all ports to `host` (resize, evacuation, unshelve), where they are not already.
    Result<void> rebind(const Context& context, const Instance& instance,
                        const std::string& host) override;
    // Takes the host from all ports and leaves them the server's (shelve offload).
    Result<void> unbind(const Context& context, const Instance& instance) override;

    // One more address from a subnet of the network, for a port of the server in it; one less. In
    // the user's name. NetworkNotFoundForInstance, FixedIpNotFoundForInstance.
    Result<void> add_fixed_ip(const Context& context, const Instance& instance,
                              const std::string& network_id);
    Result<void> remove_fixed_ip(const Context& context, const Instance& instance,
                                 const std::string& address);

    // Live migration. Marks the ports bound to `source` as moving to `destination`; empty: no more.
    Result<void> set_migrating_to(const Context& context, const Instance& instance,
                                  const std::string& source,
                                  const std::string& destination) override;
    // A binding to `host` for every port, not active yet. On error those it made are deleted.
    Result<std::vector<Json>> create_bindings(const Context& context, const Instance& instance,
                                              const std::string& host);
    // Activates what is bound to `host` and not active; a port without such a binding is left
    // alone.
    Result<void> activate_bindings(const Context& context, const Instance& instance,
                                   const std::string& host) override;
    Result<void> delete_bindings(const Context& context, const Instance& instance,
                                 const std::string& host) override;

private:
    // What one requested network became.
    struct Allocated {
        std::string port_id;
        bool created = false;  // by us
    };

    Result<std::vector<RequestedNetwork>> chosen_for(const Context& context,
                                                     const std::vector<RequestedNetwork>& asked);
    Result<Json::Array> networks_of(const Caller& user,
                                    const std::vector<RequestedNetwork>& requested,
                                    const std::vector<Json>& ports);
    Result<Json> usable_port(const Caller& user, const Instance& instance,
                             const std::string& port_id);
    Result<std::vector<std::string>> security_group_ids(const Caller& user,
                                                        const Instance& instance);
    Result<Json> make_port(const Caller& user, const Instance& instance,
                           const RequestedNetwork& requested, const Json& network,
                           const std::vector<std::string>& security_groups);
    Result<Json> bind_port(const Caller& user, const Instance& instance, const Json& port,
                           const Json& network);
    Result<void> allocate_ports(const Caller& user, const Instance& instance,
                                const std::vector<RequestedNetwork>& requested,
                                std::vector<Allocated>& allocated);
    void undo(const Caller& user, const std::vector<Allocated>& allocated);
    Result<void> release_port(const Caller& user, const std::string& port_id);
    Result<Json::Array> ports_of(const Caller& service, const Instance& instance);
    Result<NeutronRecords> records_of(const Caller& service, const Json::Array& ports);
    Result<std::vector<VifInfo>> build_vifs(const Caller& service, const Json::Array& ports,
                                            const std::vector<VifInfo>& known,
                                            const std::vector<Allocated>& allocated);

    // Is this port the user's own: because the cache says so, because we bound it, or because it is
    // older than the server?
    bool is_users_own(const Json& port, const Instance& instance) const;
    void remember_users_port(const std::string& port_id, bool bound);

    NeutronClient& neutron_;
    const std::string ovs_bridge_;
    mutable std::mutex mutex_;
    std::set<std::string> users_ports_;  // bound by this process and not given back
};

}  // namespace kumoi::clients
