// The verbs that change what a server is made of, on a manager over fakes: what they do, what a
// failure leaves behind, and what is held while they wait.
#include <gtest/gtest.h>

#include "base/file.h"
#include "compute/manager/compute_manager.h"
#include "compute/vm_states.h"
#include "tests/support/compute_fakes.h"

namespace kumoi::compute {
namespace {

const std::string kUuid = "11111111-2222-4333-8444-555555555555";

class Lifecycle : public testing::Test {
protected:
    void SetUp() override { start({}); }
    void start(ManagerOptions options) {
        manager_.reset();
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
    void build() {
        ImageMeta image;
        image.id = "base";
        images_.add(image, "bytes");
        Instance instance;
        instance.uuid = kUuid;
        instance.project_id = "project";
        instance.display_name = "web";
        instance.image_id = instance.image.id = "base";
        instance.vm_state = vm_states::kBuilding;
        instance.task_state = task_states::kScheduling;
        instance.flavor = flavor("small", 1, 512);
        conductor_.add(instance);
        ASSERT_TRUE(manager_->build_and_run_instance({context_, instance, {}, {}}).ok());
        ASSERT_EQ(stored().vm_state, vm_states::kActive);
    }
    static Flavor flavor(const std::string& id, int64_t vcpus, int64_t memory_mb) {
        Flavor flavor;
        flavor.flavor_id = flavor.name = id;
        flavor.vcpus = vcpus;
        flavor.memory_mb = memory_mb;
        flavor.root_gb = 1;
        return flavor;
    }
    // As the conductor does before it casts.
    void set_task(const char* task_state, const std::function<void(Instance&)>& more = {}) {
        Instance instance = stored();
        instance.task_state = task_state;
        instance.task_arguments.old_vm_state = instance.vm_state;
        if (more) {
            more(instance);
        }
        conductor_.add(instance);
    }
    std::string queue_image(const Properties& properties = {}) {
        ImageMeta meta;
        meta.name = "snap";
        meta.properties = properties;
        return images_.create(context_, meta)->id;
    }
    std::string take_backup(int64_t rotation) {
        const std::string id = queue_image(
            {{"image_type", "backup"}, {"instance_uuid", kUuid}, {"backup_type", "daily"}});
        set_task(task_states::kImageBackup, [&](Instance& instance) {
            instance.task_arguments.image_id = id;
            instance.task_arguments.backup_type = "daily";
            instance.task_arguments.rotation = rotation;
        });
        EXPECT_TRUE(manager_->backup_instance(context_, kUuid).ok());
        return id;
    }
    void resize(const Flavor& to) {
        set_task(task_states::kResizePrep, [&](Instance& instance) { instance.new_flavor = to; });
        EXPECT_TRUE(manager_->resize_instance(context_, kUuid).ok());
    }
    std::string shelve() {
        const std::string id = queue_image();
        set_task(task_states::kShelving,
                 [&](Instance& instance) { instance.task_arguments.image_id = id; });
        EXPECT_TRUE(manager_->shelve_instance(context_, kUuid).ok());
        return id;
    }
    void fail(const std::string& call) {
        log_.fail = [call](const std::string& name) -> Result<void> {
            return name == call ? Result<void>(Error::unavailable("{} broke", call))
                                : Result<void>();
        };
    }
    Instance stored() const { return conductor_.get(kUuid); }

    TemporaryDirectory directory_ = TemporaryDirectory::create("lifecycle").value();
    ManualClock clock_{1'795'426'719 * kNanosPerSecond};
    CallLog log_;
    FakeConductor conductor_{log_};
    FakeNetwork network_{log_};
    FakeVifs vifs_{log_};
    FakeDriver driver_{log_};
    FakeImages images_{log_};
    RequestContext context_{"req-1", "user", "project", false};
    std::unique_ptr<ComputeManager> manager_;
};

TEST_F(Lifecycle, ASuspendThatFailsLeavesTheGuestRunning) {
    build();
    fail("driver.suspend");
    set_task(task_states::kSuspending);
    ASSERT_TRUE(manager_->suspend_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_FALSE(stored().task_state);
    EXPECT_EQ(driver_.power(kUuid), power_states::kRunning);
    EXPECT_EQ(conductor_.fault_count(kUuid), 1u);
}

TEST_F(Lifecycle, AResumeThatFailsCanBeTriedAgain) {
    build();
    set_task(task_states::kSuspending);
    ASSERT_TRUE(manager_->suspend_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kSuspended);
    fail("driver.resume");
    set_task(task_states::kResuming);
    ASSERT_TRUE(manager_->resume_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kSuspended);
    EXPECT_TRUE(driver_.disk(kUuid).saved_state);
    log_.fail = {};
    set_task(task_states::kResuming);
    ASSERT_TRUE(manager_->resume_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_FALSE(stored().system_metadata.contains("old_vm_state"));
}

TEST_F(Lifecycle, AFailedImageIsRemovedAndTheServerIsAsBefore) {
    build();
    for (const char* call : {"driver.snapshot", "images.upload"}) {
        SCOPED_TRACE(call);
        const std::string id = queue_image();
        fail(call);
        set_task(task_states::kImageSnapshotPending,
                 [&](Instance& instance) { instance.task_arguments.image_id = id; });
        ASSERT_TRUE(manager_->snapshot_instance(context_, kUuid).ok());
        EXPECT_EQ(images_.status(id), "");
        EXPECT_EQ(stored().vm_state, vm_states::kActive);
        EXPECT_FALSE(stored().task_state);
        EXPECT_NE(stored().fault->message.find("broke"), std::string::npos);
    }
}

TEST_F(Lifecycle, AnImageHoldsTheDiskAndGoesThroughNovasTaskStates) {
    build();
    driver_.write(kUuid, " with data");
    const std::string id = queue_image();
    set_task(task_states::kImageSnapshotPending,
             [&](Instance& instance) { instance.task_arguments.image_id = id; });
    ASSERT_TRUE(manager_->snapshot_instance(context_, kUuid).ok());
    EXPECT_EQ(images_.status(id), "active");
    EXPECT_EQ(images_.data(id), "disk of " + kUuid + " with data");
    const auto history = conductor_.task_state_history(kUuid);
    const std::vector<std::string> last(history.end() - 4, history.end());
    EXPECT_EQ(last, (std::vector<std::string>{"image_snapshot", "image_pending_upload",
                                              "image_uploading", "-"}));
}

TEST_F(Lifecycle, BackupsRotate) {
    build();
    const std::string first = take_backup(2);
    const std::string second = take_backup(2);
    EXPECT_EQ(images_.status(first), "active");
    const std::string third = take_backup(2);
    EXPECT_EQ(images_.status(first), "");
    EXPECT_EQ(images_.status(second), "active");
    EXPECT_EQ(images_.status(third), "active");
    EXPECT_FALSE(stored().task_state);
}

TEST_F(Lifecycle, AFailedRescueGivesTheServerBack) {
    build();
    fail("driver.rescue");
    set_task(task_states::kRescuing);
    ASSERT_TRUE(manager_->rescue_instance({context_, kUuid, "secret"}).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_FALSE(stored().task_state);
    EXPECT_EQ(driver_.power(kUuid), power_states::kRunning);
    EXPECT_NE(stored().fault->message.find("cannot be rescued"), std::string::npos);
}

TEST_F(Lifecycle, RescueAndBack) {
    build();
    set_task(task_states::kRescuing);
    ASSERT_TRUE(manager_->rescue_instance({context_, kUuid, "secret"}).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kRescued);
    EXPECT_TRUE(driver_.disk(kUuid).rescued);
    set_task(task_states::kUnrescuing);
    ASSERT_TRUE(manager_->unrescue_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_FALSE(driver_.disk(kUuid).rescued);
}

TEST_F(Lifecycle, AFailedRebuildEndsInErrorAndCanBeRepeated) {
    build();
    fail("driver.rebuild");
    set_task(task_states::kRebuilding);
    ASSERT_TRUE(manager_->rebuild_instance({context_, kUuid, ""}).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kError);
    EXPECT_FALSE(stored().task_state);
    log_.fail = {};
    set_task(task_states::kRebuilding, [](Instance& instance) { instance.image_id = "another"; });
    ASSERT_TRUE(manager_->rebuild_instance({context_, kUuid, ""}).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_EQ(driver_.disk(kUuid).image_id, "another");
}

TEST_F(Lifecycle, AStoppedServerIsStoppedAfterItsRebuild) {
    build();
    set_task(task_states::kPoweringOff);
    ASSERT_TRUE(manager_->stop_instance(context_, kUuid, true).ok());
    set_task(task_states::kRebuilding);
    ASSERT_TRUE(manager_->rebuild_instance({context_, kUuid, ""}).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kStopped);
    EXPECT_EQ(driver_.power(kUuid), power_states::kShutdown);
}

TEST_F(Lifecycle, AResizeThatDoesNotFitTouchesNothing) {
    build();
    resize(flavor("huge", 1, 1 << 20));
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_FALSE(stored().task_state);
    EXPECT_FALSE(stored().new_flavor);
    EXPECT_EQ(log_.count("driver.migrate_disk"), 0u);
    EXPECT_EQ(conductor_.migration_status(kUuid), "error");
    EXPECT_EQ(manager_->compute_node().memory_mb_used, 512 + 512);
    EXPECT_NE(stored().fault->message.find("MiB"), std::string::npos);
}

TEST_F(Lifecycle, AResizeThatFailsAnywhereGivesTheOldServerBack) {
    build();
    driver_.write(kUuid, "data");
    for (const char* call : {"driver.migrate_disk", "vifs.plug", "driver.finish_migration"}) {
        SCOPED_TRACE(call);
        bool failed = false;
        log_.fail = [&failed, call](const std::string& name) -> Result<void> {
            if (name != call || failed) {
                return {};
            }
            failed = true;  // once: the way back needs the same doors
            return Error::unavailable("broke");
        };
        resize(flavor("large", 2, 1024));
        EXPECT_TRUE(failed);
        EXPECT_EQ(stored().vm_state, vm_states::kActive);
        EXPECT_FALSE(stored().task_state);
        EXPECT_EQ(stored().flavor.flavor_id, "small");
        EXPECT_FALSE(stored().old_flavor);
        EXPECT_FALSE(stored().new_flavor);
        EXPECT_EQ(driver_.power(kUuid), power_states::kRunning);
        EXPECT_EQ(driver_.disk(kUuid).data, "data");
        EXPECT_EQ(conductor_.migration_status(kUuid), "error");
        EXPECT_EQ(manager_->compute_node().vcpus_used, 1);
    }
}

TEST_F(Lifecycle, BothFlavorsAreHeldUntilTheResizeIsConfirmed) {
    build();
    resize(flavor("large", 2, 1024));
    EXPECT_EQ(stored().vm_state, vm_states::kResized);
    EXPECT_EQ(stored().flavor.flavor_id, "large");
    EXPECT_EQ(manager_->compute_node().vcpus_used, 3);
    ASSERT_TRUE(manager_->update_available_resource().ok());  // the audit counts the same
    EXPECT_EQ(manager_->compute_node().vcpus_used, 3);
    EXPECT_EQ(conductor_.migration_status(kUuid), "finished");
    set_task(task_states::kResizeConfirming);
    ASSERT_TRUE(manager_->confirm_resize(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_EQ(manager_->compute_node().vcpus_used, 2);
    EXPECT_EQ(conductor_.migration_status(kUuid), "confirmed");
    EXPECT_FALSE(stored().old_flavor);
    EXPECT_EQ(driver_.disk(kUuid).old, nullptr);
}

TEST_F(Lifecycle, ARevertBringsTheOldDiskAndSizeBack) {
    build();
    resize(flavor("large", 2, 1024));
    driver_.write(kUuid, "written after the resize");
    set_task(task_states::kResizeReverting);
    ASSERT_TRUE(manager_->revert_resize(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_EQ(stored().flavor.flavor_id, "small");
    EXPECT_EQ(driver_.disk(kUuid).data, "");
    EXPECT_EQ(manager_->compute_node().vcpus_used, 1);
    EXPECT_EQ(conductor_.migration_status(kUuid), "reverted");
}

TEST_F(Lifecycle, AShelvedServerLeavesTheHostAndComesBackFromItsDisk) {
    build();
    const auto addresses = stored().network_info.at(0).fixed_ips.at(0).address;
    const std::string id = shelve();
    EXPECT_EQ(stored().vm_state, vm_states::kShelvedOffloaded);
    EXPECT_EQ(stored().host, "");
    EXPECT_EQ(driver_.guest_count(), 0u);
    EXPECT_TRUE(vifs_.taps().empty());
    EXPECT_EQ(network_.port_count(), 1u);  // its address stays its own
    EXPECT_EQ(log_.count("network.unbind"), 1u);
    EXPECT_EQ(manager_->compute_node().running_vms, 0);
    EXPECT_EQ(stored().system_metadata.at("shelved_image_id"), id);

    set_task(task_states::kUnshelving, [](Instance& instance) { instance.host = "cn-1"; });
    ASSERT_TRUE(manager_->unshelve_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_EQ(driver_.disk(kUuid).image_id, id);
    EXPECT_EQ(stored().image_id, "base");
    EXPECT_EQ(images_.status(id), "");
    EXPECT_FALSE(stored().system_metadata.contains("shelved_image_id"));
    EXPECT_EQ(stored().network_info.at(0).fixed_ips.at(0).address, addresses);
    EXPECT_EQ(manager_->compute_node().running_vms, 1);
}

TEST_F(Lifecycle, AServerOnAVolumeShutsDownBeforeItLeaves) {
    build();
    set_task(task_states::kShelvingOffloading);  // nova-api asks for no snapshot of it
    ASSERT_TRUE(manager_->shelve_offload_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kShelvedOffloaded);
    EXPECT_EQ(log_.count("driver.power_off"), 1u);
    EXPECT_EQ(driver_.last_timeout_s(), 60);
    EXPECT_EQ(driver_.guest_count(), 0u);
}

TEST_F(Lifecycle, AFailedShelveGivesTheServerBack) {
    build();
    fail("images.upload");
    const std::string id = shelve();
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_FALSE(stored().task_state);
    EXPECT_EQ(driver_.power(kUuid), power_states::kRunning);
    EXPECT_EQ(images_.status(id), "");
}

TEST_F(Lifecycle, AFailedUnshelveLeavesTheServerShelved) {
    build();
    const std::string id = shelve();
    fail("driver.spawn");
    set_task(task_states::kUnshelving, [](Instance& instance) { instance.host = "cn-1"; });
    ASSERT_TRUE(manager_->unshelve_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kShelvedOffloaded);
    EXPECT_FALSE(stored().task_state);
    EXPECT_EQ(stored().host, "");
    EXPECT_EQ(images_.status(id), "active");
    EXPECT_EQ(driver_.guest_count(), 0u);
    EXPECT_TRUE(vifs_.taps().empty());
    EXPECT_EQ(manager_->compute_node().running_vms, 0);
}

TEST_F(Lifecycle, AShelvedServerMayStayOnItsHost) {
    ManagerOptions options;
    options.shelved_offload_time_s = -1;
    start(options);
    build();
    const std::string id = shelve();
    EXPECT_EQ(stored().vm_state, vm_states::kShelved);
    EXPECT_FALSE(stored().task_state);
    EXPECT_EQ(stored().host, "cn-1");
    set_task(task_states::kPoweringOn);  // how Nova unshelves it
    ASSERT_TRUE(manager_->start_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_EQ(images_.status(id), "");
    EXPECT_FALSE(stored().system_metadata.contains("shelved_at"));
}

TEST_F(Lifecycle, ADeletedServerIsKeptAndRestored) {
    build();
    set_task(task_states::kSoftDeleting);
    ASSERT_TRUE(manager_->soft_delete_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kSoftDeleted);
    EXPECT_EQ(driver_.power(kUuid), power_states::kShutdown);
    set_task(task_states::kRestoring);
    ASSERT_TRUE(manager_->restore_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().vm_state, vm_states::kActive);
    EXPECT_EQ(driver_.power(kUuid), power_states::kRunning);
}

TEST_F(Lifecycle, ADeleteThatComesDuringAnUnshelveIsNotDisturbed) {
    build();
    shelve();
    log_.fail = [this](const std::string& name) -> Result<void> {
        if (name == "driver.spawn") {
            set_task(task_states::kDeleting);
        }
        return {};
    };
    set_task(task_states::kUnshelving, [](Instance& instance) { instance.host = "cn-1"; });
    ASSERT_TRUE(manager_->unshelve_instance(context_, kUuid).ok());
    EXPECT_EQ(stored().task_state, task_states::kDeleting);
    EXPECT_EQ(driver_.guest_count(), 0u);
}

}  // namespace
}  // namespace kumoi::compute
