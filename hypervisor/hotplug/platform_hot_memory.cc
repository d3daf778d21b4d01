#include "hypervisor/hotplug/platform_hot_memory.h"

#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

PlatformHotMemory::PlatformHotMemory(Platform& platform)
    : platform_(platform),
      plan_(platform.memory().hot()),
      mapped_(plan_.size == 0 ? 0 : plan_.size / plan_.block_size) {}

Result<void> PlatformHotMemory::plug(uint32_t block) {
    GuestMemory& memory = platform_.memory();
    TRY(memory.plug_hot(block));
    auto mapped = platform_.map_memory(plan_.base + block * plan_.block_size,
                                       memory.hot_bytes(block), GuestAccess::ReadWrite);
    if (!mapped) {
        TRY(memory.unplug_hot(block));
        return mapped.error();
    }
    mapped_[block] = std::move(mapped).value();
    return {};
}

Result<void> PlatformHotMemory::unplug(uint32_t block) {
    mapped_[block].reset();
    return platform_.memory().unplug_hot(block);
}

}  // namespace kumoi::hypervisor
