// MemoryHost: the system calls that decide how guest RAM is backed: file, huge pages, the host's
// NUMA node, pages made in advance. Behind an interface, because few hosts have all of it: tests
// look at what would be asked of a bigger one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::hypervisor {

class MemoryHost {
public:
    virtual ~MemoryHost() = default;
    // An empty memory file of 4 KiB pages, or of huge pages of `huge_page_size` bytes.
    virtual Result<UniqueFd> make_file(uint64_t huge_page_size) = 0;
    virtual Result<void> use_transparent_huge_pages(std::span<std::byte> memory) = 0;
    // Pages of this range come from that node only.
    virtual Result<void> bind(std::span<std::byte> memory, uint32_t host_node) = 0;
    // Every page is there, writable, when this has returned.
    virtual Result<void> populate(std::span<std::byte> memory) = 0;
};

MemoryHost& system_memory_host();

}  // namespace kumoi::hypervisor
