// NetworkApi: what the manager asks of the network service (Neutron's part), and VifDriver: what it
// asks of this host. Standalone: compute/network implements both. Any thread; may block.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "compute/manager/conductor_api.h"
#include "compute/objects.h"

namespace kumoi::compute {

class NetworkApi {
public:
    virtual ~NetworkApi() = default;
    // Checks a create request before anything exists (Nova's validate_networks): each network is
    // there for this project, each port free, each security group known; returns what to allocate.
    // `automatic` (with nothing requested): picks the project's only network; several are a
    // Conflict (NetworkAmbiguous); none gives an empty list. Errors: InvalidArgument, NotFound,
    // Conflict.
    virtual Result<std::vector<RequestedNetwork>> validate_networks(
        const RequestContext& context, std::vector<RequestedNetwork> requested, bool automatic,
        const std::vector<std::string>& security_groups) {
        (void)context, (void)automatic, (void)security_groups;
        return requested;
    }
    // Creates or takes over one port per requested network, bound to instance.host, with addresses
    // and the server's security groups. Calling it again for the same server returns what is there.
    // On error nothing is left behind.
    virtual Result<std::vector<VifInfo>> allocate_for_instance(
        const RequestContext& context, const Instance& instance,
        const std::vector<RequestedNetwork>& requested) = 0;
    // Deletes the ports Nova made, unbinds those the user brought. Absent ports are fine.
    virtual Result<void> deallocate_for_instance(const RequestContext& context,
                                                 const Instance& instance) = 0;
    // One more port for a server that exists, as allocate_for_instance makes them.
    virtual Result<VifInfo> allocate_port_for_instance(const RequestContext& context,
                                                       const Instance& instance,
                                                       const RequestedNetwork& requested) = 0;
    // The opposite: Nova's own port is deleted, a user's is unbound. Absent is fine.
    virtual Result<void> deallocate_port_for_instance(const RequestContext& context,
                                                      const Instance& instance,
                                                      const std::string& port_id) = 0;
    virtual Result<std::vector<VifInfo>> network_info(const std::string& instance_uuid) = 0;
    // The same for a server at hand: its order of VIFs and what is noted about them (whose ports
    // they are) stay.
    virtual Result<std::vector<VifInfo>> refresh(const RequestContext& context,
                                                 const Instance& instance) {
        (void)context;
        return network_info(instance.uuid);
    }
    // Binds all ports of the server to this host, where they are not (unshelve, resize,
    // evacuation).
    virtual Result<void> rebind(const RequestContext& context, const Instance& instance,
                                const std::string& host) {
        (void)context, (void)instance, (void)host;
        return {};
    }
    // Takes the host from all ports, which stay the server's (shelve offload).
    virtual Result<void> unbind(const RequestContext& context, const Instance& instance) {
        (void)context, (void)instance;
        return {};
    }
    // Live migration. Says at the ports bound to `source` (empty: at all) that they are moving to
    // `destination` (empty: no more).
    virtual Result<void> set_migrating_to(const RequestContext& context, const Instance& instance,
                                          const std::string& source,
                                          const std::string& destination) {
        (void)context, (void)instance, (void)source, (void)destination;
        return {};
    }
    // A port may have a binding to each host while its server moves; one is active. Absent and
    // active already are fine.
    virtual Result<void> activate_bindings(const RequestContext& context, const Instance& instance,
                                           const std::string& host) {
        (void)context, (void)instance, (void)host;
        return {};
    }
    virtual Result<void> delete_bindings(const RequestContext& context, const Instance& instance,
                                         const std::string& host) {
        (void)context, (void)instance, (void)host;
        return {};
    }
};

class VifDriver {
public:
    virtual ~VifDriver() = default;
    // Makes (or adopts) the TAP device of this VIF, joined to its network with DHCP, filtering and
    // anti-spoofing in force; idempotent. Returns the TAP's name.
    virtual Result<std::string> plug(const Instance& instance, const VifInfo& vif) = 0;
    virtual Result<void> unplug(const Instance& instance,
                                const VifInfo& vif) = 0;  // absent is fine
    // At start: everything on this host that belongs to none of these is removed, the rest
    // repaired.
    virtual Result<void> reconcile(const std::vector<Instance>& instances) = 0;
};

}  // namespace kumoi::compute
