// The volumes of a server that is built (Nova's virt/block_device): made from an image, a snapshot
// or nothing where the request says so, waited for, attached to this host. Any failure aborts the
// build: another host would do no better.
#pragma once

#include <string>
#include <vector>

#include "compute/block_device.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

// `devices` as they are recorded; they get names, volumes and attachments, each recorded at once,
// so that a crash or a failure leaves nothing that the records do not know.
Result<std::vector<VolumeDisk>> build_volumes(NodeServices& services, const Operation& operation,
                                              const Instance& instance,
                                              std::vector<BlockDevice>& devices);

std::string root_device_name(const std::vector<BlockDevice>& devices);  // "": none says so
bool is_volume_backed(const std::vector<BlockDevice>& devices);
// Names for those without one, in their order; the root disk's first (Nova's
// default_device_names_for_instance).
void name_devices(const Instance& instance, std::vector<BlockDevice>& devices);
// The same, and each record that has a name now says so.
Result<void> record_device_names(NodeServices& services, const RequestContext& context,
                                 const Instance& instance, std::vector<BlockDevice>& devices);

}  // namespace kumoi::compute
