// Config drive: the ISO 9660 image (label config-2) from which cloud-init reads a server's
// metadata. Made by xorriso or genisoimage, whichever is there. Blocking.
#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace kumoi::compute {

// `files`: path -> content, as InstanceMetadata::files() gives them. `to` appears only complete.
Result<void> make_config_drive(const std::map<std::string, std::string>& files,
                               const std::string& to);

}  // namespace kumoi::compute
