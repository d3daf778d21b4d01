// PlatformHotMemory: blocks of the machine's hot memory region, shown to the guest one by one: a
// plugged block is a memory slot of the platform; an unplugged one is nothing, so that an access to
// it is an access to an empty address. The I/O thread of virtio-mem, or the loop while that stands.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "hypervisor/board/platform.h"
#include "hypervisor/memory/hot_memory.h"

namespace kumoi::hypervisor {

class PlatformHotMemory final : public HotMemory {
public:
    // Told what memory there is: after some came, before some goes. On the caller's thread.
    using Changed = std::function<Result<void>(const std::vector<MemoryRegion>&)>;
    explicit PlatformHotMemory(Platform& platform, Changed changed = {});

    uint64_t base() const override { return plan_.base; }
    uint64_t block_size() const override { return plan_.block_size; }
    uint32_t block_count() const override { return static_cast<uint32_t>(mapped_.size()); }
    Result<void> plug(uint32_t block, HotContent content) override;
    Result<void> unplug(uint32_t block) override;

private:
    Result<void> tell(uint32_t without) const;

    Platform& platform_;
    const Changed changed_;
    const HotMemoryPlan plan_;
    std::vector<std::unique_ptr<MappedMemory>> mapped_;  // by block
};

}  // namespace kumoi::hypervisor
