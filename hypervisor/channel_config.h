// The member "channels" of guest.json: named ports of a virtio serial device. Plain values.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::hypervisor {

constexpr size_t kChannelsMax = 4;
constexpr size_t kChannelNameMax = 64;

struct ChannelConfig {
    std::string name;    // /dev/virtio-ports/NAME in a Linux guest
    std::string socket;  // where its bytes come out on the host
};

// `view`: the whole of guest.json.
Result<std::vector<ChannelConfig>> parse_channels(const JsonView& view,
                                                  const std::string& base_directory);

}  // namespace kumoi::hypervisor
