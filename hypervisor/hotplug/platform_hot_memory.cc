#include "hypervisor/hotplug/platform_hot_memory.h"

#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint32_t kNone = UINT32_MAX;  // no block is about to go

// `all` without the bytes of one block.
std::vector<MemoryRegion> cut_out(std::vector<MemoryRegion> all, uint64_t gpa, uint64_t size) {
    for (auto region = all.begin(); region != all.end(); ++region) {
        if (gpa < region->gpa || gpa - region->gpa >= region->size) {
            continue;
        }
        const uint64_t before = gpa - region->gpa;
        MemoryRegion behind = *region;
        behind.gpa += before + size;
        behind.host += before + size;
        behind.file_offset += before + size;
        behind.size -= before + size;
        region->size = before;
        if (before == 0) {
            region = all.erase(region);
        } else {
            ++region;
        }
        if (behind.size != 0) {
            all.insert(region, behind);
        }
        break;
    }
    return all;
}

}  // namespace

PlatformHotMemory::PlatformHotMemory(Platform& platform, Changed changed)
    : platform_(platform),
      changed_(std::move(changed)),
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
    auto told = tell(kNone);
    if (!told.ok()) {
        mapped.value().reset();
        TRY(memory.unplug_hot(block));
        return told;
    }
    mapped_[block] = std::move(mapped).value();
    return {};
}

// The guest's view goes first, so that it cannot touch a page anew once they are given back. A save
// cannot begin meanwhile: it waits for the device's thread.
Result<void> PlatformHotMemory::unplug(uint32_t block) {
    TRY(platform_.memory().check_discard());
    TRY(tell(block));
    mapped_[block].reset();
    return platform_.memory().unplug_hot(block);
}

Result<void> PlatformHotMemory::tell(uint32_t without) const {
    if (!changed_) {
        return {};
    }
    std::vector<MemoryRegion> regions = platform_.memory().regions();
    auto plugged = platform_.memory().plugged_regions();
    if (without != kNone) {
        plugged =
            cut_out(std::move(plugged), plan_.base + without * plan_.block_size, plan_.block_size);
    }
    regions.insert(regions.end(), plugged.begin(), plugged.end());
    return changed_(regions);
}

}  // namespace kumoi::hypervisor
