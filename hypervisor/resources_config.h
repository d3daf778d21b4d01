// ResourcesConfig: how many vCPUs a machine may grow to, what the guest sees of their topology and
// which host CPUs its threads may use (guest.json members vcpus_max, cpu.topology, vcpu,
// io_affinity; docs/reference/resources.md). Plain values, checked against each other when parsed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace kumoi::hypervisor {

// A set of small numbers in the kernel's list format: "0-3,8". Sorted, without duplicates.
using CpuList = std::vector<uint32_t>;
constexpr uint32_t kCpuNumberMax = 8191;
Result<CpuList> parse_cpu_list(const std::string& text);
std::string format_cpu_list(const CpuList& cpus);

struct CpuTopology {
    uint32_t sockets = 0;  // 0: not given; one socket of as many cores as there are vCPUs
    uint32_t cores = 0;    // of a socket
    uint32_t threads = 0;  // of a core
};

struct ResourcesConfig {
    uint32_t vcpus_max = 0;  // 0: as many as at boot
    CpuTopology topology;
    std::vector<CpuList> vcpu_affinity;  // one for each possible vCPU, or one for all, or none
    CpuList io_affinity;                 // of the I/O threads and the loop
};

// Reads the members above from the root object. `vcpus` is what the machine boots with.
Result<ResourcesConfig> parse_resources(const JsonView& root, uint32_t vcpus);

// The host CPUs vCPU `index` may use; empty: any.
CpuList affinity_of_vcpu(const ResourcesConfig& resources, uint32_t index);

}  // namespace kumoi::hypervisor
