// os-migrateLive, evacuate and /servers/{id}/migrations, over two hosts that only note what they
// are asked.
#include <gmock/gmock.h>

#include "tests/support/compute_rest_fixture.h"
#include "tests/support/host_moves_fake.h"

namespace kumoi::api {
namespace {

using testing::HasSubstr;

class LiveMigration : public ComputeRest {
protected:
    void add_second_host() {
        add_node(cn2_, "cn-2");
        conductor_->set_moves(moves_, {});
    }
    Reply act(const std::string& token, const std::string& uuid, const std::string& body,
              const std::string& version) {
        return call(token, "POST", "/servers/" + uuid + "/action", body, version);
    }
    std::string create_on(const std::string& host) {
        const Reply reply =
            call("admin", "POST", "/servers",
                 create_body("web", R"(, "networks": "none", "host": ")" + host + "\""), "2.74");
        EXPECT_EQ(reply.status, 202) << reply.body;
        return json(reply).find("server")->string_or("id");
    }
    compute::MigrationRecord newest(const std::string& uuid) {
        return conductor_->migrations().list({.instance_uuid = uuid}).value().at(0);
    }
    void report(const std::string& uuid, const std::string& status) {
        auto migration = newest(uuid);
        migration.status = status;
        migration.progress.memory_total = 1 << 30;
        migration.progress.memory_remaining = 1 << 20;
        EXPECT_TRUE(conductor_->migrations().update(migration).ok());
    }
    compute::conductor_fakes::HostMovesFake moves_;
};

struct BadRequest {
    const char* token;
    const char* version;
    const char* body;
    int status;
    const char* message;
};

TEST_F(LiveMigration, TheBodyFollowsTheMicroversion) {
    add_second_host();
    const std::string uuid = create("alice");
    const BadRequest cases[] = {
        {"alice", "2.1", R"({"os-migrateLive": {"host": null, "block_migration": false,
          "disk_over_commit": false}})",
         403, "migrate_live"},
        {"admin", "2.1", R"({"os-migrateLive": {"host": null, "block_migration": false}})", 400,
         "'disk_over_commit' is a required property"},
        {"admin", "2.1", R"({"os-migrateLive": {"host": null, "block_migration": "auto",
          "disk_over_commit": false}})",
         400, "block_migration"},
        {"admin", "2.25", R"({"os-migrateLive": {"host": null, "block_migration": "auto",
          "disk_over_commit": false}})",
         400, "'disk_over_commit' was unexpected"},
        {"admin", "2.29", R"({"os-migrateLive": {"host": null, "block_migration": "auto",
          "force": true}})",
         400, "'force' was unexpected"},
        {"admin", "2.30", R"({"os-migrateLive": {"host": null, "block_migration": "auto",
          "force": true}})",
         400, "Can't force to a non-provided destination"},
        {"admin", "2.68", R"({"os-migrateLive": {"host": "cn-2", "block_migration": "auto",
          "force": true}})",
         400, "'force' was unexpected"},
        {"admin", "2.30", R"({"os-migrateLive": {"host": "mars", "block_migration": "auto"}})", 400,
         "Compute host mars could not be found."},
        {"admin", "2.30", R"({"os-migrateLive": {"block_migration": "auto"}})", 400,
         "'host' is a required property"},
    };
    for (const auto& [token, version, body, status, text] : cases) {
        const Reply reply = act(token, uuid, body, version);
        EXPECT_EQ(reply.status, status) << body << reply.body;
        EXPECT_THAT(message(reply), HasSubstr(text)) << body;
    }
    EXPECT_TRUE(moves_.calls.empty());
}

TEST_F(LiveMigration, OneNodeSaysNoValidHost) {
    const std::string uuid = create("alice");
    const Reply waits = act(
        "admin", uuid, R"({"os-migrateLive": {"host": null, "block_migration": "auto"}})", "2.33");
    EXPECT_EQ(waits.status, 400);
    EXPECT_THAT(message(waits), HasSubstr("No valid host was found"));
    EXPECT_EQ(act("admin", uuid, R"({"os-migrateLive": {"host": null, "block_migration": "auto"}})",
                  "2.34")
                  .status,
              202);
    const Json all = json(call("admin", "GET", "/os-migrations", {}, "2.80"));
    EXPECT_EQ(all.find("migrations")->as_array().at(0).string_or("status"), "error");
    EXPECT_EQ(show("alice", uuid, "2.1").string_or("status"), "ACTIVE");
}

TEST_F(LiveMigration, IsSeenWhileItRunsAndEnded) {
    add_second_host();
    const std::string uuid = create_on("cn-1");
    const std::string path = "/servers/" + uuid + "/migrations";
    ASSERT_EQ(act("admin", uuid, R"({"os-migrateLive": {"host": null, "block_migration": "auto"}})",
                  "2.30")
                  .status,
              202);
    EXPECT_EQ(show("admin", uuid, "2.1").string_or("status"), "MIGRATING");
    const int64_t id = newest(uuid).id;
    const std::string one = path + "/" + std::to_string(id);
    EXPECT_EQ(json(call("admin", "GET", path, {}, "2.23")).find("migrations")->size(), 0u);
    EXPECT_EQ(call("admin", "GET", one, {}, "2.23").status, 404);  // accepted: not in progress
    report(uuid, "running");
    const Json shown = *json(call("admin", "GET", one, {}, "2.80")).find("migration");
    EXPECT_EQ(shown.string_or("server_uuid"), uuid);
    EXPECT_EQ(shown.string_or("dest_compute"), "cn-2");
    EXPECT_EQ(shown.integer_or("memory_remaining_bytes"), 1 << 20);
    EXPECT_TRUE(shown.find("disk_total_bytes")->is_null());
    EXPECT_EQ(shown.string_or("user_id"), "admin");
    EXPECT_EQ(shown.string_or("uuid").size(), 36u);
    EXPECT_EQ(json(call("admin", "GET", path, {}, "2.23")).find("migrations")->size(), 1u);
    const Json listed = json(call("admin", "GET", "/os-migrations", {}, "2.59"));
    EXPECT_TRUE(listed.find("migrations")->as_array().at(0).contains("links"));

    EXPECT_EQ(call("admin", "GET", one, {}, "2.22").status, 404);
    EXPECT_EQ(call("admin", "DELETE", one, {}, "2.23").status, 404);
    EXPECT_EQ(call("alice", "GET", one, {}, "2.23").status, 404);  // p0's server
    EXPECT_EQ(call("admin", "POST", one + "/action", R"({"force_complete": null})", "2.21").status,
              404);
    EXPECT_EQ(call("admin", "POST", one + "/action", R"({"force_complete": 1})", "2.22").status,
              400);
    EXPECT_EQ(call("admin", "POST", one + "/action", R"({"force_complete": null})", "2.22").status,
              202);
    EXPECT_EQ(moves_.calls.back(), "force cn-1");
    EXPECT_EQ(call("admin", "DELETE", one, {}, "2.24").status, 202);
    EXPECT_EQ(moves_.calls.back(), "abort cn-1");
    report(uuid, "preparing");
    EXPECT_EQ(call("admin", "DELETE", one, {}, "2.64").status, 400);
    EXPECT_EQ(call("admin", "DELETE", one, {}, "2.65").status, 202);
    report(uuid, "cancelled");
    EXPECT_EQ(call("admin", "GET", one, {}, "2.23").status, 404);
    EXPECT_EQ(call("admin", "DELETE", path + "/999", {}, "2.65").status, 404);
    EXPECT_EQ(call("admin", "DELETE", path + "/x", {}, "2.65").status, 404);
}

TEST_F(LiveMigration, AServerThatDoesNotMigrateHasNothingToEnd) {
    add_second_host();
    const std::string uuid = create_on("cn-1");
    const Reply reply = call("admin", "DELETE", "/servers/" + uuid + "/migrations/1", {}, "2.65");
    EXPECT_EQ(reply.status, 409);
    EXPECT_THAT(message(reply), HasSubstr("Cannot 'abort live migration' instance"));
}

TEST_F(LiveMigration, EvacuationNeedsADeadHost) {
    add_second_host();
    const std::string uuid = create_on("cn-1");
    const Reply early = act("admin", uuid, R"({"evacuate": {}})", "2.14");
    EXPECT_EQ(early.status, 400);
    EXPECT_THAT(message(early), HasSubstr("still in use"));
    EXPECT_EQ(act("alice", create("alice"), R"({"evacuate": {}})", "2.14").status, 403);
    clock_.advance(61 * kNanosPerSecond);
    EXPECT_TRUE(conductor_->service_heartbeat("cn-2").ok());
    EXPECT_EQ(act("admin", uuid, R"({"evacuate": {}})", "2.1").status, 400);  // onSharedStorage
    const Reply done = act("admin", uuid, R"({"evacuate": {"host": "cn-2"}})", "2.95");
    EXPECT_EQ(done.status, 200) << done.body;
    EXPECT_EQ(moves_.calls.back(), "evacuate cn-2 stopped");
}

}  // namespace
}  // namespace kumoi::api
