// Conductor: network cards of servers that exist. As in Nova these verbs have no task_state: they
// are refused while another task runs, and do not keep others away.
#include <algorithm>

#include "compute/conductor/conductor.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

Result<VifInfo> Conductor::attach_interface(const RequestContext& context, const std::string& uuid,
                                            const RequestedNetwork& requested) {
    ComputeApi* api = nullptr;
    TRY(instances_.update(
        uuid,
        [&](Instance& instance) -> Result<void> {
            TRY(check_lock(context, instance));
            TRY(check_instance_state(instance, ServerVerb::AttachInterface));
            api = TRY(host_of(instance));
            return {};
        },
        [&](SqlSession& sql) {
            return actions_.start(sql, context, uuid, to_string(ServerVerb::AttachInterface));
        }));
    return api->attach_interface({context, uuid, requested});
}

// That it was asked for is recorded with the interface: a restart goes on with it.
Result<void> Conductor::detach_interface(const RequestContext& context, const std::string& uuid,
                                         const std::string& port_id) {
    ComputeApi* api = nullptr;
    const auto set_detaching = [&](Instance& instance, bool detaching) -> Result<void> {
        const auto vif = std::ranges::find(instance.network_info, port_id, &VifInfo::port_id);
        if (vif == instance.network_info.end()) {
            return Error::not_found("Port id {} could not be found.", port_id)
                .with_hint(fmt::format("Server {} has {} interfaces, none with that port.", uuid,
                                       instance.network_info.size()))
                .with_fault("PortNotFound");
        }
        vif->detaching = detaching;
        return {};
    };
    TRY(instances_.update(
        uuid,
        [&](Instance& instance) -> Result<void> {
            TRY(check_lock(context, instance));
            TRY(check_instance_state(instance, ServerVerb::DetachInterface));
            api = TRY(host_of(instance));
            return set_detaching(instance, true);
        },
        [&](SqlSession& sql) {
            return actions_.start(sql, context, uuid, to_string(ServerVerb::DetachInterface));
        }));
    const auto outcome = api->detach_interface(context, uuid, port_id);
    if (outcome.ok()) {
        return {};
    }
    TRY(instances_.update(uuid,
                          [&](Instance& instance) { return set_detaching(instance, false); }));
    TRY(actions_.fail(context, uuid, event_of(ServerVerb::DetachInterface), outcome.error()));
    return outcome.error();
}

}  // namespace kumoi::compute
