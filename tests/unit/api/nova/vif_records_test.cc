// Ports and their records with nova-conductor, and the devices with tags in a server's record.
#include "api/nova/vif_records.h"

#include <gtest/gtest.h>

#include "api/nova/device_metadata_object.h"
#include "tests/support/compute_fakes.h"
#include "tests/support/nova_database.h"

namespace kumoi::nova {
namespace {

class VifRecordsTest : public testing::Test {
protected:
    VifRecordsTest() { instance.uuid = "00000001-0000-4000-8000-000000000001"; }
    static compute::RequestedNetwork wanted(const std::string& tag) {
        compute::RequestedNetwork requested;
        requested.network_id = "net";
        requested.tag = tag;
        return requested;
    }
    std::vector<std::string> recorded() const {
        std::vector<std::string> tags;
        for (const auto& [port, vif] : database.vifs) {
            const Json& data = *vif.find("nova_object.data");
            EXPECT_EQ(data.string_or("instance_uuid"), instance.uuid);
            EXPECT_TRUE(data.string_or("address").ends_with("/" + port));
            tags.push_back(data.string_or("tag", "-"));
        }
        return tags;
    }

    ManualClock clock;
    SeededRandom random{1, "vif records"};
    compute::CallLog log;
    test::NovaDatabase database{log, clock};
    ObjectClient objects{database, ObjectTable::of(Release::Zed)};
    compute::FakeNetwork network{log};
    VifRecords records{network, objects, clock, random};
    compute::Instance instance;
};

TEST_F(VifRecordsTest, EachPortHasOneWithItsTag) {
    auto vifs = records.allocate_for_instance({}, instance, {wanted("public"), wanted("")});
    ASSERT_TRUE(vifs.ok());
    EXPECT_EQ((*vifs)[0].tag, "public");
    EXPECT_EQ(recorded(), (std::vector<std::string>{"public", "-"}));
    instance.network_info = *vifs;
    ASSERT_TRUE(records.allocate_for_instance({}, instance, {wanted("public"), wanted("")}).ok());
    EXPECT_EQ(database.vifs.size(), 2u);  // a repeated build takes over what is there
    const auto third = records.allocate_port_for_instance({}, instance, wanted("backup"));
    ASSERT_TRUE(third.ok());
    EXPECT_EQ(third->tag, "backup");
    EXPECT_EQ(database.vifs.size(), 3u);
    ASSERT_TRUE(records.deallocate_port_for_instance({}, instance, third->port_id).ok());
    ASSERT_TRUE(records.deallocate_port_for_instance({}, instance, third->port_id).ok());
    EXPECT_EQ(database.vifs.size(), 2u);
    ASSERT_TRUE(records.deallocate_for_instance({}, instance).ok());
    EXPECT_TRUE(database.vifs.empty());
}

TEST_F(VifRecordsTest, APortWithoutOneGoes) {
    log.fail = [](const std::string& call) {
        return call == "rpc VirtualInterface.create"
                   ? Result<void>(
                         Error::conflict("no").with_fault("VirtualInterfaceCreateException"))
                   : Result<void>();
    };
    EXPECT_EQ(records.allocate_for_instance({}, instance, {wanted("a")}).error().fault,
              "VirtualInterfaceCreateException");
    EXPECT_FALSE(records.allocate_port_for_instance({}, instance, wanted("a")).ok());
    EXPECT_EQ(network.port_count(), 0u);
}

TEST(DeviceMetadata, IsAnObjectOfBothReleases) {
    using Kind = compute::TaggedDevice::Kind;
    for (const Release release : {Release::Zed, Release::Gazpacho}) {
        const ObjectTable& table = ObjectTable::of(release);
        NovaObject instance = NovaObject::make(table, "Instance");
        const std::vector<compute::TaggedDevice> tagged = {
            {Kind::Nic, "fa:16:3e:00:00:01", "", "pci", "0000:00:03.0", "public"},
            {Kind::Disk, "", "8e8e6611-d341-4184-816c-58e53837162b", "scsi", "", "database"}};
        instance.set("device_metadata", device_metadata(table, tagged));
        const auto sent = NovaObject::parse(table, instance.primitive());
        ASSERT_TRUE(sent.ok()) << sent.error().text();
        const auto devices = sent->object("device_metadata")->objects("devices");
        ASSERT_TRUE(devices.ok());
        EXPECT_EQ(devices->at(0).name(), "NetworkInterfaceMetadata");
        EXPECT_EQ(devices->at(0).text("mac"), "fa:16:3e:00:00:01");
        EXPECT_EQ(devices->at(0).object("bus")->text("address"), "0000:00:03.0");
        EXPECT_EQ(devices->at(0).get("tags")->dump(), R"(["public"])");
        EXPECT_EQ(devices->at(1).name(), "DiskMetadata");
        EXPECT_EQ(devices->at(1).object("bus")->name(), "SCSIDeviceBus");
        EXPECT_FALSE(devices->at(1).object("bus")->has("address"));
        EXPECT_TRUE(device_metadata(table, {}).is_null());
    }
}

}  // namespace
}  // namespace kumoi::nova
