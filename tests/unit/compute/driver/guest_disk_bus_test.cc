#include "compute/driver/guest_disk_bus.h"

#include <gtest/gtest.h>

#include "compute/driver/guest_config.h"
#include "compute/instance_properties.h"

namespace kumoi::compute {
namespace {

Instance server(const std::string& bus) {
    Instance instance;
    instance.uuid = "11111111-2222-4333-8444-555555555555";
    instance.image_id = "image";
    instance.image.id = "image";
    instance.image.properties = {{"kernel_id", "k"}, {"hw_disk_bus", bus}};
    instance.flavor.memory_mb = 512;
    instance.flavor.vcpus = 1;
    return instance;
}

// "root virtio, swap scsi" and the root= of the kernel's command line.
std::string described(const Instance& instance, const GuestFiles& files) {
    const InstanceFolder folder("/i", instance.uuid);
    const Json machine = guest_config(instance, folder, files, {});
    std::string text;
    for (const Json& disk : machine.find("disks")->as_array()) {
        text += disk.string_or("id") + " " + disk.string_or("bus", "virtio") + ", ";
    }
    const std::string line = machine.find_path({"boot", "cmdline"})->as_string();
    return text + line.substr(0, line.find(' '));
}

TEST(GuestDiskBus, AllDisksOfAServerAreOnTheBusItsImageWants) {
    GuestFiles files;
    files.swap = true;
    files.config_drive = true;
    EXPECT_EQ(described(server("virtio"), files),
              "root virtio, swap virtio, config virtio, root=/dev/vda");
    EXPECT_EQ(described(server("scsi"), files), "root scsi, swap scsi, config scsi, root=/dev/sda");
    EXPECT_TRUE(check_guest_supported(server("scsi")).ok());
    EXPECT_FALSE(check_guest_supported(server("ide")).ok());
}

TEST(GuestDiskBus, ARescueDiskHasTheBusOfItsImage) {
    GuestFiles files;
    files.config_drive = true;
    auto& rescue = files.rescue.emplace();
    rescue.config_drive = true;
    rescue.image_properties = {{"kernel_id", "k"}, {"hw_disk_bus", "scsi"}};
    EXPECT_EQ(described(server("virtio"), files),
              "rescue scsi, root scsi, config scsi, root=/dev/sda");
    rescue.stable_device = true;
    rescue.image_properties = {{"kernel_id", "k"}, {"hw_rescue_bus", "scsi"}};
    EXPECT_EQ(described(server("virtio"), files),
              "root virtio, rescue scsi, config virtio, root=/dev/sda");
    rescue.image_properties = {{"kernel_id", "k"}, {"hw_rescue_bus", "virtio"}};
    EXPECT_EQ(described(server("virtio"), files),
              "root virtio, rescue virtio, config virtio, root=/dev/vdb");
}

TEST(GuestDiskBus, DevicesOfABusHaveLettersInTheirOrder) {
    const Json disks =
        Json::parse(R"([{"id":"a"},{"id":"b","bus":"scsi"},{"id":"c"},{"id":"d","bus":"scsi"}])")
            .value();
    EXPECT_EQ(disk_device(disks, 2), "/dev/vdb");
    EXPECT_EQ(disk_device(disks, 3), "/dev/sdb");
    EXPECT_EQ(root_device_name(server("scsi")), "/dev/sda");
    EXPECT_EQ(root_device_name(server("virtio")), "/dev/vda");
}

}  // namespace
}  // namespace kumoi::compute
