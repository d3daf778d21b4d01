// Which devices of a server have tags and where they are, kept up to date in its record: before a
// guest is made, and whenever a device comes or goes.
#pragma once

#include <string>
#include <vector>

#include "compute/device_tags.h"
#include "compute/manager/verb.h"

namespace kumoi::compute {

// `records`: of the server's block devices.
Result<std::vector<TaggedDevice>> tagged_devices(NodeServices& services, const Instance& instance,
                                                 const std::vector<BlockDevice>& records);
// The same, saved with the server unless there are none. Without `records`: as they are now.
Result<std::vector<TaggedDevice>> record_tagged_devices(NodeServices& services,
                                                        const RequestContext& context,
                                                        const Instance& instance,
                                                        const std::vector<BlockDevice>& records);
Result<std::vector<TaggedDevice>> record_tagged_devices(NodeServices& services,
                                                        const RequestContext& context,
                                                        const Instance& instance);
// After a device with this tag came or went, which does not fail for want of it. Empty: nothing to
// do.
void renew_tagged_devices(NodeServices& services, const RequestContext& context,
                          const std::string& uuid, const std::string& tag);

}  // namespace kumoi::compute
