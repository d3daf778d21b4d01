// Conductor: moves of servers that do not run meanwhile, in a cloud of several nodes: resize and
// cold migration by Nova's chain (prep_resize on the destination, which asks the source, ...), and
// evacuation of a host that is down.
#include "compute/conductor/conductor.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

MigrationRecord new_migration(const RequestContext& context, const Instance& instance,
                              const char* type, const char* status) {
    MigrationRecord migration;
    migration.instance_uuid = instance.uuid;
    migration.migration_type = type;
    migration.status = status;
    migration.source_compute = instance.host;
    migration.source_node = instance.node;
    migration.user_id = context.user_id;
    migration.project_id = context.project_id;
    return migration;
}

Error as_bad_request(Error refused) {
    refused.code = ErrorCode::InvalidArgument;  // as Nova answers: 400
    return refused;
}

}  // namespace

Result<void> Conductor::start_move(const RequestContext& context, const Instance& instance,
                                   const Flavor& flavor, ServerVerb verb,
                                   const std::optional<bool>& auto_disk_config,
                                   const std::optional<std::string>& host) {
    Instance wanted = instance;
    wanted.flavor = flavor;
    const auto group = server_groups_.group_of(instance.uuid);
    scheduler::RequestSpec spec = placement_.request_spec(wanted, group ? group->uuid : "");
    spec.requested_host = host.value_or("");
    if (verb == ServerVerb::Migrate || !options_.allow_resize_to_same_host) {
        spec.ignored_hosts.insert(instance.host);
    }
    MigrationRecord migration = new_migration(
        context, instance, verb == ServerVerb::Resize ? "resize" : "migration", "pre-migrating");
    migration.old_flavor = flavors_.number_of(instance.flavor.flavor_id);
    migration.new_flavor = flavors_.number_of(flavor.flavor_id);
    // The session is the lock under which quota, placement and the record change together.
    std::optional<Placement::Session> session(std::in_place, placement_);
    TRY(check_resize_quota(instance, flavor));
    const auto picked = session->pick(spec);
    if (!picked.ok()) {
        return as_bad_request(picked.error());
    }
    migration.dest_compute = picked->host;
    migration.dest_node = picked->node;
    const auto store = [&](SqlSession& sql) {
        session.reset();
        return migrations_.create(sql, migration);
    };
    const auto change = [&](Instance& changed) -> Result<void> {
        changed.progress = 0;
        changed.auto_disk_config = auto_disk_config.value_or(changed.auto_disk_config);
        return {};
    };
    const auto cast = [&](ComputeApi&) -> Result<void> {
        const Instance current = TRY(instances_.get(instance.uuid))->instance;
        auto sent = moves_->prep_resize(context, current, migration, flavor);
        if (!sent.ok()) {
            TRY(migrations_.set_status(instance.uuid, "error"));
        }
        return sent;
    };
    TRY(run_verb(context, instance.uuid,
                 VerbCall{verb, task_states::kResizePrep, cast, change, store}));
    return {};
}

Result<void> Conductor::end_move(const RequestContext& context, const std::string& uuid,
                                 ServerVerb verb) {
    const bool confirms = verb == ServerVerb::ConfirmResize;
    TRY(check_instance_state(TRY(instances_.get(uuid))->instance, verb));
    auto found = TRY(migrations_.find(uuid, "finished"));
    if (!found) {
        return Error::invalid("Instance has not been resized.")
            .with_fault("MigrationNotFoundByStatus");
    }
    MigrationRecord& migration = *found;
    migration.status = confirms ? "confirming" : "reverting";
    const auto cast = [&](ComputeApi&) -> Result<void> {
        const Instance instance = TRY(instances_.get(uuid))->instance;
        auto sent = confirms ? moves_->confirm_resize(context, instance, migration)
                             : moves_->revert_resize(context, instance, migration);
        if (!sent.ok()) {
            migration.status = "finished";
            TRY(migrations_.update(migration));
        }
        return sent;
    };
    const char* task = confirms ? task_states::kResizeConfirming : task_states::kResizeReverting;
    TRY(run_verb(context, uuid, VerbCall{verb, task, cast, {}, [&](SqlSession& sql) {
                                             return migrations_.update(sql, migration);
                                         }}));
    return {};
}

Result<void> Conductor::evacuate_server(const EvacuateServer& request) {
    const Instance instance = TRY(instances_.get(request.uuid))->instance;
    TRY(check_lock(request.context, instance));
    TRY(check_instance_state(instance, ServerVerb::Evacuate));
    const auto service = services_.find_service(instance.host, "nova-compute");
    if (service && service->up) {
        return Error::invalid("Compute service of {} is still in use.", instance.host)
            .with_hint(
                "Evacuation is for hosts that are down; make sure the host is really off, "
                "then force its service down. A host that is up is left by live migration.")
            .with_fault("ComputeServiceInUse");
    }
    if (request.host && !services_.find_node(*request.host)) {
        return Error::invalid("Compute host {} could not be found.", *request.host)
            .with_fault("ComputeHostNotFound");
    }
    if (request.host && *request.host == instance.host) {
        return Error::invalid("The target host can't be the same one.")
            .with_fault("InvalidRequest");
    }
    const auto group = server_groups_.group_of(instance.uuid);
    scheduler::RequestSpec spec = placement_.request_spec(instance, group ? group->uuid : "");
    spec.requested_host = request.host.value_or("");
    spec.ignored_hosts.insert(instance.host);
    MigrationRecord migration = new_migration(request.context, instance, "evacuation", "accepted");
    {
        Placement::Session session(placement_);
        const auto picked = session.pick(spec);
        if (!picked.ok()) {
            return as_bad_request(picked.error());
        }
        migration.dest_compute = picked->host;
        migration.dest_node = picked->node;
        TRY(instances_.update(
            request.uuid,
            [&](Instance& changed) -> Result<void> {
                TRY(check_instance_state(changed, ServerVerb::Evacuate));
                changed.task_state = task_states::kRebuilding;
                changed.task_arguments = {};
                return {};
            },
            [&](SqlSession& sql) -> Result<void> {
                TRY(actions_.start(sql, request.context, request.uuid, "evacuate"));
                return migrations_.create(sql, migration);
            }));
    }
    const Instance current = TRY(instances_.get(request.uuid))->instance;
    const auto sent =
        moves_ == nullptr
            ? Result<void>(Error::exhausted("No valid host was found.").with_fault("NoValidHost"))
            : moves_->evacuate(request, current, migration);
    if (!sent.ok()) {
        give_up_move(request.context, migration, ServerVerb::Evacuate, sent.error());
        return as_bad_request(sent.error());
    }
    return {};
}

}  // namespace kumoi::compute
