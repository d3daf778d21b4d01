#include "compute/conductor/conductor.h"

#include <algorithm>

#include "base/log.h"
#include "compute/conductor/schema.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

Error unexpected_task_state(const Instance& instance) {
    const bool deleting = instance.task_state == task_states::kDeleting;
    return Error::conflict("Server {} is in task_state {} now, which the update did not expect.",
                           instance.uuid, instance.task_state.value_or("null"))
        .with_fault(deleting ? "UnexpectedDeletingTaskStateError" : "UnexpectedTaskStateError");
}

bool is_empty(const InstanceUpdate& update) {
    return !update.vm_state && !update.task_state && !update.power_state && !update.host &&
           !update.node && !update.launched_ns && !update.terminated_ns && !update.progress &&
           !update.network_info && !update.system_metadata && !update.flavor &&
           !update.old_flavor && !update.new_flavor && !update.expected_task_state;
}

// Progress of a task that nothing depends on after a power cut: the guest is gone then anyway, and
// the node starts over from its journal.
bool is_progress_only(const InstanceUpdate& update, const Instance& instance) {
    const auto same = [](const auto& wanted, const auto& now) { return !wanted || *wanted == now; };
    const bool no_ports =
        !update.network_info || (update.network_info->empty() && instance.network_info.empty());
    return same(update.vm_state, instance.vm_state) && same(update.host, instance.host) &&
           same(update.node, instance.node) && same(update.launched_ns, instance.launched_ns) &&
           same(update.terminated_ns, instance.terminated_ns) &&
           same(update.system_metadata, instance.system_metadata) && !update.flavor &&
           !update.old_flavor && !update.new_flavor && no_ports;
}

Result<void> apply_update(const InstanceUpdate& update, Instance& instance) {
    if (update.expected_task_state) {
        const auto& expected = *update.expected_task_state;
        if (std::find(expected.begin(), expected.end(), instance.task_state) == expected.end()) {
            return unexpected_task_state(instance);
        }
    }
    const auto set = [](auto& field, const auto& value) {
        if (value) {
            field = *value;
        }
    };
    set(instance.vm_state, update.vm_state);
    set(instance.task_state, update.task_state);
    set(instance.power_state, update.power_state);
    set(instance.host, update.host);
    set(instance.node, update.node);
    set(instance.launched_ns, update.launched_ns);
    set(instance.terminated_ns, update.terminated_ns);
    set(instance.progress, update.progress);
    set(instance.network_info, update.network_info);
    set(instance.system_metadata, update.system_metadata);
    set(instance.flavor, update.flavor);
    set(instance.old_flavor, update.old_flavor);
    set(instance.new_flavor, update.new_flavor);
    if (!instance.task_state) {
        instance.task_arguments = {};
    }
    if (instance.host.empty()) {
        instance.availability_zone.clear();
    }
    return {};
}

}  // namespace

Result<std::unique_ptr<Conductor>> Conductor::create(const ConductorOptions& options,
                                                     ConductorDependencies dependencies) {
    auto filters = options.enabled_filters.empty()
                       ? Result(scheduler::FilterScheduler::default_filters())
                       : scheduler::FilterScheduler::filters_by_name(options.enabled_filters);
    scheduler::FilterScheduler scheduler(
        TRY(std::move(filters)), scheduler::FilterScheduler::default_weighers(options.weighers));
    auto conductor =
        std::unique_ptr<Conductor>(new Conductor(options, dependencies, std::move(scheduler)));
    TRY(dependencies.database.migrate("conductor", conductor_schema()));
    TRY(conductor->load());
    return conductor;
}

Conductor::Conductor(const ConductorOptions& options, ConductorDependencies dependencies,
                     scheduler::FilterScheduler scheduler)
    : options_(options),
      database_(dependencies.database),
      clock_(dependencies.clock),
      random_(dependencies.random),
      images_(dependencies.images),
      networks_(dependencies.networks),
      instances_(database_, clock_),
      actions_(database_, clock_),
      flavors_(database_),
      keypairs_(database_, clock_),
      quotas_(database_),
      services_(database_, clock_, random_, options.service_down_time_s),
      server_groups_(database_),
      aggregates_(database_, clock_),
      migrations_(database_, clock_, random_),
      placement_(std::move(scheduler), services_, instances_, aggregates_, server_groups_,
                 migrations_) {}

Result<void> Conductor::load() {
    TRY(instances_.load());
    TRY(flavors_.load());
    TRY(quotas_.load());
    TRY(services_.load());
    TRY(server_groups_.load());
    TRY(aggregates_.load());
    TRY(services_.heartbeat(options_.controller_host, "nova-scheduler"));
    TRY(services_.heartbeat(options_.controller_host, "nova-conductor"));
    const std::lock_guard lock(builds_mutex_);
    for (const InstancePtr& stored : instances_.all()) {
        const Instance& instance = stored->instance;
        if (instance.task_state || instance.vm_state == vm_states::kBuilding) {
            unfinished_.insert(instance.uuid);
        }
    }
    return {};
}

std::vector<ServiceRecord> Conductor::all_services() const {
    std::vector<ServiceRecord> result = services_.services();
    for (ServiceRecord& service : result) {
        if (service.binary != "nova-compute") {
            service.last_seen_ns = clock_.wall_ns();
            service.up = true;
            service.down_reason.clear();
        }
    }
    return result;
}

std::string Conductor::zone_of(const ServiceRecord& service) const {
    return service.binary == "nova-compute" ? aggregates_.zone_of(service.host) : kInternalZone;
}

Result<void> Conductor::remove_service(const std::string& uuid_or_id) {
    const auto service = services_.find_service(uuid_or_id);
    if (!service) {
        return Error::not_found("Service {} could not be found.", uuid_or_id)
            .with_fault("ServiceNotFound");
    }
    const size_t servers = instances_.of_host(service->host).size();
    if (service->binary == "nova-compute" && servers > 0) {
        return Error::conflict(
                   "Unable to delete compute service that is hosting instances. Migrate or delete "
                   "the instances first.")
            .with_hint(fmt::format("{} servers are on {}.", servers, service->host));
    }
    TRY(services_.remove(service->uuid));
    aggregates_.forget_host(service->host);
    return {};
}

std::string Conductor::host_status(const std::string& host) const {
    if (host.empty()) {
        return "";
    }
    const auto service = services_.find_service(host, "nova-compute");
    if (!service) {
        return "UNKNOWN";
    }
    if (service->forced_down) {
        return "DOWN";
    }
    if (service->disabled) {
        return "MAINTENANCE";
    }
    return service->up ? "UP" : "UNKNOWN";
}

Result<Instance> Conductor::instance_get(const std::string& uuid) {
    return TRY(instances_.get(uuid))->instance;
}

Result<std::vector<Instance>> Conductor::instances_by_host(const std::string& host) {
    std::vector<Instance> result;
    for (const InstancePtr& stored : instances_.of_host(host)) {
        result.push_back(stored->instance);
    }
    return result;
}

Result<void> Conductor::instance_save(const std::string& uuid, const InstanceUpdate& update) {
    note_touched(uuid);
    if (is_empty(update)) {  // only says that a node works on it
        TRY(instances_.get(uuid));
        return {};
    }
    const InstancePtr before = TRY(instances_.get(uuid));
    const Durability durability =
        is_progress_only(update, before->instance) ? Durability::Process : Durability::PowerCut;
    bool build_ended = false;
    TRY(instances_.update(
        uuid,
        [&](Instance& instance) -> Result<void> {
            const bool was_building = instance.vm_state == vm_states::kBuilding;
            const std::string host = instance.host;
            TRY(apply_update(update, instance));
            if (instance.host != host && !instance.host.empty()) {
                instance.availability_zone = aggregates_.zone_of(instance.host);
            }
            build_ended = was_building && instance.vm_state != vm_states::kBuilding;
            return {};
        },
        [&](SqlSession& sql) -> Result<void> {
            if (build_ended) {
                TRY(sql.run("DELETE FROM build_requests WHERE instance_uuid = ?", uuid));
            }
            return {};
        },
        durability));
    if (build_ended) {
        const std::lock_guard lock(builds_mutex_);
        builds_.erase(uuid);
    }
    return {};
}

Result<void> Conductor::instance_destroy(const std::string& uuid) {
    note_touched(uuid);
    TRY(instances_.destroy(uuid));
    server_groups_.left(uuid);
    const std::lock_guard lock(builds_mutex_);
    builds_.erase(uuid);
    return {};
}

Result<void> Conductor::fault_create(const std::string& uuid, const Fault& fault) {
    note_touched(uuid);
    TRY(instances_.update(uuid, [&](Instance& instance) -> Result<void> {
        instance.fault = fault;
        if (instance.fault->created_ns == 0) {
            instance.fault->created_ns = clock_.wall_ns();
        }
        return {};
    }));
    return {};
}

Result<void> Conductor::action_event_start(const RequestContext& context, const std::string& uuid,
                                           const std::string& event, const std::string& host) {
    note_touched(uuid);
    return actions_.event_start(context, uuid, event, host);
}

Result<void> Conductor::action_event_finish(const RequestContext& context, const std::string& uuid,
                                            const std::string& event,
                                            const std::optional<Error>& failure) {
    return actions_.event_finish(context, uuid, event, failure);
}

Result<void> Conductor::migration_save(const std::string& uuid, const std::string& status) {
    return migrations_.set_status(uuid, status);
}

Result<void> Conductor::service_heartbeat(const std::string& host) {
    return services_.heartbeat(host, "nova-compute");
}

Result<void> Conductor::compute_node_update(const ComputeNode& node) {
    return services_.update_node(node);
}

}  // namespace kumoi::compute
