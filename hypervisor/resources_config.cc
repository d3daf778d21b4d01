#include "hypervisor/resources_config.h"

#include <algorithm>
#include <charconv>
#include <set>

namespace kumoi::hypervisor {

namespace {

constexpr int64_t kVcpusMax = 1024;

Result<CpuList> cpu_list(const JsonView& view) {
    auto list = parse_cpu_list(TRY(view.as_string()));
    if (!list) {
        return view.error(list.error().message);
    }
    return list;
}

Result<void> parse_affinity(const JsonView& root, ResourcesConfig& config) {
    if (root.has("vcpu")) {
        const JsonView vcpu = TRY(root.object("vcpu"));
        TRY(vcpu.only({"affinity"}));
        for (const JsonView& item : TRY(vcpu.array("affinity"))) {
            config.vcpu_affinity.push_back(TRY(cpu_list(item)));
        }
        const size_t count = config.vcpu_affinity.size();
        if (count != 1 && count != config.vcpus_max) {
            return TRY(vcpu.at("affinity"))
                .error(fmt::format("has {} lists; one for all, or one for each of {} vCPUs", count,
                                   config.vcpus_max));
        }
    }
    if (root.has("io_affinity")) {
        config.io_affinity = TRY(cpu_list(TRY(root.at("io_affinity"))));
    }
    return {};
}

Result<void> parse_topology(const JsonView& root, ResourcesConfig& config) {
    const Json* member = root.json().find_path({"cpu", "topology"});
    if (member == nullptr) {
        return {};
    }
    const JsonView view = TRY(TRY(root.object("cpu")).object("topology"));
    TRY(view.only({"sockets", "cores", "threads"}));
    CpuTopology& topology = config.topology;
    topology.sockets = static_cast<uint32_t>(TRY(view.integer_or("sockets", 1, {1, kVcpusMax})));
    topology.cores = static_cast<uint32_t>(TRY(view.integer_or("cores", 1, {1, kVcpusMax})));
    topology.threads = static_cast<uint32_t>(TRY(view.integer_or("threads", 1, {1, 8})));
    const uint64_t product = uint64_t{topology.sockets} * topology.cores * topology.threads;
    if (product != config.vcpus_max) {
        return view.error(fmt::format("{} sockets of {} cores of {} threads are {} vCPUs, not {}",
                                      topology.sockets, topology.cores, topology.threads, product,
                                      config.vcpus_max));
    }
    return {};
}

}  // namespace

Result<CpuList> parse_cpu_list(const std::string& text) {
    std::set<uint32_t> cpus;
    const char* at = text.data();
    const char* const end = at + text.size();
    const auto fail = [&text] {
        return Error::invalid("\"{}\" is no list of CPU numbers like \"0-3,8\"", text);
    };
    while (at != end) {
        uint32_t first = 0;
        auto parsed = std::from_chars(at, end, first);
        uint32_t last = first;
        if (parsed.ec == std::errc() && parsed.ptr != end && *parsed.ptr == '-') {
            parsed = std::from_chars(parsed.ptr + 1, end, last);
        }
        if (parsed.ec != std::errc() || last < first || last > kCpuNumberMax ||
            (parsed.ptr != end && *parsed.ptr != ',')) {
            return fail();
        }
        for (uint32_t cpu = first; cpu <= last; ++cpu) {
            cpus.insert(cpu);
        }
        at = parsed.ptr == end ? end : parsed.ptr + 1;
        if (parsed.ptr != end && at == end) {
            return fail();  // ends in a comma
        }
    }
    if (cpus.empty()) {
        return fail();
    }
    return CpuList(cpus.begin(), cpus.end());
}

std::string format_cpu_list(const CpuList& cpus) {
    std::string text;
    for (size_t i = 0; i < cpus.size();) {
        size_t last = i;
        while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) {
            ++last;
        }
        text += fmt::format("{}{}", text.empty() ? "" : ",", cpus[i]);
        if (last > i) {
            text += fmt::format("-{}", cpus[last]);
        }
        i = last + 1;
    }
    return text;
}

Result<ResourcesConfig> parse_resources(const JsonView& root, uint32_t vcpus) {
    ResourcesConfig config;
    config.vcpus_max =
        static_cast<uint32_t>(TRY(root.integer_or("vcpus_max", vcpus, {1, kVcpusMax})));
    if (config.vcpus_max < vcpus) {
        return TRY(root.at("vcpus_max"))
            .error(fmt::format("{} is less than the {} vCPUs at boot", config.vcpus_max, vcpus));
    }
    TRY(parse_affinity(root, config));
    TRY(parse_topology(root, config));
    return config;
}

CpuList affinity_of_vcpu(const ResourcesConfig& resources, uint32_t index) {
    if (resources.vcpu_affinity.empty()) {
        return {};
    }
    return resources.vcpu_affinity.size() == 1 ? resources.vcpu_affinity.front()
                                               : resources.vcpu_affinity[index];
}

}  // namespace kumoi::hypervisor
