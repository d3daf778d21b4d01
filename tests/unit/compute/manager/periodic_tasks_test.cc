// Periodic work of a manager, and managers that share their threads (a fleet's).
#include <gtest/gtest.h>

#include <future>

#include "base/file.h"
#include "compute/manager/compute_manager.h"
#include "compute/vm_states.h"
#include "tests/support/compute_fakes.h"

namespace kumoi::compute {
namespace {

struct Node {
    Node(const std::string& host, const std::string& folder, const Clock& clock,
         ComputeManager::Pools pools) {
        ManagerOptions options;
        options.host = host;
        options.state_path = folder + "/" + host;
        ComputeManager::Borders borders{conductor, network, vifs,    driver,
                                        clock,     images,  nullptr, pools};
        manager = std::move(ComputeManager::create(borders, options)).value();
    }
    CallLog log;
    FakeConductor conductor{log};
    FakeNetwork network{log};
    FakeVifs vifs{log};
    FakeDriver driver{log};
    FakeImages images{log};
    std::unique_ptr<ComputeManager> manager;
};

class PeriodicTasksTest : public testing::Test {
protected:
    // Everything queued on the pool so far has run: it has one thread.
    static void flush(WorkerPool& pool) {
        std::promise<void> reached;
        ASSERT_TRUE(pool.submit([&] { reached.set_value(); }).ok());
        reached.get_future().wait();
    }
    void pass(int64_t seconds) {
        clock_.advance(seconds * kNanosPerSecond);
        loop_.run_ready();
    }
    void TearDown() override {
        verbs_.stop();
        verbs_.join();
        housekeeping_.stop();
        housekeeping_.join();
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("periodic").value();
    ManualClock clock_;
    EventLoop loop_{clock_};
    WorkerPool verbs_{"verbs", 2, 64};
    WorkerPool housekeeping_{"house", 1, 64};
    Node one_{"cn-1", directory_.path(), clock_, {verbs_, housekeeping_}};
    Node two_{"cn-2", directory_.path(), clock_, {verbs_, housekeeping_}};
};

TEST_F(PeriodicTasksTest, ShowSignsOfLifeAndInventoryOnTheLoopsClock) {
    ASSERT_TRUE(one_.manager->init_host().ok());
    one_.manager->start_periodic_tasks(loop_);
    const int before = one_.conductor.heartbeats();
    pass(10);
    flush(housekeeping_);
    pass(10);
    flush(housekeeping_);
    EXPECT_EQ(one_.conductor.heartbeats(), before + 2);
    EXPECT_EQ(one_.conductor.node().vcpus, 4);
}

TEST_F(PeriodicTasksTest, BeginAtTheirOwnMomentOfTheInterval) {
    one_.manager->start_periodic_tasks(loop_, 0.2);
    two_.manager->start_periodic_tasks(loop_, 0.7);
    pass(2);
    flush(housekeeping_);
    EXPECT_EQ(one_.conductor.heartbeats(), 1);
    EXPECT_EQ(two_.conductor.heartbeats(), 0);
    pass(5);
    flush(housekeeping_);
    EXPECT_EQ(one_.conductor.heartbeats(), 1);
    EXPECT_EQ(two_.conductor.heartbeats(), 1);
    pass(5);
    flush(housekeeping_);
    EXPECT_EQ(one_.conductor.heartbeats(), 2);
}

TEST_F(PeriodicTasksTest, AreNotQueuedAgainWhileTheyWait) {
    std::promise<void> begun, slow;
    ASSERT_TRUE(housekeeping_
                    .submit([&begun, done = slow.get_future().share()] {
                        begun.set_value();
                        done.wait();
                    })
                    .ok());
    begun.get_future().wait();
    one_.manager->start_periodic_tasks(loop_);
    for (int beats = 0; beats < 5; ++beats) {
        pass(10);
    }
    EXPECT_EQ(housekeeping_.queue_length(), 1u);
    slow.set_value();
    flush(housekeeping_);
    EXPECT_EQ(one_.conductor.heartbeats(), 1);
    pass(10);
    flush(housekeeping_);
    EXPECT_EQ(one_.conductor.heartbeats(), 2);
}

TEST_F(PeriodicTasksTest, ManagersOnSharedThreadsBuildAndStopAlone) {
    const std::string uuid = "11111111-2222-4333-8444-555555555555";
    for (Node* node : {&one_, &two_}) {
        ASSERT_TRUE(node->manager->init_host().ok());
        Instance server;
        server.uuid = uuid;
        server.vm_state = vm_states::kBuilding;
        server.task_state = task_states::kScheduling;
        server.flavor.vcpus = 1;
        server.flavor.memory_mb = 512;
        server.flavor.root_gb = 1;
        node->conductor.add(server);
        ASSERT_TRUE(node->manager->build_and_run_instance({{}, server, {}, {}}).ok());
    }
    EXPECT_NE(one_.manager->compute_node().uuid, two_.manager->compute_node().uuid);
    one_.manager->stop();  // waits for its own build
    EXPECT_EQ(one_.driver.guest_count(), 1u);
    EXPECT_FALSE(one_.manager->start_instance({}, uuid).ok());
    two_.manager->wait_idle();
    EXPECT_EQ(two_.driver.guest_count(), 1u);
    EXPECT_TRUE(two_.manager->stop_instance({}, uuid, false).ok());
    two_.manager->stop();
}

}  // namespace
}  // namespace kumoi::compute
