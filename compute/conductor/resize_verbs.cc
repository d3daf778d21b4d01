// Conductor: resize and cold migration. On a single node both stay on the server's host, where both
// sizes are held until the resize is confirmed or reverted; in a cloud of several nodes they go
// through Nova's chain of hosts (move_verbs.cc).
#include <algorithm>

#include "compute/conductor/conductor.h"
#include "compute/conductor/request_checks.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

// Nova answers 400 and not 503: the request asks for what this cloud does not have.
Error no_valid_host(std::string_view why) {
    return Error::invalid("No valid host was found. {}", why).with_fault("NoValidHost");
}

Migration migration_of(const Instance& instance, ServerVerb verb, const RequestContext& context,
                       const ComputeNodeRecord* node) {
    Migration migration;
    migration.instance_uuid = instance.uuid;
    migration.migration_type = verb == ServerVerb::Resize ? "resize" : "migration";
    migration.status = "pre-migrating";
    migration.source_compute = migration.dest_compute = instance.host;
    migration.source_node = migration.dest_node = instance.node;
    migration.dest_host = node == nullptr ? "" : node->node.host_ip;
    migration.user_id = context.user_id;
    migration.project_id = context.project_id;
    return migration;
}

}  // namespace

Result<Flavor> Conductor::flavor_for(const RequestContext& context,
                                     const std::string& flavor_id) const {
    const auto flavor = flavors_.get(flavor_id);
    if (!flavor.ok() || flavor->disabled ||
        !(context.is_admin || flavors_.is_visible(*flavor, context.project_id))) {
        return Error::invalid("Flavor {} could not be found.", flavor_id)
            .with_hint("openstack flavor list shows what there is.")
            .with_fault("FlavorNotFound");
    }
    return *flavor;
}

Result<void> Conductor::resize_server(const RequestContext& context, const std::string& uuid,
                                      const std::string& flavor_id,
                                      const std::optional<bool>& auto_disk_config) {
    const Instance instance = TRY(instances_.get(uuid))->instance;
    TRY(check_lock(context, instance));
    TRY(check_instance_state(instance, ServerVerb::Resize));
    const Flavor flavor = TRY(flavor_for(context, flavor_id));
    if (flavor.flavor_id == instance.flavor.flavor_id) {
        return Error::invalid("When resizing, instances must change flavor!")
            .with_fault("CannotResizeToSameFlavor");
    }
    if (flavor.root_gb == 0 && instance.flavor.root_gb != 0) {
        return Error::invalid(
                   "Server disk was unable to be resized because: Resize to zero disk flavor is "
                   "not "
                   "allowed.")
            .with_fault("CannotResizeDisk");
    }
    if (flavor.root_gb < instance.flavor.root_gb ||
        flavor.ephemeral_gb < instance.flavor.ephemeral_gb) {
        return Error::invalid(
                   "Server disk was unable to be resized because: disks cannot shrink. Flavor {} "
                   "has "
                   "{} GiB of root and {} GiB of ephemeral disk, the server has {} and {}.",
                   flavor.name, flavor.root_gb, flavor.ephemeral_gb, instance.flavor.root_gb,
                   instance.flavor.ephemeral_gb)
            .with_hint("Choose a flavor with disks at least as large.")
            .with_fault("CannotResizeDisk");
    }
    Instance wanted = instance;
    wanted.flavor = flavor;
    TRY(check_image(wanted));
    return start_resize(context, instance, flavor, ServerVerb::Resize, auto_disk_config);
}

Result<void> Conductor::migrate_server(const RequestContext& context, const std::string& uuid,
                                       const std::optional<std::string>& host) {
    const Instance instance = TRY(instances_.get(uuid))->instance;
    TRY(check_lock(context, instance));
    TRY(check_instance_state(instance, ServerVerb::Migrate));
    if (host && *host == instance.host) {
        return Error::invalid("Cannot migrate to the host where the server exists.")
            .with_fault("CannotMigrateToSameHost");
    }
    if (host && !services_.find_node(*host)) {
        return Error::invalid("Compute host {} could not be found.", *host)
            .with_hint("openstack hypervisor list shows the hosts.")
            .with_fault("ComputeHostNotFound");
    }
    if (moves_ != nullptr) {
        return start_move(context, instance, instance.flavor, ServerVerb::Migrate, std::nullopt,
                          host);
    }
    if (host) {
        return no_valid_host(
            fmt::format("{}: this service does not move disks between hosts.", *host));
    }
    return start_resize(context, instance, instance.flavor, ServerVerb::Migrate, std::nullopt);
}

Result<void> Conductor::check_resize_quota(const Instance& instance, const Flavor& flavor) const {
    const ProjectUsage usage = instances_.usage(instance.project_id);
    const auto limits = quotas_.limits(instance.project_id);
    std::vector<QuotaLine> over;
    for (const QuotaLine& line :
         {QuotaLine{"cores", flavor.vcpus - instance.flavor.vcpus, usage.cores, limits.at("cores")},
          QuotaLine{"ram", flavor.memory_mb - instance.flavor.memory_mb, usage.ram_mb,
                    limits.at("ram")}}) {
        if (line.limit >= 0 && line.per_server > 0 && line.used + line.per_server > line.limit) {
            over.push_back(line);
        }
    }
    return over.empty() ? Result<void>() : Result<void>(quota_exceeded(over, 1));
}

Result<void> Conductor::start_resize(const RequestContext& context, const Instance& instance,
                                     const Flavor& flavor, ServerVerb verb,
                                     const std::optional<bool>& auto_disk_config) {
    if (moves_ != nullptr) {
        return start_move(context, instance, flavor, verb, auto_disk_config, std::nullopt);
    }
    if (!options_.allow_resize_to_same_host) {
        return no_valid_host(fmt::format(
            "{}: allow_resize_to_same_host is off, and this service does not move disks between "
            "hosts.",
            instance.host));
    }
    Instance wanted = instance;
    wanted.flavor = flavor;
    scheduler::RequestSpec spec = placement_.request_spec(wanted, "");
    spec.requested_host = instance.host;
    // The session is the lock under which quota, placement and the record change together.
    Placement::Session session(placement_);
    TRY(check_resize_quota(instance, flavor));
    auto picked = session.pick(spec);
    if (!picked.ok()) {
        Error refused = std::move(picked).error();
        refused.code = ErrorCode::InvalidArgument;
        return refused;
    }
    const auto node = services_.find_node(instance.host);
    Migration migration = migration_of(instance, verb, context, node ? &*node : nullptr);
    migration.old_flavor = flavors_.number_of(instance.flavor.flavor_id);
    migration.new_flavor = flavors_.number_of(flavor.flavor_id);
    TRY(run_verb(
        context, instance.uuid,
        VerbCall{verb, task_states::kResizePrep,
                 [&](ComputeApi& api) { return api.resize_instance(context, instance.uuid); },
                 [&](Instance& changed) -> Result<void> {
                     changed.new_flavor = flavor;
                     changed.progress = 0;
                     changed.auto_disk_config = auto_disk_config.value_or(changed.auto_disk_config);
                     return {};
                 },
                 [&](SqlSession& sql) { return migrations_.create(sql, migration); }}));
    return {};
}

Result<void> Conductor::confirm_resize(const RequestContext& context, const std::string& uuid) {
    if (moves_ != nullptr) {
        return end_move(context, uuid, ServerVerb::ConfirmResize);
    }
    TRY(run_verb(context, uuid,
                 VerbCall{ServerVerb::ConfirmResize,
                          task_states::kResizeConfirming,
                          [&](ComputeApi& api) { return api.confirm_resize(context, uuid); },
                          {},
                          [&](SqlSession& sql) {
                              return migrations_.set_status(sql, uuid, "confirming");
                          }}));
    return {};
}

Result<void> Conductor::revert_resize(const RequestContext& context, const std::string& uuid) {
    if (moves_ != nullptr) {
        return end_move(context, uuid, ServerVerb::RevertResize);
    }
    TRY(run_verb(
        context, uuid,
        VerbCall{ServerVerb::RevertResize,
                 task_states::kResizeReverting,
                 [&](ComputeApi& api) { return api.revert_resize(context, uuid); },
                 {},
                 [&](SqlSession& sql) { return migrations_.set_status(sql, uuid, "reverting"); }}));
    return {};
}

}  // namespace kumoi::compute
