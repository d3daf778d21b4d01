#include "hypervisor/memory_config.h"

#include <algorithm>

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kHugePageKib = 2048;
constexpr uint64_t kGiantPageKib = 1u << 20;
constexpr int64_t kPreallocThreadsMax = 16;
constexpr size_t kNodesMax = 64;
constexpr int64_t kHostNodeMax = 1023;
constexpr uint32_t kDistanceLocal = 10;  // ACPI 6.4 §5.2.17
constexpr int64_t kDistanceMax = 255;    // which means unreachable
constexpr uint64_t kMemoryMibMax = 16u << 20;
constexpr int64_t kHotMibMin = 2;

Result<void> parse_backing(const JsonView& view, uint64_t memory_mib, MemoryConfig& config) {
    TRY(view.only({"page_size_kib", "transparent_huge_pages", "prealloc", "prealloc_threads"}));
    const int64_t kib = TRY(view.integer_or("page_size_kib", 4, {4, kGiantPageKib}));
    if (kib != 4) {
        const auto size = static_cast<uint64_t>(kib);
        if (size != kHugePageKib && size != kGiantPageKib) {
            return TRY(view.at("page_size_kib"))
                .error(fmt::format("{} KiB is no page size: 4, {} and {} are", kib, kHugePageKib,
                                   kGiantPageKib));
        }
        if ((memory_mib << 10) % size != 0) {
            return TRY(view.at("page_size_kib"))
                .error(fmt::format("{} MiB of memory are not whole pages of {} MiB", memory_mib,
                                   size >> 10));
        }
        config.page_size = size << 10;
    }
    config.transparent_huge_pages = TRY(view.boolean_or("transparent_huge_pages", false));
    if (config.transparent_huge_pages && config.page_size != 0) {
        return view.error("transparent huge pages are made of ordinary ones");
    }
    config.prealloc = TRY(view.boolean_or("prealloc", false));
    config.prealloc_threads = static_cast<uint32_t>(
        TRY(view.integer_or("prealloc_threads", 1, {1, kPreallocThreadsMax})));
    return {};
}

Result<void> parse_distances(const JsonView& view, size_t index, size_t count,
                             NumaNodeConfig& node) {
    for (const JsonView& item : TRY(view.array("distances"))) {
        node.distances.push_back(
            static_cast<uint32_t>(TRY(item.as_integer({kDistanceLocal, kDistanceMax}))));
    }
    if (node.distances.size() != count) {
        return TRY(view.at("distances"))
            .error(
                fmt::format("has {} distances; there are {} nodes", node.distances.size(), count));
    }
    for (size_t other = 0; other < count; ++other) {
        if ((node.distances[other] == kDistanceLocal) != (other == index)) {
            return TRY(view.at("distances"))
                .error(fmt::format("{} is the distance of a node to itself, and of no other",
                                   kDistanceLocal));
        }
    }
    return {};
}

Result<NumaNodeConfig> parse_node(const JsonView& view, size_t index, size_t count,
                                  uint64_t memory_mib) {
    TRY(view.only({"vcpus", "memory_mib", "host_node", "distances"}));
    NumaNodeConfig node;
    if (view.has("vcpus")) {  // a node may be memory only
        auto list = parse_cpu_list(TRY(view.string("vcpus")));
        if (!list) {
            return TRY(view.at("vcpus")).error(list.error().message);
        }
        node.vcpus = std::move(list).value();
    }
    node.memory_mib = static_cast<uint64_t>(
        TRY(view.integer("memory_mib", {1, static_cast<int64_t>(memory_mib)})));
    if (view.has("host_node")) {
        node.host_node = static_cast<uint32_t>(TRY(view.integer("host_node", {0, kHostNodeMax})));
    }
    if (view.has("distances")) {
        TRY(parse_distances(view, index, count, node));
    }
    return node;
}

Result<void> check_nodes(const JsonView& list, const MemoryConfig& config, uint64_t memory_mib,
                         uint32_t vcpus_max) {
    std::vector<bool> taken(vcpus_max);
    uint64_t memory = 0;
    for (const NumaNodeConfig& node : config.numa) {
        memory += node.memory_mib;
        if (config.page_size != 0 && (node.memory_mib << 20) % config.page_size != 0) {
            return list.error(fmt::format("a node of {} MiB is not whole pages of {} MiB",
                                          node.memory_mib, config.page_size >> 20));
        }
        for (const uint32_t vcpu : node.vcpus) {
            if (vcpu >= vcpus_max || taken[vcpu]) {
                return list.error(fmt::format(
                    "vCPU {} {}", vcpu, vcpu >= vcpus_max ? "does not exist" : "is in two nodes"));
            }
            taken[vcpu] = true;
        }
        if (node.distances.empty() != config.numa.front().distances.empty()) {
            return list.error("distances are given for all nodes, or for none");
        }
    }
    if (memory != memory_mib || std::ranges::find(taken, false) != taken.end()) {
        return list.error(
            fmt::format("the nodes have {} of {} MiB and {} of {} vCPUs; they must have all",
                        memory, memory_mib, std::ranges::count(taken, true), vcpus_max));
    }
    return {};
}

Result<DirtyTracking> parse_tracking(const JsonView& view) {
    const std::string name = TRY(view.as_string());
    if (name == "auto") {
        return DirtyTracking::Auto;
    }
    if (name == "bitmap") {
        return DirtyTracking::Bitmap;
    }
    if (name == "ring") {
        return DirtyTracking::Ring;
    }
    return view.error(fmt::format("\"{}\" is unknown: auto, bitmap or ring", name));
}

}  // namespace

Result<MemoryConfig> parse_memory_config(const JsonView& root, uint64_t memory_mib,
                                         uint32_t vcpus_max) {
    MemoryConfig config;
    if (root.has("memory")) {
        TRY(parse_backing(TRY(root.object("memory")), memory_mib, config));
    }
    if (root.has("numa")) {
        const JsonView list = TRY(root.at("numa"));
        const auto nodes = TRY(root.array("numa"));
        if (nodes.empty() || nodes.size() > kNodesMax) {
            return list.error(
                fmt::format("has {} nodes; 1 to {} are possible", nodes.size(), kNodesMax));
        }
        for (const JsonView& item : nodes) {
            config.numa.push_back(
                TRY(parse_node(item, config.numa.size(), nodes.size(), memory_mib)));
        }
        TRY(check_nodes(list, config, memory_mib, vcpus_max));
    }
    if (root.has("memory_max_mib")) {
        const auto first = static_cast<int64_t>(memory_mib) + kHotMibMin;
        config.max_mib = static_cast<uint64_t>(
            TRY(root.integer("memory_max_mib", {first, static_cast<int64_t>(kMemoryMibMax)})));
        if (config.page_size != 0) {
            return TRY(root.at("memory_max_mib"))
                .error("memory of huge pages cannot grow: leave memory.page_size_kib out");
        }
    }
    if (root.has("dirty_tracking")) {
        config.dirty_tracking = TRY(parse_tracking(TRY(root.at("dirty_tracking"))));
    }
    return config;
}

}  // namespace kumoi::hypervisor
