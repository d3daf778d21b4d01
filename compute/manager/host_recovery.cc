#include "compute/manager/host_recovery.h"

#include <algorithm>

#include "base/file.h"
#include "base/log.h"
#include "compute/manager/host_tasks.h"
#include "compute/manager/interface_task.h"
#include "compute/manager/live_migration_recovery.h"
#include "compute/manager/live_migration_tasks.h"
#include "compute/manager/move_records.h"
#include "compute/manager/move_recovery.h"
#include "compute/manager/nova_rules.h"
#include "compute/manager/power_sync.h"
#include "compute/manager/power_tasks.h"
#include "compute/manager/spawn_task.h"
#include "compute/manager/task_continuation.h"
#include "compute/manager/terminate_task.h"
#include "compute/manager/unsettled.h"
#include "compute/manager/volume_recovery.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

bool is_building(const Instance& instance) {
    return instance.vm_state == vm_states::kBuilding ||
           instance.task_state == task_states::kNetworking ||
           instance.task_state == task_states::kBlockDeviceMapping ||
           (instance.task_state == task_states::kSpawning &&
            instance.vm_state != vm_states::kShelvedOffloaded);
}

Error cut_short() {
    return Error::unavailable("The node was restarted while it built this server");
}

Result<void> finish_build(NodeServices& services, Instance instance) {
    instance.network_info = TRY(plug_all(services, instance));
    return save_active(services, instance);
}

Result<void> remove_from_here(NodeServices& services, const Instance& instance) {
    TRY(services.driver.destroy(instance));
    services.tracker.release(instance.uuid);
    return unplug_all(services, instance);
}

// Forward when the guest had been started, else back.
void continue_build(NodeServices& services, const Operation& operation,
                    const std::set<std::string>& steps) {
    resume_verb(services, verbs::kBuild, operation, [&](const Operation& resumed) -> Result<void> {
        auto instance = services.conductor.instance_get(resumed.uuid);
        Instance traces;
        traces.uuid = resumed.uuid;
        if (!instance.ok()) {
            const Error gone = instance.error();
            SpawnTask::rollback(services, resumed, traces, gone);
            return gone;
        }
        const bool recorded = instance->vm_state == vm_states::kActive &&
                              instance->task_state != task_states::kSpawning &&
                              instance->task_state != task_states::kDeleting &&
                              instance->task_state != task_states::kScheduling;
        if (recorded) {
            return {};  // only the end was not; what it does now is another operation
        }
        if (!instance->host.empty() && instance->host != services.options.host) {
            return remove_from_here(services, *instance);  // another host builds it
        }
        const bool rescheduled = instance->task_state == task_states::kScheduling &&
                                 (services.tasks == nullptr || steps.contains("handed over"));
        const bool handed_over =
            steps.contains("rollback") && (rescheduled || instance->vm_state == vm_states::kError);
        if (instance->task_state == task_states::kDeleting || handed_over) {
            const Error taken = Error::conflict("The server is another operation's")
                                    .with_fault("UnexpectedTaskStateError");
            SpawnTask::rollback(services, resumed, *instance, taken);
            return handed_over ? cut_short() : taken;
        }
        if (steps.contains("spawned") && !steps.contains("rollback") &&
            power_state_of(services.driver, *instance) == power_states::kRunning) {
            if (finish_build(services, *instance).ok()) {
                return {};
            }
        }
        SpawnTask::rollback(services, resumed, *instance, cut_short());
        return cut_short();
    });
}

std::optional<TaskContinuation> next_task(const NodeServices& services, const Instance& instance,
                                          std::string_view verb) {
    return services.tasks != nullptr ? nova_continuation_of(instance, verb)
                                     : continuation_of(instance, verb);
}

void continue_operation(NodeServices& services, const OpenOperation& open) {
    if (services.moves != nullptr && is_move_verb(open.verb)) {
        continue_move(services, open);
        return;
    }
    if (services.live != nullptr && is_live_migration_verb(open.verb)) {
        continue_live_migration(services, open);
        return;
    }
    const Operation operation{open.context, open.instance_uuid, open.id};
    services.conductor.recall(open.instance_uuid, arguments_from(open.steps));
    if (open.verb == verbs::kBuild.verb) {
        continue_build(services, operation, {open.steps.begin(), open.steps.end()});
        return;
    }
    if (open.verb == verbs::kTerminate.verb) {
        resume_verb(services, verbs::kTerminate, operation, [&services](const Operation& resumed) {
            return services.live != nullptr ? terminate_where_it_is(services, resumed, false)
                                            : TerminateTask(services, resumed).execute();
        });
        return;
    }
    if (open.verb == verbs::kAttachInterface.verb) {
        resume_verb(services, verbs::kAttachInterface, operation, [&](const Operation& resumed) {
            return AttachInterfaceTask(services, resumed)
                .finish_after_restart({open.steps.begin(), open.steps.end()});
        });
        return;
    }
    if (open.verb == verbs::kDetachInterface.verb) {
        resume_verb(services, verbs::kDetachInterface, operation, [&](const Operation& resumed) {
            return finish_detaches(services, resumed, {open.steps.begin(), open.steps.end()});
        });
        return;
    }
    if (continue_volume_operation(services, operation, open)) {
        return;
    }
    const auto instance = services.conductor.instance_get(open.instance_uuid);
    std::optional<TaskContinuation> continuation;
    if (instance.ok()) {
        continuation = next_task(services, *instance, open.verb);
    }
    // Another task_state than the verb's own: its outcome was recorded, only the end was not.
    const bool unfinished =
        continuation && (continuation->info.verb == open.verb || continuation->info.verb.empty());
    const VerbInfo info = verb_info(open.verb);
    resume_verb(services, info, operation, [&](const Operation& resumed) -> Result<void> {
        return unfinished ? continuation->task(services, resumed) : Result<void>();
    });
}

void continue_task(NodeServices& services, const Instance& instance) {
    if (services.moves != nullptr && is_moving(instance)) {
        settle_move(services, instance);
        return;
    }
    if (services.live != nullptr && is_live_migrating(instance)) {
        settle_live_migration(services, instance);
        return;
    }
    const auto continuation = next_task(services, instance, "");
    if (continuation) {
        // Nobody's request any more; images and ports are still those of the server's owner.
        const RequestContext owner{"", instance.user_id, instance.project_id, false};
        run_verb(
            services, continuation->info, owner, instance.uuid,
            [&](const Operation& operation) { return continuation->task(services, operation); });
    }
}

bool detaches(const Instance& instance) {
    return std::ranges::any_of(instance.network_info, &VifInfo::detaching);
}

}  // namespace

void settle_operation(NodeServices& services, const OpenOperation& open) {
    continue_operation(services, open);
    const auto synced = sync_power_state(services, open.instance_uuid);
    if (!synced.ok() && !is_taken_over(synced.error())) {
        log_warn("compute", "power state was not compared",
                 {{"server", open.instance_uuid}, {"why", synced.error().text()}});
    }
}

Result<void> HostRecovery::execute() {
    if (services_.tasks != nullptr) {
        warn_unless_ok(services_.tasks->before_recovery(services_),
                       "what left this host while it was down was not all cleaned up");
    }
    TRY_CONTEXT(load(), "recovering the servers of this host");
    if (services_.moves != nullptr) {
        busy_.merge(remove_evacuated(services_));
    }
    Arrivals guests;
    if (services_.live != nullptr) {
        guests = arrivals(services_, instances_);
        awaited_ = guests.awaited;
        busy_.insert(awaited_.begin(), awaited_.end());
    }
    remove_orphans();
    end_leftover_volumes(services_, instances_, busy_);
    if (services_.tasks != nullptr) {
        plug_servers();
    } else {
        TRY_CONTEXT(repair_networks(), "recovering the network devices of this host");
    }
    continue_operations();
    continue_tasks();
    if (services_.moves != nullptr) {
        settle_kept(services_, busy_, submit_);
    }
    settle_arrivals(services_, guests.all, submit_);
    continue_detaches();
    check_guests();
    return {};
}

Result<void> HostRecovery::load() {
    instances_ = TRY(services_.conductor.instances_by_host(services_.options.host));
    operations_ = services_.journal.open_operations();
    for (const OpenOperation& operation : operations_) {
        busy_.insert(operation.instance_uuid);
    }
    services_.driver.recall_guests(instances_);
    const HostResources resources = TRY(services_.driver.get_available_resource());
    services_.tracker.begin_update();
    std::vector<Instance> counted = instances_;
    if (services_.moves != nullptr) {
        TRY(services_.moves->count_moves(counted));
    }
    services_.tracker.update(resources, counted);
    return {};
}

// Guests and folders that no record and no journal entry speaks for. When the records name no
// server of this host at all they were more likely lost than emptied: then nothing is touched.
void HostRecovery::remove_orphans() {
    const auto local = services_.driver.list_instance_uuids();
    if (!local.ok()) {
        log_error("compute", "the driver's servers could not be listed",
                  {{"why", local.error().text()}});
        return;
    }
    std::set<std::string> known = busy_;
    for (const Instance& instance : instances_) {
        known.insert(instance.uuid);
    }
    for (const std::string& uuid : *local) {
        if (known.contains(uuid)) {
            continue;
        }
        const LogScope scope({{"server", uuid}});
        const auto record = services_.conductor.instance_get(uuid);
        const bool unknown = !record.ok() && record.error().code == ErrorCode::NotFound;
        if (!unknown || instances_.empty()) {
            log_error("compute", "a guest on this host is in no record of it; it is left alone",
                      {{"hint", "if its records were not lost, remove it with kumoi vm delete"}});
            continue;
        }
        Instance orphan;
        orphan.uuid = uuid;
        log_warn("compute", "removing a guest that was deleted while this node was down");
        const auto destroyed = services_.driver.destroy(orphan);
        if (!destroyed.ok()) {
            log_error("compute", "it could not be removed", {{"why", destroyed.error().text()}});
        }
    }
}

Result<void> HostRecovery::repair_networks() {
    std::vector<Instance> here = instances_;
    for (const std::string& uuid : awaited_) {
        auto other = services_.conductor.instance_get(uuid);
        if (other.ok()) {
            here.push_back(std::move(*other));
        }
    }
    std::erase_if(
        here, [](const Instance& instance) { return instance.vm_state == vm_states::kDeleted; });
    return services_.vifs.reconcile(here);
}

// Nova's rule: a server whose ports cannot be plugged is in ERROR. What was cut short decides
// about its ports itself.
void HostRecovery::plug_servers() {
    for (Instance& instance : instances_) {
        const bool has_no_guest = instance.vm_state == vm_states::kDeleted ||
                                  instance.vm_state == vm_states::kShelvedOffloaded ||
                                  instance.vm_state == vm_states::kError ||
                                  instance.vm_state == vm_states::kSoftDeleted ||
                                  instance.task_state == task_states::kDeleting ||
                                  is_cut_short_build(instance);
        if (!has_no_guest && !busy_.contains(instance.uuid) && !plug_again(services_, instance)) {
            failed_.insert(instance.uuid);
        }
    }
}

// A save that changes nothing tells the control plane that this node works on the server.
void HostRecovery::take_over(const std::string& uuid) {
    const auto told = services_.conductor.instance_save(uuid, {});
    if (!told.ok() && !is_instance_gone(told.error())) {
        log_warn("compute", "the control plane was not told of a recovery",
                 {{"server", uuid}, {"why", told.error().text()}});
    }
}

void HostRecovery::continue_operations() {
    for (const OpenOperation& open : operations_) {
        if (services_.tasks == nullptr) {
            take_over(open.instance_uuid);
        }
        submit_(open.instance_uuid,
                [services = &services_, open] { continue_operation(*services, open); });
    }
}

// Servers whose task had been accepted and not begun. Standalone a build is left to whoever places
// servers: it has the whole request and sends it again.
void HostRecovery::continue_tasks() {
    for (const Instance& instance : instances_) {
        const bool build =
            services_.tasks != nullptr ? is_cut_short_build(instance) : is_building(instance);
        const bool theirs = build && services_.tasks == nullptr;
        if (busy_.contains(instance.uuid) || failed_.contains(instance.uuid) || theirs ||
            (!instance.task_state && !build)) {
            continue;
        }
        if (services_.tasks == nullptr && continuation_of(instance, "")) {
            take_over(instance.uuid);
        }
        submit_(instance.uuid,
                [services = &services_, instance] { continue_task(*services, instance); });
    }
}

// Interfaces that were asked to go before anything was begun. What the journal has of them comes
// first and leaves nothing to do here.
void HostRecovery::continue_detaches() {
    for (const Instance& instance : instances_) {
        if (!detaches(instance)) {
            continue;
        }
        submit_(instance.uuid, [services = &services_, instance] {
            const auto now = services->conductor.instance_get(instance.uuid);
            if (!now.ok() || !detaches(*now)) {
                return;
            }
            const RequestContext owner{"", instance.user_id, instance.project_id, false};
            run_verb(
                *services, verbs::kDetachInterface, owner, instance.uuid,
                [&](const Operation& operation) { return finish_detaches(*services, operation); });
        });
    }
}

void HostRecovery::check_guests() {
    for (const Instance& instance : instances_) {
        if (busy_.contains(instance.uuid) || failed_.contains(instance.uuid) ||
            instance.task_state || is_building(instance)) {
            continue;
        }
        const bool ran = instance.vm_state == vm_states::kActive ||
                         ((instance.vm_state == vm_states::kRescued ||
                           instance.vm_state == vm_states::kResized) &&
                          instance.power_state == power_states::kRunning);
        const bool resume = host_was_rebooted_ &&
                            services_.options.resume_guests_state_on_host_boot && ran &&
                            power_state_of(services_.driver, instance) != power_states::kRunning;
        submit_(instance.uuid, [services = &services_, uuid = instance.uuid, resume] {
            if (resume) {
                log_info("compute", "starting a server that ran when the host went down",
                         {{"server", uuid}});
                run_verb(*services, verbs::kStart, {}, uuid, [&](const Operation& operation) {
                    return resume_state_task(*services, operation);
                });
                return;
            }
            const auto synced = sync_power_state(*services, uuid);
            if (!synced.ok()) {
                log_warn("compute", "power state was not compared",
                         {{"server", uuid}, {"why", synced.error().text()}});
            }
        });
    }
}

Result<bool> host_was_rebooted(const std::string& state_path) {
    const std::string path = state_path + "/boot_id";
    const std::string now = TRY(read_file("/proc/sys/kernel/random/boot_id", 128));
    const auto before = read_file(path, 128);
    if (before.ok() && *before == now) {
        return false;
    }
    TRY(make_directories(state_path));
    TRY(write_file_atomic(path, now));
    return before.ok();  // the very first start is no reboot
}

}  // namespace kumoi::compute
