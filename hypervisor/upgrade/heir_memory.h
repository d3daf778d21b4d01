// HeirMemoryHost: a MemoryHost whose file is the memory of an older process of the machine, where
// that has been inherited. Loop thread.
#pragma once

#include "hypervisor/memory/memory_host.h"
#include "hypervisor/upgrade/heritage.h"

namespace kumoi::hypervisor {

class HeirMemoryHost final : public MemoryHost {
public:
    // `heritage` may be null: then it is `host`.
    HeirMemoryHost(MemoryHost& host, Heritage* heritage) : host_(host), heritage_(heritage) {}

    // Invalid: the inherited memory has pages of another size.
    Result<UniqueFd> make_file(uint64_t huge_page_size) override;
    Result<void> use_transparent_huge_pages(std::span<std::byte> memory) override {
        return host_.use_transparent_huge_pages(memory);
    }
    Result<void> bind(std::span<std::byte> memory, uint32_t host_node) override {
        return host_.bind(memory, host_node);
    }
    Result<void> populate(std::span<std::byte> memory) override { return host_.populate(memory); }
    // The machine's memory was made, for the next process.
    void remember(int file);

private:
    MemoryHost& host_;
    Heritage* heritage_;
};

}  // namespace kumoi::hypervisor
