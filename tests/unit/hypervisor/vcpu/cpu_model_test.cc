#include "hypervisor/vcpu/cpu_model.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "hypervisor/vcpu/cpu_features.h"

namespace kumoi::hypervisor {
namespace {

kvm_cpuid_entry2 leaf(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx,
                      uint32_t edx) {
    kvm_cpuid_entry2 entry{};
    entry.function = function;
    entry.index = index;
    entry.eax = eax;
    entry.ebx = ebx;
    entry.ecx = ecx;
    entry.edx = edx;
    return entry;
}

// A host that has everything our table knows.
CpuidTable rich_host() {
    return {leaf(0, 0, 0x20, 0x756e6547, 0x6c65746e, 0x49656e69),
            leaf(1, 0, 0x306c3, 0x00010800, 0xffff'ffff, 0xffff'ffff),
            leaf(4, 0, 0x0000'0121, 0, 0, 0),
            leaf(4, 3, 0x0000'0163, 0, 0, 0),
            leaf(7, 0, 1, 0xffff'ffff, 0xffff'ffff, 0xffff'ffff),
            leaf(0xa, 0, 0x0730'0402, 0, 0, 0x603),
            leaf(0xb, 0, 1, 2, 0x100, 0),
            leaf(0xd, 1, 0xf, 0, 0, 0),
            leaf(0x4000'0000, 0, 0x4000'0001, 0x4b4d564b, 0x564b4d56, 0x4d),
            leaf(0x4000'0001, 0, 0x0100'7efb, 0, 0, 0),
            leaf(0x8000'0000, 0, 0x8000'0021, 0, 0, 0),
            leaf(0x8000'0001, 0, 0, 0, 0xffff'ffff, 0xffff'ffff),
            leaf(0x8000'0008, 0, 0x3030, 0xffff'ffff, 0, 0)};
}

bool has(const CpuidTable& table, std::string_view name) {
    const CpuFeature feature = **find_cpu_feature(name);
    for (const auto& entry : table) {
        if (entry.function == feature.leaf && entry.index == feature.subleaf) {
            const uint32_t registers[] = {entry.eax, entry.ebx, entry.ecx, entry.edx};
            return (registers[static_cast<size_t>(feature.reg)] >> feature.bit & 1) != 0;
        }
    }
    return false;
}

const kvm_cpuid_entry2* find(const CpuidTable& table, uint32_t function, uint32_t index = 0) {
    const auto found = std::ranges::find_if(
        table, [&](const auto& e) { return e.function == function && e.index == index; });
    return found == table.end() ? nullptr : &*found;
}

TEST(CpuModel, RefusesUnknownNamesWithASuggestion) {
    EXPECT_FALSE(check_cpu_selection({.model = "hots"}).ok());
    const auto feature = check_cpu_selection({.mask = {"avx22"}});
    ASSERT_FALSE(feature.ok());
    EXPECT_NE(feature.error().hint.find("avx2"), std::string::npos);
    EXPECT_FALSE(check_cpu_selection({.add = {"avx"}, .mask = {"avx"}}).ok());
}

TEST(CpuModel, HostShowsEverythingAndMasksByName) {
    const auto table = build_cpuid(rich_host(), {.mask = {"avx2", "kvm-pv-eoi"}}, {});
    ASSERT_TRUE(table.ok());
    EXPECT_TRUE(has(*table, "avx512f"));
    EXPECT_FALSE(has(*table, "avx2"));
    EXPECT_FALSE(has(*table, "kvm-pv-eoi"));
    EXPECT_TRUE(has(*table, "kvm-clock"));
}

TEST(CpuModel, HidesHypercallFeaturesWhereHypercallsDoNotWork) {
    const auto table = build_cpuid(rich_host(), {}, {.hypercalls_work = false});
    ASSERT_TRUE(table.ok());
    EXPECT_FALSE(has(*table, "kvm-pv-ipi"));
    EXPECT_FALSE(has(*table, "kvm-pv-unhalt"));
    EXPECT_FALSE(has(*table, "kvm-pv-tlb-flush"));
    EXPECT_FALSE(has(*table, "kvm-pv-sched-yield"));
    EXPECT_TRUE(has(*table, "kvm-clock"));
}

TEST(CpuModel, KumoiV1IsTheSameOnARicherHost) {
    CpuidTable poorer = rich_host();
    for (auto& entry : poorer) {
        if (entry.function == 7) {
            entry.ebx = entry.ecx = entry.edx = 0;
        }
    }
    const auto rich = build_cpuid(rich_host(), {.model = "kumoi-v1"}, {});
    const auto poor = build_cpuid(poorer, {.model = "kumoi-v1"}, {});
    ASSERT_TRUE(rich.ok());
    ASSERT_TRUE(poor.ok());
    EXPECT_TRUE(unmasked_features(*poor, *rich).empty());
    EXPECT_TRUE(has(*rich, "sse4-2"));
    EXPECT_FALSE(has(*rich, "avx"));
    EXPECT_FALSE(has(*rich, "vmx"));
    EXPECT_FALSE(has(*rich, "kvm-steal-time"));
    EXPECT_EQ(find(*rich, 0)->eax, 0xbu);
    EXPECT_EQ(find(*rich, 0xd, 1), nullptr);
    EXPECT_EQ(find(*rich, 0xa)->eax, 0u);
}

TEST(CpuModel, KumoiV1NamesAllThatAHostLacks) {
    CpuidTable host = rich_host();
    for (auto& entry : host) {
        if (entry.function == 1) {
            entry.ecx &= ~((1u << 20) | (1u << 23));
        }
    }
    const auto table = build_cpuid(host, {.model = "kumoi-v1"}, {});
    ASSERT_FALSE(table.ok());
    EXPECT_NE(table.error().message.find("sse4-2"), std::string::npos);
    EXPECT_NE(table.error().message.find("popcnt"), std::string::npos);
}

TEST(CpuModel, AddsOnlyWhatTheHostHas) {
    const auto added = build_cpuid(rich_host(), {.model = "kumoi-v1", .add = {"aes"}}, {});
    ASSERT_TRUE(added.ok());
    EXPECT_TRUE(has(*added, "aes"));
    CpuidTable host = rich_host();
    std::erase_if(host, [](const auto& e) { return e.function == 7; });
    EXPECT_FALSE(build_cpuid(host, {.add = {"avx2"}}, {}).ok());
}

TEST(CpuModel, GivesEachProcessorItsIdAndTopology) {
    const auto table = build_cpuid(rich_host(), {}, {});
    ASSERT_TRUE(table.ok());
    const CpuidTable third = cpuid_for_vcpu(*table, 2, 6);
    EXPECT_EQ(find(third, 1)->ebx >> 24, 2u);
    EXPECT_EQ(find(third, 1)->ebx >> 16 & 0xff, 6u);
    EXPECT_EQ(find(third, 0xb, 0)->ebx, 1u);
    EXPECT_EQ(find(third, 0xb, 1)->eax, 3u);  // 6 cores take 3 bits
    EXPECT_EQ(find(third, 0xb, 1)->ebx, 6u);
    EXPECT_EQ(find(third, 0xb, 1)->edx, 2u);
    EXPECT_EQ(find(third, 4, 0)->eax >> 14 & 0xfff, 0u);  // level 1 is private
    EXPECT_EQ(find(third, 4, 3)->eax >> 14 & 0xfff, 7u);  // level 3 is shared
    EXPECT_EQ(find(cpuid_for_vcpu(*table, 0, 1), 1)->edx & (1u << 28), 0u);
}

TEST(CpuModel, ReportsMasksThatWereNotHonoured) {
    const CpuidTable asked = {leaf(1, 0, 0, 0, 0, 0)};
    const CpuidTable actual = {leaf(1, 0, 7, 7, 1u << 23 | 1u << 27, 0)};
    EXPECT_EQ(unmasked_features(asked, actual), std::vector<std::string>{"popcnt"});
}

TEST(CpuFeatures, HaveUniqueNamesAndPlaces) {
    const auto features = cpu_features();
    for (size_t i = 0; i < features.size(); ++i) {
        EXPECT_EQ(cpu_feature_name(features[i].leaf, features[i].subleaf, features[i].reg,
                                   features[i].bit),
                  features[i].name);
        EXPECT_EQ(*find_cpu_feature(features[i].name), &features[i]);
    }
}

}  // namespace
}  // namespace kumoi::hypervisor
