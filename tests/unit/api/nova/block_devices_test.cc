// Block device records on the wire of both releases.
#include "api/nova/block_devices.h"

#include <gtest/gtest.h>

#include "api/nova/oslo_context.h"
#include "tests/support/golden_messages.h"
#include "tests/support/quiet_rpc.h"

namespace kumoi::nova {
namespace {

class BlockDevicesTest : public testing::TestWithParam<Release> {
protected:
    ManualClock clock{1'767'323'045'000'000'000};
    SeededRandom random{1, "block devices"};
    test::QuietRpc rpc;
    ObjectClient objects{rpc, ObjectTable::of(GetParam())};
    BlockDevices store{objects, clock, random};
};

INSTANTIATE_TEST_SUITE_P(Nova, BlockDevicesTest, testing::Values(Release::Zed, Release::Gazpacho));

compute::BlockDevice device() {
    compute::BlockDevice made;
    made.id = 12;
    made.uuid = "5feda02c-dc73-4d69-a3d5-1f798f2be130";
    made.instance_uuid = "8dce26e1-cdf8-4364-9bc8-b75203d900bc";
    made.source_type = made.destination_type = "volume";
    made.device_name = "/dev/vdb";
    made.volume_id = "8e8e6611-d341-4184-816c-58e53837162b";
    made.attachment_id = "bce16004-7115-475f-a9bb-4d0ba8598b75";
    made.volume_size = 1;
    made.connection_info = Json::object({{"driver_volume_type", "iscsi"}});
    return made;
}

TEST_P(BlockDevicesTest, SurviveTheWire) {
    compute::BlockDevice root = device();
    root.boot_index = 0;
    const NovaObject object = block_device_object(objects.table(), root);
    const auto again = NovaObject::parse(objects.table(), object.primitive());
    ASSERT_TRUE(again.ok()) << again.error().text();
    const compute::BlockDevice read = block_device_from(*again);
    EXPECT_EQ(read.id, 12);
    EXPECT_EQ(read.volume_id, root.volume_id);
    EXPECT_EQ(read.attachment_id, root.attachment_id);
    EXPECT_EQ(read.boot_index, 0);
    EXPECT_EQ(read.volume_size, 1);
    EXPECT_TRUE(read.is_root());
    EXPECT_EQ(read.connection_info.string_or("driver_volume_type"), "iscsi");
}

TEST_P(BlockDevicesTest, AreMadeAsNovaMakesThem) {
    compute::BlockDevice fresh = device();
    fresh.id = 0;
    fresh.device_type = "hologram";  // what the table does not allow is left out
    fresh.connection_info = Json::object();
    ASSERT_TRUE(store.block_device_create({}, fresh).ok());
    EXPECT_EQ(rpc.calls(), std::vector<std::string>{"BlockDeviceMapping.create"});
    const Json* object = rpc.sent[0].args.find("objinst");
    const Json* data = object->find("nova_object.data");
    EXPECT_EQ(data->find("id"), nullptr);
    EXPECT_EQ(data->find("device_type"), nullptr);
    EXPECT_TRUE(data->find("connection_info")->is_null());
    EXPECT_TRUE(data->find("boot_index")->is_null());
    EXPECT_EQ(data->string_or("source_type"), "volume");
}

TEST_P(BlockDevicesTest, ASaveNamesTheRecordAndADestroyChangesNothing) {
    ASSERT_TRUE(store.block_device_save({}, device()).ok());
    const Json* saved = rpc.sent[0].args.find("objinst");
    EXPECT_EQ(saved->find_path({"nova_object.data", "id"})->to_int64(), 12);
    const std::string changes = saved->find("nova_object.changes")->dump();
    EXPECT_NE(changes.find("connection_info"), std::string::npos);
    EXPECT_EQ(changes.find("\"id\""), std::string::npos);
    ASSERT_TRUE(store.block_device_destroy({}, device()).ok());
    EXPECT_EQ(rpc.calls().back(), "BlockDeviceMapping.destroy");
    EXPECT_EQ(rpc.sent[1].args.find("objinst")->find("nova_object.changes"), nullptr);
}

}  // namespace
}  // namespace kumoi::nova
