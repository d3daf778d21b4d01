#include "scheduler/filter_scheduler.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "base/json.h"
#include "scheduler/filters/availability_zone_filter.h"
#include "scheduler/filters/compute_filter.h"
#include "scheduler/filters/disk_filter.h"
#include "scheduler/filters/ram_filter.h"
#include "scheduler/filters/requested_host_filter.h"
#include "scheduler/filters/server_group_filter.h"
#include "scheduler/filters/vcpu_filter.h"
#include "scheduler/weighers/cpu_weigher.h"
#include "scheduler/weighers/disk_weigher.h"
#include "scheduler/weighers/ram_weigher.h"
#include "scheduler/weighers/soft_affinity_weigher.h"

namespace kumoi::scheduler {
namespace {

template <class T>
std::unique_ptr<Filter> make_filter() {
    return std::make_unique<T>();
}

// Default order: the cheapest and most telling refusals first.
constexpr std::unique_ptr<Filter> (*kFilterFactories[])() = {make_filter<ComputeFilter>,
                                                             make_filter<RequestedHostFilter>,
                                                             make_filter<AvailabilityZoneFilter>,
                                                             make_filter<ServerGroupFilter>,
                                                             make_filter<RamFilter>,
                                                             make_filter<VcpuFilter>,
                                                             make_filter<DiskFilter>};

}  // namespace

std::vector<std::string> FilterScheduler::filter_names() {
    std::vector<std::string> names;
    for (const auto factory : kFilterFactories) {
        names.emplace_back(factory()->name());
    }
    return names;
}

FilterScheduler::Filters FilterScheduler::default_filters() {
    Filters filters;
    for (const auto factory : kFilterFactories) {
        filters.push_back(factory());
    }
    return filters;
}

Result<FilterScheduler::Filters> FilterScheduler::filters_by_name(
    const std::vector<std::string>& names) {
    Filters filters;
    for (const std::string& name : names) {
        const auto factory = std::find_if(std::begin(kFilterFactories), std::end(kFilterFactories),
                                          [&](const auto make) { return make()->name() == name; });
        if (factory == std::end(kFilterFactories)) {
            const auto nearest = nearest_name(name, filter_names());
            return Error::invalid("enabled_filters names an unknown filter: {}", name)
                .with_hint(nearest ? "Did you mean " + *nearest + "?"
                                   : fmt::format("Known: {}", fmt::join(filter_names(), ", ")));
        }
        filters.push_back((*factory)());
    }
    return filters;
}

FilterScheduler::Weighers FilterScheduler::default_weighers(const WeigherOptions& options) {
    Weighers weighers;
    weighers.push_back(std::make_unique<RAMWeigher>(options.ram_weight_multiplier));
    weighers.push_back(std::make_unique<CPUWeigher>(options.cpu_weight_multiplier));
    weighers.push_back(std::make_unique<DiskWeigher>(options.disk_weight_multiplier));
    weighers.push_back(
        std::make_unique<ServerGroupSoftAffinityWeigher>(options.soft_affinity_weight_multiplier));
    return weighers;
}

Placement FilterScheduler::select_destination(const RequestSpec& spec,
                                              std::span<const HostState> hosts) const {
    Placement placement;
    std::vector<size_t> candidates;
    placement.report.hosts.reserve(hosts.size());
    for (size_t index = 0; index < hosts.size(); ++index) {
        HostVerdict& entry = placement.report.hosts.emplace_back();
        entry.host = hosts[index].host;
        const Verdict verdict = check(hosts[index], spec, entry.filter);
        entry.reason = verdict.reason();
        if (verdict.passed()) {
            candidates.push_back(index);
        }
    }
    weigh(spec, hosts, candidates, placement.report);
    const auto better = [&](size_t left, size_t right) {
        const HostVerdict& a = placement.report.hosts[left];
        const HostVerdict& b = placement.report.hosts[right];
        return a.weight != b.weight ? a.weight > b.weight : a.host < b.host;
    };
    const auto best = std::min_element(candidates.begin(), candidates.end(), better);
    if (best != candidates.end()) {
        placement.host_index = *best;
    }
    return placement;
}

Verdict FilterScheduler::check(const HostState& host, const RequestSpec& spec,
                               std::string& filter) const {
    for (const auto& candidate : filters_) {
        Verdict verdict = candidate->host_passes(host, spec);
        if (!verdict.passed()) {
            filter = candidate->name();
            return verdict;
        }
    }
    return Verdict::pass();
}

void FilterScheduler::weigh(const RequestSpec& spec, std::span<const HostState> hosts,
                            const std::vector<size_t>& candidates, PlacementReport& report) const {
    if (candidates.size() < 2) {
        return;
    }
    std::vector<double> raw(candidates.size());
    for (const auto& weigher : weighers_) {
        std::transform(candidates.begin(), candidates.end(), raw.begin(),
                       [&](size_t index) { return weigher->weigh(hosts[index], spec); });
        const auto [low, high] = std::minmax_element(raw.begin(), raw.end());
        const double minimum = *low;
        const double range = *high - minimum;
        if (range <= 0) {
            continue;
        }
        for (size_t index = 0; index < candidates.size(); ++index) {
            report.hosts[candidates[index]].weight +=
                weigher->multiplier() * (raw[index] - minimum) / range;
        }
    }
}

}  // namespace kumoi::scheduler
