#include "compute/driver/guest_memory_specs.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>
#include <set>

#include "base/file.h"
#include "compute/driver/cpu_set.h"
#include "compute/driver/extra_spec.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kNodesMax = 64;
constexpr uint64_t kHugePageKib = 2048;
constexpr uint64_t kGiantPageKib = 1u << 20;
constexpr size_t kSmallFileMax = 1u << 16;

// --- Pages ---

struct PageSize {
    uint64_t kib = 0;        // 0: ordinary pages
    bool negotiable = true;  // an image may choose
};

Result<PageSize> parse_page_size(const ExtraSpec& spec) {
    if (spec.value == "any" || spec.value == "small") {
        return PageSize{0, spec.value == "any"};
    }
    if (spec.value == "large") {
        return PageSize{kHugePageKib, true};
    }
    uint64_t value = 0;
    const char* const end = spec.value.data() + spec.value.size();
    const auto parsed = std::from_chars(spec.value.data(), end, value);
    const std::string_view unit(parsed.ptr, static_cast<size_t>(end - parsed.ptr));
    const uint64_t factor = unit.empty() || unit == "KB" || unit == "KiB" ? 1
                            : unit == "MB" || unit == "MiB"               ? 1024
                            : unit == "GB" || unit == "GiB"               ? 1024 * 1024
                                                                          : 0;
    const bool number = parsed.ec == std::errc() && value <= kGiantPageKib;
    const uint64_t kib = number ? value * factor : 0;
    if (kib != 4 && kib != kHugePageKib && kib != kGiantPageKib) {
        return spec.invalid("expected small, large, any, 4KB, 2MB or 1GB");
    }
    return PageSize{kib == 4 ? 0 : kib, false};
}

// As Nova: an image may choose where the flavor leaves it the choice.
Result<uint64_t> page_size_kib(const Instance& instance) {
    const auto flavor = flavor_spec(instance, "hw:mem_page_size");
    const auto image = image_spec(instance, "hw_mem_page_size");
    const PageSize wanted = flavor ? TRY(parse_page_size(*flavor)) : PageSize{};
    uint64_t kib = wanted.kib;
    if (image) {
        const PageSize chosen = TRY(parse_page_size(*image));
        const bool allowed = flavor ? wanted.negotiable : chosen.kib == 0;
        if (!allowed && chosen.kib != wanted.kib) {
            return image->invalid("the flavor's hw:mem_page_size does not allow it")
                .with_fault("MemoryPageSizeForbidden");
        }
        kib = chosen.kib;
    }
    if (kib != 0 && (static_cast<uint64_t>(instance.flavor.memory_mb) << 10) % kib != 0) {
        return (image ? *image : *flavor)
            .invalid(fmt::format("{} MiB of memory are not whole pages of {} MiB",
                                 instance.flavor.memory_mb, kib >> 10));
    }
    return kib;
}

// --- Nodes ---

struct Node {
    std::vector<int64_t> cpus;
    int64_t memory_mb = 0;
};

Result<std::vector<int64_t>> cpu_list(const ExtraSpec& spec, int64_t vcpus) {
    const auto cpus = parse_cpu_set(spec.value, vcpus - 1);
    if (!cpus.ok()) {
        return spec.invalid(cpus.error().message);
    }
    return std::vector<int64_t>(cpus->begin(), cpus->end());
}

Result<void> check_nodes(const std::vector<Node>& nodes, const Flavor& flavor) {
    std::set<int64_t> seen;
    int64_t memory = 0;
    for (const Node& node : nodes) {
        memory += node.memory_mb;
        for (const int64_t cpu : node.cpus) {
            if (!seen.insert(cpu).second) {
                return Error::invalid("vCPU {} is in two of the NUMA nodes of flavor {}", cpu,
                                      flavor.name)
                    .with_fault("ImageNUMATopologyCPUDuplicates");
            }
        }
    }
    const bool described = std::ranges::all_of(
        nodes, [](const Node& node) { return node.memory_mb > 0 && !node.cpus.empty(); });
    if (!described || memory != flavor.memory_mb ||
        static_cast<int64_t>(seen.size()) != flavor.vcpus) {
        return Error::invalid(
                   "the NUMA nodes of flavor {} have {} vCPUs and {} MiB; the flavor has {} and {}",
                   flavor.name, seen.size(), memory, flavor.vcpus, flavor.memory_mb)
            .with_hint("Give hw:numa_cpus.N and hw:numa_mem.N for each node, or for none.")
            .with_fault("ImageNUMATopologyIncomplete");
    }
    return {};
}

Result<std::vector<Node>> divided(const ExtraSpec& spec, int64_t count, const Flavor& flavor) {
    if (flavor.vcpus % count != 0 || flavor.memory_mb % count != 0) {
        return spec
            .invalid(fmt::format("{} vCPUs and {} MiB cannot be divided evenly", flavor.vcpus,
                                 flavor.memory_mb))
            .with_fault("ImageNUMATopologyAsymmetric");
    }
    std::vector<Node> nodes(static_cast<size_t>(count));
    int64_t next = 0;
    for (Node& node : nodes) {
        node.memory_mb = flavor.memory_mb / count;
        node.cpus.resize(static_cast<size_t>(flavor.vcpus / count));
        std::iota(node.cpus.begin(), node.cpus.end(), next);
        next += flavor.vcpus / count;
    }
    return nodes;
}

// As Nova: all nodes described, or none and the division even.
Result<std::vector<Node>> numa_nodes(const Instance& instance) {
    const auto spec = flavor_or_image(instance, "hw:numa_nodes", "hw_numa_nodes");
    if (!spec) {
        return std::vector<Node>();
    }
    const Flavor& flavor = instance.flavor;
    const int64_t count = TRY(spec->number(1, std::min(kNodesMax, flavor.vcpus)));
    std::vector<Node> nodes(static_cast<size_t>(count));
    bool described = false;
    for (int64_t i = 0; i < count; ++i) {
        Node& node = nodes[static_cast<size_t>(i)];
        const auto cpus = flavor_or_image(instance, fmt::format("hw:numa_cpus.{}", i),
                                          fmt::format("hw_numa_cpus.{}", i));
        const auto memory = flavor_or_image(instance, fmt::format("hw:numa_mem.{}", i),
                                            fmt::format("hw_numa_mem.{}", i));
        if (cpus) {
            node.cpus = TRY(cpu_list(*cpus, flavor.vcpus));
        }
        if (memory) {
            node.memory_mb = TRY(memory->number(1, flavor.memory_mb));
        }
        described = described || cpus || memory;
    }
    if (!described) {
        return divided(*spec, count, flavor);
    }
    TRY(check_nodes(nodes, flavor));
    return nodes;
}

std::string list_of(const std::vector<int64_t>& cpus) {
    std::string text;
    for (const int64_t cpu : cpus) {
        text += fmt::format("{}{}", text.empty() ? "" : ",", cpu);
    }
    return text;
}

void add_nodes(Json& guest, const std::vector<Node>& nodes, int64_t vcpus,
               const std::vector<HostNumaNode>& host) {
    const bool bound = host.size() > 1 && nodes.size() <= host.size();
    Json list = Json::array();
    std::vector<std::string> affinity(static_cast<size_t>(vcpus));
    for (size_t i = 0; i < nodes.size(); ++i) {
        Json node =
            Json::object({{"vcpus", list_of(nodes[i].cpus)}, {"memory_mib", nodes[i].memory_mb}});
        if (bound) {
            node.set("host_node", host[i].id);
            for (const int64_t cpu : nodes[i].cpus) {
                affinity[static_cast<size_t>(cpu)] = host[i].cpus;
            }
        }
        list.push_back(std::move(node));
    }
    guest.set("numa", std::move(list));
    if (bound) {
        guest.set("vcpu", Json::object({{"affinity", Json::array_of(affinity)}}));
    }
}

}  // namespace

std::vector<HostNumaNode> host_numa_nodes(const std::string& folder) {
    std::vector<HostNumaNode> nodes;
    const auto names = list_directory(folder);
    if (!names.ok()) {
        return nodes;
    }
    for (const std::string& name : *names) {
        HostNumaNode node;
        const char* const end = name.data() + name.size();
        if (!name.starts_with("node") ||
            std::from_chars(name.data() + 4, end, node.id).ptr != end || name.size() == 4) {
            continue;
        }
        const auto cpus = read_file(folder + "/" + name + "/cpulist", kSmallFileMax);
        node.cpus = cpus.ok() ? cpus->substr(0, cpus->find('\n')) : "";
        if (!node.cpus.empty()) {
            nodes.push_back(std::move(node));
        }
    }
    std::ranges::sort(nodes, {}, &HostNumaNode::id);
    return nodes;
}

Result<void> check_guest_memory(const Instance& instance) {
    const uint64_t page = TRY(page_size_kib(instance));
    for (const Node& node : TRY(numa_nodes(instance))) {
        if (page != 0 && (static_cast<uint64_t>(node.memory_mb) << 10) % page != 0) {
            return Error::invalid("a NUMA node of {} MiB is not whole pages of {} MiB",
                                  node.memory_mb, page >> 10)
                .with_hint("Change hw:numa_mem.N, or hw:mem_page_size.")
                .with_fault("InvalidInput");
        }
    }
    return {};
}

void add_guest_memory(Json& guest, const Instance& instance,
                      const std::vector<HostNumaNode>& host) {
    if (const auto kib = page_size_kib(instance); kib.ok() && *kib != 0) {
        guest.set("memory", Json::object({{"page_size_kib", *kib}, {"prealloc", true}}));
    }
    if (const auto nodes = numa_nodes(instance); nodes.ok() && !nodes->empty()) {
        add_nodes(guest, *nodes, instance.flavor.vcpus, host);
    }
}

}  // namespace kumoi::compute
