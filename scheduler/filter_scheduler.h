// FilterScheduler: Nova's placement algorithm. Every host goes through the filters in order (the
// first refusal counts), the survivors are weighed, the heaviest wins, ties go to the smaller name.
// Pure and const: may be called from any thread; the caller claims what it was given.
//
//     FilterScheduler scheduler(FilterScheduler::default_filters(),
//                               FilterScheduler::default_weighers({}));
//     Placement placement = scheduler.select_destination(spec, hosts);
//     if (!placement.found()) return no_valid_host(placement.report, spec);
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "scheduler/filter.h"
#include "scheduler/host_state.h"
#include "scheduler/placement_report.h"
#include "scheduler/request_spec.h"
#include "scheduler/weigher.h"

namespace kumoi::scheduler {

// Nova's [filter_scheduler] options and their defaults.
struct WeigherOptions {
    double ram_weight_multiplier = 1.0;
    double cpu_weight_multiplier = 1.0;
    double disk_weight_multiplier = 1.0;
    double soft_affinity_weight_multiplier = 1.0;
};

struct Placement {
    std::optional<size_t> host_index;  // into the hosts that were given
    PlacementReport report;
    bool found() const { return host_index.has_value(); }
};

class FilterScheduler {
public:
    using Filters = std::vector<std::unique_ptr<Filter>>;
    using Weighers = std::vector<std::unique_ptr<Weigher>>;

    FilterScheduler(Filters filters, Weighers weighers)
        : filters_(std::move(filters)), weighers_(std::move(weighers)) {}

    static std::vector<std::string> filter_names();  // all, in their default order
    static Filters default_filters();
    static Result<Filters> filters_by_name(const std::vector<std::string>& names);
    static Weighers default_weighers(const WeigherOptions& options);

    Placement select_destination(const RequestSpec& spec, std::span<const HostState> hosts) const;

private:
    Verdict check(const HostState& host, const RequestSpec& spec, std::string& filter) const;
    void weigh(const RequestSpec& spec, std::span<const HostState> hosts,
               const std::vector<size_t>& candidates, PlacementReport& report) const;

    Filters filters_;
    Weighers weighers_;
};

}  // namespace kumoi::scheduler
