// Conductor: what happens to servers by the passing of time (Nova's _poll_unconfirmed_resizes,
// _poll_rescued_instances, _poll_shelved_instances, _reclaim_queued_deletes).
#include "base/log.h"
#include "base/uuid.h"
#include "compute/conductor/conductor.h"
#include "compute/manager/shelve_task.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

Result<void> Conductor::poll_servers(const std::string& host) {
    for (const InstancePtr& stored : instances_.of_host(host)) {
        if (!stored->instance.task_state) {
            poll_server(stored->instance);
        }
    }
    return {};
}

void Conductor::poll_server(const Instance& instance) {
    const RequestContext context{"req-" + Uuid::generate(random_).text(), instance.user_id,
                                 instance.project_id, true};
    const int64_t now_ns = clock_.wall_ns();
    const auto waited = [&](int64_t since_ns, int64_t limit_s) {
        return limit_s > 0 && now_ns - since_ns >= limit_s * kNanosPerSecond;
    };
    Result<void> outcome;
    if (instance.vm_state == vm_states::kResized &&
        waited(instance.launched_ns, options_.resize_confirm_window_s)) {
        outcome = confirm_resize(context, instance.uuid);
    } else if (instance.vm_state == vm_states::kRescued &&
               waited(instance.launched_ns, options_.rescue_timeout_s)) {
        outcome = unrescue_server(context, instance.uuid);
    } else if (instance.vm_state == vm_states::kSoftDeleted &&
               waited(instance.deleted_ns, options_.reclaim_instance_interval_s)) {
        outcome = delete_server(context, instance.uuid, true);
    } else if (instance.vm_state == vm_states::kShelved) {
        const auto at = instance.system_metadata.find(kShelvedAt);
        const auto since = at == instance.system_metadata.end() ? std::optional<int64_t>()
                                                                : parse_iso8601(at->second);
        if (since && waited(*since, options_.shelved_offload_time_s)) {
            outcome = shelve_offload_server(context, instance.uuid);
        }
    }
    if (!outcome.ok()) {
        log_warn("conductor", "what a server waited for could not be done",
                 {{"server", instance.uuid}, {"why", outcome.error().text()}});
    }
}

}  // namespace kumoi::compute
