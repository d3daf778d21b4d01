#include "compute/resources/resource_tracker.h"

#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

Instance server(const std::string& uuid, int64_t vcpus, int64_t memory_mb, int64_t root_gb) {
    Instance instance;
    instance.uuid = uuid;
    instance.image_id = "image";
    instance.flavor.vcpus = vcpus;
    instance.flavor.memory_mb = memory_mb;
    instance.flavor.root_gb = root_gb;
    return instance;
}

class ResourceTrackerTest : public testing::Test {
protected:
    ResourceTrackerTest() : tracker_(options(), clock_) {
        inventory_.vcpus = 2;
        inventory_.memory_mb = 4096;
        inventory_.local_gb = 50;
        inventory_.local_gb_free = 40;
        tracker_.update(inventory_, {});
    }
    static ResourceOptions options() {
        ResourceOptions options;
        options.host = "cn-1";
        options.reserved_memory_mb = 1024;
        options.cpu_allocation_ratio = 2.0;
        return options;
    }
    void expect_refused(const Instance& instance, const std::string& text) {
        auto claim = tracker_.claim(instance);
        ASSERT_FALSE(claim.ok());
        EXPECT_EQ(claim.error().fault, "ComputeResourcesUnavailable");
        EXPECT_NE(claim.error().message.find(text), std::string::npos) << claim.error().message;
        EXPECT_EQ(tracker_.compute_node().running_vms, 0);
    }

    ManualClock clock_;
    HostResources inventory_;
    ResourceTracker tracker_;
};

TEST_F(ResourceTrackerTest, RefusesWhatDoesNotFitWithNumbers) {
    expect_refused(server("a", 5, 100, 1), "4 threads");
    expect_refused(server("a", 1, 3073, 1), "3072 MiB");
    expect_refused(server("a", 1, 100, 51), "50 GiB");
}

TEST_F(ResourceTrackerTest, RefusesToCountAServerTwice) {
    auto claim = tracker_.claim(server("a", 1, 100, 1));
    ASSERT_TRUE(claim.ok());
    auto again = tracker_.claim(server("a", 1, 100, 1));
    ASSERT_FALSE(again.ok());
    EXPECT_EQ(again.error().code, ErrorCode::Conflict);
}

TEST_F(ResourceTrackerTest, ADroppedClaimIsFreeAgain) {
    { ASSERT_TRUE(tracker_.claim(server("a", 4, 3072, 50)).ok()); }
    EXPECT_TRUE(tracker_.claim(server("b", 4, 3072, 50)).ok());
}

TEST_F(ResourceTrackerTest, AKeptClaimIsReleasedExactlyOnce) {
    tracker_.claim(server("a", 1, 1000, 10)).value().keep();
    EXPECT_EQ(tracker_.compute_node().vcpus_used, 1);
    EXPECT_EQ(tracker_.compute_node().memory_mb_used, 2024);
    tracker_.release("a");
    tracker_.release("a");
    EXPECT_EQ(tracker_.compute_node().vcpus_used, 0);
    EXPECT_EQ(tracker_.compute_node().local_gb_used, 0);
}

TEST_F(ResourceTrackerTest, TheAuditKeepsBuildsAndForgetsStrangers) {
    auto building = tracker_.claim(server("a", 1, 100, 1));
    tracker_.claim(server("gone", 1, 100, 1)).value().keep();
    tracker_.set_building("gone", false);
    tracker_.begin_update();
    tracker_.update(inventory_, {server("b", 2, 200, 2)});
    const ComputeNode node = tracker_.compute_node();
    EXPECT_EQ(node.running_vms, 2);
    EXPECT_EQ(node.vcpus_used, 3);
    EXPECT_EQ(node.current_workload, 1);
}

TEST_F(ResourceTrackerTest, TheAuditDoesNotBringBackWhatWasReleasedMeanwhile) {
    tracker_.claim(server("a", 1, 100, 1)).value().keep();
    tracker_.begin_update();
    tracker_.release("a");  // deleted after the list was read
    tracker_.update(inventory_, {server("a", 1, 100, 1)});
    EXPECT_EQ(tracker_.compute_node().running_vms, 0);
}

TEST_F(ResourceTrackerTest, TellsItsListenerOfEachChange) {
    int changes = 0;
    tracker_.set_change_listener([&] { ++changes; });
    { ASSERT_TRUE(tracker_.claim(server("a", 1, 100, 1)).ok()); }
    EXPECT_EQ(changes, 2);
}

}  // namespace
}  // namespace kumoi::compute
