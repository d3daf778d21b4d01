#include "compute/manager/volume_recovery.h"

#include <algorithm>
#include <map>

#include "base/log.h"
#include "compute/manager/volume_api.h"
#include "compute/manager/volume_connections.h"
#include "compute/manager/volume_task.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

void go_on(NodeServices& services, const VerbInfo& info, const Operation& operation,
           const std::function<Result<void>(const Operation&)>& function) {
    resume_verb(services, info, operation, [&](const Operation& resumed) -> Result<void> {
        return services.volumes == nullptr ? Result<void>() : function(resumed);
    });
}

// The crash came before the journal knew which volume: the records do.
Result<void> go_on_attaching(NodeServices& services, const Operation& operation,
                             std::vector<std::string> ids, bool undone) {
    if (ids.empty()) {
        for (const BlockDevice& device :
             TRY(volumes_of(services, operation.context, operation.uuid))) {
            if (device.connection_info.size() == 0 && !device.attachment_id.empty()) {
                ids.push_back(device.volume_id);
            }
        }
    }
    Result<void> last;
    for (const std::string& id : ids) {
        last = AttachVolumeTask(services, operation).finish_after_restart(id, undone);
    }
    return last;
}

// As above: what stays attached is not detaching, and reserved for nobody.
Result<void> undo_unknown_swap(NodeServices& services, const Operation& operation) {
    VolumeApi& volumes = services.volumes->volumes;
    for (const BlockDevice& device : TRY(volumes_of(services, operation.context, operation.uuid))) {
        if (TRY(volumes.volume(operation.context, device.volume_id)).status == "detaching") {
            TRY(volumes.roll_detaching(operation.context, device.volume_id));
        }
    }
    return delete_unrecorded_attachments(services, operation.context, operation.uuid);
}

Result<void> go_on_detaching(NodeServices& services, const Operation& operation,
                             const std::vector<std::string>& ids) {
    if (ids.empty()) {
        for (const BlockDevice& device :
             TRY(volumes_of(services, operation.context, operation.uuid))) {
            const auto volume =
                services.volumes->volumes.volume(operation.context, device.volume_id);
            if (volume.ok() && volume->status == "detaching") {
                TRY(detach_volume_task(services, operation, device.volume_id, ""));
            }
        }
        return {};
    }
    auto detached = detach_volume_task(services, operation, ids[0], "");
    if (!detached.ok() && detached.error().fault == "VolumeBDMNotFound") {
        return services.volumes->host.disconnect(operation.uuid, ids[0]);
    }
    return detached;
}

void end_leftover(NodeServices& services, const VolumeHost::Connected& leftover) {
    log_warn("compute", "ending the back end of a volume that is attached to no server here",
             {{"server", leftover.first}, {"volume", leftover.second}});
    warn_unless_ok(services.volumes->host.disconnect(leftover.first, leftover.second),
                   "a volume's back end goes on");
}

}  // namespace

namespace {

constexpr char kAttach[] = "attach ";
constexpr char kDetach[] = "detach ";

// What the records and Cinder say was asked of this host and nobody is at.
Result<std::set<std::string>> waiting_requests(NodeServices& services, const Instance& instance) {
    static const std::set<std::string_view> kGuestless = {
        vm_states::kBuilding, vm_states::kDeleted, vm_states::kSoftDeleted,
        vm_states::kShelvedOffloaded, vm_states::kError};
    std::set<std::string> waiting;
    if (instance.task_state || instance.host != services.options.host ||
        kGuestless.contains(instance.vm_state)) {
        return waiting;
    }
    for (const BlockDevice& device : TRY(volumes_of(services, {}, instance.uuid))) {
        if (device.connection_info.size() == 0) {
            if (!device.attachment_id.empty()) {
                waiting.insert(kAttach + device.volume_id);
            }
            continue;
        }
        const auto volume = TRY(services.volumes->volumes.volume({}, device.volume_id));
        if (volume.status == "detaching" && !volume.multiattach) {
            waiting.insert(kDetach + device.volume_id);
        }
    }
    return waiting;
}

// One that was reserved for a server and is in no record of it is to be swapped in.
Result<bool> has_unrecorded(NodeServices& services, const std::string& uuid) {
    const auto devices = TRY(volumes_of(services, {}, uuid));
    const auto attachments = TRY(services.volumes->volumes.attachments({}, uuid));
    return std::ranges::any_of(attachments, [&](const VolumeAttachmentRecord& attachment) {
        return std::ranges::none_of(devices, [&](const BlockDevice& device) {
            return device.attachment_id == attachment.id;
        });
    });
}

void end_lost_request(NodeServices& services, const Instance& instance, const std::string& lost) {
    const RequestContext owner{"", instance.user_id, instance.project_id, false};
    const std::string volume = lost.substr(sizeof kAttach - 1);
    log_warn("compute", "a request about a volume was lost with the last run of this daemon",
             {{"server", instance.uuid}, {"request", lost}});
    if (lost.starts_with(kAttach)) {
        run_verb(services, verbs::kAttachVolume, owner, instance.uuid,
                 [&](const Operation& operation) {
                     return AttachVolumeTask(services, operation).finish_after_restart(volume);
                 });
        return;
    }
    const auto swap = has_unrecorded(services, instance.uuid);
    if (!swap.ok()) {
        log_warn("compute", "what was asked of a volume is not known",
                 {{"server", instance.uuid}, {"why", swap.error().text()}});
        return;
    }
    run_verb(services, *swap ? verbs::kSwapVolume : verbs::kDetachVolume, owner, instance.uuid,
             [&](const Operation& operation) {
                 return *swap ? undo_unknown_swap(services, operation)
                              : detach_volume_task(services, operation, volume, "");
             });
}

}  // namespace

void LostVolumeRequests::look(NodeServices& services, const Submit& submit) {
    if (round_ > 1) {
        return;
    }
    const auto instances = services.conductor.instances_by_host(services.options.host);
    if (!instances.ok()) {
        return;  // the next round is the first that counts
    }
    const bool first = round_++ == 0;
    for (const Instance& instance : *instances) {
        submit(instance.uuid,
               [this, &services, first, uuid = instance.uuid] { look_at(services, uuid, first); });
    }
}

void LostVolumeRequests::look_at(NodeServices& services, const std::string& uuid, bool first) {
    const auto instance = services.conductor.instance_get(uuid);
    const auto waiting = instance.ok() ? waiting_requests(services, *instance)
                                       : Result<std::set<std::string>>(instance.error());
    if (!waiting.ok()) {
        if (!is_instance_gone(waiting.error())) {
            log_warn("compute", "whether a request about a volume was lost is not known",
                     {{"server", uuid}, {"why", waiting.error().text()}});
        }
        return;
    }
    std::set<std::string> before;
    {
        const std::lock_guard lock(mutex_);
        before = std::exchange(seen_[uuid], *waiting);
    }
    for (const std::string& one : *waiting) {
        if (!first && before.contains(one)) {
            end_lost_request(services, *instance, one);
        }
    }
}

bool continue_volume_operation(NodeServices& services, const Operation& operation,
                               const OpenOperation& open) {
    const std::vector<std::string> ids = journaled_volumes(open.steps);
    if (open.verb == verbs::kAttachVolume.verb) {
        const bool undone = std::ranges::find(open.steps, "rollback") != open.steps.end();
        go_on(services, verbs::kAttachVolume, operation, [&](const Operation& resumed) {
            return go_on_attaching(services, resumed, ids, undone);
        });
        return true;
    }
    if (open.verb == verbs::kDetachVolume.verb) {
        go_on(services, verbs::kDetachVolume, operation,
              [&](const Operation& resumed) { return go_on_detaching(services, resumed, ids); });
        return true;
    }
    if (open.verb == verbs::kExtendVolume.verb) {
        go_on(services, verbs::kExtendVolume, operation, [&](const Operation& resumed) {
            return ids.empty() ? Result<void>() : extend_volume_task(services, resumed, ids[0]);
        });
        return true;
    }
    if (open.verb == verbs::kSwapVolume.verb) {
        go_on(services, verbs::kSwapVolume, operation, [&](const Operation& resumed) {
            if (ids.size() < 3) {
                return undo_unknown_swap(services, resumed);
            }
            const SwapVolumeRequest request{resumed.context, resumed.uuid, ids[0], ids[1], ids[2]};
            return SwapVolumeTask(services, resumed, request).finish_after_restart();
        });
        return true;
    }
    return false;
}

void end_leftover_volumes(NodeServices& services, const std::vector<Instance>& instances,
                          const std::set<std::string>& busy) {
    if (services.volumes == nullptr) {
        return;
    }
    std::map<std::string, std::vector<std::string>> connected;
    for (const auto& [server, volume] : services.volumes->host.connected()) {
        if (!busy.contains(server)) {
            connected[server].push_back(volume);
        }
    }
    for (const auto& [server, volumes] : connected) {
        const bool here = std::ranges::any_of(
            instances, [&uuid = server](const Instance& one) { return one.uuid == uuid; });
        const auto devices = here ? volumes_of(services, {}, server)
                                  : Result<std::vector<BlockDevice>>(std::vector<BlockDevice>());
        // As with guests: when no server is recorded here, the records were more likely lost.
        if (!devices.ok() || instances.empty()) {
            log_warn("compute", "back ends of volumes were left alone", {{"server", server}});
            continue;
        }
        for (const std::string& volume : volumes) {
            const bool attached = std::ranges::any_of(
                *devices, [&](const BlockDevice& device) { return device.volume_id == volume; });
            if (!attached) {
                end_leftover(services, {server, volume});
            }
        }
    }
}

}  // namespace kumoi::compute
