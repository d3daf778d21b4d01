#include "hypervisor/memory_config.h"

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

// A machine of 1024 MiB and 4 vCPUs.
Result<MemoryConfig> parse(const std::string& text) {
    const auto json = Json::parse(text);
    EXPECT_TRUE(json.ok()) << text;
    return parse_memory_config(JsonView(*json), 1024, 4);
}

TEST(MemoryConfig, ASilentConfigurationAsksForNothing) {
    const auto config = parse("{}");
    ASSERT_TRUE(config.ok());
    EXPECT_EQ(config->page_size, 0u);
    EXPECT_FALSE(config->prealloc);
    EXPECT_TRUE(config->numa.empty());
    EXPECT_EQ(config->max_mib, 0u);
    EXPECT_EQ(config->dirty_tracking, DirtyTracking::Auto);
}

TEST(MemoryConfig, ChoosesHowWritesAreTracked) {
    EXPECT_EQ(parse(R"({"dirty_tracking": "ring"})")->dirty_tracking, DirtyTracking::Ring);
    EXPECT_EQ(parse(R"({"dirty_tracking": "bitmap"})")->dirty_tracking, DirtyTracking::Bitmap);
    EXPECT_EQ(parse(R"({"dirty_tracking": "auto"})")->dirty_tracking, DirtyTracking::Auto);
    EXPECT_FALSE(parse(R"({"dirty_tracking": "rings"})").ok());
    EXPECT_FALSE(parse(R"({"dirty_tracking": true})").ok());
}

TEST(MemoryConfig, TakesEveryMember) {
    const auto config = parse(R"({"memory": {"page_size_kib": 2048, "prealloc": true,
                                             "prealloc_threads": 4},
        "numa": [{"vcpus": "0-2", "memory_mib": 512, "host_node": 1, "distances": [10, 21]},
                 {"vcpus": "3", "memory_mib": 512, "distances": [21, 10]}]})");
    ASSERT_TRUE(config.ok()) << config.error().text();
    EXPECT_EQ(config->page_size, 2u << 20);
    EXPECT_TRUE(config->prealloc);
    EXPECT_EQ(config->prealloc_threads, 4u);
    ASSERT_EQ(config->numa.size(), 2u);
    EXPECT_EQ(config->numa[0].vcpus, (CpuList{0, 1, 2}));
    EXPECT_EQ(config->numa[0].host_node, 1u);
    EXPECT_FALSE(config->numa[1].host_node.has_value());
    EXPECT_EQ(config->numa[1].distances, (std::vector<uint32_t>{21, 10}));
    const auto grows = parse(R"({"memory": {"transparent_huge_pages": true, "page_size_kib": 4},
                                 "memory_max_mib": 4096})");
    ASSERT_TRUE(grows.ok()) << grows.error().text();
    EXPECT_TRUE(grows->transparent_huge_pages);
    EXPECT_EQ(grows->max_mib, 4096u);
}

TEST(MemoryConfig, RefusesWhatContradictsItself) {
    for (
        const char* text : {
            R"({"memory": {"page_size_kib": 1024}})",
            R"({"memory": {"page_size_kib": 2048, "transparent_huge_pages": true}})",
            R"({"memory": {"prealloc_threads": 0}})",
            R"({"memory": {"prealoc": true}})",
            R"({"memory": []})",
            R"({"memory_max_mib": 1024})",
            R"({"memory_max_mib": 2048, "memory": {"page_size_kib": 2048}})",
            R"({"numa": []})",
            R"({"numa": {}})",
            R"({"numa": [{"vcpus": "0-3", "memory_mib": 1023}]})",
            R"({"numa": [{"vcpus": "0-2", "memory_mib": 1024}]})",
            R"({"numa": [{"vcpus": "0-4", "memory_mib": 1024}]})",
            R"({"numa": [{"vcpus": "x", "memory_mib": 1024}]})",
            R"({"numa": [{"vcpus": "0-3", "memory_mib": 512}, {"vcpus": "3", "memory_mib": 512}]})",
            R"({"numa": [{"vcpus": "0-3", "memory_mib": 1024, "host_node": 5000}]})",
            R"({"numa": [{"vcpus": "0-3", "memory_mib": 1024, "distances": [11]}]})",
            R"({"numa": [{"vcpus": "0-3", "memory_mib": 1024, "distances": [10, 20]}]})",
            R"({"numa": [{"vcpus": "0-3", "memory_mib": 1024, "distances": [10000000000]}]})",
            R"({"numa": [{"vcpus": "0-1", "memory_mib": 512, "distances": [10, 20]},
                          {"vcpus": "2-3", "memory_mib": 512}]})",
            R"({"numa": [{"vcpus": "0-1", "memory_mib": 512, "distances": [10, 10]},
                          {"vcpus": "2-3", "memory_mib": 512, "distances": [20, 10]}]})",
            R"({"memory": {"page_size_kib": 2048}, "numa": [{"vcpus": "0-3", "memory_mib": 1023},
                          {"memory_mib": 1}]})",
        }) {
        EXPECT_FALSE(parse(text).ok()) << text;
    }
    // A page of 1 GiB is the whole memory; a node without processors is fine.
    EXPECT_TRUE(parse(R"({"memory": {"page_size_kib": 1048576}})").ok());
    EXPECT_TRUE(parse(R"({"numa": [{"vcpus": "0-3", "memory_mib": 1000},
                                   {"memory_mib": 24}]})")
                    .ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
