#include "compute/conductor/state_rules.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include <fmt/ranges.h>

#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

using States = std::vector<std::string_view>;

struct StateRule {
    ServerVerb verb;
    const char* name;
    const char* event;
    bool any_vm_state = false;
    States vm_states = {};
    bool any_task_state = false;
    States task_states = {};  // besides none, which is always fine
    bool must_have_launched = true;
};

namespace vm = vm_states;
namespace task = task_states;

StateRule plain(ServerVerb verb, const char* name, const char* event, States vm_states) {
    return {verb, name, event, false, std::move(vm_states)};
}

StateRule hard_reboot() {
    StateRule rule = plain(ServerVerb::RebootHard, "reboot", "compute_reboot_instance",
                           {vm::kActive, vm::kStopped, vm::kPaused, vm::kSuspended, vm::kError});
    rule.task_states = {task::kRebooting,     task::kRebootPending, task::kRebootStarted,
                        task::kRebootingHard, task::kResuming,      task::kUnpausing,
                        task::kPausing,       task::kSuspending};
    return rule;
}

StateRule removal(ServerVerb verb, const char* name) {
    StateRule rule = plain(verb, name, "compute_terminate_instance", {});
    rule.any_vm_state = rule.any_task_state = true;
    rule.must_have_launched = false;
    return rule;
}

const std::vector<StateRule>& rules() {
    const States up_or_down = {vm::kActive, vm::kStopped};
    const States also_broken = {vm::kActive, vm::kStopped, vm::kError};
    const States with_disk = {vm::kActive, vm::kStopped, vm::kPaused, vm::kSuspended};
    const States with_board = {vm::kActive, vm::kPaused, vm::kStopped};
    using enum ServerVerb;
    static const std::vector<StateRule> table = {
        plain(Start, "start", "compute_start_instance", {vm::kStopped}),
        plain(Stop, "stop", "compute_stop_instance", {vm::kActive, vm::kError}),
        plain(RebootSoft, "reboot", "compute_reboot_instance", {vm::kActive}),
        hard_reboot(),
        plain(Pause, "pause", "compute_pause_instance", {vm::kActive}),
        plain(Unpause, "unpause", "compute_unpause_instance", {vm::kPaused}),
        plain(Suspend, "suspend", "compute_suspend_instance", {vm::kActive}),
        plain(Resume, "resume", "compute_resume_instance", {vm::kSuspended}),
        plain(Rescue, "rescue", "compute_rescue_instance", also_broken),
        plain(Unrescue, "unrescue", "compute_unrescue_instance", {vm::kRescued}),
        plain(Rebuild, "rebuild", "compute_rebuild_instance", also_broken),
        plain(CreateImage, "createImage", "compute_snapshot_instance", with_disk),
        plain(CreateBackup, "createBackup", "compute_backup_instance", with_disk),
        plain(Resize, "resize", "compute_resize_instance", up_or_down),
        plain(Migrate, "migrate", "compute_resize_instance", up_or_down),
        plain(ConfirmResize, "confirmResize", "compute_confirm_resize", {vm::kResized}),
        plain(RevertResize, "revertResize", "compute_revert_resize", {vm::kResized}),
        plain(Shelve, "shelve", "compute_shelve_instance", with_disk),
        plain(ShelveOffload, "shelveOffload", "compute_shelve_offload_instance", {vm::kShelved}),
        plain(Unshelve, "unshelve", "compute_unshelve_instance",
              {vm::kShelved, vm::kShelvedOffloaded}),
        plain(Restore, "restore", "compute_restore_instance", {vm::kSoftDeleted}),
        plain(AttachInterface, "attach_interface", "compute_attach_interface", with_board),
        plain(DetachInterface, "detach_interface", "compute_detach_interface", with_board),
        plain(ChangePassword, "changePassword", "compute_set_admin_password", {vm::kActive}),
        plain(LiveMigrate, "os-migrateLive", "conductor_live_migrate_instance",
              {vm::kActive, vm::kPaused}),
        plain(Evacuate, "evacuate", "compute_rebuild_instance", also_broken),
        removal(Delete, "delete"),
        removal(ForceDelete, "forceDelete"),
    };
    return table;
}

const StateRule& rule_of(ServerVerb verb) {
    return *std::find_if(rules().begin(), rules().end(),
                         [verb](const StateRule& rule) { return rule.verb == verb; });
}

bool contains(const States& states, std::string_view state) {
    return std::find(states.begin(), states.end(), state) != states.end();
}

Error invalid_state(const Instance& instance, ServerVerb verb, std::string_view attribute,
                    std::string_view state) {
    const States& legal = rule_of(verb).vm_states;
    return Error::conflict("Cannot '{}' instance {} while it is in {} {}", to_string(verb),
                           instance.uuid, attribute, state)
        .with_fault("InstanceInvalidState")
        .with_hint(attribute == "task_state"
                       ? "Wait for the running task to end (openstack server event list)."
                       : fmt::format("It must be in vm_state {}.", fmt::join(legal, " or ")));
}

}  // namespace

const char* to_string(ServerVerb verb) {
    return rule_of(verb).name;
}

const char* event_of(ServerVerb verb) {
    return rule_of(verb).event;
}

Result<void> check_instance_state(const Instance& instance, ServerVerb verb) {
    const StateRule& rule = rule_of(verb);
    if (!rule.any_vm_state && !contains(rule.vm_states, instance.vm_state)) {
        return invalid_state(instance, verb, "vm_state", instance.vm_state);
    }
    if (!rule.any_task_state && instance.task_state &&
        !contains(rule.task_states, *instance.task_state)) {
        return invalid_state(instance, verb, "task_state", *instance.task_state);
    }
    if (rule.must_have_launched && instance.launched_ns == 0) {
        return Error::conflict("Instance is in an invalid state for '{}'", to_string(verb))
            .with_fault("InstanceInvalidState")
            .with_hint("The server was never built successfully; delete it and create it again.");
    }
    return {};
}

}  // namespace kumoi::compute
