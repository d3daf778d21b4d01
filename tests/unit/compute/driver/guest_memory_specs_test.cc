#include "compute/driver/guest_memory_specs.h"

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

// guest.json's new members, or what check_guest_memory() says.
std::string config(const Instance& instance, const std::vector<HostNumaNode>& host = {}) {
    if (const auto checked = check_guest_memory(instance); !checked.ok()) {
        return checked.error().fault;
    }
    Json guest = Json::object();
    add_guest_memory(guest, instance, host);
    return guest.dump();
}

TEST(GuestMemorySpecs, AFlavorThatSaysNothingChangesNothing) {
    EXPECT_EQ(config(server({})), "{}");
    for (const char* text : {"small", "any", "4KB", "4"}) {
        EXPECT_EQ(config(server({{"hw:mem_page_size", text}})), "{}") << text;
    }
    EXPECT_EQ(config(server({}, {{"hw_mem_page_size", "small"}})), "{}");
}

TEST(GuestMemorySpecs, PageSizesInAllSpellings) {
    for (const char* text : {"large", "2048", "2MB", "2MiB", "2048KB"}) {
        EXPECT_EQ(config(server({{"hw:mem_page_size", text}})),
                  R"({"memory":{"page_size_kib":2048,"prealloc":true}})")
            << text;
    }
    EXPECT_EQ(config(server({{"hw:mem_page_size", "1GB"}})),
              R"({"memory":{"page_size_kib":1048576,"prealloc":true}})");
}

TEST(GuestMemorySpecs, AnImageChoosesWhereTheFlavorLetsIt) {
    const std::string giant = R"({"memory":{"page_size_kib":1048576,"prealloc":true}})";
    EXPECT_EQ(config(server({{"hw:mem_page_size", "any"}}, {{"hw_mem_page_size", "1GB"}})), giant);
    EXPECT_EQ(config(server({{"hw:mem_page_size", "large"}}, {{"hw_mem_page_size", "1GB"}})),
              giant);
    for (const char* flavor : {"small", "2MB"}) {
        EXPECT_EQ(config(server({{"hw:mem_page_size", flavor}}, {{"hw_mem_page_size", "1GB"}})),
                  "MemoryPageSizeForbidden");
    }
    EXPECT_EQ(config(server({}, {{"hw_mem_page_size", "2MB"}})), "MemoryPageSizeForbidden");
}

TEST(GuestMemorySpecs, NodesAreDividedEvenlyOrDescribed) {
    EXPECT_EQ(config(server({{"hw:numa_nodes", "2"}})),
              R"({"numa":[{"vcpus":"0,1","memory_mib":1024},{"vcpus":"2,3","memory_mib":1024}]})");
    EXPECT_EQ(config(server({{"hw:numa_nodes", "2"},
                             {"hw:numa_cpus.0", "0-2"},
                             {"hw:numa_mem.0", "1536"},
                             {"hw:numa_cpus.1", "3"},
                             {"hw:numa_mem.1", "512"}})),
              R"({"numa":[{"vcpus":"0,1,2","memory_mib":1536},{"vcpus":"3","memory_mib":512}]})");
    EXPECT_EQ(config(server({}, {{"hw_numa_nodes", "1"}})),
              R"({"numa":[{"vcpus":"0,1,2,3","memory_mib":2048}]})");
}

TEST(GuestMemorySpecs, NodesLieOnHostNodesWhereThereAreEnough) {
    const std::vector<HostNumaNode> host = {{0, "0-7"}, {2, "8-15"}};
    EXPECT_EQ(config(server({{"hw:numa_nodes", "2"}}), host),
              R"({"numa":[{"vcpus":"0,1","memory_mib":1024,"host_node":0},)"
              R"({"vcpus":"2,3","memory_mib":1024,"host_node":2}],)"
              R"("vcpu":{"affinity":["0-7","0-7","8-15","8-15"]}})");
    EXPECT_EQ(config(server({{"hw:numa_nodes", "4"}}), host).find("host_node"), std::string::npos);
}

TEST(GuestMemorySpecs, RefusesWhatCannotBe) {
    const std::pair<Properties, const char*> bad[] = {
        {{{"hw:mem_page_size", "3MB"}}, "InvalidInput"},
        {{{"hw:mem_page_size", "huge"}}, "InvalidInput"},
        {{{"hw:mem_page_size", "-2MB"}}, "InvalidInput"},
        {{{"hw:mem_page_size", ""}}, "InvalidInput"},
        {{{"hw:mem_page_size", "99999999999999999999"}}, "InvalidInput"},
        {{{"hw:mem_page_size", "18446744073709551615GB"}}, "InvalidInput"},
        {{{"hw:numa_nodes", "0"}}, "InvalidInput"},
        {{{"hw:numa_nodes", "5"}}, "InvalidInput"},
        {{{"hw:numa_nodes", "two"}}, "InvalidInput"},
        {{{"hw:numa_nodes", "3"}}, "ImageNUMATopologyAsymmetric"},
        {{{"hw:numa_nodes", "2"}, {"hw:numa_cpus.0", "0-3"}}, "ImageNUMATopologyIncomplete"},
        {{{"hw:numa_nodes", "1"}, {"hw:numa_cpus.0", "0-4"}, {"hw:numa_mem.0", "2048"}},
         "InvalidInput"},
        {{{"hw:numa_nodes", "1"}, {"hw:numa_cpus.0", "0-3,"}, {"hw:numa_mem.0", "2048"}},
         "InvalidInput"},
        {{{"hw:numa_nodes", "2"},
          {"hw:numa_cpus.0", "0-3"},
          {"hw:numa_mem.0", "1024"},
          {"hw:numa_cpus.1", "3"},
          {"hw:numa_mem.1", "1024"}},
         "ImageNUMATopologyCPUDuplicates"},
        {{{"hw:mem_page_size", "1GB"}, {"hw:numa_nodes", "4"}}, "InvalidInput"},
    };
    for (const auto& [specs, fault] : bad) {
        EXPECT_EQ(config(server(specs)), fault)
            << specs.begin()->first << "=" << specs.begin()->second;
    }
    Instance odd = server({{"hw:mem_page_size", "2MB"}});
    odd.flavor.memory_mb = 2049;
    EXPECT_EQ(config(odd), "InvalidInput");
}

TEST(GuestMemorySpecs, ReadsTheHostsNodes) {
    auto folder = TemporaryDirectory::create("nodes");
    ASSERT_TRUE(folder.ok());
    const std::pair<const char*, const char*> files[] = {{"node12", "4-7\n"},
                                                         {"node0", "0-3\n"},
                                                         {"node2", "\n"},
                                                         {"nodes", "9\n"},
                                                         {"node", "8\n"}};
    for (const auto& [name, cpus] : files) {
        ASSERT_TRUE(make_directories(folder->path() + "/" + name).ok());
        ASSERT_TRUE(write_file_atomic(folder->path() + "/" + name + "/cpulist", cpus).ok());
    }
    const auto nodes = host_numa_nodes(folder->path());
    ASSERT_EQ(nodes.size(), 2u);  // those with processors
    EXPECT_EQ(nodes[0].cpus, "0-3");
    EXPECT_EQ(nodes[1].id, 12);
    EXPECT_TRUE(host_numa_nodes(folder->path() + "/none").empty());
}

}  // namespace
}  // namespace kumoi::compute
