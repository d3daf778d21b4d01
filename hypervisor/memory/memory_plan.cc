#include "hypervisor/memory/memory_plan.h"

#include <algorithm>
#include <system_error>
#include <thread>

#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/sandbox/thread_class.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint32_t kDistanceLocal = 10;
constexpr uint32_t kDistanceRemote = 20;

// A stretch of the memory file as the guest sees it: in one or two pieces, around the PCI hole.
void add_ranges(std::vector<NumaLayout::Range>& ranges, uint64_t offset, uint64_t size,
                uint32_t node) {
    if (offset < kPciHoleStart) {
        const uint64_t low = std::min(size, kPciHoleStart - offset);
        ranges.push_back({offset, low, node, false});
        offset += low;
        size -= low;
    }
    if (size != 0) {
        ranges.push_back({kHighMemoryStart + (offset - kPciHoleStart), size, node, false});
    }
}

Result<void> populate(std::span<std::byte> memory, uint32_t thread_count, uint64_t granule,
                      MemoryHost& host) {
    const uint64_t share = (memory.size() / thread_count + granule - 1) / granule * granule;
    std::vector<std::span<std::byte>> parts;
    for (size_t at = 0; at < memory.size(); at += share) {
        parts.push_back(memory.subspan(at, std::min<size_t>(share, memory.size() - at)));
    }
    std::vector<Result<void>> results(parts.size());
    std::vector<std::thread> threads;
    for (size_t i = 1; i < parts.size(); ++i) {
        try {
            threads.push_back(start_thread(ThreadClass::Worker,
                                           [&, i] { results[i] = host.populate(parts[i]); }));
        } catch (const std::system_error&) {  // no thread: this one does it
            results[i] = host.populate(parts[i]);
        }
    }
    results[0] = host.populate(parts[0]);
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (Result<void>& result : results) {
        TRY(std::move(result));
    }
    return {};
}

}  // namespace

HotMemoryPlan plan_hot_memory(uint64_t boot_bytes, uint64_t max_bytes) {
    if (max_bytes <= boot_bytes) {
        return {};
    }
    HotMemoryPlan plan;
    const uint64_t wanted = max_bytes - boot_bytes;
    plan.block_size = HotMemoryPlan::kBlockMin;
    while (wanted > plan.block_size * HotMemoryPlan::kBlocksMax) {
        plan.block_size *= 2;
    }
    plan.size = (wanted + plan.block_size - 1) / plan.block_size * plan.block_size;
    const uint64_t ram_end = boot_bytes <= kPciHoleStart
                                 ? kHighMemoryStart
                                 : kHighMemoryStart + (boot_bytes - kPciHoleStart);
    const uint64_t alignment = std::max(HotMemoryPlan::kAlignment, plan.block_size);
    plan.base = (ram_end + alignment - 1) / alignment * alignment;
    return plan;
}

NumaLayout numa_layout(const MemoryConfig& config, uint64_t boot_bytes, uint32_t vcpus_max,
                       const HotMemoryPlan& hot) {
    NumaLayout layout;
    if (config.numa.empty() && hot.size == 0) {
        return layout;
    }
    layout.node_of_cpu.resize(vcpus_max);
    layout.nodes = static_cast<uint32_t>(std::max<size_t>(config.numa.size(), 1));
    if (config.numa.empty()) {
        add_ranges(layout.memory, 0, boot_bytes, 0);
    }
    uint64_t offset = 0;
    for (uint32_t node = 0; node < config.numa.size(); ++node) {
        const NumaNodeConfig& one = config.numa[node];
        add_ranges(layout.memory, offset, one.memory_mib << 20, node);
        offset += one.memory_mib << 20;
        for (const uint32_t vcpu : one.vcpus) {
            layout.node_of_cpu[vcpu] = node;
        }
        std::vector<uint32_t> row(layout.nodes, kDistanceRemote);
        row[node] = kDistanceLocal;
        layout.distances.push_back(one.distances.empty() ? row : one.distances);
    }
    if (hot.size != 0) {
        layout.memory.push_back({hot.base, hot.size, 0, true});
    }
    return layout;
}

Result<void> place_memory(const MemoryConfig& config, std::span<std::byte> memory,
                          MemoryHost& host) {
    if (config.transparent_huge_pages) {
        TRY(host.use_transparent_huge_pages(memory));
    }
    size_t at = 0;
    for (const NumaNodeConfig& node : config.numa) {
        const size_t size = node.memory_mib << 20;
        if (node.host_node) {
            TRY(host.bind(memory.subspan(at, size), *node.host_node));
        }
        at += size;
    }
    return {};
}

Result<void> populate_memory(const MemoryConfig& config, std::span<std::byte> memory,
                             uint32_t threads, MemoryHost& host) {
    if (!config.prealloc) {
        return {};
    }
    constexpr uint64_t kGranule = 2u << 20;
    return populate(memory, threads, std::max(kGranule, config.page_size), host);
}

}  // namespace kumoi::hypervisor
