#include "hypervisor/vcpu/affinity.h"

#include <sched.h>

#include <cerrno>
#include <cstring>
#include <optional>

namespace kumoi::hypervisor {

namespace {

// CPU_SET(3) is limited to 1024 CPUs and bounds-checks; hosts beyond that are refused by it.
constexpr uint32_t kCpusMax = CPU_SETSIZE;

std::optional<cpu_set_t>& io_mask() {
    static std::optional<cpu_set_t> mask;  // written once, before other threads exist
    return mask;
}

}  // namespace

Result<void> set_thread_affinity(pthread_t thread, const CpuList& cpus) {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    for (const uint32_t cpu : cpus) {
        if (cpu >= kCpusMax) {
            return Error::invalid("host CPU {} does not exist: at most {} are supported", cpu,
                                  kCpusMax);
        }
        CPU_SET(cpu, &mask);
    }
    if (const int error = pthread_setaffinity_np(thread, sizeof mask, &mask); error != 0) {
        return Error::invalid("this process may not run on the host CPUs {}: {}",
                              format_cpu_list(cpus), std::strerror(error))
            .with_hint("see /sys/devices/system/cpu/online and the cpuset of its control group");
    }
    return {};
}

Result<void> set_io_affinity(const CpuList& cpus) {
    if (!cpus.empty()) {
        TRY(set_thread_affinity(pthread_self(), cpus));
    }
    cpu_set_t mask;
    if (const int error = pthread_getaffinity_np(pthread_self(), sizeof mask, &mask); error != 0) {
        return Error::from_errno(error, "asking for the CPUs of this thread");
    }
    io_mask() = mask;
    return {};
}

void use_io_affinity() {
    if (const auto& mask = io_mask(); mask) {
        // Refused only when the CPUs have gone since: then the thread runs where the kernel says.
        pthread_setaffinity_np(pthread_self(), sizeof *mask, &*mask);
    }
}

}  // namespace kumoi::hypervisor
