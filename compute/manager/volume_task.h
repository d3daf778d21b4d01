// Volumes that come to, leave, or are exchanged in a server that exists (Nova's attach_volume,
// detach_volume, swap_volume, extend_volume). The record comes first and goes last, so that a
// restart finds what it has to finish. None touches task_state.
#pragma once

#include <string>
#include <vector>

#include "compute/block_device.h"
#include "compute/manager/compute_api.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

// Answers with the record of a volume that is to be attached.
Result<BlockDevice> reserve_device(NodeServices& services, const ReserveDeviceRequest& request);
std::string device_prefix(const Instance& instance);  // "/dev/vd", "/dev/sd"
// "/dev/vdc": the first name that no disk of the server has.
std::string next_device_name(const Instance& instance, const std::vector<BlockDevice>& devices);

class AttachVolumeTask {
public:
    AttachVolumeTask(NodeServices& services, const Operation& operation)
        : services_(services), operation_(operation) {}

    Result<void> execute(const BlockDevice& device);
    // After a restart: forward, if its record is still there and it was not being undone.
    Result<void> finish_after_restart(const std::string& volume_id, bool undone = false);

private:
    Result<void> attach();
    void rollback();

    NodeServices& services_;
    const Operation& operation_;
    Instance instance_;
    BlockDevice device_;
};

Result<void> detach_volume_task(NodeServices& services, const Operation& operation,
                                const std::string& volume_id, const std::string& attachment_id);

class SwapVolumeTask {
public:
    SwapVolumeTask(NodeServices& services, const Operation& operation, SwapVolumeRequest request)
        : services_(services), operation_(operation), request_(std::move(request)) {}

    Result<void> execute();
    Result<void> finish_after_restart();

private:
    Result<void> load(const std::string& volume_id);
    Result<void> copy();
    Result<void> record();
    void rollback();

    NodeServices& services_;
    const Operation& operation_;
    const SwapVolumeRequest request_;
    Instance instance_;
    BlockDevice device_;
    Json connection_info_;
};

namespace verbs {
constexpr VerbInfo kExtendVolume{"extend_volume", "compute_extend_volume", true};
}

Result<void> extend_volume_task(NodeServices& services, const Operation& operation,
                                const std::string& volume_id);
Result<void> remove_volume_connection_task(NodeServices& services, const RequestContext& context,
                                           const std::string& uuid, const std::string& volume_id,
                                           bool delete_attachment);
// A back end was started anew: the guest gets a connection to it.
Result<void> volume_restarted_task(NodeServices& services, const std::string& uuid,
                                   const std::string& volume_id);

// What a journal entry's steps say about the volumes of its verb.
std::vector<std::string> journaled_volumes(const std::vector<std::string>& steps);

}  // namespace kumoi::compute
