#include "compute/driver/host_inventory.h"

#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

TEST(HostInventory, RefusesMeminfoWithoutItsNumbers) {
    EXPECT_FALSE(parse_meminfo("").ok());
    EXPECT_FALSE(parse_meminfo("MemTotal: 100 kB\n").ok());
    EXPECT_FALSE(parse_meminfo("MemTotal: x kB\nMemAvailable:\n").ok());
}

TEST(HostInventory, ReadsMeminfo) {
    const auto memory =
        parse_meminfo("MemTotal:  2097152 kB\nMemFree: 1 kB\nMemAvailable: 1048576 kB\n");
    ASSERT_TRUE(memory.ok());
    EXPECT_EQ(memory->total_mb, 2048);
    EXPECT_EQ(memory->available_mb, 1024);
}

TEST(HostInventory, DescribesTheProcessorAsNovaDoes) {
    const Json json = parse_cpuinfo(
        "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\nsiblings\t: 4\n"
        "cpu cores\t: 2\nflags\t\t: fpu svm avx\n\nprocessor\t: 1\n",
        8);
    EXPECT_EQ(json.string_or("vendor"), "AuthenticAMD");
    EXPECT_EQ(json.string_or("model"), "AMD EPYC");
    EXPECT_EQ(json.find_path({"topology", "sockets"})->as_int64(), 2);
    EXPECT_EQ(json.find_path({"topology", "threads"})->as_int64(), 2);
    EXPECT_EQ(json.find("features")->dump(), "[\"avx\",\"fpu\",\"svm\"]");
    EXPECT_EQ(parse_cpuinfo("", 1).find("features")->size(), 0u);
}

TEST(HostInventory, MeasuresThisHost) {
    const auto resources = host_inventory("/tmp");
    ASSERT_TRUE(resources.ok());
    EXPECT_GT(resources->vcpus, 0);
    EXPECT_GT(resources->memory_mb, resources->memory_mb_used);
    EXPECT_FALSE(host_inventory("/no/such/folder").ok());
}

}  // namespace
}  // namespace kumoi::compute
