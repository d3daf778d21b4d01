#include "hypervisor/virtio/rng.h"

#include <algorithm>

namespace kumoi::hypervisor {

void VirtioRng::read_config(uint32_t /*offset*/, std::span<uint8_t> out) const {
    read_config_bytes({}, 0, out);  // §5.4.4: no configuration
}

DeviceStatistics VirtioRng::statistics() const {
    return {{"requests", requests_.value()},
            {"bytes", bytes_.value()},
            {"malformed_chains", malformed_.value()}};
}

void VirtioRng::process_queue(Queue& queue) {
    while (auto chain = queue.next_chain()) {
        // §5.4.6.1: one or more device-writable buffers, nothing else.
        if (!chain->readable().empty() || chain->writable().empty()) {
            malformed_.increment();
            continue;
        }
        requests_.increment();
        chain->add_used(fill(*chain));
    }
}

uint32_t VirtioRng::fill(const Chain& chain) {
    size_t left = kFillBytesMax;
    for (const Descriptor& descriptor : chain.writable()) {
        const size_t count = std::min(left, descriptor.bytes.size());
        random_.fill(descriptor.bytes.first(count));
        left -= count;
    }
    bytes_.increment(kFillBytesMax - left);
    return static_cast<uint32_t>(kFillBytesMax - left);
}

}  // namespace kumoi::hypervisor
