#include "compute/device_tags.h"

#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

VifInfo card(const std::string& port, unsigned slot, const std::string& tag = "") {
    VifInfo vif;
    vif.port_id = port;
    vif.mac = "fa:16:3e:00:00:0" + std::to_string(slot);
    vif.pci_slot = slot;
    vif.tag = tag;
    return vif;
}

TEST(DeviceTags, ARequestsTagsGoToWhatBecameOfIt) {
    std::vector<VifInfo> vifs = {card("made", 3), card("mine", 4)};
    std::vector<RequestedNetwork> requested(2);
    requested[0].network_id = "net";
    requested[0].tag = "public";
    requested[1].port_id = "mine";
    requested[1].tag = "backup";
    tag_vifs(vifs, requested);
    EXPECT_EQ(vifs[0].tag, "public");
    EXPECT_EQ(vifs[1].tag, "backup");
    // Of a repeated build Neutron may list more; only a named port is sure then.
    vifs = {card("mine", 3), card("x", 4), card("y", 5)};
    tag_vifs(vifs, requested);
    EXPECT_EQ(vifs[0].tag, "backup");
    EXPECT_EQ(vifs[1].tag + vifs[2].tag, "");
}

TEST(DeviceTags, DisksAreFoundByWhatTheyAre) {
    BlockDevice root, data, swap, gone, plain;
    root.source_type = "image";
    root.destination_type = swap.destination_type = "local";
    root.boot_index = 0;
    root.tag = "system";
    data.destination_type = gone.destination_type = plain.destination_type = "volume";
    data.volume_id = "vol-1";
    data.tag = "database";
    swap.guest_format = "swap";
    swap.tag = "scratch";
    gone.volume_id = "vol-9";
    gone.tag = "lost";
    plain.volume_id = "vol-2";
    const auto tagged =
        tagged_disks({root, data, swap, gone, plain}, {{kRootDisk, "pci", pci_address(11)},
                                                       {kSwapDisk, "pci", pci_address(12)},
                                                       {"vol-1", "scsi", ""},
                                                       {"vol-2", "pci", pci_address(17)}});
    ASSERT_EQ(tagged.size(), 3u);
    EXPECT_EQ(tagged[0].address, "0000:00:0b.0");
    EXPECT_EQ(tagged[0].serial, "");
    EXPECT_EQ(tagged[1].serial, "vol-1");
    EXPECT_EQ(tagged[1].bus, "scsi");
    EXPECT_EQ(tagged[2].tag, "scratch");
}

TEST(DeviceTags, MetadataListsThemAsNovaDoes) {
    auto devices = tagged_nics({card("a", 3, "public"), card("b", 4)});
    devices.push_back({.kind = TaggedDevice::Kind::Disk,
                       .mac = {},
                       .serial = "vol-1",
                       .bus = "scsi",
                       .address = {},
                       .tag = "database"});
    EXPECT_EQ(devices_json(devices, true).dump(),
              R"([{"vf_trusted":false,"type":"nic","mac":"fa:16:3e:00:00:03","bus":"pci",)"
              R"("address":"0000:00:03.0","tags":["public"]},{"type":"disk","serial":"vol-1",)"
              R"("bus":"scsi","address":"none","tags":["database"]}])");
    EXPECT_EQ(devices_json(devices, false).dump().find("vf_trusted"), std::string::npos);
}

}  // namespace
}  // namespace kumoi::compute
