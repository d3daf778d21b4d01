#include "compute/driver/guest_resources.h"

#include <algorithm>
#include <array>
#include <optional>

#include "compute/driver/extra_spec.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kSharesOfVcpu = 1024;
constexpr int64_t kSharesMin = 2;
constexpr int64_t kSharesMax = 262'144;
constexpr int64_t kPeriodMin = 1'000;  // us
constexpr int64_t kPeriodMax = 1'000'000;
constexpr int64_t kTopologyMax = 65'536;    // Nova's "no limit"
constexpr int64_t kProcessesBeside = 1024;  // threads of devices, of saves
constexpr std::array<const char*, 3> kParts = {"sockets", "cores", "threads"};

using Topology = std::array<int64_t, 3>;  // sockets, cores of each, threads of each; 0: not given

// --- Topology, as nova.virt.hardware chooses it ---

using Spec = std::optional<ExtraSpec> (*)(const Instance&, const std::string&);

Result<Topology> read_topology(const Instance& instance, Spec spec, const std::string& prefix) {
    Topology topology{};
    for (size_t i = 0; i < kParts.size(); ++i) {
        if (const auto property = spec(instance, prefix + kParts[i])) {
            topology[i] = TRY(property->number(1, kTopologyMax));
        }
    }
    return topology;
}

// An image may lower a flavor's maximum, never raise it.
Result<Topology> maxima(const Instance& instance) {
    Topology flavor = TRY(read_topology(instance, flavor_spec, "hw:cpu_max_"));
    const Topology image = TRY(read_topology(instance, image_spec, "hw_cpu_max_"));
    for (size_t i = 0; i < kParts.size(); ++i) {
        if (flavor[i] != 0 && image[i] > flavor[i]) {
            return Error::invalid(
                       "Image property hw_cpu_max_{0}={1} is above the flavor's "
                       "hw:cpu_max_{0}={2}",
                       kParts[i], image[i], flavor[i])
                .with_fault("ImageVCPULimitsRangeExceeded");
        }
        if (image[i] != 0) {
            flavor[i] = image[i];
        }
    }
    return flavor;
}

// What the image prefers counts before what the flavor does.
Result<Topology> preferred(const Instance& instance, const Topology& maximum) {
    Topology wanted = TRY(read_topology(instance, image_spec, "hw_cpu_"));
    if (wanted == Topology{}) {
        wanted = TRY(read_topology(instance, flavor_spec, "hw:cpu_"));
    }
    for (size_t i = 0; i < kParts.size(); ++i) {
        if (maximum[i] != 0 && wanted[i] > maximum[i]) {
            return Error::invalid("{} CPU {} are asked for; at most {} are allowed", wanted[i],
                                  kParts[i], maximum[i])
                .with_hint("Lower hw_cpu_* of the image, or raise hw:cpu_max_* of the flavor.")
                .with_fault("ImageVCPUTopologyRangeExceeded");
        }
    }
    return wanted;
}

int matches(const Topology& candidate, const Topology& wanted) {
    int count = 0;
    for (size_t i = 0; i < kParts.size(); ++i) {
        count += candidate[i] == wanted[i] ? 1 : 0;
    }
    return count;
}

// Of all that make up the vCPUs within the maxima: most of what was preferred, then most sockets,
// then most cores.
std::optional<Topology> best(int64_t vcpus, const Topology& maximum, const Topology& wanted) {
    std::optional<Topology> chosen;
    const auto fits = [&](int64_t value, size_t part) {
        return maximum[part] == 0 || value <= maximum[part];
    };
    for (int64_t sockets = vcpus; sockets >= 1; --sockets) {
        if (vcpus % sockets != 0) {
            continue;
        }
        for (int64_t cores = vcpus / sockets; cores >= 1; --cores) {
            if ((vcpus / sockets) % cores != 0) {
                continue;
            }
            const Topology candidate = {sockets, cores, vcpus / sockets / cores};
            const bool possible =
                fits(candidate[0], 0) && fits(candidate[1], 1) && fits(candidate[2], 2);
            if (possible && (!chosen || matches(candidate, wanted) > matches(*chosen, wanted))) {
                chosen = candidate;
            }
        }
    }
    return chosen;
}

// kumoi-vmm's rule: APIC ids are the vCPUs' numbers.
Result<void> check_possible(const Topology& topology) {
    const auto power_of_two = [](int64_t value) { return (value & (value - 1)) == 0; };
    if (topology[2] > 8 || !power_of_two(topology[2]) ||
        (topology[0] > 1 && !power_of_two(topology[1]))) {
        return Error::unsupported(
                   "{} sockets of {} cores of {} threads are not possible here: threads, and "
                   "cores of several sockets, must be powers of two",
                   topology[0], topology[1], topology[2])
            .with_hint("Choose other hw:cpu_sockets, hw:cpu_cores and hw:cpu_threads.")
            .with_fault("InvalidInput");
    }
    return {};
}

// Nothing: the machine's own, one socket of as many cores as there are vCPUs.
Result<std::optional<Topology>> topology(const Instance& instance) {
    const Topology maximum = TRY(maxima(instance));
    const Topology wanted = TRY(preferred(instance, maximum));
    if (maximum == Topology{} && wanted == Topology{}) {
        return std::optional<Topology>();
    }
    const int64_t vcpus = std::min(instance.flavor.vcpus, kTopologyMax);  // more run nowhere
    const auto chosen = best(vcpus, maximum, wanted);
    if (!chosen) {
        return Error::invalid("{} vCPUs do not fit in {} sockets of {} cores of {} threads",
                              instance.flavor.vcpus, maximum[0], maximum[1], maximum[2])
            .with_hint("Raise hw:cpu_max_*, or lower the flavor's vCPUs.")
            .with_fault("ImageVCPULimitsRangeImpossible");
    }
    TRY(check_possible(*chosen));
    return chosen;
}

// --- Limits ---

Result<CgroupLimits> cpu_limits(const Instance& instance) {
    CgroupLimits limits;
    if (const auto shares = flavor_spec(instance, "quota:cpu_shares")) {
        limits.cpu_shares = static_cast<uint64_t>(TRY(shares->number(kSharesMin, kSharesMax)));
    }
    if (const auto period = flavor_spec(instance, "quota:cpu_period")) {
        limits.cpu_period_us = static_cast<uint64_t>(TRY(period->number(kPeriodMin, kPeriodMax)));
    }
    if (const auto quota = flavor_spec(instance, "quota:cpu_quota")) {
        const int64_t value = TRY(quota->number(-1, int64_t{1} << 40));
        if (value >= 0 && value < kPeriodMin) {
            return quota->invalid("a quota is at least 1000 us, or -1 for none");
        }
        limits.cpu_quota_us = value;
    }
    return limits;
}

}  // namespace

Result<void> check_guest_resources(const Instance& instance) {
    TRY(topology(instance));
    TRY(cpu_limits(instance));
    return {};
}

void add_guest_resources(Json& guest, const Instance& instance) {
    if (const auto chosen = topology(instance); chosen.ok() && *chosen) {
        const auto& [sockets, cores, threads] = **chosen;
        guest["cpu"].set(
            "topology",
            Json::object({{"sockets", sockets}, {"cores", cores}, {"threads", threads}}));
    }
}

GuestLimits guest_limits(const Instance& instance, int64_t overhead_mib) {
    GuestLimits limits;
    limits.required = cpu_limits(instance).value_or({});
    if (!limits.required.cpu_shares) {
        limits.wished.cpu_shares = static_cast<uint64_t>(
            std::clamp(instance.flavor.vcpus * kSharesOfVcpu, kSharesMin, kSharesMax));
    }
    if (overhead_mib > 0) {
        const int64_t ram = instance.flavor.memory_mb;
        limits.wished.memory_bytes = static_cast<uint64_t>(ram + ram / 64 + overhead_mib) << 20;
    }
    limits.wished.pids = static_cast<uint64_t>(instance.flavor.vcpus + kProcessesBeside);
    return limits;
}

}  // namespace kumoi::compute
