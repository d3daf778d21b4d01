#include "api/nova/periodic_tasks.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "api/nova/nova_moves.h"
#include "api/nova/oslo_context.h"
#include "base/log.h"
#include "compute/manager/shelve_task.h"
#include "compute/manager/verb.h"
#include "compute/vm_states.h"

namespace kumoi::nova {
namespace {

namespace task_states = compute::task_states;
namespace vm_states = compute::vm_states;

constexpr int64_t kTickS = 60;  // of tasks without an interval of their own

// In the owner's name and of no request: there is no action to hang an event on.
compute::RequestContext owner_of(const compute::Instance& instance) {
    return {"", instance.user_id, instance.project_id, false};
}

bool reboots(const compute::Instance& instance) {
    return instance.task_state && instance.task_state->starts_with("reboot");
}

}  // namespace

std::vector<compute::HostTasks::Periodic> PeriodicTasks::periodic_tasks() {
    std::vector<Periodic> tasks;
    const auto add = [&](const char* name, int64_t interval_s, bool wanted,
                         void (PeriodicTasks::*task)()) {
        if (wanted && interval_s >= 0) {
            tasks.push_back({name, interval_s, [this, task] { (this->*task)(); }});
        }
    };
    using Self = PeriodicTasks;
    const compute::PeriodicOptions& o = options_;
    const bool reaps = o.running_deleted_action != "noop";
    add("heal_instance_info_cache", o.heal_info_cache_interval_s, true,
        &Self::heal_instance_info_cache);
    add("check_instance_build_time", kTickS, o.instance_build_timeout_s > 0,
        &Self::check_instance_build_time);
    add("poll_rebooting_instances", kTickS, o.reboot_timeout_s > 0,
        &Self::poll_rebooting_instances);
    add("poll_rescued_instances", kTickS, o.rescue_timeout_s > 0, &Self::poll_rescued_instances);
    add("poll_unconfirmed_resizes", kTickS, o.resize_confirm_window_s > 0,
        &Self::poll_unconfirmed_resizes);
    add("poll_shelved_instances", o.shelved_poll_interval_s, o.shelved_offload_time_s > 0,
        &Self::poll_shelved_instances);
    add("reclaim_queued_deletes", kTickS, o.reclaim_instance_interval_s > 0,
        &Self::reclaim_queued_deletes);
    add("run_pending_deletes", o.instance_delete_interval_s, true, &Self::run_pending_deletes);
    add("cleanup_incomplete_migrations", o.instance_delete_interval_s, true,
        &Self::cleanup_incomplete_migrations);
    add("cleanup_expired_console_auth_tokens", o.instance_delete_interval_s, true,
        &Self::cleanup_expired_console_auth_tokens);
    add("cleanup_running_deleted_instances", o.running_deleted_poll_interval_s, reaps,
        &Self::cleanup_running_deleted_instances);
    add("instance_usage_audit", kTickS, borders_.audit != nullptr, &Self::instance_usage_audit);
    return tasks;
}

Json PeriodicTasks::admin(const char* read_deleted) {
    Json context = admin_context(borders_.clock, borders_.random);
    context.set("read_deleted", read_deleted);
    return context;
}

PeriodicTasks::Instances PeriodicTasks::servers_here() {
    auto instances = borders_.conductor.instances_by_host(borders_.node.host());
    if (!instances.ok()) {
        log_warn("nova", "servers could not be listed", {{"why", instances.error().text()}});
        return {};
    }
    return std::move(*instances);
}

bool PeriodicTasks::is_older(int64_t wall_ns, int64_t seconds) const {
    return wall_ns > 0 && borders_.clock.wall_ns() - wall_ns >= seconds * kNanosPerSecond;
}

void PeriodicTasks::begin(const compute::Instance& instance, const char* task_state,
                          Result<void> (compute::ComputeApi::*verb)(const compute::RequestContext&,
                                                                    const std::string&)) {
    const auto saved = borders_.conductor.instance_save(
        instance.uuid, compute::to_task_state(task_state, {std::nullopt}));
    if (!saved.ok()) {
        if (!compute::is_taken_over(saved.error())) {
            log_warn("nova", "periodic work on a server was not begun",
                     {{"server", instance.uuid}, {"why", saved.error().text()}});
        }
        return;
    }
    compute::warn_unless_ok((manager_->*verb)(owner_of(instance), instance.uuid),
                            "periodic work on a server could not be queued");
}

// One server a run, each in turn.
void PeriodicTasks::heal_instance_info_cache() {
    Instances instances = servers_here();
    std::erase_if(instances, [](const compute::Instance& instance) {
        return instance.task_state || instance.vm_state == vm_states::kBuilding ||
               instance.vm_state == vm_states::kDeleted || instance.network_info.empty();
    });
    if (instances.empty()) {
        return;
    }
    std::ranges::sort(instances, {}, &compute::Instance::uuid);
    const auto next = std::ranges::upper_bound(instances, healed_, {}, &compute::Instance::uuid);
    const compute::Instance& chosen = next == instances.end() ? instances.front() : *next;
    healed_ = chosen.uuid;
    compute::warn_unless_ok(
        manager_->external_instance_event(
            owner_of(chosen), chosen.uuid,
            {.kind = compute::ServerEvent::Kind::NetworkChanged, .port_id = {}}),
        "the network of a server could not be read again");
}

void PeriodicTasks::check_instance_build_time() {
    for (const compute::Instance& instance : servers_here()) {
        if (instance.vm_state != vm_states::kBuilding ||
            !is_older(instance.created_ns, options_.instance_build_timeout_s)) {
            continue;
        }
        log_warn("nova", "a build took too long; its server is in ERROR now",
                 {{"server", instance.uuid}});
        compute::InstanceUpdate update;
        update.vm_state = vm_states::kError;
        const auto saved = borders_.conductor.instance_save(instance.uuid, update);
        if (!saved.ok()) {
            compute::warn_unless_ok(saved, "state ERROR was not recorded");
            continue;
        }
        const Error reason = Error::timeout("Instance build timed out after {} s",
                                            options_.instance_build_timeout_s);
        compute::warn_unless_ok(borders_.conductor.fault_create(
                                    instance.uuid, compute::fault_from(reason, borders_.clock)),
                                "the fault was not recorded");
    }
}

void PeriodicTasks::poll_rebooting_instances() {
    for (const compute::Instance& instance : servers_here()) {
        if (!reboots(instance) || !is_older(instance.updated_ns, options_.reboot_timeout_s)) {
            continue;
        }
        log_warn("nova", "a reboot took too long; the server is rebooted hard",
                 {{"server", instance.uuid}});
        const auto saved = borders_.conductor.instance_save(
            instance.uuid,
            compute::to_task_state(task_states::kRebootingHard, {instance.task_state}));
        if (saved.ok()) {
            compute::warn_unless_ok(manager_->reboot_instance(owner_of(instance), instance.uuid,
                                                              compute::RebootType::Hard),
                                    "a hard reboot could not be queued");
        }
    }
}

void PeriodicTasks::poll_rescued_instances() {
    for (const compute::Instance& instance : servers_here()) {
        if (instance.vm_state == vm_states::kRescued && !instance.task_state &&
            is_older(instance.launched_ns, options_.rescue_timeout_s)) {
            begin(instance, task_states::kUnrescuing, &compute::ComputeApi::unrescue_instance);
        }
    }
}

void PeriodicTasks::poll_unconfirmed_resizes() {
    const auto migrations =
        borders_.objects.class_objects(admin(), "MigrationList", "get_unconfirmed_by_dest_compute",
                                       {options_.resize_confirm_window_s, borders_.node.host()},
                                       Json::object({{"use_slave", true}}));
    if (!migrations.ok()) {
        log_warn("nova", "unconfirmed resizes were not listed",
                 {{"why", migrations.error().text()}});
        return;
    }
    for (const NovaObject& migration : *migrations) {
        compute::warn_unless_ok(confirm(migration), "a resize was not confirmed");
    }
}

// What Nova's API does on a request to confirm.
Result<void> PeriodicTasks::confirm(NovaObject migration) {
    Json context = admin();
    const std::string uuid = migration.text("instance_uuid");
    const auto instance = TRY(borders_.objects.class_object(
        context, "Instance", "get_by_uuid", text_arguments({uuid}),
        Json::object({{"expected_attrs", Json::array_of(std::vector<std::string>{
                                             "metadata", "system_metadata", "flavor"})}})));
    if (instance.text("vm_state") != vm_states::kResized || instance.optional_text("task_state")) {
        return {};  // somebody else decides just now
    }
    migration.set("status", "confirming");
    TRY(borders_.objects.action(context, migration, "save"));
    TRY(borders_.objects.class_action(context, "InstanceAction", "action_start",
                                      text_arguments({uuid, "confirmResize"}),
                                      Json::object({{"want_result", false}})));
    return borders_.objects.rpc().cast(
        compute_target(migration.text("source_compute")), context, "confirm_resize",
        Json::object({{"instance", instance.primitive()}, {"migration", migration.primitive()}}));
}

void PeriodicTasks::poll_shelved_instances() {
    for (const compute::Instance& instance : servers_here()) {
        const auto shelved = instance.system_metadata.find(compute::kShelvedAt);
        if (instance.vm_state != vm_states::kShelved || instance.task_state ||
            shelved == instance.system_metadata.end()) {
            continue;
        }
        if (is_older(parse_iso8601(shelved->second).value_or(0), options_.shelved_offload_time_s)) {
            begin(instance, task_states::kShelvingOffloading,
                  &compute::ComputeApi::shelve_offload_instance);
        }
    }
}

void PeriodicTasks::reclaim_queued_deletes() {
    for (const compute::Instance& instance : servers_here()) {
        if (instance.vm_state == vm_states::kSoftDeleted && !instance.task_state &&
            is_older(instance.deleted_ns, options_.reclaim_instance_interval_s)) {
            begin(instance, task_states::kDeleting, &compute::ComputeApi::terminate_instance);
        }
    }
}

// The verb finds no record and removes what is here.
Result<void> PeriodicTasks::reap(const std::string& uuid) {
    return manager_->terminate_instance({}, uuid);
}

void PeriodicTasks::run_pending_deletes() {
    compute::warn_unless_ok(pending_deletes(), "the rest of deleted servers was not removed");
}

Result<void> PeriodicTasks::pending_deletes() {
    constexpr char kAttempts[] = "clean_attempts";
    const Json context = admin("yes");
    const auto deleted = TRY(borders_.objects.class_objects(
        context, "InstanceList", "get_by_filters",
        {Json::object({{"deleted", true},
                       {"soft_deleted", false},
                       {"host", borders_.node.host()},
                       {"cleaned", false}})},
        Json::object(
            {{"expected_attrs", Json::array_of(std::vector<std::string>{"system_metadata"})},
             {"use_slave", true}})));
    const auto local = TRY(borders_.driver.list_instance_uuids());
    for (NovaObject instance : deleted) {
        Json metadata = Json::object();
        if (const Json* held = instance.get("system_metadata"); held && held->is_object()) {
            metadata = *held;
        }
        int64_t attempts = 0;
        const std::string text = metadata.string_or(kAttempts, "0");
        std::from_chars(text.data(), text.data() + text.size(), attempts);
        if (attempts >= options_.delete_attempts_max) {
            continue;
        }
        const std::string uuid = instance.text("uuid");
        const bool is_here = std::ranges::find(local, uuid) != local.end();
        if (is_here) {
            log_warn("nova", "a deleted server is still on this host; it is removed",
                     {{"server", uuid}});
            TRY(reap(uuid));
        }
        metadata.set(kAttempts, std::to_string(attempts + 1));
        instance.reset_changes();
        instance.set("system_metadata", std::move(metadata));
        if (!is_here) {
            instance.set("cleaned", true);
        }
        TRY(borders_.objects.action(context, instance, "save"));
    }
    return {};
}

void PeriodicTasks::cleanup_incomplete_migrations() {
    compute::warn_unless_ok(incomplete_migrations(), "what failed migrations left was not removed");
}

// A migration failed and its server was deleted meanwhile: the other host's part is still there.
Result<void> PeriodicTasks::incomplete_migrations() {
    auto migrations = TRY(borders_.objects.class_objects(
        admin(), "MigrationList", "get_by_filters",
        {Json::object({{"status", "error"}, {"host", borders_.node.host()}})}));
    if (migrations.empty()) {
        return {};
    }
    Json uuids = Json::array();
    for (const NovaObject& migration : migrations) {
        uuids.push_back(migration.text("instance_uuid"));
    }
    const Json context = admin("yes");
    const auto deleted = TRY(borders_.objects.class_objects(
        context, "InstanceList", "get_by_filters",
        {Json::object({{"deleted", true}, {"soft_deleted", false}, {"uuid", std::move(uuids)}})},
        Json::object({{"expected_attrs", Json::array()}, {"use_slave", true}})));
    for (const NovaObject& instance : deleted) {
        const std::string uuid = instance.text("uuid");
        if (instance.text("host") == borders_.node.host()) {
            continue;  // the pending deletes' part
        }
        TRY(reap(uuid));
        for (NovaObject& migration : migrations) {
            if (migration.text("instance_uuid") == uuid) {
                TRY(borders_.conductor.drop_allocations_of(context, migration.text("uuid")));
                migration.set("status", "failed");
                TRY(borders_.objects.action(context, migration, "save"));
            }
        }
    }
    return {};
}

Result<std::vector<std::string>> PeriodicTasks::guests_of_nobody() {
    auto local = TRY(borders_.driver.list_instance_uuids());
    if (local.empty()) {
        return local;
    }
    const auto recorded = TRY(borders_.conductor.instances_by_host(borders_.node.host()));
    std::set<std::string> known;
    for (const compute::Instance& instance : recorded) {
        known.insert(instance.uuid);
    }
    std::erase_if(local, [&](const std::string& uuid) { return known.contains(uuid); });
    return local;
}

void PeriodicTasks::cleanup_running_deleted_instances() {
    const auto suspects = guests_of_nobody();
    if (!suspects.ok()) {
        log_warn("nova", "guests of deleted servers were not looked for",
                 {{"why", suspects.error().text()}});
        return;
    }
    const std::string& action = options_.running_deleted_action;
    for (const std::string& uuid : *suspects) {
        const auto instance = borders_.objects.class_object(
            admin("yes"), "Instance", "get_by_uuid", text_arguments({uuid}),
            Json::object({{"expected_attrs", Json::array()}}));
        if (!instance.ok() || !instance->boolean("deleted") ||
            !is_older(parse_iso8601(instance->text("deleted_at")).value_or(0),
                      options_.running_deleted_timeout_s)) {
            continue;  // on its way here or from here, or not known at all
        }
        log_warn("nova", "the guest of a deleted server runs on this host",
                 {{"server", uuid}, {"action", action}});
        if (action == "reap") {
            compute::warn_unless_ok(reap(uuid), "it could not be removed");
        } else if (action == "shutdown") {
            compute::Instance guest;
            guest.uuid = uuid;
            compute::warn_unless_ok(borders_.driver.power_off(guest, 0),
                                    "it could not be powered off");
        }
    }
}

void PeriodicTasks::instance_usage_audit() {
    compute::warn_unless_ok(borders_.audit->run(), "the use of this host was not told");
}

void PeriodicTasks::cleanup_expired_console_auth_tokens() {
    const auto cleaned = borders_.objects.class_action(admin(), "ConsoleAuthToken",
                                                       "clean_expired_console_auths_for_host",
                                                       text_arguments({borders_.node.host()}));
    if (!cleaned.ok()) {
        log_warn("nova", "expired console tokens were not removed",
                 {{"why", cleaned.error().text()}});
    }
}

}  // namespace kumoi::nova
