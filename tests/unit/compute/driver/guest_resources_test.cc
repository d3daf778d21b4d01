#include "compute/driver/guest_resources.h"

#include <gtest/gtest.h>

#include "base/file.h"

namespace kumoi::compute {
namespace {

Instance server(Properties specs, Properties image = {}) {
    Instance instance;
    instance.flavor.name = "m1.test";
    instance.flavor.vcpus = 4;
    instance.flavor.memory_mb = 2048;
    instance.flavor.extra_specs = std::move(specs);
    instance.image.properties = std::move(image);
    return instance;
}

std::string config(const Instance& instance, uint32_t host_nodes = 1) {
    EXPECT_TRUE(check_guest_resources(instance).ok());
    Json guest = Json::object({{"cpu", Json::object({{"model", "host"}})}});
    add_guest_resources(guest, instance, host_nodes);
    return guest.dump();
}

TEST(GuestResources, AFlavorThatSaysNothingChangesNothing) {
    EXPECT_EQ(config(server({})), R"({"cpu":{"model":"host"}})");
    EXPECT_EQ(config(server({{"hw:mem_page_size", "small"}})), R"({"cpu":{"model":"host"}})");
    EXPECT_EQ(config(server({{"hw:mem_page_size", "4KB"}})), R"({"cpu":{"model":"host"}})");
}

TEST(GuestResources, PageSizesInAllSpellings) {
    for (const char* text : {"large", "2048", "2MB", "2MiB", "2048KB"}) {
        EXPECT_NE(
            config(server({{"hw:mem_page_size", text}}))
                .find(R"("memory":{"backing":"hugetlb","page_size_kib":2048,"prealloc":true})"),
            std::string::npos)
            << text;
    }
    EXPECT_NE(config(server({}, {{"hw_mem_page_size", "1GB"}})).find("1048576"), std::string::npos);
    // The flavor's word counts.
    EXPECT_EQ(config(server({{"hw:mem_page_size", "small"}}, {{"hw_mem_page_size", "1GB"}}))
                  .find("memory"),
              std::string::npos);
}

TEST(GuestResources, NodesAreDividedEvenlyOrDescribed) {
    EXPECT_NE(
        config(server({{"hw:numa_nodes", "2"}}))
            .find(R"("numa":[{"memory_mib":1024,"cpus":"0,1"},{"memory_mib":1024,"cpus":"2,3"}])"),
        std::string::npos);
    const auto described = server({{"hw:numa_nodes", "2"},
                                   {"hw:numa_cpus.0", "0-2"},
                                   {"hw:numa_mem.0", "1536"},
                                   {"hw:numa_cpus.1", "3"},
                                   {"hw:numa_mem.1", "512"}});
    EXPECT_NE(
        config(described, 2)
            .find(
                R"({"memory_mib":1536,"cpus":"0,1,2","host_node":0},{"memory_mib":512,"cpus":"3","host_node":1})"),
        std::string::npos)
        << config(described, 2);
}

TEST(GuestResources, TopologiesMakeUpTheVcpus) {
    EXPECT_NE(config(server({{"hw:cpu_cores", "2"}}))
                  .find(R"("topology":{"sockets":2,"cores":2,"threads":1})"),
              std::string::npos);
    EXPECT_NE(config(server({{"hw:cpu_sockets", "1"}, {"hw:cpu_threads", "2"}}))
                  .find(R"("topology":{"sockets":1,"cores":2,"threads":2})"),
              std::string::npos);
}

TEST(GuestResources, RefusesWhatCannotBe) {
    const Properties bad[] = {
        {{"hw:mem_page_size", "3MB"}},
        {{"hw:mem_page_size", "huge"}},
        {{"hw:mem_page_size", "99999999999999999999"}},
        {{"hw:numa_nodes", "0"}},
        {{"hw:numa_nodes", "5"}},
        {{"hw:numa_nodes", "3"}},
        {{"hw:numa_nodes", "two"}},
        {{"hw:numa_nodes", "2"}, {"hw:numa_cpus.0", "0-3"}},
        {{"hw:numa_nodes", "1"}, {"hw:numa_cpus.0", "0-4"}, {"hw:numa_mem.0", "2048"}},
        {{"hw:numa_nodes", "1"}, {"hw:numa_cpus.0", "0-3,"}, {"hw:numa_mem.0", "2048"}},
        {{"hw:cpu_sockets", "3"}},
        {{"hw:cpu_threads", "4"}, {"hw:cpu_cores", "2"}},
        {{"quota:cpu_shares", "1"}},
        {{"quota:cpu_period", "10"}},
        {{"quota:cpu_quota", "10"}},
        {{"quota:cpu_quota", "x"}},
    };
    for (const Properties& specs : bad) {
        const auto checked = check_guest_resources(server(specs));
        EXPECT_FALSE(checked.ok()) << specs.begin()->first << "=" << specs.begin()->second;
    }
    EXPECT_FALSE(check_guest_resources(server({}, {{"hw_mem_page_size", "2M"}})).ok());
}

TEST(GuestResources, LimitsAreNovas) {
    const CgroupLimits plain = guest_limits(server({}));
    EXPECT_EQ(plain.cpu_shares, 4096u);
    EXPECT_FALSE(plain.cpu_quota_us.has_value());
    const CgroupLimits limited = guest_limits(server({{"quota:cpu_shares", "512"},
                                                      {"quota:cpu_period", "20000"},
                                                      {"quota:cpu_quota", "10000"}}));
    EXPECT_EQ(limited.cpu_shares, 512u);
    EXPECT_EQ(limited.cpu_period_us, 20'000u);
    EXPECT_EQ(limited.cpu_quota_us, 10'000);
}

TEST(GuestResources, CountsTheHostsNodes) {
    auto folder = TemporaryDirectory::create("nodes");
    ASSERT_TRUE(folder.ok());
    for (const char* name : {"node0", "node1", "node12", "online", "nodes"}) {
        ASSERT_TRUE(make_directories(folder->path() + "/" + name).ok());
    }
    EXPECT_EQ(count_host_nodes(folder->path()), 3u);
    EXPECT_EQ(count_host_nodes(folder->path() + "/none"), 1u);
    EXPECT_GE(count_host_nodes(), 1u);
}

}  // namespace
}  // namespace kumoi::compute
