#include "hypervisor/virtio/device.h"

#include <algorithm>

namespace kumoi::hypervisor {

void read_config_bytes(std::span<const uint8_t> config, uint32_t offset, std::span<uint8_t> out) {
    for (size_t i = 0; i < out.size(); ++i) {
        const uint64_t at = uint64_t{offset} + i;
        out[i] = at < config.size() ? config[at] : 0;
    }
}

}  // namespace kumoi::hypervisor
