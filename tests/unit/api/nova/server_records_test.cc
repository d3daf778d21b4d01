// Groups looked at late, and devices with tags in the record.
#include "api/nova/server_records.h"

#include <gtest/gtest.h>

#include "api/nova/oslo_context.h"
#include "tests/support/golden_messages.h"
#include "tests/support/nova_node.h"

namespace kumoi::nova {
namespace {

class ServerRecordsTest : public testing::TestWithParam<Release>, protected test::NovaNode {
protected:
    ServerRecordsTest() : NovaNode(GetParam(), "server records") {
        Json message = test::golden_message(GetParam(), "compute.build_and_run_instance");
        Json args = *message.find("args");
        args["request_spec"]["nova_object.data"].set(
            "scheduler_hints",
            Json::object({{"group", Json::array_of(std::vector<std::string>{kGroup})}}));
        auto object = NovaObject::parse(objects.table(), *args.find("instance")).value();
        uuid = conductor.adopt(context, std::move(object))->uuid;
        conductor.adopt_build(uuid, {args});
    }
    Json group(const std::string& policy, std::vector<std::string> members, Json rules) {
        NovaObject object = NovaObject::make(objects.table(), "InstanceGroup");
        object.set("uuid", kGroup);
        object.set("policy", policy);
        object.set("members", Json::array_of(members));
        object.set("_rules", std::move(rules));
        return object.primitive();
    }
    Json list(const std::string& name, Json members) {
        NovaObject object = NovaObject::make(objects.table(), name);
        object.set("objects", std::move(members));
        return object.primitive();
    }
    Json moving(const std::string& server) {
        NovaObject object = NovaObject::make(objects.table(), "Migration");
        object.set("instance_uuid", server);
        return object.primitive();
    }
    // What conductor says of an anti-affinity group with `others` beside this server.
    Result<void> apart(const std::vector<std::string>& others, Json here, Json moves, Json rules) {
        std::vector<std::string> members = others;
        members.push_back(uuid);
        const Json now = group("anti-affinity", members, std::move(rules));
        rpc.answers = {group("anti-affinity", {uuid}, Json::object()), std::move(here),
                       list("MigrationList", std::move(moves)), now};
        return records.check_group(context, uuid, true);
    }
    std::string fault_of(const Result<void>& result) {
        return result.ok() ? "" : result.error().fault;
    }

    const std::string kGroup = "0000000a-0000-4000-8000-00000000000a";
    const std::string kOther = "0000000b-0000-4000-8000-00000000000b";
    ServerRecords records{{conductor, objects, node, clock, random}};
    compute::RequestContext context = request_context(
        Json::object({{"request_id", "req-1"}, {"user_id", "u"}, {"project_id", "p"}}));
    std::string uuid;
};
INSTANTIATE_TEST_SUITE_P(Nova, ServerRecordsTest, testing::Values(Release::Zed, Release::Gazpacho));

TEST_P(ServerRecordsTest, OthersOfAnAntiAffinityGroupAreSeenHereAndOnTheirWay) {
    const Json none = Json::array();
    const Json other = Json::array_of(std::vector<std::string>{kOther});
    EXPECT_EQ(fault_of(apart({kOther}, none, none, Json::object())), "");
    EXPECT_EQ(rpc.calls(),
              (std::vector<std::string>{
                  "InstanceGroup.get_by_uuid", "InstanceList.get_uuids_by_host",
                  "MigrationList.get_in_progress_by_host_and_node", "InstanceGroup.get_by_uuid"}));
    EXPECT_EQ(fault_of(apart({kOther}, other, none, Json::object())), "GroupAffinityViolation");
    Json moves = Json::array();
    moves.push_back(moving(kOther));
    const auto violated = apart({kOther}, none, moves, Json::object());
    EXPECT_EQ(violated.error().message, "Anti-affinity instance group policy was violated");
    EXPECT_EQ(fault_of(apart({kOther}, other, none, Json::object({{"max_server_per_host", "2"}}))),
              "");
    EXPECT_EQ(fault_of(apart({}, other, none, Json::object())), "");  // a stranger
}

TEST_P(ServerRecordsTest, AnAffinityGroupIsWhereItsOthersAre) {
    const auto together = [&](const std::vector<std::string>& hosts) {
        Json pair = Json::array();
        pair.push_back(Json::object({{"obj_what_changed", Json::array()}}));
        pair.push_back(Json::array_of(hosts));
        rpc.answers = {group("affinity", {uuid, kOther}, Json::object()), pair};
        return fault_of(records.check_group(context, uuid, false));
    };
    EXPECT_EQ(together({}), "");
    EXPECT_EQ(together({"cmp1", "cmp9"}), "");
    EXPECT_EQ(together({"cmp9"}), "GroupAffinityViolation");
}

TEST_P(ServerRecordsTest, AServerWithoutAGroupCostsABuildNothing) {
    Json args = *test::golden_message(GetParam(), "compute.build_and_run_instance").find("args");
    args["request_spec"]["nova_object.data"].set("scheduler_hints", Json::object());
    args["filter_properties"].set("scheduler_hints", nullptr);
    conductor.adopt_build(uuid, {args});
    EXPECT_TRUE(records.check_group(context, uuid, true).ok());
    EXPECT_TRUE(rpc.sent.empty());
    rpc.answers = {Error::not_found("none").with_fault("InstanceGroupNotFound")};
    EXPECT_TRUE(records.check_group(context, uuid, false).ok());
    ServerRecords blind{{conductor, objects, node, clock, random, false}};
    rpc.sent.clear();
    EXPECT_TRUE(blind.check_group(context, uuid, false).ok());
    EXPECT_TRUE(rpc.sent.empty());
}

TEST_P(ServerRecordsTest, DevicesAreSavedWithTheServer) {
    using Kind = compute::TaggedDevice::Kind;
    ASSERT_TRUE(
        records
            .save_devices(context, uuid,
                          {{Kind::Nic, "fa:16:3e:00:00:01", "", "pci", "0000:00:03.0", "public"}})
            .ok());
    ASSERT_EQ(rpc.calls(), std::vector<std::string>{"Instance.save"});
    const Json& object = *rpc.sent[0].args.find("objinst");
    EXPECT_EQ(object.find("nova_object.changes")->dump(), R"(["device_metadata"])");
    const Json* devices =
        object.find_path({"nova_object.data", "device_metadata", "nova_object.data", "devices"});
    ASSERT_NE(devices, nullptr);
    EXPECT_EQ(devices->as_array()[0].string_or("nova_object.name"), "NetworkInterfaceMetadata");
}

}  // namespace
}  // namespace kumoi::nova
