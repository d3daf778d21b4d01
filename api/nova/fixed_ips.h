// FixedIps: addresses added to and taken from the ports of a server (Nova's
// add_fixed_ip_to_instance and remove_fixed_ip_from_instance). The port is changed in Neutron in
// the user's name; the server's network is read again on its own queue. Guests learn of it by DHCP:
// as with libvirt, nothing is injected. Thread safe; blocks.
#pragma once

#include <string>

#include "api/nova/nova_conductor.h"
#include "compute/manager/compute_api.h"

namespace kumoi::nova {

// Neutron's part.
class PortAddresses {
public:
    virtual ~PortAddresses() = default;
    // On the first port that has room in a subnet of the network. NetworkNotFoundForInstance.
    virtual Result<void> add_fixed_ip(const compute::RequestContext& context,
                                      const compute::Instance& instance,
                                      const std::string& network_id) = 0;
    // FixedIpNotFoundForInstance.
    virtual Result<void> remove_fixed_ip(const compute::RequestContext& context,
                                         const compute::Instance& instance,
                                         const std::string& address) = 0;
};

class FixedIps {
public:
    struct Borders {
        PortAddresses& ports;
        NovaConductor& conductor;
        compute::ComputeApi& manager;
        const Clock& clock;
    };
    explicit FixedIps(const Borders& borders) : borders_(borders) {}

    // Of a server that was adopted. A failure is recorded as its fault.
    Result<void> add(const compute::RequestContext& context, const std::string& uuid,
                     const std::string& network_id);
    Result<void> remove(const compute::RequestContext& context, const std::string& uuid,
                        const std::string& address);
    // inject_network_info: what Neutron says now.
    Result<void> refresh(const compute::RequestContext& context, const std::string& uuid);

private:
    Result<void> change(const compute::RequestContext& context, const std::string& uuid,
                        const std::string& event,
                        const std::function<Result<void>(const compute::Instance&)>& work);

    const Borders borders_;
};

}  // namespace kumoi::nova
