// VifRecords: a network service whose ports are recorded with nova-conductor as VirtualInterface
// objects, as nova-compute does: from there nova-api knows their tags, and older calls their
// addresses. Everything else is the service's own (compute/clients). Thread safe; blocks.
#pragma once

#include <string>
#include <vector>

#include "api/nova/object_client.h"
#include "base/clock.h"
#include "base/random.h"
#include "compute/manager/network_api.h"

namespace kumoi::nova {

class VifRecords final : public compute::NetworkApi {
public:
    using Context = compute::RequestContext;
    using Instance = compute::Instance;
    using RequestedNetwork = compute::RequestedNetwork;
    using VifInfo = compute::VifInfo;

    VifRecords(compute::NetworkApi& network, ObjectClient& objects, const Clock& clock,
               Random& random)
        : network_(network), objects_(objects), clock_(clock), random_(random) {}

    Result<std::vector<RequestedNetwork>> validate_networks(
        const Context& context, std::vector<RequestedNetwork> requested, bool automatic,
        const std::vector<std::string>& security_groups) override;
    Result<std::vector<VifInfo>> allocate_for_instance(
        const Context& context, const Instance& instance,
        const std::vector<RequestedNetwork>& requested) override;
    Result<void> deallocate_for_instance(const Context& context, const Instance& instance) override;
    Result<VifInfo> allocate_port_for_instance(const Context& context, const Instance& instance,
                                               const RequestedNetwork& requested) override;
    Result<void> deallocate_port_for_instance(const Context& context, const Instance& instance,
                                              const std::string& port_id) override;
    Result<std::vector<VifInfo>> network_info(const std::string& instance_uuid) override;
    Result<std::vector<VifInfo>> refresh(const Context& context, const Instance& instance) override;
    Result<void> rebind(const Context& context, const Instance& instance,
                        const std::string& host) override;
    Result<void> unbind(const Context& context, const Instance& instance) override;
    Result<void> set_migrating_to(const Context& context, const Instance& instance,
                                  const std::string& source,
                                  const std::string& destination) override;
    Result<void> activate_bindings(const Context& context, const Instance& instance,
                                   const std::string& host) override;
    Result<void> delete_bindings(const Context& context, const Instance& instance,
                                 const std::string& host) override;

private:
    Result<void> record(const Context& context, const Instance& instance, const VifInfo& vif);
    Result<void> forget(const Context& context, const std::string& port_id);
    Json wire(const Context& context);

    compute::NetworkApi& network_;
    ObjectClient& objects_;
    const Clock& clock_;
    Random& random_;
};

}  // namespace kumoi::nova
