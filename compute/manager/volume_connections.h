// The volumes of a server as the other verbs need them: connected before a guest starts, given back
// when it leaves the host or is deleted. Nothing happens where the cloud has no volumes
// (NodeServices::volumes is null). Every function may be repeated after a crash.
#pragma once

#include <string>
#include <vector>

#include "compute/block_device.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

// Those records of a server that are volumes.
Result<std::vector<BlockDevice>> volumes_of(NodeServices& services, const RequestContext& context,
                                            const std::string& uuid);

// As recorded: back ends run, and the driver knows the disks. Before every start of a guest whose
// volumes are attached to this host: power on, reboot, rescue, resume, revert here.
Result<void> connect_volumes(NodeServices& services, const RequestContext& context,
                             const Instance& instance);
// The host's side alone: back ends end. Goes on after a failure and returns the first.
Result<void> disconnect_volumes(NodeServices& services, const Instance& instance);

// A server arrives on this host (build, unshelve, finish_resize): its reserving attachments get
// this host's connector, and what they answer is recorded. The driver is not told: it is given the
// disks with the guest.
Result<std::vector<VolumeDisk>> attach_volumes(NodeServices& services,
                                               const RequestContext& context,
                                               const Instance& instance);
// A server leaves this host and stays (shelve offload, resize's source, failed arrival): its
// attachments only reserve from now on.
Result<void> reserve_volumes(NodeServices& services, const RequestContext& context,
                             const Instance& instance);
// A server is deleted or its build given up: attachments go, and volumes that were to go with it.
// What Cinder does not do is logged, as in Nova.
// All that Cinder counts as the server's.
Result<void> delete_attachments(NodeServices& services, const RequestContext& context,
                                const std::string& uuid);
void release_volumes(NodeServices& services, const RequestContext& context,
                     const Instance& instance, bool delete_volumes);

// Cinder's attachments of a server that no record of it names.
Result<void> delete_unrecorded_attachments(NodeServices& services, const RequestContext& context,
                                           const std::string& uuid);

// A server is about to come here and still runs elsewhere: one more attachment, with this host's
// connector, not complete yet; recorded, and its back end runs.
Result<VolumeDisk> connect_arriving_volume(NodeServices& services, const RequestContext& context,
                                           const Instance& instance, BlockDevice& device);
// A live migration that ended where it began: `device` has the other host's attachment and gets
// this host's, `old_id`, again; the other one goes. `before`: the records of then, if they are
// known; else Cinder is asked.
Result<void> take_attachment_back(NodeServices& services, const RequestContext& context,
                                  BlockDevice& device, const std::string& old_id,
                                  const std::vector<BlockDevice>& before);

// One volume: attachment updated with this host's connector, back end running, record saved.
// Neither guest nor Cinder's completion.
Result<VolumeDisk> connect_volume(NodeServices& services, const RequestContext& context,
                                  const Instance& instance, BlockDevice& device);
Result<void> reserve_volume(NodeServices& services, const RequestContext& context,
                            const std::string& uuid, BlockDevice& device);
// Those of a server that is made anew where it is: connected as recorded.
Result<std::vector<VolumeDisk>> connected_disks(NodeServices& services,
                                                const RequestContext& context,
                                                const Instance& instance);
VolumeDisk volume_disk(const BlockDevice& device, std::string socket);

}  // namespace kumoi::compute
