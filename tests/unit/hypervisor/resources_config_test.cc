#include "hypervisor/resources_config.h"

#include <gtest/gtest.h>

#include "hypervisor/vcpu/cpu_topology.h"

namespace kumoi::hypervisor {
namespace {

Result<ResourcesConfig> parse(const std::string& text, uint32_t vcpus = 2) {
    const auto json = Json::parse(text);
    EXPECT_TRUE(json.ok()) << text;
    return parse_resources(JsonView(*json), vcpus);
}

TEST(CpuList, ReadsAndWritesTheKernelsFormat) {
    EXPECT_EQ(*parse_cpu_list("0-3,8,2"), (CpuList{0, 1, 2, 3, 8}));
    EXPECT_EQ(format_cpu_list({0, 1, 2, 3, 8}), "0-3,8");
    EXPECT_EQ(format_cpu_list({5}), "5");
    for (const char* bad : {"", ",", "1,", "a", "3-1", "-1", "1-", "0-9999", "1;2", " 1"}) {
        EXPECT_FALSE(parse_cpu_list(bad).ok()) << bad;
    }
}

TEST(ResourcesConfig, WithoutMembersNothingChanges) {
    const auto config = parse("{}");
    ASSERT_TRUE(config.ok());
    EXPECT_EQ(config->vcpus_max, 2u);
    EXPECT_TRUE(config->vcpu_affinity.empty());
    EXPECT_TRUE(affinity_of_vcpu(*config, 1).empty());
}

TEST(ResourcesConfig, ReadsEverything) {
    const auto config = parse(R"({"vcpus_max": 4,
        "vcpu": {"affinity": ["0", "1", "2", "3"]}, "io_affinity": "4-5",
        "cpu": {"topology": {"sockets": 2, "cores": 1, "threads": 2}}})");
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(affinity_of_vcpu(*config, 2), CpuList{2});
    EXPECT_EQ(config->io_affinity, (CpuList{4, 5}));
    EXPECT_EQ(config->topology.threads, 2u);
}

TEST(ResourcesConfig, RefusesWhatContradictsItself) {
    for (const char* bad : {
             R"({"vcpus_max": 1})",
             R"({"vcpu": {"affinity": ["0", "1", "2"]}})",
             R"({"vcpu": {"affinity": ["x"]}})",
             R"({"io_affinity": ""})",
             R"({"cpu": {"topology": {"sockets": 3}}})",
         }) {
        EXPECT_FALSE(parse(bad).ok()) << bad;
    }
}

CpuidTable table() {
    CpuidTable all;
    for (const auto& [function, index] : {std::pair<uint32_t, uint32_t>{1, 0},
                                          {4, 0},
                                          {4, 3},
                                          {0xb, 0},
                                          {0xb, 1},
                                          {0xb, 2},
                                          {0x8000'0008, 0},
                                          {0x8000'001e, 0}}) {
        kvm_cpuid_entry2 entry{};
        entry.function = function;
        entry.index = index;
        if (function == 4) {
            entry.eax = 1 | (index == 3 ? 3u : 1u) << 5;
        }
        all.push_back(entry);
    }
    return all;
}

TEST(CpuTopology, LeavesAgreeWithEachOther) {
    CpuidTable leaves = table();
    const CpuTopology topology{2, 4, 2};
    ASSERT_TRUE(check_topology(topology).ok());
    apply_topology(leaves, topology, 11);
    EXPECT_EQ(leaves[0].ebx >> 16 & 0xff, 8u);
    EXPECT_EQ(leaves[1].eax >> 14 & 0xfff, 1u);  // level 1: the two threads of a core
    EXPECT_EQ(leaves[2].eax >> 14 & 0xfff, 7u);  // level 3: the package
    EXPECT_EQ(leaves[2].eax >> 26, 3u);
    EXPECT_EQ(leaves[3].eax, 1u);
    EXPECT_EQ(leaves[3].ebx, 2u);
    EXPECT_EQ(leaves[4].eax, 3u);
    EXPECT_EQ(leaves[4].ebx, 8u);
    EXPECT_EQ(leaves[4].edx, 11u);
    EXPECT_EQ(leaves[5].ebx, 0u);
    EXPECT_EQ(leaves[6].ecx & 0xf0ff, 3u << 12 | 7u);
    EXPECT_EQ(leaves[7].ebx, 5u | 1u << 8);
}

TEST(CpuTopology, RefusesCountsThatIdsCannotTell) {
    EXPECT_TRUE(check_topology({1, 3, 1}).ok());
    EXPECT_TRUE(check_topology({3, 2, 2}).ok());
    EXPECT_FALSE(check_topology({1, 2, 3}).ok());
    EXPECT_FALSE(check_topology({2, 3, 1}).ok());
    CpuidTable leaves = table();
    apply_topology(leaves, {}, 0);
    EXPECT_EQ(leaves[0].ebx, 0u);
}

}  // namespace
}  // namespace kumoi::hypervisor
