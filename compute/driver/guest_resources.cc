#include "compute/driver/guest_resources.h"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <optional>
#include <set>
#include <vector>

#include "base/file.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kSharesOfVcpu = 1024;
constexpr uint64_t kSharesMin = 2;
constexpr uint64_t kSharesMax = 262'144;
constexpr int64_t kNodesMax = 64;
constexpr uint64_t kHugePageKib = 2048;
constexpr uint64_t kGiantPageKib = 1'048'576;

struct Property {
    std::string name;
    std::string value;
};

// The flavor decides; the image's property of the same meaning counts where the flavor is silent.
std::optional<Property> find(const Instance& instance, const std::string& spec,
                             const std::string& image_property = {}) {
    if (const auto found = instance.flavor.extra_specs.find(spec);
        found != instance.flavor.extra_specs.end()) {
        return Property{"Extra spec " + spec, found->second};
    }
    if (const auto found = instance.image.properties.find(image_property);
        !image_property.empty() && found != instance.image.properties.end()) {
        return Property{"Image property " + image_property, found->second};
    }
    return std::nullopt;
}

Error invalid(const Property& property, std::string_view why) {
    return Error::invalid("{}={}: {}", property.name, property.value, why)
        .with_hint("Correct the property, or remove it.")
        .with_fault("InvalidInput");
}

Result<int64_t> number(const Property& property, int64_t min, int64_t max) {
    int64_t value = 0;
    const std::string& text = property.value;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < min || value > max) {
        return invalid(property, fmt::format("expected a number from {} to {}", min, max));
    }
    return value;
}

// KiB of a huge page; 0: ordinary pages.
Result<uint64_t> page_size_kib(const Instance& instance) {
    const auto property = find(instance, "hw:mem_page_size", "hw_mem_page_size");
    if (!property || property->value == "any" || property->value == "small") {
        return uint64_t{0};
    }
    const std::string& text = property->value;
    uint64_t kib = 0;
    if (text == "large") {
        kib = kHugePageKib;
    } else {
        uint64_t value = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
        const uint64_t factor = unit.empty() || unit == "KB" || unit == "KiB" ? 1
                                : unit == "MB" || unit == "MiB"               ? 1024
                                : unit == "GB" || unit == "GiB"               ? 1024 * 1024
                                                                              : 0;
        kib = error == std::errc() && value <= kGiantPageKib ? value * factor : 0;
        if (kib == 4) {
            return uint64_t{0};
        }
    }
    if (kib != kHugePageKib && kib != kGiantPageKib) {
        return invalid(*property, "expected small, large, any, 2MB or 1GB");
    }
    if ((static_cast<uint64_t>(instance.flavor.memory_mb) << 10) % kib != 0) {
        return invalid(*property, fmt::format("{} MiB of memory are not whole pages of {} MiB",
                                              instance.flavor.memory_mb, kib >> 10));
    }
    return kib;
}

struct Node {
    std::vector<int64_t> cpus;
    int64_t memory_mb = 0;
};

Result<std::vector<int64_t>> cpu_list(const Property& property, int64_t vcpus) {
    std::set<int64_t> cpus;
    const char* at = property.value.data();
    const char* const end = at + property.value.size();
    while (at != end) {
        int64_t first = 0;
        auto parsed = std::from_chars(at, end, first);
        int64_t last = first;
        if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '-') {
            parsed = std::from_chars(parsed.ptr + 1, end, last);
        }
        const bool more = parsed.ptr != end;
        if (parsed.ec != std::errc() || first < 0 || last < first || last >= vcpus ||
            (more && (*parsed.ptr != ',' || parsed.ptr + 1 == end))) {
            return invalid(property, fmt::format("expected vCPUs below {} like 0-3,8", vcpus));
        }
        for (int64_t cpu = first; cpu <= last; ++cpu) {
            cpus.insert(cpu);
        }
        at = more ? parsed.ptr + 1 : end;
    }
    return std::vector<int64_t>(cpus.begin(), cpus.end());
}

Result<void> check_nodes(const std::vector<Node>& nodes, const Instance& instance) {
    std::set<int64_t> seen;
    int64_t memory = 0;
    for (const Node& node : nodes) {
        memory += node.memory_mb;
        for (const int64_t cpu : node.cpus) {
            if (!seen.insert(cpu).second) {
                return Error::invalid("vCPU {} is in two of the NUMA nodes of flavor {}", cpu,
                                      instance.flavor.name)
                    .with_fault("InvalidInput");
            }
        }
    }
    if (memory != instance.flavor.memory_mb ||
        static_cast<int64_t>(seen.size()) != instance.flavor.vcpus) {
        return Error::invalid(
                   "the NUMA nodes of flavor {} have {} vCPUs and {} MiB; the flavor has {} and {}",
                   instance.flavor.name, seen.size(), memory, instance.flavor.vcpus,
                   instance.flavor.memory_mb)
            .with_hint("Give hw:numa_cpus.N and hw:numa_mem.N for each node, or for none.")
            .with_fault("InvalidInput");
    }
    return {};
}

// As Nova: all nodes described, or none and the division even.
Result<std::vector<Node>> numa_nodes(const Instance& instance) {
    const auto property = find(instance, "hw:numa_nodes", "hw_numa_nodes");
    if (!property) {
        return std::vector<Node>();
    }
    const Flavor& flavor = instance.flavor;
    const int64_t count = TRY(number(*property, 1, std::min(kNodesMax, flavor.vcpus)));
    std::vector<Node> nodes(static_cast<size_t>(count));
    bool described = false;
    for (int64_t i = 0; i < count; ++i) {
        Node& node = nodes[static_cast<size_t>(i)];
        const auto cpus =
            find(instance, fmt::format("hw:numa_cpus.{}", i), fmt::format("hw_numa_cpus.{}", i));
        const auto memory =
            find(instance, fmt::format("hw:numa_mem.{}", i), fmt::format("hw_numa_mem.{}", i));
        if (cpus) {
            node.cpus = TRY(cpu_list(*cpus, flavor.vcpus));
        }
        if (memory) {
            node.memory_mb = TRY(number(*memory, 1, flavor.memory_mb));
        }
        described = described || cpus || memory;
    }
    if (!described) {
        if (flavor.vcpus % count != 0 || flavor.memory_mb % count != 0) {
            return invalid(*property, fmt::format("{} vCPUs and {} MiB cannot be divided evenly",
                                                  flavor.vcpus, flavor.memory_mb));
        }
        for (int64_t i = 0; i < count; ++i) {
            Node& node = nodes[static_cast<size_t>(i)];
            node.memory_mb = flavor.memory_mb / count;
            node.cpus.resize(static_cast<size_t>(flavor.vcpus / count));
            std::iota(node.cpus.begin(), node.cpus.end(), i * (flavor.vcpus / count));
        }
    }
    TRY(check_nodes(nodes, instance));
    for (const Node& node : nodes) {
        if (node.memory_mb % 2 != 0) {
            return invalid(*property,
                           fmt::format("a node of {} MiB is no multiple of 2 MiB", node.memory_mb));
        }
    }
    return nodes;
}

struct Topology {
    int64_t sockets = 0, cores = 0, threads = 0;
};

// What is not given makes up the product: sockets first, as Nova prefers them.
Result<std::optional<Topology>> topology(const Instance& instance) {
    const auto sockets = find(instance, "hw:cpu_sockets", "hw_cpu_sockets");
    const auto cores = find(instance, "hw:cpu_cores", "hw_cpu_cores");
    const auto threads = find(instance, "hw:cpu_threads", "hw_cpu_threads");
    if (!sockets && !cores && !threads) {
        return std::optional<Topology>();
    }
    const int64_t vcpus = instance.flavor.vcpus;
    Topology wanted;
    wanted.sockets = sockets ? TRY(number(*sockets, 1, vcpus)) : 0;
    wanted.cores = cores ? TRY(number(*cores, 1, vcpus)) : 0;
    wanted.threads = threads ? TRY(number(*threads, 1, vcpus)) : 1;
    if (wanted.sockets == 0) {
        wanted.cores = std::max<int64_t>(wanted.cores, 1);
        wanted.sockets = std::max<int64_t>(vcpus / (wanted.cores * wanted.threads), 1);
    } else if (wanted.cores == 0) {
        wanted.cores = std::max<int64_t>(vcpus / (wanted.sockets * wanted.threads), 1);
    }
    if (wanted.sockets * wanted.cores * wanted.threads != vcpus) {
        return Error::invalid("{} sockets of {} cores of {} threads are not the {} vCPUs of {}",
                              wanted.sockets, wanted.cores, wanted.threads, vcpus,
                              instance.flavor.name)
            .with_hint("Correct hw:cpu_sockets, hw:cpu_cores and hw:cpu_threads.")
            .with_fault("InvalidInput");
    }
    const auto power_of_two = [](int64_t value) { return (value & (value - 1)) == 0; };
    if (!power_of_two(wanted.threads) || (wanted.sockets > 1 && !power_of_two(wanted.cores))) {
        return Error::unsupported(
                   "{} sockets of {} cores of {} threads are not possible: threads, and cores of "
                   "several sockets, must be powers of two",
                   wanted.sockets, wanted.cores, wanted.threads)
            .with_fault("InvalidInput");
    }
    return std::optional(wanted);
}

std::optional<int64_t> quota(const Instance& instance, const char* spec) {
    const auto property = find(instance, spec);
    if (!property) {
        return std::nullopt;
    }
    const auto value = number(*property, INT64_MIN, INT64_MAX);
    return value ? std::optional(*value) : std::nullopt;
}

Result<void> check_quotas(const Instance& instance) {
    struct Range {
        const char* spec;
        int64_t min;
        int64_t max;
    };
    constexpr int64_t kMicroseconds = 1'000'000;
    constexpr Range kRanges[] = {
        {"quota:cpu_shares", kSharesMin, kSharesMax},
        {"quota:cpu_period", 1000, kMicroseconds},
        {"quota:cpu_quota", -1, int64_t{1} << 40},
    };
    for (const Range& range : kRanges) {
        if (const auto property = find(instance, range.spec); property) {
            const int64_t value = TRY(number(*property, range.min, range.max));
            if (value >= 0 && value < 1000 && range.min == -1) {
                return invalid(*property, "a quota is at least 1000 us, or -1 for none");
            }
        }
    }
    return {};
}

}  // namespace

Result<void> check_guest_resources(const Instance& instance) {
    const uint64_t page = TRY(page_size_kib(instance));
    for (const Node& node : TRY(numa_nodes(instance))) {
        if (page != 0 && (static_cast<uint64_t>(node.memory_mb) << 10) % page != 0) {
            return Error::invalid("a NUMA node of {} MiB is not whole pages of {} MiB",
                                  node.memory_mb, page >> 10)
                .with_fault("InvalidInput");
        }
    }
    TRY(topology(instance));
    return check_quotas(instance);
}

void add_guest_resources(Json& guest, const Instance& instance, uint32_t host_nodes) {
    if (const auto kib = page_size_kib(instance); kib && *kib != 0) {
        guest.set(
            "memory",
            Json::object({{"backing", "hugetlb"}, {"page_size_kib", *kib}, {"prealloc", true}}));
    }
    if (const auto nodes = numa_nodes(instance); nodes && !nodes->empty()) {
        Json list = Json::array();
        const bool bound = nodes->size() <= host_nodes && host_nodes > 1;
        for (size_t i = 0; i < nodes->size(); ++i) {
            std::string cpus;
            for (const int64_t cpu : (*nodes)[i].cpus) {
                cpus += fmt::format("{}{}", cpus.empty() ? "" : ",", cpu);
            }
            Json node = Json::object({{"memory_mib", (*nodes)[i].memory_mb}});
            if (!cpus.empty()) {
                node.set("cpus", cpus);
            }
            if (bound) {
                node.set("host_node", i);
            }
            list.push_back(std::move(node));
        }
        guest.set("numa", std::move(list));
    }
    if (const auto wanted = topology(instance); wanted && *wanted) {
        guest["cpu"].set("topology", Json::object({{"sockets", (*wanted)->sockets},
                                                   {"cores", (*wanted)->cores},
                                                   {"threads", (*wanted)->threads}}));
    }
}

CgroupLimits guest_limits(const Instance& instance) {
    CgroupLimits limits;
    const auto shares = quota(instance, "quota:cpu_shares");
    const auto wanted = shares ? *shares : instance.flavor.vcpus * kSharesOfVcpu;
    limits.cpu_shares =
        std::clamp(static_cast<uint64_t>(std::max<int64_t>(wanted, 0)), kSharesMin, kSharesMax);
    if (const auto period = quota(instance, "quota:cpu_period"); period) {
        limits.cpu_period_us = static_cast<uint64_t>(*period);
    }
    limits.cpu_quota_us = quota(instance, "quota:cpu_quota");
    return limits;
}

uint32_t count_host_nodes(const std::string& folder) {
    const auto names = list_directory(folder);
    if (!names) {
        return 1;
    }
    const auto count = std::ranges::count_if(*names, [](const std::string& name) {
        return name.size() > 4 && name.starts_with("node") && name[4] >= '0' && name[4] <= '9';
    });
    return static_cast<uint32_t>(std::max<int64_t>(count, 1));
}

}  // namespace kumoi::compute
