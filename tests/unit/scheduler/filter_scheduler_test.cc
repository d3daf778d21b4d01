#include "scheduler/filter_scheduler.h"

#include <gtest/gtest.h>

#include "scheduler/filters/availability_zone_filter.h"
#include "scheduler/filters/compute_filter.h"
#include "scheduler/filters/disk_filter.h"
#include "scheduler/filters/ram_filter.h"
#include "scheduler/filters/requested_host_filter.h"
#include "scheduler/filters/server_group_filter.h"
#include "scheduler/filters/vcpu_filter.h"

namespace kumoi::scheduler {
namespace {

HostState make_host(std::string name) {
    HostState host;
    host.host = name;
    host.node = name;
    host.availability_zone = "nova";
    host.vcpus = {.total = 8, .allocation_ratio = 4.0};
    host.memory_mb = {.total = 4096, .reserved = 512};
    host.disk_gb = {.total = 100};
    return host;
}

RequestSpec make_spec(int64_t vcpus, int64_t memory_mb, int64_t disk_gb) {
    RequestSpec spec;
    spec.server_id = "s";
    spec.vcpus = vcpus;
    spec.memory_mb = memory_mb;
    spec.disk_gb = disk_gb;
    return spec;
}

FilterScheduler make_scheduler(WeigherOptions options = {}) {
    return FilterScheduler(FilterScheduler::default_filters(),
                           FilterScheduler::default_weighers(options));
}

TEST(ComputeFilter, RefusesDisabledAndDownHostsWithTheReason) {
    HostState host = make_host("cn-1");
    EXPECT_TRUE(ComputeFilter().host_passes(host, {}).passed());
    host.enabled = false;
    host.disabled_reason = "new memory";
    EXPECT_EQ(ComputeFilter().host_passes(host, {}).reason(),
              "compute service is disabled: new memory");
    host.enabled = true;
    host.up = false;
    host.down_reason = "no heartbeat for 75 s";
    EXPECT_EQ(ComputeFilter().host_passes(host, {}).reason(),
              "compute service is down: no heartbeat for 75 s");
}

struct RamCase {
    int64_t total, reserved, claimed;
    double ratio;
    int64_t requested;
    bool passes;
};
TEST(RamFilter, FollowsPlacementsCapacityFormula) {
    const RamCase cases[] = {
        {4096, 512, 0, 1.0, 3584, true},  {4096, 512, 0, 1.0, 3585, false},
        {4096, 512, 3584, 1.0, 1, false}, {4096, 512, 0, 1.5, 4096, true},
        {4096, 512, 0, 2.0, 4097, false},  // more than the machine has
        {4096, 0, 4096, 1.5, 2048, true}, {4096, 0, 4096, 1.5, 2049, false},
        {1000, 0, 0, 1.0, 0, true},
    };
    for (const RamCase& c : cases) {
        HostState host = make_host("h");
        host.memory_mb = {c.total, c.reserved, c.claimed, c.ratio};
        EXPECT_EQ(RamFilter().host_passes(host, make_spec(1, c.requested, 0)).passed(), c.passes)
            << c.total << " " << c.requested;
    }
}

TEST(RamFilter, SaysTheNumbers) {
    HostState host = make_host("h");
    host.memory_mb = {.total = 4096, .reserved = 0, .claimed = 3072};
    EXPECT_EQ(RamFilter().host_passes(host, make_spec(1, 2048, 0)).reason(),
              "1024 MiB usable, 2048 MiB requested");
}

TEST(VcpuFilter, OvercommitsTheHostButNeverOneServer) {
    HostState host = make_host("h");
    host.vcpus = {.total = 2, .claimed = 7, .allocation_ratio = 4.0};
    EXPECT_TRUE(VcpuFilter().host_passes(host, make_spec(1, 0, 0)).passed());
    EXPECT_EQ(VcpuFilter().host_passes(host, make_spec(2, 0, 0)).reason(),
              "1 vCPUs usable, 2 requested");
    host.vcpus.claimed = 0;
    EXPECT_EQ(VcpuFilter().host_passes(host, make_spec(3, 0, 0)).reason(),
              "3 vCPUs requested for one server, the host has 2 CPUs");
}

TEST(DiskFilter, RefusesWhenClaimsExceedRatio) {
    HostState host = make_host("h");
    host.disk_gb = {.total = 100, .claimed = 95};
    EXPECT_TRUE(DiskFilter().host_passes(host, make_spec(0, 0, 5)).passed());
    EXPECT_EQ(DiskFilter().host_passes(host, make_spec(0, 0, 6)).reason(),
              "5 GiB usable, 6 GiB requested");
}

TEST(AvailabilityZoneFilter, ChecksOnlyWhenAZoneIsRequested) {
    RequestSpec spec;
    EXPECT_TRUE(AvailabilityZoneFilter().host_passes(make_host("h"), spec).passed());
    spec.availability_zone = "az2";
    EXPECT_EQ(AvailabilityZoneFilter().host_passes(make_host("h"), spec).reason(),
              "is in zone nova, zone az2 requested");
}

TEST(RequestedHostFilter, KeepsToTheRequestedHostAndAvoidsFailedOnes) {
    RequestSpec spec;
    spec.requested_host = "cn-2";
    EXPECT_FALSE(RequestedHostFilter().host_passes(make_host("cn-1"), spec).passed());
    EXPECT_TRUE(RequestedHostFilter().host_passes(make_host("cn-2"), spec).passed());
    spec.ignored_hosts = {"cn-2"};
    EXPECT_EQ(RequestedHostFilter().host_passes(make_host("cn-2"), spec).reason(),
              "the build failed there before");
}

TEST(ServerGroupFilter, EnforcesHardPoliciesOnly) {
    RequestSpec spec;
    spec.group_hosts = {"cn-1"};
    spec.group_policy = GroupPolicy::Affinity;
    EXPECT_TRUE(ServerGroupFilter().host_passes(make_host("cn-1"), spec).passed());
    EXPECT_FALSE(ServerGroupFilter().host_passes(make_host("cn-2"), spec).passed());
    spec.group_policy = GroupPolicy::AntiAffinity;
    EXPECT_FALSE(ServerGroupFilter().host_passes(make_host("cn-1"), spec).passed());
    EXPECT_TRUE(ServerGroupFilter().host_passes(make_host("cn-2"), spec).passed());
    spec.group_servers_per_host_max = 2;
    EXPECT_TRUE(ServerGroupFilter().host_passes(make_host("cn-1"), spec).passed());
    spec.group_policy = GroupPolicy::SoftAntiAffinity;
    EXPECT_TRUE(ServerGroupFilter().host_passes(make_host("cn-1"), spec).passed());
}

TEST(FilterScheduler, NoHostsIsAnAnswerWithAHint) {
    const Placement placement = make_scheduler().select_destination(make_spec(1, 64, 1), {});
    EXPECT_FALSE(placement.found());
    const Error error = no_valid_host(placement.report, make_spec(1, 64, 1));
    EXPECT_EQ(error.fault, "NoValidHost");
    EXPECT_EQ(error.message, "No valid host was found. No compute node is registered.");
    EXPECT_FALSE(error.hint.empty());
}

TEST(FilterScheduler, NoValidHostListsEachHostAndTheFilterThatRefusedIt) {
    HostState down = make_host("cn-1");
    down.up = false;
    HostState small = make_host("cn-2");
    small.memory_mb.total = 1024;
    const HostState hosts[] = {down, small};
    const RequestSpec spec = make_spec(1, 2048, 1);
    const Placement placement = make_scheduler().select_destination(spec, hosts);
    ASSERT_FALSE(placement.found());
    EXPECT_EQ(no_valid_host(placement.report, spec).message,
              "No valid host was found for 1 vCPUs, 2048 MiB of memory and 1 GiB of disk. "
              "cn-1: ComputeFilter (compute service is down); "
              "cn-2: RamFilter (2048 MiB requested, the host has 1024 MiB in all).");
}

TEST(FilterScheduler, LongReportsAreCutAndCounted) {
    PlacementReport report;
    for (int index = 0; index < 30; ++index) {
        report.hosts.push_back({fmt::format("h{}", index), "RamFilter", "full", 0});
    }
    EXPECT_NE(report.text(2).find("h1: RamFilter (full); and 28 more hosts"), std::string::npos);
}

TEST(FilterScheduler, SpreadsByDefaultAndStacksWithNegativeMultipliers) {
    HostState empty = make_host("cn-1");
    HostState busy = make_host("cn-2");
    busy.memory_mb.claimed = 2048;
    busy.vcpus.claimed = 4;
    busy.disk_gb.claimed = 20;
    const HostState hosts[] = {busy, empty};
    const RequestSpec spec = make_spec(1, 64, 1);
    EXPECT_EQ(make_scheduler().select_destination(spec, hosts).host_index, 1u);
    const auto stacking = make_scheduler({-1.0, -1.0, -1.0, 1.0});
    EXPECT_EQ(stacking.select_destination(spec, hosts).host_index, 0u);
}

TEST(FilterScheduler, EqualHostsAreTakenInNameOrder) {
    const HostState hosts[] = {make_host("b"), make_host("a"), make_host("c")};
    EXPECT_EQ(make_scheduler().select_destination(make_spec(1, 64, 1), hosts).host_index, 1u);
}

TEST(FilterScheduler, SoftAntiAffinityOnlyPrefers) {
    const HostState hosts[] = {make_host("a"), make_host("b")};
    RequestSpec spec = make_spec(1, 64, 1);
    spec.group_policy = GroupPolicy::SoftAntiAffinity;
    spec.group_hosts = {"a"};
    EXPECT_EQ(make_scheduler().select_destination(spec, hosts).host_index, 1u);
    spec.group_hosts = {"a", "b", "b"};
    EXPECT_EQ(make_scheduler().select_destination(spec, hosts).host_index, 0u);
}

TEST(FilterScheduler, UnknownFilterNamesAreRefusedWithASuggestion) {
    auto filters = FilterScheduler::filters_by_name({"ComputeFilter", "RamFliter"});
    ASSERT_FALSE(filters.ok());
    EXPECT_NE(filters.error().hint.find("RamFilter"), std::string::npos);
    EXPECT_TRUE(FilterScheduler::filters_by_name(FilterScheduler::filter_names()).ok());
}

}  // namespace
}  // namespace kumoi::scheduler
