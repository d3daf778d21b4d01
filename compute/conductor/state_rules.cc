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
    bool any_vm_state = false;
    States vm_states;
    bool any_task_state = false;
    States task_states;  // besides none, which is always fine
    bool must_have_launched = true;
};

const StateRule& rule_of(ServerVerb verb) {
    static const StateRule start{false, {vm_states::kStopped}, false, {}, true};
    static const StateRule stop{false, {vm_states::kActive, vm_states::kError}, false, {}, true};
    static const StateRule reboot_soft{false, {vm_states::kActive}, false, {}, true};
    static const StateRule reboot_hard{
        false,
        {vm_states::kActive, vm_states::kStopped, vm_states::kPaused, vm_states::kSuspended,
         vm_states::kError},
        false,
        {task_states::kRebooting, task_states::kRebootPending, task_states::kRebootStarted,
         task_states::kRebootingHard, task_states::kPausing, task_states::kUnpausing},
        true};
    static const StateRule pause{false, {vm_states::kActive}, false, {}, true};
    static const StateRule unpause{false, {vm_states::kPaused}, false, {}, true};
    static const StateRule remove{true, {}, true, {}, false};
    switch (verb) {
        case ServerVerb::Start: return start;
        case ServerVerb::Stop: return stop;
        case ServerVerb::RebootSoft: return reboot_soft;
        case ServerVerb::RebootHard: return reboot_hard;
        case ServerVerb::Pause: return pause;
        case ServerVerb::Unpause: return unpause;
        case ServerVerb::Delete: break;
    }
    return remove;
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
    switch (verb) {
        case ServerVerb::Start: return "start";
        case ServerVerb::Stop: return "stop";
        case ServerVerb::RebootSoft:
        case ServerVerb::RebootHard: return "reboot";
        case ServerVerb::Pause: return "pause";
        case ServerVerb::Unpause: return "unpause";
        case ServerVerb::Delete: return "delete";
    }
    return "change";
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
