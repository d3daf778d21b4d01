// Conductor: a password for a running server, set by the agent in its guest.
#include "base/log.h"
#include "compute/conductor/conductor.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

// The node closes the event and clears task_state, whatever the outcome; only one that did not
// take the request leaves that to us.
Result<void> Conductor::set_server_password(const RequestContext& context, const std::string& uuid,
                                            const std::string& password) {
    Result<void> outcome;
    TRY(run_verb(context, uuid, ServerVerb::ChangePassword, task_states::kUpdatingPassword,
                 [&](ComputeApi& api) -> Result<void> {
                     outcome = api.set_admin_password({context, uuid, password});
                     return {};
                 }));
    if (outcome.ok()) {
        return {};
    }
    const auto cleared = instances_.update(uuid, [](Instance& instance) -> Result<void> {
        if (instance.task_state == task_states::kUpdatingPassword) {
            instance.task_state = std::nullopt;
        }
        return {};
    });
    if (!cleared.ok()) {
        log_info("conductor", "the server went away while its password was set",
                 {{"server", uuid}, {"why", cleared.error().text()}});
    }
    return outcome;
}

}  // namespace kumoi::compute
