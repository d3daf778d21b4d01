#include "scheduler/placement_report.h"

#include <algorithm>
#include <map>
#include <string_view>

namespace kumoi::scheduler {
namespace {

std::string_view hint_for(std::string_view filter) {
    if (filter == "ComputeFilter") {
        return "Enable or restart the compute services (openstack compute service list).";
    }
    if (filter == "RamFilter" || filter == "VcpuFilter" || filter == "DiskFilter") {
        return "Choose a smaller flavor, delete servers that are not needed, or add a host.";
    }
    if (filter == "AvailabilityZoneFilter") {
        return "Ask for a zone that has hosts (openstack availability zone list).";
    }
    if (filter == "RequestedHostFilter") {
        return "Drop the requested host, or name one that exists (openstack hypervisor list).";
    }
    return "Add a host, or relax the policy of the server group.";
}

}  // namespace

std::string PlacementReport::text(size_t host_count_max) const {
    std::string text;
    const size_t shown = std::min(hosts.size(), host_count_max);
    for (size_t index = 0; index < shown; ++index) {
        const HostVerdict& verdict = hosts[index];
        text += index == 0 ? "" : "; ";
        text += verdict.filter.empty()
                    ? fmt::format("{}: weight {:.3f}", verdict.host, verdict.weight)
                    : fmt::format("{}: {} ({})", verdict.host, verdict.filter, verdict.reason);
    }
    if (shown < hosts.size()) {
        text += fmt::format("; and {} more hosts", hosts.size() - shown);
    }
    return text;
}

Error no_valid_host(const PlacementReport& report, const RequestSpec& spec) {
    if (report.hosts.empty()) {
        return Error::exhausted("No valid host was found. No compute node is registered.")
            .with_fault("NoValidHost")
            .with_hint("Start kumoi-compute on a host and look at openstack compute service list.");
    }
    std::map<std::string_view, size_t> refusals;
    for (const HostVerdict& verdict : report.hosts) {
        ++refusals[verdict.filter];
    }
    const auto commonest =
        std::max_element(refusals.begin(), refusals.end(),
                         [](const auto& a, const auto& b) { return a.second < b.second; });
    return Error::exhausted(
               "No valid host was found for {} vCPUs, {} MiB of memory and {} GiB of disk. {}.",
               spec.vcpus, spec.memory_mb, spec.disk_gb, report.text())
        .with_fault("NoValidHost")
        .with_hint(std::string(hint_for(commonest->first)));
}

}  // namespace kumoi::scheduler
