// Conductor: shelving. An offloaded server is on no host; unshelving places it like a new one.
#include <fmt/ranges.h>

#include "compute/conductor/conductor.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

Error target_needs_offloaded(const Instance& instance) {
    return Error::conflict(
               "Specifying an availability zone or a host when unshelving server \"{}\" with "
               "status "
               "\"{}\" is not supported. The server status must be SHELVED_OFFLOADED.",
               instance.uuid,
               instance.vm_state == vm_states::kShelved ? "SHELVED" : instance.vm_state)
        .with_fault("UnshelveInstanceInvalidState");
}

}  // namespace

Result<void> Conductor::shelve_server(const RequestContext& context, const std::string& uuid) {
    // The disk is the owner's, also when an administrator shelves the server.
    const Instance instance = TRY(instances_.get(uuid))->instance;
    RequestContext owner = context;
    owner.project_id = instance.project_id;
    TRY(run_snapshot(owner, uuid, instance.display_name + "-shelved", {{"image_type", "snapshot"}},
                     VerbCall{ServerVerb::Shelve, task_states::kShelving,
                              [&](ComputeApi& api) { return api.shelve_instance(owner, uuid); }}));
    return {};
}

Result<void> Conductor::shelve_offload_server(const RequestContext& context,
                                              const std::string& uuid) {
    return run_verb(context, uuid, ServerVerb::ShelveOffload, task_states::kShelvingOffloading,
                    [&](ComputeApi& api) { return api.shelve_offload_instance(context, uuid); });
}

Result<void> Conductor::unshelve_server(const RequestContext& context, const std::string& uuid,
                                        const UnshelveTarget& target) {
    const Instance shelved = TRY(instances_.get(uuid))->instance;
    TRY(check_lock(context, shelved));
    TRY(check_instance_state(shelved, ServerVerb::Unshelve));
    if (shelved.vm_state == vm_states::kShelved) {  // never left its host: it is only turned on
        if (target.availability_zone || target.host) {
            return target_needs_offloaded(shelved);
        }
        return run_verb(context, uuid, ServerVerb::Unshelve, task_states::kPoweringOn,
                        [&](ComputeApi& api) { return api.start_instance(context, uuid); });
    }
    Instance wanted = shelved;
    if (target.availability_zone) {
        wanted.pinned_availability_zone = *target.availability_zone;
        const auto& zone = *target.availability_zone;
        if (zone && !aggregates_.zones().contains(*zone)) {
            return Error::invalid("The requested availability zone is not available")
                .with_hint(fmt::format("{} was requested; there are: {}.", *zone,
                                       fmt::join(aggregates_.zones(), ", ")))
                .with_fault("InvalidRequest");
        }
    }
    if (target.host && !services_.find_node(*target.host)) {
        return Error::invalid("Compute host {} could not be found.", *target.host)
            .with_hint("openstack hypervisor list shows the hosts.")
            .with_fault("ComputeHostNotFound");
    }
    const auto group = server_groups_.group_of(uuid);
    scheduler::RequestSpec spec = placement_.request_spec(wanted, group ? group->uuid : "");
    spec.requested_host = target.host.value_or("");
    Placement::Session session(placement_);
    auto picked = session.pick(spec);
    if (!picked.ok()) {
        Error refused = std::move(picked).error();
        refused.code = ErrorCode::InvalidArgument;  // as Nova answers: 400
        return refused;
    }
    TRY(run_verb(context, uuid,
                 VerbCall{ServerVerb::Unshelve, task_states::kUnshelving,
                          [&](ComputeApi& api) { return api.unshelve_instance(context, uuid); },
                          [&](Instance& instance) -> Result<void> {
                              instance.host = picked->host;
                              instance.node = picked->node;
                              instance.availability_zone = picked->availability_zone;
                              instance.pinned_availability_zone = wanted.pinned_availability_zone;
                              return {};
                          }}));
    return {};
}

}  // namespace kumoi::compute
