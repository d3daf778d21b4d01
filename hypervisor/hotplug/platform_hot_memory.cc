#include "hypervisor/hotplug/platform_hot_memory.h"

#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

PlatformHotMemory::PlatformHotMemory(Platform& platform)
    : platform_(platform),
      plan_(platform.memory().hot()),
      mapped_(plan_.size == 0 ? 0 : plan_.size / plan_.block_size) {}

Result<void> PlatformHotMemory::plug(uint32_t block, HotContent content) {
    GuestMemory& memory = platform_.memory();
    TRY(memory.plug_hot(block, content));
    auto mapped = platform_.map_memory(plan_.base + block * plan_.block_size,
                                       memory.hot_bytes(block), GuestAccess::ReadWrite);
    if (!mapped) {
        TRY(memory.unplug_hot(block));
        return std::move(mapped).error();
    }
    mapped_[block] = std::move(mapped).value();
    return {};
}

// The guest's view goes first, so that it cannot touch a page anew once they are given back. A save
// cannot begin meanwhile: it waits for the device's thread.
Result<void> PlatformHotMemory::unplug(uint32_t block) {
    TRY(platform_.memory().check_discard());
    mapped_[block].reset();
    return platform_.memory().unplug_hot(block);
}

}  // namespace kumoi::hypervisor
