#include "compute/driver/guest_resources.h"

#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

Instance server(Properties specs, Properties image = {}, int64_t vcpus = 8) {
    Instance instance;
    instance.flavor.name = "m1.test";
    instance.flavor.vcpus = vcpus;
    instance.flavor.memory_mb = 2048;
    instance.flavor.extra_specs = std::move(specs);
    instance.image.properties = std::move(image);
    return instance;
}

// "sockets:cores:threads", or what check_guest_resources() says.
std::string topology(const Instance& instance) {
    if (const auto checked = check_guest_resources(instance); !checked.ok()) {
        return checked.error().fault;
    }
    Json guest = Json::object({{"cpu", Json::object({{"model", "host"}})}});
    add_guest_resources(guest, instance);
    const Json* chosen = guest.find_path({"cpu", "topology"});
    return chosen == nullptr
               ? "none"
               : fmt::format("{}:{}:{}", chosen->integer_or("sockets"), chosen->integer_or("cores"),
                             chosen->integer_or("threads"));
}

TEST(GuestResources, AFlavorThatSaysNothingChangesNothing) {
    EXPECT_EQ(topology(server({})), "none");
    EXPECT_EQ(topology(server({{"hw:cpu_policy", "shared"}})), "none");
}

TEST(GuestResources, TopologiesAreChosenAsNovaDoes) {
    EXPECT_EQ(topology(server({{"hw:cpu_sockets", "2"}})), "2:4:1");
    EXPECT_EQ(topology(server({{"hw:cpu_cores", "4"}})), "2:4:1");
    EXPECT_EQ(topology(server({{"hw:cpu_threads", "2"}})), "4:1:2");
    EXPECT_EQ(topology(server({{"hw:cpu_sockets", "1"}, {"hw:cpu_threads", "2"}})), "1:4:2");
    EXPECT_EQ(topology(server({{"hw:cpu_max_sockets", "2"}})), "2:4:1");
    EXPECT_EQ(topology(server({{"hw:cpu_max_sockets", "1"}, {"hw:cpu_max_cores", "4"}})), "1:4:2");
    EXPECT_EQ(topology(server({{"hw:cpu_max_threads", "1"}})), "8:1:1");
    // Three sockets do not divide eight: what can be done of the rest.
    EXPECT_EQ(topology(server({{"hw:cpu_sockets", "3"}, {"hw:cpu_cores", "2"}})), "4:2:1");
}

TEST(GuestResources, AnImagePrefersAndRestricts) {
    EXPECT_EQ(topology(server({{"hw:cpu_sockets", "2"}}, {{"hw_cpu_sockets", "4"}})), "4:2:1");
    EXPECT_EQ(topology(server({}, {{"hw_cpu_max_sockets", "1"}})), "1:8:1");
    EXPECT_EQ(topology(server({{"hw:cpu_max_sockets", "4"}}, {{"hw_cpu_max_sockets", "2"}})),
              "2:4:1");
    EXPECT_EQ(topology(server({{"hw:cpu_max_sockets", "2"}}, {{"hw_cpu_max_sockets", "4"}})),
              "ImageVCPULimitsRangeExceeded");
    EXPECT_EQ(topology(server({{"hw:cpu_max_sockets", "2"}}, {{"hw_cpu_sockets", "4"}})),
              "ImageVCPUTopologyRangeExceeded");
}

TEST(GuestResources, RefusesWhatCannotBe) {
    EXPECT_EQ(
        topology(server(
            {{"hw:cpu_max_sockets", "1"}, {"hw:cpu_max_cores", "2"}, {"hw:cpu_max_threads", "2"}})),
        "ImageVCPULimitsRangeImpossible");
    EXPECT_EQ(topology(server({{"hw:cpu_sockets", "2"}, {"hw:cpu_cores", "3"}}, {}, 6)),
              "InvalidInput");  // APIC ids would not be the vCPUs' numbers
    for (const Properties& specs : std::vector<Properties>{{{"hw:cpu_sockets", "0"}},
                                                           {{"hw:cpu_cores", "two"}},
                                                           {{"hw:cpu_threads", "-1"}},
                                                           {{"hw:cpu_max_cores", "1e3"}},
                                                           {{"quota:cpu_shares", "1"}},
                                                           {{"quota:cpu_shares", "262145"}},
                                                           {{"quota:cpu_period", "10"}},
                                                           {{"quota:cpu_quota", "10"}},
                                                           {{"quota:cpu_quota", "x"}}}) {
        const auto checked = check_guest_resources(server(specs));
        ASSERT_FALSE(checked.ok()) << specs.begin()->first;
        EXPECT_EQ(checked.error().fault, "InvalidInput");
        EXPECT_NE(checked.error().message.find(specs.begin()->first), std::string::npos);
    }
}

TEST(GuestResources, WhatAFlavorAsksForIsRequiredTheRestIsWished) {
    const GuestLimits plain = guest_limits(server({}), 512);
    EXPECT_FALSE(plain.required.cpu_shares.has_value());
    EXPECT_EQ(plain.wished.cpu_shares, 8192u);
    EXPECT_EQ(plain.wished.memory_bytes, uint64_t{2048 + 32 + 512} << 20);
    EXPECT_EQ(plain.wished.pids, 1032u);
    EXPECT_FALSE(guest_limits(server({}), 0).wished.memory_bytes.has_value());
    const GuestLimits limited = guest_limits(server({{"quota:cpu_shares", "512"},
                                                     {"quota:cpu_period", "20000"},
                                                     {"quota:cpu_quota", "10000"}}),
                                             512);
    EXPECT_EQ(limited.required.cpu_shares, 512u);
    EXPECT_EQ(limited.required.cpu_period_us, 20'000u);
    EXPECT_EQ(limited.required.cpu_quota_us, 10'000);
    EXPECT_FALSE(limited.wished.cpu_shares.has_value());
}

}  // namespace
}  // namespace kumoi::compute
