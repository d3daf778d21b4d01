#include "compute/driver/cpu_pinning.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "compute/driver/extra_spec.h"

namespace kumoi::compute {
namespace {

// vcpu.affinity of a guest.json, one set a list; empty when there is none or it is no such thing.
std::vector<CpuSet> affinity_of(const Json& guest) {
    std::vector<CpuSet> lists;
    const Json* affinity = guest.is_object() ? guest.find_path({"vcpu", "affinity"}) : nullptr;
    if (affinity == nullptr || !affinity->is_array()) {
        return lists;
    }
    for (const Json& item : affinity->as_array()) {
        const auto parsed = parse_cpu_set(item.is_string() ? item.as_string() : "");
        lists.push_back(parsed.ok() ? *parsed : CpuSet{});
    }
    return lists;
}

// Only a list of one processor of the dedicated set is an allocation.
std::optional<int64_t> allocated(const CpuSet& list, const CpuSet& dedicated) {
    return list.size() == 1 && dedicated.contains(*list.begin()) ? std::optional(*list.begin())
                                                                 : std::nullopt;
}

CpuSet free_cpus(const CpuPools& pools, const std::vector<Json>& others) {
    CpuSet left = pools.dedicated;
    for (const Json& other : others) {
        for (const CpuSet& list : affinity_of(other)) {
            if (const auto cpu = allocated(list, pools.dedicated)) {
                left.erase(*cpu);
            }
        }
    }
    return left;
}

// The one it had, else the lowest that is free and, where NUMA nodes bind it, in its list.
std::optional<int64_t> choose(CpuSet& left, const CpuSet* before, const CpuSet* within) {
    const auto fits = [&](int64_t cpu) { return within == nullptr || within->contains(cpu); };
    std::optional<int64_t> chosen;
    if (before != nullptr && before->size() == 1 && left.contains(*before->begin()) &&
        fits(*before->begin())) {
        chosen = *before->begin();
    } else if (const auto found = std::ranges::find_if(left, fits); found != left.end()) {
        chosen = *found;
    }
    if (chosen) {
        left.erase(*chosen);
    }
    return chosen;
}

Result<void> assign_dedicated(Json& guest, const Instance& instance, const CpuPools& pools,
                              const Json& mine, const std::vector<Json>& others) {
    CpuSet left = free_cpus(pools, others);
    const size_t free_count = left.size();
    const auto vcpus = static_cast<size_t>(instance.flavor.vcpus);
    const auto within = affinity_of(guest);  // of the guest's NUMA nodes
    auto before = affinity_of(mine);
    if (before.size() != vcpus) {
        before.clear();
    }
    std::vector<std::string> lists;
    CpuSet own;
    for (size_t vcpu = 0; vcpu < vcpus; ++vcpu) {
        const auto cpu = choose(left, before.empty() ? nullptr : &before[vcpu],
                                vcpu < within.size() ? &within[vcpu] : nullptr);
        if (!cpu) {
            return Error::exhausted(
                       "{} dedicated processors are asked for; {} of the {} of this host ({}) are "
                       "free{}",
                       vcpus, free_count, pools.dedicated.size(), format_cpu_set(pools.dedicated),
                       within.empty() ? "" : ", not all in the NUMA nodes they must be in")
                .with_hint(
                    "Delete a server with hw:cpu_policy=dedicated, or extend [compute] "
                    "cpu_dedicated_set.")
                .with_fault("ComputeResourcesUnavailable");
        }
        lists.push_back(std::to_string(*cpu));
        own.insert(*cpu);
    }
    guest.set("vcpu", Json::object({{"affinity", Json::array_of(lists)}}));
    guest.set("io_affinity", format_cpu_set(own));
    return {};
}

// NUMA nodes may have said where vCPUs belong: there, as far as that is in the shared set.
void assign_shared(Json& guest, const CpuSet& shared) {
    auto lists = affinity_of(guest);
    if (lists.empty()) {
        lists.emplace_back();
    }
    std::vector<std::string> texts;
    for (const CpuSet& list : lists) {
        CpuSet both;
        std::ranges::set_intersection(list, shared, std::inserter(both, both.end()));
        texts.push_back(format_cpu_set(both.empty() ? shared : both));
    }
    guest.set("vcpu", Json::object({{"affinity", Json::array_of(texts)}}));
    guest.set("io_affinity", format_cpu_set(shared));
}

}  // namespace

// nova.virt.hardware.get_cpu_policy_constraint: the flavor decides where it says anything.
Result<void> check_cpu_policy(const Instance& instance) {
    const auto flavor = flavor_spec(instance, "hw:cpu_policy");
    const auto image = image_spec(instance, "hw_cpu_policy");
    for (const auto& spec : {flavor, image}) {
        if (spec && spec->value != "shared" && spec->value != "dedicated") {
            return spec->invalid("expected shared or dedicated");
        }
    }
    if (flavor && image && flavor->value == "shared" && image->value == "dedicated") {
        return image->invalid("the flavor's hw:cpu_policy does not allow it")
            .with_fault("ImageCPUPinningForbidden");
    }
    const auto threads = flavor_or_image(instance, "hw:cpu_thread_policy", "hw_cpu_thread_policy");
    if (threads && threads->value != "prefer") {
        return threads->invalid("only 'prefer' is possible here");
    }
    return {};
}

bool wants_dedicated_cpus(const Instance& instance) {
    const auto policy = flavor_or_image(instance, "hw:cpu_policy", "hw_cpu_policy");
    return policy && policy->value == "dedicated";
}

Result<void> assign_cpus(Json& guest, const Instance& instance, const CpuPools& pools,
                         const Json& mine, const std::vector<Json>& others) {
    if (wants_dedicated_cpus(instance)) {
        return assign_dedicated(guest, instance, pools, mine, others);
    }
    if (!pools.shared.empty()) {
        assign_shared(guest, pools.shared);
    }
    return {};
}

}  // namespace kumoi::compute
