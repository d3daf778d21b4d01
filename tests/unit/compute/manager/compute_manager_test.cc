#include "compute/manager/compute_manager.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "compute/vm_states.h"
#include "tests/support/compute_fakes.h"

namespace kumoi::compute {
namespace {

const std::string kUuid = "11111111-2222-4333-8444-555555555555";

class ComputeManagerTest : public testing::Test {
protected:
    void SetUp() override {
        ManagerOptions options;
        options.host = "cn-1";
        options.state_path = directory_.path();
        auto manager =
            ComputeManager::create({conductor_, network_, vifs_, driver_, clock_, images_}, options,
                                   {}, [](std::function<void()> function) -> Result<void> {
                                       function();
                                       return {};
                                   });
        ASSERT_TRUE(manager.ok());
        manager_ = std::move(*manager);
        ASSERT_TRUE(manager_->init_host().ok());
    }
    Instance new_server() const {
        Instance instance;
        instance.uuid = kUuid;
        instance.vm_state = vm_states::kBuilding;
        instance.task_state = task_states::kScheduling;
        instance.flavor.vcpus = 1;
        instance.flavor.memory_mb = 512;
        instance.flavor.root_gb = 1;
        return instance;
    }
    void build() {
        conductor_.add(new_server());
        ASSERT_TRUE(manager_->build_and_run_instance({context_, new_server(), {}, {}}).ok());
    }
    void set_task(const char* task_state) {
        Instance instance = conductor_.get(kUuid);
        instance.task_state = task_state;
        conductor_.add(instance);
    }
    void fail(const std::string& call, Error error) {
        log_.fail = [call, error](const std::string& name) -> Result<void> {
            return name == call ? Result<void>(error) : Result<void>();
        };
    }
    void expect_nothing_left() {
        EXPECT_EQ(driver_.guest_count(), 0u);
        EXPECT_EQ(network_.port_count(), 0u);
        EXPECT_TRUE(vifs_.taps().empty());
        EXPECT_EQ(manager_->compute_node().running_vms, 0);
        EXPECT_TRUE(conductor_.open_events().empty());
    }
    Instance stored() const { return conductor_.get(kUuid); }

    TemporaryDirectory directory_ = TemporaryDirectory::create("manager").value();
    ManualClock clock_;
    CallLog log_;
    FakeConductor conductor_{log_};
    FakeNetwork network_{log_};
    FakeVifs vifs_{log_};
    FakeDriver driver_{log_};
    FakeImages images_{log_};
    RequestContext context_{"req-1", "user", "project", false};
    std::unique_ptr<ComputeManager> manager_;
};

TEST_F(ComputeManagerTest, AFailedSpawnIsUndoneAndHandedBack) {
    fail("driver.spawn", Error::unavailable("no luck"));
    build();
    EXPECT_EQ(conductor_.rescheduled(), std::vector<std::string>{kUuid});
    EXPECT_EQ(stored().task_state, task_states::kScheduling);
    EXPECT_EQ(conductor_.fault_count(kUuid), 0u);
    expect_nothing_left();
}

TEST_F(ComputeManagerTest, AHopelessBuildEndsInErrorWithItsReason) {
    fail("driver.spawn",
         Error::invalid("root disk too small").with_fault("FlavorDiskSmallerThanImage"));
    build();
    EXPECT_TRUE(conductor_.rescheduled().empty());
    EXPECT_EQ(stored().vm_state, vm_states::kError);
    EXPECT_FALSE(stored().task_state);
    EXPECT_EQ(stored().host, "");
    EXPECT_EQ(stored().fault->message, "root disk too small");
    expect_nothing_left();
}

TEST_F(ComputeManagerTest, ABuildWhoseCleanupFailsIsNotTriedElsewhere) {
    log_.fail = [](const std::string& name) -> Result<void> {
        if (name == "driver.spawn" || name == "vifs.unplug") {
            return Error::unavailable("{} broke", name);
        }
        return {};
    };
    build();
    EXPECT_TRUE(conductor_.rescheduled().empty());
    EXPECT_EQ(stored().vm_state, vm_states::kError);
    EXPECT_EQ(network_.port_count(), 0u);  // the rest was cleaned all the same
}

TEST_F(ComputeManagerTest, ABuildThatDoesNotFitTouchesNothing) {
    Instance big = new_server();
    big.flavor.memory_mb = 1 << 20;
    conductor_.add(big);
    ASSERT_TRUE(manager_->build_and_run_instance({context_, big, {}, {}}).ok());
    EXPECT_EQ(log_.count("network.allocate"), 0u);
    EXPECT_EQ(log_.count("driver.spawn"), 0u);
    EXPECT_EQ(conductor_.rescheduled().size(), 1u);
    expect_nothing_left();
}

TEST_F(ComputeManagerTest, ADeleteDuringTheBuildWins) {
    log_.fail = [this](const std::string& name) -> Result<void> {
        if (name == "network.allocate") {
            set_task(task_states::kDeleting);
        }
        return {};
    };
    build();
    EXPECT_EQ(stored().task_state, task_states::kDeleting);  // left for the delete
    EXPECT_EQ(stored().vm_state, vm_states::kBuilding);
    EXPECT_EQ(conductor_.fault_count(kUuid), 0u);
    expect_nothing_left();
}

TEST_F(ComputeManagerTest, ASecondBuildOfALiveServerDoesNotTouchIt) {
    build();
    ASSERT_TRUE(manager_->build_and_run_instance({context_, new_server(), {}, {}}).ok());
    EXPECT_EQ(driver_.power(kUuid), power_states::kRunning);
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
}

TEST_F(ComputeManagerTest, BuildsInNovasOrder) {
    build();
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_FALSE(stored().task_state);
    EXPECT_EQ(stored().power_state, power_states::kRunning);
    EXPECT_EQ(stored().host, "cn-1");
    EXPECT_GT(stored().launched_ns, 0);
    EXPECT_EQ(stored().network_info.at(0).tap_name, *vifs_.taps().begin());
    EXPECT_EQ(
        conductor_.task_state_history(kUuid),
        (std::vector<std::string>{"-", "networking", "block_device_mapping", "spawning", "-"}));
    EXPECT_EQ(manager_->compute_node().vcpus_used, 1);
    EXPECT_TRUE(conductor_.open_events().empty());
}

TEST_F(ComputeManagerTest, TerminateRemovesEverything) {
    build();
    set_task(task_states::kDeleting);
    ASSERT_TRUE(manager_->terminate_instance(context_, kUuid).ok());
    EXPECT_FALSE(conductor_.has(kUuid));
    expect_nothing_left();
}

TEST_F(ComputeManagerTest, TerminateOfAnUnknownServerCleansThisHost) {
    driver_.set_guest(kUuid, power_states::kRunning);
    ASSERT_TRUE(manager_->terminate_instance(context_, kUuid).ok());
    expect_nothing_left();
}

TEST_F(ComputeManagerTest, AFailedTerminateIsAnErrorThatCanBeRepeated) {
    build();
    set_task(task_states::kDeleting);
    fail("driver.destroy", Error::io("disk on fire"));
    ASSERT_TRUE(manager_->terminate_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kError);
    EXPECT_FALSE(stored().task_state);
    EXPECT_EQ(conductor_.fault_count(kUuid), 1u);
    log_.fail = {};
    ASSERT_TRUE(manager_->terminate_instance(context_, kUuid).ok());
    expect_nothing_left();
}

TEST_F(ComputeManagerTest, StopAsksTheGuestFirstAndStartBringsItBack) {
    build();
    set_task(task_states::kPoweringOff);
    ASSERT_TRUE(manager_->stop_instance(context_, kUuid, true).ok());
    EXPECT_EQ(driver_.last_timeout_s(), 60);
    EXPECT_EQ(stored().vm_state, vm_states::kStopped);
    EXPECT_EQ(stored().power_state, power_states::kShutdown);
    set_task(task_states::kPoweringOn);
    ASSERT_TRUE(manager_->start_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_FALSE(stored().task_state);
}

TEST_F(ComputeManagerTest, AForcedStopAsksNobody) {
    build();
    set_task(task_states::kPoweringOff);
    ASSERT_TRUE(manager_->stop_instance(context_, kUuid, false).ok());
    EXPECT_EQ(driver_.last_timeout_s(), 0);
}

TEST_F(ComputeManagerTest, AFailedStopClearsTheTaskAndRecordsWhy) {
    build();
    set_task(task_states::kPoweringOff);
    fail("driver.power_off", Error::timeout("it does not answer"));
    ASSERT_TRUE(manager_->stop_instance(context_, kUuid, true).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_FALSE(stored().task_state);
    EXPECT_EQ(stored().fault->message, "it does not answer");
}

TEST_F(ComputeManagerTest, PauseAndUnpause) {
    build();
    set_task(task_states::kPausing);
    ASSERT_TRUE(manager_->pause_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kPaused);
    EXPECT_EQ(stored().power_state, power_states::kPaused);
    set_task(task_states::kUnpausing);
    ASSERT_TRUE(manager_->unpause_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
}

TEST_F(ComputeManagerTest, APauseThatLostItsTaskLeavesTheOtherTaskAlone) {
    build();
    set_task(task_states::kDeleting);
    ASSERT_TRUE(manager_->pause_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().task_state, task_states::kDeleting);
    EXPECT_EQ(conductor_.fault_count(kUuid), 0u);
}

TEST_F(ComputeManagerTest, RebootGoesThroughNovasTaskStates) {
    build();
    set_task(task_states::kRebooting);
    ASSERT_TRUE(manager_->reboot_instance(context_, kUuid, RebootType::Soft).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    const auto history = conductor_.task_state_history(kUuid);
    EXPECT_EQ(std::vector<std::string>(history.end() - 3, history.end()),
              (std::vector<std::string>{"reboot_pending", "reboot_started", "-"}));
}

TEST_F(ComputeManagerTest, AFailedRebootOfARunningGuestIsAFaultOnly) {
    build();
    set_task(task_states::kRebootingHard);
    fail("driver.reboot_hard", Error::timeout("no"));
    ASSERT_TRUE(manager_->reboot_instance(context_, kUuid, RebootType::Hard).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_EQ(conductor_.fault_count(kUuid), 1u);
    driver_.set_guest(kUuid, power_states::kShutdown);
    set_task(task_states::kRebootingHard);
    ASSERT_TRUE(manager_->reboot_instance(context_, kUuid, RebootType::Hard).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kError);
}

TEST_F(ComputeManagerTest, AGuestThatShutsItselfDownIsStopped) {
    build();
    driver_.set_guest(kUuid, power_states::kShutdown);
    driver_.send({kUuid, LifecycleEvent::Kind::Stopped, ""});
    EXPECT_EQ(stored().vm_state, vm_states::kStopped);
    EXPECT_EQ(stored().power_state, power_states::kShutdown);
}

TEST_F(ComputeManagerTest, ACrashedGuestIsStoppedWithAFault) {
    build();
    driver_.set_guest(kUuid, power_states::kCrashed);
    driver_.send({kUuid, LifecycleEvent::Kind::Crashed, "triple fault"});
    EXPECT_EQ(stored().vm_state, vm_states::kStopped);
    EXPECT_NE(stored().fault->message.find("triple fault"), std::string::npos);
}

TEST_F(ComputeManagerTest, EventsOfServersThatLiveElsewhereChangeNothing) {
    build();
    Instance moved = stored();
    moved.host = "cn-2";
    conductor_.add(moved);
    driver_.set_guest(kUuid, power_states::kShutdown);
    driver_.send({kUuid, LifecycleEvent::Kind::Stopped, ""});
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
}

TEST_F(ComputeManagerTest, ThePeriodicComparisonStopsWhatMustNotRun) {
    build();
    set_task(task_states::kPoweringOff);
    ASSERT_TRUE(manager_->stop_instance(context_, kUuid, false).ok());
    driver_.set_guest(kUuid, power_states::kRunning);
    manager_->sync_power_states();
    EXPECT_EQ(driver_.power(kUuid), power_states::kShutdown);
    EXPECT_EQ(stored().vm_state, vm_states::kStopped);
}

TEST_F(ComputeManagerTest, DiagnosticsNeedARunningGuest) {
    build();
    EXPECT_TRUE(manager_->get_instance_diagnostics(context_, kUuid).ok());
    driver_.set_guest(kUuid, power_states::kShutdown);
    const auto refused = manager_->get_instance_diagnostics(context_, kUuid);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().fault, "InstanceInvalidState");
    EXPECT_EQ(*manager_->get_console_output(context_, kUuid, 7), "console 7");
    EXPECT_FALSE(manager_->get_console_output(context_, "no-such", 7).ok());
}

TEST_F(ComputeManagerTest, RefusesVerbsAfterStop) {
    manager_->stop();
    EXPECT_FALSE(manager_->start_instance(context_, kUuid).ok());
}

TEST_F(ComputeManagerTest, KeepsItsIdentity) {
    const std::string uuid = manager_->compute_node().uuid;
    EXPECT_EQ(*load_or_make_compute_id(directory_.path()), uuid);
    ASSERT_TRUE(write_file_atomic(directory_.path() + "/compute_id", "rubbish").ok());
    EXPECT_FALSE(load_or_make_compute_id(directory_.path()).ok());
}

}  // namespace
}  // namespace kumoi::compute
