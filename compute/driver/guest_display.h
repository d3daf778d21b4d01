// Whether a server has a display, as Nova decides by hw_video_model, hw_video_ram and hw_input_bus:
// there is one when it boots by firmware, and none when a kernel is started directly, which writes
// to the serial console and boots faster without. Pure functions.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "compute/driver/instance_folder.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct DisplayOptions {
    bool enabled = true;  // [vnc] enabled: without it nobody could look
    std::string vgabios;  // option ROM for BIOS guests; empty: none
};

// Refuses models and buses that are not here, naming the property and its value.
Result<void> check_display(const Instance& instance);
// The member "display" of guest.json. `image`: the properties of the image that boots.
std::optional<Json> display_config(const Instance& instance, const Properties& image,
                                   const InstanceFolder& folder, const DisplayOptions& options);

}  // namespace kumoi::compute
