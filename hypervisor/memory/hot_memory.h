// HotMemory: the range of guest addresses into which memory blocks are plugged while it runs.
// The virtio-mem device decides what is plugged; the machine makes it true: a block that is not
// plugged is no memory at all, neither for the guest nor for a device that reads for it.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace kumoi::hypervisor {

// Where memory may be plugged: whole blocks, at most kBlocksMax of them.
struct HotMemoryPlan {
    static constexpr uint64_t kBlockMin = 2u << 20;
    static constexpr uint64_t kBlocksMax = 256;       // each takes a memory slot of KVM
    static constexpr uint64_t kAlignment = 1u << 30;  // of the region: what guests' blocks divide
    uint64_t base = 0;                                // guest physical
    uint64_t size = 0;                                // 0: none
    uint64_t block_size = 0;
};

enum class HotContent {
    Zero,  // of a block that comes
    Keep,  // what lies there already is the guest's: it was restored
};

class HotMemory {
public:
    virtual ~HotMemory() = default;
    virtual uint64_t base() const = 0;  // guest physical
    virtual uint64_t block_size() const = 0;
    virtual uint32_t block_count() const = 0;
    // Both are called for blocks of the other state only; after an error the state is the old one.
    virtual Result<void> plug(uint32_t block, HotContent content) = 0;
    virtual Result<void> unplug(uint32_t block) = 0;
};

}  // namespace kumoi::hypervisor
