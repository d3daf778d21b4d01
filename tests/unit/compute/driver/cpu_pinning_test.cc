#include "compute/driver/cpu_pinning.h"

#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

TEST(CpuSet, ReadsNovasNotation) {
    EXPECT_EQ(parse_cpu_set("4-7,^5,12").value(), (CpuSet{4, 6, 7, 12}));
    EXPECT_EQ(parse_cpu_set("0").value(), CpuSet{0});
    EXPECT_EQ(parse_cpu_set("^2, 1-3").value(), (CpuSet{1, 3}));
    EXPECT_EQ(format_cpu_set({0, 1, 2, 5, 7, 8}), "0-2,5,7-8");
    EXPECT_EQ(format_cpu_set({}), "");
    for (const char* text : {"", ",", "1,", "a", "3-1", "1-", "-1", "^1", "1,^1", "0-9999999999",
                             "8192", "1--2", "^1-2,3"}) {
        EXPECT_FALSE(parse_cpu_set(text).ok()) << text;
    }
    EXPECT_FALSE(parse_cpu_set("0-4", 3).ok());
}

Instance server(Properties specs, int64_t vcpus = 2, Properties image = {}) {
    Instance instance;
    instance.flavor.vcpus = vcpus;
    instance.flavor.extra_specs = std::move(specs);
    instance.image.properties = std::move(image);
    return instance;
}

const Properties kDedicated = {{"hw:cpu_policy", "dedicated"}};

Json pinned(const std::string& lists) {
    return Json::parse(R"({"vcpu": {"affinity": [)" + lists + "]}}").value();
}

// What is pinned where: "2,5 io 2,5", or the fault.
std::string assign(const Instance& instance, const CpuPools& pools, const Json& mine = {},
                   const std::vector<Json>& others = {}, Json guest = Json::object()) {
    const auto assigned = assign_cpus(guest, instance, pools, mine, others);
    if (!assigned.ok()) {
        return assigned.error().fault;
    }
    std::string text;
    if (const Json* lists = guest.find_path({"vcpu", "affinity"})) {
        for (const Json& item : lists->as_array()) {
            text += (text.empty() ? "" : " ") + item.as_string();
        }
    }
    return text + " io " + guest.string_or("io_affinity", "any");
}

TEST(CpuPinning, SharedServersStayInTheirSet) {
    EXPECT_EQ(assign(server({}), {}), " io any");
    EXPECT_EQ(assign(server({}), {.dedicated = {4, 5}, .shared = {0, 1, 2}}), "0-2 io 0-2");
    // Where NUMA nodes bind them, within these, if there is anything left.
    EXPECT_EQ(assign(server({}), {.shared = {0, 1, 2}}, {}, {}, pinned(R"("0-1","6-7")")),
              "0-1 0-2 io 0-2");
}

TEST(CpuPinning, DedicatedServersGetProcessorsOfTheirOwn) {
    const CpuPools pools{.dedicated = {2, 3, 4, 5}, .shared = {0, 1}};
    EXPECT_EQ(assign(server(kDedicated), pools), "2 3 io 2-3");
    EXPECT_EQ(assign(server(kDedicated), pools, {}, {pinned(R"("2","4")")}), "3 5 io 3,5");
    EXPECT_EQ(assign(server({}, 1, {{"hw_cpu_policy", "dedicated"}}), pools), "2 io 2");
}

TEST(CpuPinning, WhatAServerHadItKeeps) {
    const CpuPools pools{.dedicated = {2, 3, 4, 5}, .shared = {}};
    EXPECT_EQ(assign(server(kDedicated), pools, pinned(R"("5","3")")), "5 3 io 3,5");
    // Not what is another's now, nor after a resize.
    EXPECT_EQ(assign(server(kDedicated), pools, pinned(R"("5","3")"), {pinned(R"("3")")}),
              "5 2 io 2,5");
    EXPECT_EQ(assign(server(kDedicated, 3), pools, pinned(R"("5","3")")), "2 3 4 io 2-4");
    EXPECT_EQ(assign(server(kDedicated), pools, pinned(R"("2-3","9")")), "2 3 io 2-3");
}

TEST(CpuPinning, NumaNodesNarrowTheChoice) {
    const CpuPools pools{.dedicated = {2, 3, 8, 9}, .shared = {}};
    EXPECT_EQ(assign(server(kDedicated), pools, {}, {}, pinned(R"("0-7","8-15")")), "2 8 io 2,8");
    EXPECT_EQ(assign(server(kDedicated, 3), pools, {}, {}, pinned(R"("0-7","0-7","0-7")")),
              "ComputeResourcesUnavailable");
}

TEST(CpuPinning, TooFewFreeOnesAreARefusalWithNumbers) {
    const CpuPools pools{.dedicated = {2, 3, 4}, .shared = {}};
    Json guest = Json::object();
    const auto refused =
        assign_cpus(guest, server(kDedicated), pools, {}, {pinned(R"("2")"), pinned(R"("4")")});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::Exhausted);  // so that another host is tried
    EXPECT_NE(refused.error().message.find("1 of the 3"), std::string::npos);
    EXPECT_EQ(assign(server(kDedicated), {}), "ComputeResourcesUnavailable");
    // Odd files of others take nothing.
    EXPECT_EQ(assign(server(kDedicated), pools, Json(),
                     {Json(), Json::array(), pinned("1"), pinned(R"("x","2-4")"),
                      Json::parse(R"({"vcpu": 3})").value()}),
              "2 3 io 2-3");
}

TEST(CpuPinning, PoliciesAreNovas) {
    const auto fault = [](Properties specs, Properties image = {}) {
        const auto checked = check_cpu_policy(server(std::move(specs), 2, std::move(image)));
        return checked.ok() ? std::string() : checked.error().fault;
    };
    EXPECT_EQ(fault({}), "");
    EXPECT_EQ(fault(kDedicated, {{"hw_cpu_policy", "shared"}}), "");
    EXPECT_EQ(fault({{"hw:cpu_policy", "shared"}}, {{"hw_cpu_policy", "dedicated"}}),
              "ImageCPUPinningForbidden");
    EXPECT_EQ(fault({{"hw:cpu_policy", "mixed"}}), "InvalidInput");
    EXPECT_EQ(fault({{"hw:cpu_thread_policy", "prefer"}}), "");
    EXPECT_EQ(fault({{"hw:cpu_thread_policy", "isolate"}}), "InvalidInput");
}

}  // namespace
}  // namespace kumoi::compute
