// Volumes that come, go and are exchanged, and servers that boot from them: what Cinder, the
// records, the host and the guest agree about afterwards, after failures and after a node that is
// killed at any border.
#include "compute/manager/volume_task.h"
#include "compute/manager/block_device_build.h"
#include "tests/support/crash_world.h"

namespace kumoi::compute {
namespace {

using namespace crash;

class Volumes : public testing::Test {
protected:
    void SetUp() override { prepare(world_); }
    static void prepare(World& world) {
        world.with_volumes = true;
        world.start_node();
        world.build();
        for (const char* id : {"vol-1", "vol-2"}) {
            world.cinder.volumes[id] = {.id = id, .status = "reserved", .size_gb = 2};
        }
    }
    // As nova-api does it: reserve here, reserve in Cinder, attach.
    static Result<BlockDevice> reserve(World& world, const std::string& volume) {
        ReserveDeviceRequest request{world.context, kUuid, volume, "", "", "", ""};
        BlockDevice device = TRY(world.manager->reserve_block_device_name(request));
        world.cinder.attached["of-" + volume] = {volume, kUuid, false, false};
        device.attachment_id = "of-" + volume;
        world.devices.devices[device.id] = device;
        return device;
    }
    static void attach(World& world, const std::string& volume) {
        const auto device = reserve(world, volume);
        ASSERT_TRUE(device.ok());
        (void)world.manager->attach_volume(world.context, kUuid, *device);
    }
    void detach(const std::string& volume) {
        (void)world_.manager->detach_volume(world_.context, kUuid, volume, "of-" + volume);
    }
    void fail(const std::string& call, Error error) {
        world_.log.fail = [call, error](const std::string& now) {
            return now == call ? Result<void>(error) : Result<void>();
        };
    }
    // Attached everywhere or nowhere.
    static void expect_agreement(World& world, const std::string& volume, bool attached) {
        EXPECT_EQ(world.driver.volumes(kUuid).contains(volume), attached);
        EXPECT_EQ(world.volume_host.running.contains({kUuid, volume}), attached);
        size_t records = 0;
        for (const auto& [id, device] : world.devices.devices) {
            records += device.volume_id == volume ? 1 : 0;
        }
        EXPECT_EQ(records, attached ? 1u : 0u);
        size_t attachments = 0;
        for (const auto& [id, attachment] : world.cinder.attached) {
            if (attachment.volume_id == volume) {
                ++attachments;
                EXPECT_TRUE(attachment.connected && attachment.complete);
            }
        }
        EXPECT_EQ(attachments, attached ? 1u : 0u);
        EXPECT_TRUE(world.conductor.open_events().empty());
        EXPECT_EQ(world.open_operations(), 0u);
    }

    World world_;
};

TEST_F(Volumes, OneComesAndGoes) {
    attach(world_, "vol-1");
    expect_agreement(world_, "vol-1", true);
    const BlockDevice device = world_.devices.devices.begin()->second;
    EXPECT_EQ(device.device_name, "/dev/vdb");
    EXPECT_EQ(device.volume_size, 2);
    EXPECT_EQ(device.connection_info.string_or("serial"), "vol-1");
    attach(world_, "vol-2");
    EXPECT_EQ(world_.devices.devices.rbegin()->second.device_name, "/dev/vdc");
    detach("vol-1");
    expect_agreement(world_, "vol-1", false);
    expect_agreement(world_, "vol-2", true);
    EXPECT_EQ(world_.conductor.fault_count(kUuid), 0u);
    EXPECT_EQ(
        world_.cloud.news,
        (std::vector<std::string>{"attach vol-1 start", "attach vol-1 end", "attach vol-2 start",
                                  "attach vol-2 end", "detach vol-1 start", "detach vol-1 end"}));
}

TEST_F(Volumes, AReservationIsCheckedBeforeAnythingIsMade) {
    attach(world_, "vol-1");
    EXPECT_EQ(reserve(world_, "vol-1").error().fault, "InvalidVolume");
    ReserveDeviceRequest request{world_.context, kUuid, "vol-2", "/dev/vdb", "", "", ""};
    EXPECT_EQ(world_.manager->reserve_block_device_name(request).error().fault, "DevicePathInUse");
    request.device_name.clear();
    request.disk_bus = "floppy";
    EXPECT_EQ(world_.manager->reserve_block_device_name(request).error().fault,
              "InvalidBDMDiskBus");
    EXPECT_EQ(world_.devices.devices.size(), 1u);
}

TEST_F(Volumes, OneWithATagIsInTheServersRecordWhileItIsAttached) {
    ReserveDeviceRequest request{world_.context, kUuid, "vol-1", "", "", "", "database"};
    auto device = world_.manager->reserve_block_device_name(request);
    ASSERT_TRUE(device.ok());
    EXPECT_EQ(device->tag, "database");
    world_.cinder.attached["of-vol-1"] = {"vol-1", kUuid, false, false};
    device->attachment_id = "of-vol-1";
    world_.devices.devices[device->id] = *device;
    (void)world_.manager->attach_volume(world_.context, kUuid, *device);
    attach(world_, "vol-2");  // without one
    const TaggedDevice expected{TaggedDevice::Kind::Disk, "",        "vol-1", "pci",
                                "0000:00:11.0",           "database"};
    EXPECT_EQ(world_.cloud.devices[kUuid], std::vector<TaggedDevice>{expected});
    detach("vol-1");
    EXPECT_TRUE(world_.cloud.devices[kUuid].empty());
    expect_agreement(world_, "vol-1", false);
}

TEST_F(Volumes, AFailedAttachLeavesNothing) {
    size_t faults = 0;
    for (const char* call : {"cinder.attachment_update", "host.connect", "records.save",
                             "driver.attach_volume", "cinder.attachment_complete"}) {
        const BlockDevice device = reserve(world_, "vol-1").value();
        fail(call, Error::unavailable("no"));
        (void)world_.manager->attach_volume(world_.context, kUuid, device);
        world_.log.fail = {};
        SCOPED_TRACE(call);
        expect_agreement(world_, "vol-1", false);
        EXPECT_EQ(world_.conductor.fault_count(kUuid), ++faults);
        EXPECT_EQ(world_.cloud.news.back(), "attach vol-1 error");
    }
}

TEST_F(Volumes, AnEncryptedOneIsRefused) {
    world_.cinder.volumes["vol-1"].encrypted = true;
    attach(world_, "vol-1");
    expect_agreement(world_, "vol-1", false);
    EXPECT_EQ(world_.log.count("host.connect"), 0u);
    EXPECT_EQ(world_.conductor.fault_count(kUuid), 1u);
}

TEST_F(Volumes, AGuestThatKeepsItsDiskKeepsTheVolume) {
    attach(world_, "vol-1");
    fail("driver.detach_volume",
         Error::conflict("the guest did not release it").with_fault("DeviceDetachFailed"));
    detach("vol-1");
    world_.log.fail = {};
    expect_agreement(world_, "vol-1", true);
    EXPECT_EQ(world_.cinder.rolled, std::vector<std::string>{"vol-1"});
    EXPECT_EQ(world_.conductor.fault_count(kUuid), 1u);
}

TEST_F(Volumes, TwoAreExchanged) {
    attach(world_, "vol-1");
    world_.cinder.attached["new"] = {"vol-2", kUuid, false, false};
    (void)world_.manager->swap_volume({world_.context, kUuid, "vol-1", "vol-2", "new"});
    expect_agreement(world_, "vol-1", false);
    expect_agreement(world_, "vol-2", true);
    EXPECT_EQ(world_.cloud.news.back(), "swap vol-1 vol-2 end");
    EXPECT_EQ(world_.log.count("cinder.migration_done"), 0u);
}

TEST_F(Volumes, AfterAMigrationTheVolumeHasItsNameBack) {
    attach(world_, "vol-1");
    world_.cinder.volumes["vol-1"].migration_status = "migrating";
    world_.cinder.attached["new"] = {"vol-2", kUuid, false, false};
    (void)world_.manager->swap_volume({world_.context, kUuid, "vol-1", "vol-2", "new"});
    EXPECT_EQ(world_.devices.devices.begin()->second.volume_id, "vol-1");
    EXPECT_EQ(world_.devices.devices.begin()->second.attachment_id, "new");
    EXPECT_TRUE(world_.volume_host.running.contains({kUuid, "vol-1"}));
    EXPECT_TRUE(world_.driver.volumes(kUuid).contains("vol-1"));
}

TEST_F(Volumes, AFailedExchangeChangesNothing) {
    attach(world_, "vol-1");
    world_.cinder.attached["new"] = {"vol-2", kUuid, false, false};
    fail("host.swap", Error::unavailable("the new one is too slow"));
    (void)world_.manager->swap_volume({world_.context, kUuid, "vol-1", "vol-2", "new"});
    world_.log.fail = {};
    expect_agreement(world_, "vol-1", true);
    expect_agreement(world_, "vol-2", false);
    EXPECT_EQ(world_.cinder.rolled, std::vector<std::string>{"vol-1"});
}

TEST_F(Volumes, OneGrows) {
    attach(world_, "vol-1");
    world_.cinder.volumes["vol-1"].size_gb = 5;
    const ServerEvent extended{ServerEvent::Kind::VolumeExtended, "vol-1"};
    ASSERT_TRUE(world_.manager->external_instance_event(world_.context, kUuid, extended).ok());
    EXPECT_EQ(world_.volume_host.sizes["vol-1"], 5ull << 30);
    EXPECT_EQ(world_.devices.devices.begin()->second.volume_size, 5);
}

TEST_F(Volumes, AnotherHostMayTakeTheConnectionAlone) {
    attach(world_, "vol-1");
    ASSERT_TRUE(
        world_.manager->remove_volume_connection(world_.context, kUuid, "vol-1", false).ok());
    EXPECT_TRUE(world_.volume_host.running.empty());
    EXPECT_EQ(world_.cinder.attached.size(), 1u);
    ASSERT_TRUE(
        world_.manager->remove_volume_connection(world_.context, kUuid, "vol-1", true).ok());
    EXPECT_TRUE(world_.cinder.attached.empty());
    ASSERT_TRUE(
        world_.manager->remove_volume_connection(world_.context, kUuid, "absent", true).ok());
}

TEST_F(Volumes, GoWithTheirServerAsTheRecordsSay) {
    attach(world_, "vol-1");
    attach(world_, "vol-2");
    world_.devices.devices.begin()->second.delete_on_termination = true;
    (void)world_.manager->terminate_instance(world_.context, kUuid);
    EXPECT_TRUE(world_.cinder.attached.empty());
    EXPECT_FALSE(world_.cinder.volumes.contains("vol-1"));
    EXPECT_TRUE(world_.cinder.volumes.contains("vol-2"));
    EXPECT_TRUE(world_.volume_host.running.empty());
}

TEST_F(Volumes, ARebootFindsTheirBackEndsAgain) {
    attach(world_, "vol-1");
    world_.volume_host.running.clear();  // the host was restarted
    world_.set_task(task_states::kRebootingHard);
    (void)world_.manager->reboot_instance(world_.context, kUuid, RebootType::Hard);
    EXPECT_TRUE(world_.volume_host.running.contains({kUuid, "vol-1"}));
}

TEST_F(Volumes, ARestartEndsWhatServesNobody) {
    attach(world_, "vol-1");
    world_.volume_host.running.insert({kUuid, "vol-2"});
    world_.volume_host.running.insert({kOther, "vol-3"});
    world_.start_node();
    const std::set<VolumeHost::Connected> left = {{kUuid, "vol-1"}};
    EXPECT_EQ(world_.volume_host.running, left);
}

TEST_F(Volumes, ANodeKilledWhileItAttachesFinishesOrUndoesIt) {
    for (int border = 1; border < kBordersMax; ++border) {
        World world;
        prepare(world);
        const BlockDevice device = reserve(world, "vol-1").value();
        const bool crashed = world.crashes(
            border, [&] { (void)world.manager->attach_volume(world.context, kUuid, device); });
        world.start_node();
        SCOPED_TRACE(border);
        if (!crashed) {
            expect_agreement(world, "vol-1", true);
            EXPECT_GT(border, 8);
            return;
        }
        if (world.log.count("cinder.attachment_update") == 0 && border <= 2) {
            continue;  // the request was lost before it was on disk, as with Nova
        }
        expect_agreement(world, "vol-1", !world.driver.volumes(kUuid).empty());
    }
    FAIL() << "no end";
}

TEST_F(Volumes, ANodeKilledWhileItDetachesFinishesIt) {
    for (int border = 1; border < kBordersMax; ++border) {
        World world;
        prepare(world);
        attach(world, "vol-1");
        const bool crashed = world.crashes(border, [&] {
            (void)world.manager->detach_volume(world.context, kUuid, "vol-1", "of-vol-1");
        });
        world.start_node();
        SCOPED_TRACE(border);
        const bool begun = world.log.count("driver.detach_volume") > 0;
        if (crashed && !begun) {
            continue;  // lost before it was on disk
        }
        expect_agreement(world, "vol-1", false);
        if (!crashed) {
            EXPECT_GT(border, 6);
            return;
        }
    }
    FAIL() << "no end";
}

TEST_F(Volumes, ANodeKilledWhileItExchangesHasOneOfTheTwo) {
    for (int border = 1; border < kBordersMax; ++border) {
        World world;
        prepare(world);
        attach(world, "vol-1");
        world.cinder.attached["new"] = {"vol-2", kUuid, false, false};
        const bool crashed = world.crashes(border, [&] {
            (void)world.manager->swap_volume({world.context, kUuid, "vol-1", "vol-2", "new"});
        });
        world.start_node();
        SCOPED_TRACE(border);
        if (crashed && world.log.count("cinder.attachment_update") == 1 && border <= 3) {
            continue;  // lost before it was on disk
        }
        const bool exchanged = world.volume_host.running.contains({kUuid, "vol-2"});
        expect_agreement(world, "vol-1", !exchanged);
        expect_agreement(world, "vol-2", exchanged);
        if (!crashed) {
            EXPECT_TRUE(exchanged);
            return;
        }
    }
    FAIL() << "no end";
}

BlockDevice root_from(const std::string& source) {
    BlockDevice device;
    device.instance_uuid = kOther;
    device.source_type = source;
    device.destination_type = "volume";
    device.boot_index = 0;
    device.volume_size = 3;
    device.image_id = source == "image" ? "image-1" : "";
    device.snapshot_id = source == "snapshot" ? "snapshot-1" : "";
    device.delete_on_termination = true;
    return device;
}

class BootFromVolume : public Volumes {
protected:
    struct Disks {
        int64_t root_gb = 1'000'000;  // on no disk of this host
        int64_t swap_mb = 0;
    };
    void build(const BlockDevice& device) { build(std::vector<BlockDevice>{device}, Disks()); }
    void build(const std::vector<BlockDevice>& devices, const Disks& disks) {
        Instance instance;
        instance.uuid = kOther;
        instance.vm_state = vm_states::kBuilding;
        instance.task_state = task_states::kScheduling;
        instance.flavor.vcpus = 1;
        instance.flavor.memory_mb = 512;
        instance.flavor.root_gb = disks.root_gb;
        instance.flavor.swap_mb = disks.swap_mb;
        world_.conductor.add(instance);
        BuildRequest request{world_.context, instance, {}, {}, {}};
        for (const BlockDevice& device : devices) {
            request.block_devices.push_back(world_.devices.add(device));
        }
        (void)world_.manager->build_and_run_instance(request);
    }
    BlockDevice root() const { return world_.devices.devices.begin()->second; }
};

TEST_F(BootFromVolume, AVolumeIsMadeOfAnImageAndGoesWithTheServer) {
    build(root_from("image"));
    EXPECT_EQ(world_.conductor.get(kOther).vm_state, vm_states::kActive);
    ASSERT_EQ(world_.cinder.orders.size(), 1u);
    EXPECT_EQ(world_.cinder.orders[0].image_id, "image-1");
    EXPECT_EQ(world_.cinder.orders[0].size_gb, 3);
    EXPECT_EQ(root().device_name, "/dev/vda");
    EXPECT_TRUE(world_.cinder.attached.at(root().attachment_id).complete);
    EXPECT_TRUE(world_.volume_host.running.contains({kOther, root().volume_id}));
    (void)world_.manager->terminate_instance(world_.context, kOther);
    EXPECT_FALSE(world_.cinder.volumes.contains(root().volume_id));
    EXPECT_TRUE(world_.cinder.attached.empty());
    EXPECT_TRUE(world_.volume_host.running.empty());
}

TEST_F(BootFromVolume, SnapshotsAndBlankOnesAreAskedForInTheirWay) {
    build(root_from("snapshot"));
    EXPECT_EQ(world_.cinder.orders.at(0).snapshot_id, "snapshot-1");
    (void)world_.manager->terminate_instance(world_.context, kOther);
    build(root_from("blank"));
    EXPECT_EQ(world_.cinder.orders.at(1).name, kOther + "-blank-vol");
}

TEST_F(BootFromVolume, AVolumeThatFailsToBecomeAvailableAbortsTheBuild) {
    world_.cinder.made_status = "error";
    build(root_from("image"));
    EXPECT_EQ(world_.conductor.get(kOther).vm_state, vm_states::kError);
    EXPECT_EQ(world_.conductor.fault_count(kOther), 1u);
    EXPECT_EQ(world_.cinder.volumes.size(), 2u);  // those of the fixture
    EXPECT_TRUE(world_.cinder.attached.empty());
}

TEST_F(BootFromVolume, ShelvedItLeavesAReservedVolumeAndComesBack) {
    BlockDevice device = root_from("volume");
    device.volume_id = "vol-1";
    device.attachment_id = "of-vol-1";
    world_.cinder.attached["of-vol-1"] = {"vol-1", kOther, false, false};
    build(device);
    ASSERT_EQ(world_.conductor.get(kOther).vm_state, vm_states::kActive);
    Instance instance = world_.conductor.get(kOther);
    instance.task_state = task_states::kShelving;
    world_.conductor.add(instance);
    (void)world_.manager->shelve_offload_instance(world_.context, kOther);
    EXPECT_EQ(world_.conductor.get(kOther).vm_state, vm_states::kShelvedOffloaded);
    ASSERT_EQ(world_.cinder.attached.size(), 1u);
    EXPECT_FALSE(world_.cinder.attached.begin()->second.connected);
    EXPECT_TRUE(world_.volume_host.running.empty());
    instance = world_.conductor.get(kOther);
    instance.task_state = task_states::kUnshelving;
    world_.conductor.add(instance);
    (void)world_.manager->unshelve_instance(world_.context, kOther);
    EXPECT_EQ(world_.conductor.get(kOther).vm_state, vm_states::kActive);
    EXPECT_TRUE(world_.cinder.attached.begin()->second.complete);
    EXPECT_TRUE(world_.volume_host.running.contains({kOther, "vol-1"}));
}

// As nova-api attaches to a shelved server: a record without a name, and a reserving attachment.
TEST_F(Volumes, OneThatCameWhileItsServerWasShelvedGetsItsNameWhenItIsBack) {
    const auto in_state = [&](const char* task_state) {
        Instance instance = world_.conductor.get(kUuid);
        instance.task_state = task_state;
        world_.conductor.add(instance);
    };
    in_state(task_states::kShelving);
    (void)world_.manager->shelve_offload_instance(world_.context, kUuid);
    BlockDevice device;
    device.instance_uuid = kUuid;
    device.source_type = device.destination_type = "volume";
    device.volume_id = "vol-1";
    device.attachment_id = "of-vol-1";
    world_.cinder.attached["of-vol-1"] = {"vol-1", kUuid, false, false};
    const int64_t id = world_.devices.add(device).id;
    in_state(task_states::kUnshelving);
    (void)world_.manager->unshelve_instance(world_.context, kUuid);
    EXPECT_EQ(world_.conductor.get(kUuid).vm_state, vm_states::kActive);
    EXPECT_EQ(world_.devices.devices.at(id).device_name, "/dev/vdb");
    EXPECT_EQ(world_.cinder.mountpoints["of-vol-1"], "/dev/vdb");
    EXPECT_TRUE(world_.cinder.attached.at("of-vol-1").complete);
    EXPECT_TRUE(world_.volume_host.running.contains({kUuid, "vol-1"}));
    detach("vol-1");
    expect_agreement(world_, "vol-1", false);
}

TEST_F(BootFromVolume, EveryDiskHasItsNameInTheRecordsThoughTheRootIsAnImages) {
    BlockDevice root = root_from("image");
    root.destination_type = "local";
    root.volume_size.reset();
    BlockDevice data = root_from("blank");
    data.boot_index.reset();
    BlockDevice swap;
    swap.instance_uuid = kOther;
    swap.source_type = "blank";
    swap.destination_type = "local";
    swap.guest_format = "swap";
    build({root, data, swap}, {.root_gb = 1, .swap_mb = 64});
    EXPECT_EQ(world_.conductor.get(kOther).vm_state, vm_states::kActive);
    std::vector<std::string> names;
    for (const auto& [id, device] : world_.devices.devices) {
        names.push_back(device.device_name);
    }
    EXPECT_EQ(names, (std::vector<std::string>{"/dev/vda", "/dev/vdc", "/dev/vdb"}));
}

TEST_F(BootFromVolume, AGuestIsToldWhichOfItsDevicesHaveTags) {
    BlockDevice root = root_from("image");
    root.tag = "system";
    build(root);
    ASSERT_EQ(world_.driver.told_devices.size(), 1u);
    EXPECT_EQ(world_.driver.told_devices[0].tag, "system");
    EXPECT_EQ(world_.driver.told_devices[0].address, "0000:00:0b.0");
    EXPECT_EQ(world_.cloud.devices[kOther], world_.driver.told_devices);
}

TEST(DeviceNames, AreTheFirstThatNoDiskHas) {
    Instance instance;
    EXPECT_EQ(next_device_name(instance, {}), "/dev/vdb");
    instance.flavor.ephemeral_gb = 1;
    instance.flavor.swap_mb = 64;
    EXPECT_EQ(next_device_name(instance, {}), "/dev/vdd");
    instance.image.properties["hw_disk_bus"] = "scsi";
    BlockDevice device;
    device.device_name = "/dev/sdd";
    EXPECT_EQ(next_device_name(instance, {device}), "/dev/sde");
    std::vector<BlockDevice> many;
    for (char letter = 'a'; letter <= 'z'; ++letter) {
        device.device_name = std::string("/dev/sd") + letter;
        many.push_back(device);
    }
    EXPECT_EQ(next_device_name(instance, many), "/dev/sdaa");
}

TEST(JournaledVolumes, AreReadFromTheStepThatNamesThem) {
    EXPECT_EQ(journaled_volumes({"detach", "volumes a b ", "record"}),
              (std::vector<std::string>{"a", "b"}));
    EXPECT_TRUE(journaled_volumes({"volumes", "other"}).empty());
}

}  // namespace
}  // namespace kumoi::compute
