#include "api/nova/nova_moves.h"

#include <gtest/gtest.h>

#include "api/nova/oslo_context.h"
#include "compute/vm_states.h"
#include "tests/support/golden_messages.h"
#include "tests/support/nova_node.h"

namespace kumoi::nova {
namespace {

using compute::InstanceUpdate;
using compute::MoveCast;
using compute::MoveEnd;

class NovaMovesTest : public testing::TestWithParam<Release>, protected test::NovaNode {
protected:
    NovaMovesTest() : NovaNode(GetParam(), "nova moves", "cmp2.example.org") {}

    // A request of Nova's own client, whose migration we may change first.
    void adopt(const std::string& name,
               std::initializer_list<std::pair<const char*, Json>> changes = {}) {
        arguments = *test::golden_message(GetParam(), name).find("args");
        Json& data = *arguments.find("migration")->find("nova_object.data");
        data.set("migration_type", "resize");  // theirs is of all types the same
        for (const auto& [key, value] : changes) {
            data.set(key, value);
        }
        auto instance = NovaObject::parse(objects.table(), *arguments.find("instance"));
        auto migration = NovaObject::parse(objects.table(), *arguments.find("migration"));
        ASSERT_TRUE(instance.ok() && migration.ok());
        const auto context =
            request_context(Json::object({{"request_id", "req-1"}, {"roles", Json::array()}}));
        ASSERT_TRUE(conductor.adopt(context, std::move(*instance)).ok());
        conductor.adopt_migration(uuid, std::move(*migration), arguments);
    }
    const Json* data(size_t index) const {
        return rpc.sent.at(index).args.find_path({"objinst", "nova_object.data"});
    }

    NovaMoves moves{{conductor, objects, allocations, node, clock, random}};
    Json arguments;
    const std::string uuid = "00000001-0000-4000-8000-000000000001";
    const std::string migration_uuid = "00000070-0000-4000-8000-000000000070";
};

INSTANTIATE_TEST_SUITE_P(Nova, NovaMovesTest, testing::Values(Release::Zed, Release::Gazpacho));

TEST_P(NovaMovesTest, PreparingRecordsTheDestinationAndWhatTheServerHad) {
    adopt("compute.prep_resize", {{"dest_compute", nullptr}, {"dest_node", nullptr}});
    InstanceUpdate update;
    update.system_metadata = compute::Properties{{"old_vm_state", "active"}};
    update.expected_task_state = {{"resize_prep"}};
    ASSERT_TRUE(moves.prepare(uuid, update, "cmp2.example.org", "192.0.2.9").ok());
    ASSERT_EQ(rpc.calls(), (std::vector<std::string>{"Migration.save", "Instance.save"}));
    EXPECT_EQ(data(0)->string_or("dest_compute"), "cmp2.example.org");
    EXPECT_EQ(data(0)->string_or("dest_host"), "192.0.2.9");
    EXPECT_EQ(data(0)->string_or("status"), "pre-migrating");
    const Json* context = data(1)->find_path({"migration_context", "nova_object.data"});
    ASSERT_NE(context, nullptr);
    EXPECT_EQ(context->integer_or("migration_id"), 9);
    EXPECT_EQ(*data(1)->find("new_flavor"), *arguments.find("flavor"));
    EXPECT_EQ(*rpc.sent[1].args.find_path({"kwargs", "expected_task_state"}),
              Json::array_of(std::vector<std::string>{"resize_prep"}));
}

TEST_P(NovaMovesTest, TheServerBecomesTheDestinationsAndComesBack) {
    adopt("compute.resize_instance");
    ASSERT_TRUE(moves.save_host(uuid, {}, MoveEnd::Destination).ok());
    ASSERT_TRUE(moves.save_host(uuid, {}, MoveEnd::Source).ok());
    EXPECT_EQ(data(0)->string_or("host"), "cmp2.example.org");
    EXPECT_EQ(data(0)->string_or("node"), "cmp2.example.org");
    EXPECT_EQ(data(1)->string_or("host"), "cmp1.example.org");
    EXPECT_EQ(data(0)->contains("compute_id"), GetParam() == Release::Gazpacho);
    EXPECT_FALSE(data(0)->string_or("launched_on") == "cmp2.example.org");
}

TEST_P(NovaMovesTest, EachCastGoesToItsHostWithNovasArguments) {
    adopt("compute.prep_resize");
    ASSERT_TRUE(moves.cast(uuid, MoveCast::ResizeInstance, "").ok());
    adopt("compute.resize_instance");
    ASSERT_TRUE(moves.cast(uuid, MoveCast::FinishResize, "{\"x\":1}").ok());
    adopt("compute.revert_resize");
    ASSERT_TRUE(moves.cast(uuid, MoveCast::FinishRevertResize, "").ok());
    ASSERT_EQ(rpc.calls(), (std::vector<std::string>{"resize_instance", "finish_resize",
                                                     "finish_revert_resize"}));
    const auto names = [&](size_t index) {
        std::set<std::string> all;
        for (const auto& [name, value] : rpc.sent[index].args.as_object()) {
            all.insert(name);
        }
        return all;
    };
    const auto golden_names = [&](const char* name) {
        std::set<std::string> all;
        const Json message = test::golden_message(GetParam(), name);
        for (const auto& [key, value] : message.find("args")->as_object()) {
            all.insert(key);
        }
        return all;
    };
    EXPECT_EQ(names(0), golden_names("compute.resize_instance"));
    EXPECT_EQ(names(1), golden_names("compute.finish_resize"));
    EXPECT_EQ(names(2), golden_names("compute.revert_resize"));
    EXPECT_EQ(rpc.sent[0].target.server, "cmp1.example.org");
    EXPECT_EQ(rpc.sent[1].target.server, "cmp2.example.org");
    EXPECT_EQ(rpc.sent[2].target.server, "cmp1.example.org");
    EXPECT_EQ(rpc.sent[1].args.string_or("disk_info"), "{\"x\":1}");
    EXPECT_EQ(rpc.sent[0].target.topic, "compute");
    EXPECT_EQ(rpc.sent[0].target.version, "6.0");
    EXPECT_EQ(rpc.sent[0].context.string_or("request_id"), "req-1");
}

TEST_P(NovaMovesTest, AnotherHostIsAskedForOnlyWhenThereMayBeOne) {
    adopt("compute.prep_resize");
    const Error reason = Error::exhausted("full");
    const compute::RequestContext context{"req-1", "u", "p", false};
    EXPECT_FALSE(moves.reschedule(context, uuid, reason).ok());  // no retry in the properties
    EXPECT_TRUE(rpc.sent.empty());
    adopt("compute.prep_resize");
    arguments.find("filter_properties")->set("retry", Json::object({{"num_attempts", 1}}));
    auto migration = NovaObject::parse(objects.table(), *arguments.find("migration"));
    conductor.adopt_migration(uuid, std::move(*migration), arguments);
    ASSERT_TRUE(moves.reschedule(context, uuid, reason).ok());
    ASSERT_EQ(rpc.calls(), (std::vector<std::string>{"Instance.save", "migrate_server"}));
    EXPECT_EQ(data(0)->string_or("task_state"), "resize_prep");
    const Json& sent = rpc.sent[1].args;
    EXPECT_EQ(
        sent.find_path({"scheduler_hint", "filter_properties", "retry"})->string_or("exc_reason"),
        "full");
    EXPECT_EQ(*sent.find("flavor"), *arguments.find("flavor"));
    EXPECT_EQ(rpc.sent[1].target.namespace_, "compute_task");
}

TEST_P(NovaMovesTest, AllocationsGoBackOrAway) {
    adopt("compute.confirm_resize");
    ASSERT_TRUE(moves.return_allocations(uuid).ok());
    ASSERT_TRUE(moves.drop_allocations(uuid).ok());
    EXPECT_EQ(allocations.moved,
              (std::vector<std::pair<std::string, std::string>>{{migration_uuid, uuid}}));
    EXPECT_EQ(allocations.removed, std::vector<std::string>{migration_uuid});
}

TEST_P(NovaMovesTest, AHostOfAnotherKindIsRefused) {
    NovaObject record = NovaObject::make(objects.table(), "ComputeNode");
    record.set("hypervisor_type", "QEMU");
    rpc.answers.push_back(record.primitive());
    const auto refused = moves.check_peer("cmp3", "cmp3");
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().fault, "MigrationError");
    record.set("hypervisor_type", "kumoi");
    rpc.answers.push_back(record.primitive());
    EXPECT_TRUE(moves.check_peer("cmp3", "cmp3").ok());
}

TEST_P(NovaMovesTest, AnUnknownMigrationIsAskedForAndNoneIsSaidSo) {
    adopt("compute.confirm_resize");
    Json list = Json::object({{"nova_object.name", "MigrationList"},
                              {"nova_object.namespace", "nova"},
                              {"nova_object.version", "1.5"},
                              {"nova_object.data", Json::object({{"objects", Json::array()}})}});
    const std::string other = "00000001-0000-4000-8000-0000000000ff";
    Json instance = *arguments.find("instance");
    instance.find("nova_object.data")->set("uuid", other);
    rpc.answers.push_back(instance);  // the server itself
    rpc.answers.push_back(list);
    EXPECT_EQ(moves.migration(other, false).error().code, ErrorCode::NotFound);
    Json recorded = *arguments.find("migration");
    recorded.find("nova_object.data")->set("status", "confirmed");
    rpc.answers.push_back(recorded);
    EXPECT_EQ(moves.migration(uuid, true)->status, "confirmed");
    EXPECT_EQ(moves.migration(uuid, false)->uuid, migration_uuid);
}

TEST_P(NovaMovesTest, AnAuditCountsWhatIsOnItsWay) {
    adopt("compute.finish_resize");
    Json migration = *arguments.find("migration");
    Json& data = *migration.find("nova_object.data");
    data.set("status", "migrating");
    data.set("migration_type", "resize");
    data.set("source_compute", "cmp1.example.org");
    data.set("dest_compute", "cmp2.example.org");
    const Json list = Json::object(
        {{"nova_object.name", "MigrationList"},
         {"nova_object.namespace", "nova"},
         {"nova_object.version", "1.5"},
         {"nova_object.data", Json::object({{"objects", Json(Json::Array{migration})}})}});
    rpc.answers.push_back(list);
    rpc.answers.push_back(*arguments.find("instance"));
    std::vector<compute::Instance> servers;
    ASSERT_TRUE(moves.count_moves(servers).ok());
    ASSERT_EQ(servers.size(), 1u);
    EXPECT_EQ(servers[0].uuid, uuid);
    EXPECT_FALSE(servers[0].new_flavor || servers[0].old_flavor);
    // Recorded here already: only what it has now.
    servers[0].old_flavor = servers[0].flavor;
    rpc.answers.push_back(list);
    ASSERT_TRUE(moves.count_moves(servers).ok());
    ASSERT_EQ(servers.size(), 1u);
    EXPECT_FALSE(servers[0].old_flavor);
}

}  // namespace
}  // namespace kumoi::nova
