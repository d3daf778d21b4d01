#include "compute/driver/guest_config.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "compute/driver/guest_diagnostics.h"
#include "compute/driver/guest_volumes.h"

namespace kumoi::compute {
namespace {

Instance server() {
    Instance instance;
    instance.uuid = "11111111-2222-4333-8444-555555555555";
    instance.display_name = "web";
    instance.image_id = "image";
    instance.image.id = "image";
    instance.image.properties = {{"kernel_id", "k"}};
    instance.flavor.memory_mb = 512;
    instance.flavor.vcpus = 2;
    VifInfo vif;
    vif.mac = "fa:16:3e:00:00:01";
    vif.tap_name = "tap1";
    vif.mtu = 1450;
    instance.network_info = {vif};
    return instance;
}

void expect_refused(const Instance& instance, const std::string& named) {
    const auto refused = check_guest_supported(instance);
    ASSERT_FALSE(refused.ok()) << named;
    EXPECT_NE(refused.error().message.find(named), std::string::npos) << refused.error().text();
    EXPECT_FALSE(refused.error().hint.empty());
}

TEST(GuestConfig, RefusesWhatItCannotDoByName) {
    for (const auto& [name, value] : Properties{{"hw_firmware_type", "uefi"},
                                                {"hw_machine_type", "pc-i440fx-7.2"},
                                                {"hw_firmware_stateless", "true"},
                                                {"hw_disk_bus", "ide"},
                                                {"hw_vif_model", "e1000"},
                                                {"hw_architecture", "aarch64"},
                                                {"os_secure_boot", "required"}}) {
        Instance instance = server();
        instance.image.properties[name] = value;
        expect_refused(instance, name + "=" + value);
    }
    for (const auto& [name, value] : Properties{{"hw:cpu_policy", "mixed"},
                                                {"hw:tpm_model", "tpm-crb"},
                                                {"pci_passthrough:alias", "gpu:1"}}) {
        Instance instance = server();
        instance.flavor.extra_specs[name] = value;
        expect_refused(instance, name + "=" + value);
    }
}

TEST(GuestConfig, AnImageWithoutAKernelBootsByFirmware) {
    Instance instance = server();
    instance.image.properties = {{"hw_machine_type", "pc-q35-7.2"}, {"hw_cdrom_bus", "scsi"}};
    ASSERT_TRUE(check_guest_supported(instance).ok());
    const InstanceFolder folder("/i", instance.uuid);
    const Json bios = guest_config(instance, folder, {}, {});
    EXPECT_EQ(bios.find_path({"firmware", "type"})->as_string(), "bios");
    EXPECT_EQ(bios.find_path({"boot", "kernel"}), nullptr);
    EXPECT_EQ(bios.find_path({"smbios", "product"})->as_string(), "OpenStack Nova");
    GuestFiles iso;
    iso.cdrom = true;
    const Json with_cd = guest_config(instance, folder, iso, {});
    EXPECT_EQ(with_cd.find_path({"boot", "order"})->dump(), R"(["cd0","root"])");
    EXPECT_EQ(with_cd.find("cdroms")->dump(), R"([{"id":"cd0","path":")" + folder.cdrom() + "\"}]");
    instance.image.properties["hw_firmware_type"] = "uefi";
    ASSERT_TRUE(check_guest_supported(instance).ok());
    const Json uefi = guest_config(instance, folder, {}, {});
    EXPECT_EQ(uefi.find_path({"firmware", "nvram"})->as_string(), folder.nvram());
}

// id, serial, bus and slot of each disk, as guest.json has them.
std::string disks_of(const Json& config) {
    std::string all;
    for (const Json& disk : config.find("disks")->as_array()) {
        all += fmt::format("{} {} {} {};", disk.string_or("id"), disk.string_or("vhost_user"),
                           disk.string_or("bus", "virtio"), disk.integer_or("slot"));
    }
    return all;
}

TEST(GuestConfig, VolumesKeepTheirPlacesBehindTheServersOwnDisks) {
    const Instance instance = server();
    const InstanceFolder folder("/i", instance.uuid);
    GuestFiles files;
    files.config_drive = true;
    files.volumes = {{"vol-a", "/s/a", "", false, 18}, {"vol-b", "/s/b", "scsi", false, 19}};
    EXPECT_EQ(disks_of(guest_config(instance, folder, files, {})),
              "root  virtio 11;config  virtio 12;volume-18 /s/a virtio 18;volume-19 /s/b scsi 0;");
    files.volumes.push_back({"vol-root", "/s/r", "", true, 0});
    const Json from_volume = guest_config(instance, folder, files, {});
    EXPECT_EQ(disks_of(from_volume),
              "root /s/r virtio 11;config  virtio 12;volume-18 /s/a virtio 18;volume-19 /s/b scsi "
              "0;");
    EXPECT_EQ(from_volume.find("disks")->as_array()[0].string_or("serial"), "vol-root");
    files.rescue.emplace();
    EXPECT_EQ(disks_of(guest_config(instance, folder, files, {})),
              "rescue  virtio 0;root /s/r virtio 0;");
    files.rescue->stable_device = true;
    EXPECT_EQ(disks_of(guest_config(instance, folder, files, {})),
              "root /s/r virtio 11;rescue  virtio 12;volume-18 /s/a virtio 18;volume-19 /s/b scsi "
              "0;");
}

TEST(GuestConfig, AVolumeOnTheImagesScsiBusHasNoSlot) {
    Instance instance = server();
    instance.image.properties["hw_disk_bus"] = "scsi";
    GuestFiles files;
    files.volumes = {{"vol-a", "/s/a", "", false, 18}, {"vol-b", "/s/b", "virtio", false, 19}};
    const std::string disks =
        disks_of(guest_config(instance, InstanceFolder("/i", instance.uuid), files, {}));
    EXPECT_EQ(disks, "root  scsi 0;volume-18 /s/a scsi 0;volume-19 /s/b virtio 19;");
}

// As the machine itself places its disks.
TEST(GuestConfig, SaysWhereEachDiskIs) {
    Instance instance = server();
    GuestFiles files;
    files.swap = true;
    files.volumes = {{"vol-a", "/s/a", "", false, 18}, {"vol-b", "/s/b", "scsi", false, 19}};
    const InstanceFolder folder("/i", instance.uuid);
    std::string places;
    const auto list = [&] {
        places.clear();
        for (const DiskPlace& place : guest_disk_places(instance, folder, files)) {
            places += place.disk + " " + place.bus + " " + place.address + ";";
        }
        return places;
    };
    EXPECT_EQ(list(),
              "root pci 0000:00:0b.0;swap pci 0000:00:0c.0;vol-a pci 0000:00:12.0;vol-b scsi ;");
    instance.image.properties["hw_disk_bus"] = "scsi";
    EXPECT_EQ(list(), "root scsi ;swap scsi ;vol-a scsi ;vol-b scsi ;");
}

TEST(GuestVolumes, GetTheFirstFreeSlotAndKeepIt) {
    std::vector<VolumeDisk> volumes = {{"root", "", "", true, 0}, {"a", "", "", false, 0}};
    assign_volume_slots(volumes, {});
    EXPECT_EQ(volumes[0].slot, 0u);
    EXPECT_EQ(volumes[1].slot, 17u);
    std::vector<VolumeDisk> later = {{"b", "", "", false, 0}, {"a", "", "", false, 0}};
    assign_volume_slots(later, volumes);
    EXPECT_EQ(later[0].slot, 18u);
    EXPECT_EQ(later[1].slot, 17u);
    std::vector<VolumeDisk> many(16, VolumeDisk{"x", "", "", false, 0});
    for (size_t i = 0; i < many.size(); ++i) {
        many[i].volume_id += std::to_string(i);
    }
    assign_volume_slots(many, {});
    EXPECT_EQ(many[13].slot, 30u);
    EXPECT_EQ(many[14].slot, 0u);
}

TEST(GuestVolumes, AreReadBackAsTheyWereWritten) {
    const auto directory = TemporaryDirectory::create("volumes").value();
    const InstanceFolder folder(directory.path(), "server");
    ASSERT_TRUE(make_directories(folder.path()).ok());
    EXPECT_TRUE(read_volumes(folder)->empty());
    const std::vector<VolumeDisk> volumes = {{"a", "/s/a", "scsi", false, 18},
                                             {"b", "/s/b", "", true, 0}};
    ASSERT_TRUE(write_volumes(folder, volumes).ok());
    EXPECT_EQ(read_volumes(folder).value(), volumes);
    ASSERT_TRUE(write_volumes(folder, {}).ok());
    EXPECT_FALSE(path_exists(folder.volumes()));
    ASSERT_TRUE(write_file_atomic(folder.volumes(), R"({"volumes": [{"volume": 1}]})").ok());
    EXPECT_FALSE(read_volumes(folder).ok());
}

TEST(GuestConfig, AcceptsWhatMeansTheSameHere) {
    Instance instance = server();
    instance.image.properties["hw_disk_bus"] = "virtio";
    instance.image.properties["os_distro"] = "debian";
    instance.flavor.extra_specs["hw:cpu_policy"] = "shared";
    instance.flavor.extra_specs["quota:cpu_shares"] = "512";
    EXPECT_TRUE(check_guest_supported(instance).ok());
}

TEST(GuestConfig, FlavorsLimitNetworkCards) {
    Instance instance = server();
    const InstanceFolder folder("/i", instance.uuid);
    EXPECT_FALSE(
        guest_config(instance, folder, {}, {}).find("nics")->as_array()[0].contains("limits"));
    instance.flavor.extra_specs["quota:vif_outbound_average"] = "10";
    const Json json = guest_config(instance, folder, {}, {});
    EXPECT_EQ(json.find("nics")->as_array()[0].find("limits")->dump(),
              R"({"outbound_bytes_sec":10240})");
}

TEST(GuestConfig, DescribesTheMachine) {
    const InstanceFolder folder("/i", server().uuid);
    GuestOptions options;
    options.kernel_append = "noapic";
    options.cpu_features_masked = {"avx512f"};
    GuestFiles files;
    files.ramdisk = true;
    files.config_drive = true;
    const Json json = guest_config(server(), folder, files, options);
    EXPECT_EQ(json.integer_or("memory_mib"), 512);
    EXPECT_EQ(json.integer_or("vcpus"), 2);
    EXPECT_EQ(json.find_path({"boot", "cmdline"})->as_string(),
              "root=/dev/vda console=ttyS0 noapic");
    EXPECT_EQ(json.find_path({"boot", "initrd"})->as_string(), folder.ramdisk());
    EXPECT_EQ(json.find("disks")->as_array().size(), 2u);
    EXPECT_TRUE(json.find("disks")->as_array()[1].bool_or("read_only"));
    EXPECT_EQ(json.find("nics")->as_array()[0].string_or("tap"), "tap1");
    EXPECT_EQ(json.find("nics")->as_array()[0].integer_or("mtu"), 1450);
    EXPECT_EQ(json.find("nics")->as_array()[0].integer_or("slot"), 3);
    EXPECT_FALSE(json.find("nics")->as_array()[0].contains("vhost"));
    EXPECT_EQ(json.find_path({"cpu", "mask"})->as_array()[0].as_string(), "avx512f");
    const Json bare = guest_config(server(), folder, {}, {});
    EXPECT_FALSE(bare.find("boot")->contains("initrd"));
    EXPECT_EQ(bare.find("disks")->as_array().size(), 1u);
}

TEST(GuestConfig, EachDiskHasTheFormatThatWasRecorded) {
    const InstanceFolder folder("/i", server().uuid);
    GuestFiles files;
    files.disk_format = "qcow2";
    files.swap = true;
    const auto format = [&](size_t disk) {
        return guest_config(server(), folder, files, {})
            .find("disks")
            ->as_array()[disk]
            .string_or("format");
    };
    EXPECT_EQ(format(0), "qcow2");
    EXPECT_EQ(format(1), "raw");
    files.rescue.emplace().disk_format = "qcow2";
    files.disk_format = "raw";
    EXPECT_EQ(format(0), "qcow2");  // the rescue disk
    EXPECT_EQ(format(1), "raw");    // and the server's own
}

TEST(GuestConfig, WatchdogAsImageOrFlavorSay) {
    Instance instance = server();
    const auto action = [&instance] {
        const Json json = guest_config(instance, {"/i", instance.uuid}, {}, {});
        return json.contains("watchdog") ? json.find("watchdog")->string_or("action") : "";
    };
    EXPECT_EQ(action(), "");
    instance.flavor.extra_specs["hw:watchdog_action"] = "reset";
    EXPECT_EQ(action(), "reset");
    instance.image.properties["hw_watchdog_action"] = "pause";
    EXPECT_EQ(action(), "pause");
    instance.image.properties["hw_watchdog_action"] = "disabled";
    EXPECT_EQ(action(), "");
    EXPECT_TRUE(check_guest_supported(instance).ok());
    instance.image.properties["hw_watchdog_action"] = "explode";
    expect_refused(instance, "explode");
}

TEST(GuestConfig, APairOfQueuesForEachProcessor) {
    Instance instance = server();
    const auto pairs = [&instance] {
        const Json json = guest_config(instance, {"/i", instance.uuid}, {}, {});
        return json.find("nics")->as_array()[0].integer_or("queue_pairs");
    };
    EXPECT_EQ(pairs(), 1);
    instance.flavor.extra_specs["hw:vif_multiqueue_enabled"] = "True";
    EXPECT_TRUE(check_guest_supported(instance).ok());
    EXPECT_EQ(pairs(), 2);
    instance.flavor.vcpus = 64;
    EXPECT_EQ(pairs(), 16);
    instance.image.properties["hw_vif_multiqueue_enabled"] = "false";
    EXPECT_EQ(pairs(), 1);
}

TEST(GuestDiagnostics, MemoryIsWhatTheGuestUses) {
    const Json state = Json::object({{"state", "running"}});
    const auto used = [&state](const char* statistics) {
        const Json json = guest_diagnostics(server(), state, Json::parse(statistics).value());
        return json.find_path({"memory_details", "used"})->to_int64().value_or(-1);
    };
    EXPECT_EQ(used(R"({"memory":{"resident_bytes":104857600}})"), 100);
    EXPECT_EQ(used(R"({"memory":{"resident_bytes":104857600},"devices":{"balloon":
        {"target_mib":0}}})"),
              100);
    EXPECT_EQ(used(R"({"devices":{"balloon":{"guest_total_bytes":104857600,
        "guest_free_bytes":1,"guest_available_bytes":52428800}}})"),
              50);
}

TEST(GuestConfig, TheImagesCommandLineReplacesOurs) {
    Instance instance = server();
    instance.image.properties["os_command_line"] = "init=/bin/sh";
    const Json json = guest_config(instance, {"/i", instance.uuid}, {}, {});
    EXPECT_EQ(json.find_path({"boot", "cmdline"})->as_string(), "init=/bin/sh");
}

std::vector<std::string> disk_ids(const Json& config) {
    std::vector<std::string> ids;
    for (const Json& disk : config.find("disks")->as_array()) {
        ids.push_back(disk.string_or("id"));
    }
    return ids;
}

TEST(GuestConfig, EphemeralAndSwapComeBetweenRootAndConfig) {
    GuestFiles files;
    files.ephemeral = files.swap = files.config_drive = true;
    const Json json = guest_config(server(), {"/i", server().uuid}, files, {});
    EXPECT_EQ(disk_ids(json), (std::vector<std::string>{"root", "ephemeral0", "swap", "config"}));
}

TEST(GuestConfig, ARescuedServerBootsTheRescueDiskFirst) {
    const InstanceFolder folder("/i", server().uuid);
    GuestFiles files;
    files.ephemeral = files.config_drive = true;
    files.rescue.emplace().image_properties["kernel_id"] = "k";
    const Json json = guest_config(server(), folder, files, {});
    EXPECT_EQ(disk_ids(json), (std::vector<std::string>{"rescue", "root"}));
    EXPECT_EQ(json.find_path({"boot", "kernel"})->as_string(), folder.rescue_kernel());
    EXPECT_EQ(json.find_path({"boot", "cmdline"})->as_string(), "root=/dev/vda console=ttyS0");
}

TEST(GuestConfig, AStableRescueDeviceComesLastAndIsTheRoot) {
    GuestFiles files;
    files.ephemeral = true;
    GuestFiles::Rescue& rescue = files.rescue.emplace();
    rescue.stable_device = true;
    rescue.config_drive = true;
    rescue.image_properties["os_command_line"] = "quiet root=/dev/vda rw";
    rescue.image_properties["kernel_id"] = "k";
    const Json json = guest_config(server(), {"/i", server().uuid}, files, {});
    EXPECT_EQ(disk_ids(json), (std::vector<std::string>{"root", "ephemeral0", "rescue", "config"}));
    EXPECT_EQ(json.find_path({"boot", "cmdline"})->as_string(), "quiet root=/dev/vdc rw");
}

TEST(InstanceFolder, KeepsTheRecordWithoutThePassword) {
    Instance instance = server();
    instance.admin_password = "s3cret";
    instance.metadata = {{"a", "b"}};
    const Json json = instance_to_json(instance);
    EXPECT_EQ(json.dump().find("s3cret"), std::string::npos);
    const auto back = instance_from_json(json);
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back->flavor.memory_mb, 512);
    EXPECT_EQ(back->network_info.at(0).mac, "fa:16:3e:00:00:01");
    EXPECT_EQ(back->image.properties.at("kernel_id"), "k");
    EXPECT_EQ(back->metadata.at("a"), "b");
}

TEST(InstanceFolder, RefusesARecordOfAnotherFormat) {
    Json json = instance_to_json(server());
    json.set("format", 2);
    EXPECT_FALSE(instance_from_json(json).ok());
    EXPECT_FALSE(instance_from_json(Json::object()).ok());
    EXPECT_FALSE(instance_from_json(Json("text")).ok());
}

}  // namespace
}  // namespace kumoi::compute
