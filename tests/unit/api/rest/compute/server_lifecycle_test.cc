// The actions that change what a server is made of, over a real conductor and fake nodes: who may,
// in which state, what they answer, and what they leave in the records.
#include <gmock/gmock.h>

#include "compute/server_password.h"
#include "tests/support/compute_rest_fixture.h"

namespace kumoi::api {
namespace {

using testing::HasSubstr;
namespace vm_states = compute::vm_states;

constexpr char kOtherImage[] = "440aee23-0f31-4bb7-a985-456e4da837c6";

class ServerLifecycle : public ComputeRest {
protected:
    ServerLifecycle() {
        images_.add(kOtherImage, "other");
        add_flavor("43", 2, 128, 1);
        add_flavor("44", 1, 64, 0);
        add_flavor("45", 64, 1 << 20, 1);
    }
    void add_flavor(const std::string& id, int64_t vcpus, int64_t memory_mb, int64_t root_gb) {
        compute::Flavor flavor;
        flavor.flavor_id = id;
        flavor.name = "m1." + id;
        flavor.vcpus = vcpus;
        flavor.memory_mb = memory_mb;
        flavor.root_gb = root_gb;
        EXPECT_TRUE(conductor_->flavors().create(flavor).ok());
    }
    Reply act(const std::string& token, const std::string& uuid, const std::string& body,
              const std::string& version = "2.96") {
        return call(token, "POST", "/servers/" + uuid + "/action", body, version);
    }
    std::string status(const std::string& uuid) {
        return show("alice", uuid, "2.96").string_or("status");
    }
    std::vector<std::string> actions(const std::string& uuid) {
        std::vector<std::string> names;
        const Json body = json(call("alice", "GET", "/servers/" + uuid + "/os-instance-actions"));
        for (const Json& action : body.find("instanceActions")->as_array()) {
            names.push_back(action.string_or("action"));
        }
        return names;
    }
    // Leaves every later cast queued, as a busy node does.
    void hold_node() { cn1_.finish_at_once = false; }
};

struct Refusal {
    const char* token;
    const char* body;
    const char* version;
    int status;
    const char* message;
};

TEST_F(ServerLifecycle, RefusesInNovasWords) {
    const std::string uuid = create("alice");
    const Refusal refusals[] = {
        {"alice", R"({"resume": null})", "2.1", 409, "Cannot 'resume' instance"},
        {"alice", R"({"unrescue": null})", "2.1", 409, "while it is in vm_state active"},
        {"alice", R"({"confirmResize": null})", "2.1", 409, "Cannot 'confirmResize' instance"},
        {"alice", R"({"revertResize": null})", "2.1", 409, "Cannot 'revertResize' instance"},
        {"alice", R"({"unshelve": null})", "2.1", 409, "Cannot 'unshelve' instance"},
        {"alice", R"({"restore": null})", "2.1", 409, "Cannot 'restore' instance"},
        {"alice", R"({"shelveOffload": null})", "2.1", 403, "shelve_offload"},
        {"admin", R"({"shelveOffload": null})", "2.1", 409, "Cannot 'shelveOffload' instance"},
        {"alice", R"({"migrate": null})", "2.1", 403, "os-migrate-server:migrate"},
        {"rita", R"({"suspend": null})", "2.1", 403, "os-suspend-server:suspend"},
        {"bob", R"({"suspend": null})", "2.1", 404, "could not be found"},
        {"alice", R"({"createImage": {}})", "2.1", 400, "'name' is a required property"},
        {"alice", R"({"createBackup": {"name": "b", "backup_type": "d", "rotation": -1}})", "2.1",
         400, "-1 is less than the minimum of 0"},
        {"alice", R"({"createBackup": {"name": "b", "rotation": 1}})", "2.1", 400,
         "'backup_type' is a required property"},
        {"alice", R"({"rescue": {"rescue_image_ref": "x"}})", "2.1", 400, "is not a 'uuid'"},
        {"alice", R"({"rescue": {"rescue_image_ref": "540aee23-0f31-4bb7-a985-456e4da837c6"}})",
         "2.1", 400, "Requested rescue image"},
        {"alice", R"({"rebuild": {}})", "2.1", 400, "'imageRef' is a required property"},
        {"alice", R"({"rebuild": {"imageRef": "540aee23-0f31-4bb7-a985-456e4da837c6"}})", "2.1",
         400, "Cannot find image for rebuild"},
        {"alice",
         R"({"rebuild": {"imageRef": "440aee23-0f31-4bb7-a985-456e4da837c6", "key_name": null}})",
         "2.53", 400, "('key_name' was unexpected)"},
        {"alice",
         R"({"rebuild": {"imageRef": "440aee23-0f31-4bb7-a985-456e4da837c6", "key_name": "k"}})",
         "2.54", 400, "Invalid key_name provided."},
        {"alice",
         R"({"rebuild": {"imageRef": "440aee23-0f31-4bb7-a985-456e4da837c6", "personality": []}})",
         "2.57", 400, "('personality' was unexpected)"},
        {"alice",
         R"({"rebuild": {"imageRef": "440aee23-0f31-4bb7-a985-456e4da837c6", "hostname": "h1"}})",
         "2.89", 400, "('hostname' was unexpected)"},
        {"alice", R"({"resize": {"flavorRef": "42"}})", "2.1", 400,
         "When resizing, instances must change flavor!"},
        {"alice", R"({"resize": {"flavorRef": "44"}})", "2.1", 400,
         "Resize to zero disk flavor is not allowed"},
        {"alice", R"({"resize": {"flavorRef": "99"}})", "2.1", 400, "Flavor 99 could not be found"},
        {"alice", R"({"resize": {"flavorRef": "45"}})", "2.1", 403,
         "Quota exceeded for cores, ram"},
        {"admin", R"({"migrate": {"host": "cn-1"}})", "2.56", 400,
         "Cannot migrate to the host where the server exists."},
        {"admin", R"({"migrate": {"host": "mars"}})", "2.56", 400, "Compute host mars could not"},
    };
    for (const Refusal& refusal : refusals) {
        const Reply reply = act(refusal.token, uuid, refusal.body, refusal.version);
        EXPECT_EQ(reply.status, refusal.status) << refusal.body << " -> " << reply.body;
        EXPECT_THAT(message(reply), HasSubstr(refusal.message)) << refusal.body;
    }
    EXPECT_EQ(images_.made, 0);
    EXPECT_EQ(actions(uuid), std::vector<std::string>{"create"});
}

TEST_F(ServerLifecycle, ALockedServerRefusesAllButItsImage) {
    const std::string uuid = create("alice");
    EXPECT_EQ(act("alice", uuid, R"({"lock": null})").status, 202);
    for (const char* body :
         {R"({"suspend": null})", R"({"rescue": null})", R"({"shelve": null})",
          R"({"resize": {"flavorRef": "43"}})",
          R"({"rebuild": {"imageRef": "440aee23-0f31-4bb7-a985-456e4da837c6"}})"}) {
        const Reply reply = act("alice", uuid, body);
        EXPECT_EQ(reply.status, 409) << body;
        EXPECT_THAT(message(reply), HasSubstr("is locked")) << body;
    }
    EXPECT_EQ(act("alice", uuid, R"({"createImage": {"name": "i"}})").status, 202);
}

TEST_F(ServerLifecycle, ARefusedCastTakesEverythingBack) {
    const std::string uuid = create("alice");
    cn1_.refusal = Error::unavailable("too busy");
    for (const char* body :
         {R"({"resize": {"flavorRef": "43"}})", R"({"createImage": {"name": "i"}})",
          R"({"shelve": null})",
          R"({"rebuild": {"imageRef": "440aee23-0f31-4bb7-a985-456e4da837c6", "name": "new"}})"}) {
        EXPECT_EQ(act("alice", uuid, body).status, 503) << body;
    }
    const Json server = show("alice", uuid, "2.46");
    EXPECT_EQ(server.string_or("status"), "ACTIVE");
    EXPECT_TRUE(server.find("OS-EXT-STS:task_state")->is_null());
    EXPECT_EQ(server.find("image")->string_or("id"), kTestImage);
    EXPECT_EQ(server.string_or("name"), "web");
    EXPECT_EQ(images_.images.size(), 2u);  // the queued ones are gone again
    EXPECT_EQ(conductor_->instances().claims("cn-1").memory_mb, 64);
}

TEST_F(ServerLifecycle, CreateImageAnswersByMicroversion) {
    const std::string uuid = create("alice");
    const Reply old = act(
        "alice", uuid, R"({"createImage": {"name": "snap", "metadata": {"who": "me"}}})", "2.44");
    EXPECT_EQ(old.status, 202);
    EXPECT_EQ(old.body, "");
    const std::string location = old.headers.first_or("Location");
    EXPECT_THAT(location, HasSubstr("http://images/v2/images/5a5a5a5a"));
    const compute::ImageMeta& image = images_.images.at(location.substr(location.rfind('/') + 1));
    EXPECT_EQ(image.name, "snap");
    EXPECT_EQ(image.owner, "p1");
    EXPECT_EQ(image.properties.at("who"), "me");
    EXPECT_EQ(image.properties.at("image_type"), "snapshot");
    EXPECT_EQ(image.properties.at("instance_uuid"), uuid);
    EXPECT_EQ(image.properties.at("base_image_ref"), kTestImage);
    const Reply current = act("alice", uuid, R"({"createImage": {"name": "snap"}})", "2.45");
    EXPECT_THAT(json(current).string_or("image_id"), HasSubstr("5a5a5a5a"));
    const Reply backup =
        act("alice", uuid,
            R"({"createBackup": {"name": "b", "backup_type": "daily", "rotation": 2}})", "2.45");
    EXPECT_EQ(images_.images.at(json(backup).string_or("image_id")).properties.at("backup_type"),
              "daily");
    EXPECT_EQ(actions(uuid),
              (std::vector<std::string>{"createBackup", "createImage", "createImage", "create"}));
}

TEST_F(ServerLifecycle, RebuildChangesWhatItNames) {
    const std::string uuid = create("alice");
    hold_node();
    const Reply reply = act("alice", uuid,
                            fmt::format(R"({{"rebuild": {{"imageRef": "{}", "name": "new",
                                "description": "d", "metadata": {{"a": "b"}}, "hostname": "host-1",
                                "user_data": null, "adminPass": "secret"}}}})",
                                        kOtherImage));
    EXPECT_EQ(reply.status, 202) << reply.body;
    EXPECT_THAT(reply.headers.first_or("Location"), HasSubstr("/servers/" + uuid));
    const Json server = *json(reply).find("server");
    EXPECT_EQ(server.string_or("status"), "REBUILD");
    EXPECT_EQ(server.string_or("name"), "new");
    EXPECT_EQ(server.string_or("adminPass"), "secret");
    EXPECT_EQ(server.find("image")->string_or("id"), kOtherImage);
    EXPECT_EQ(server.find("metadata")->string_or("a"), "b");
    EXPECT_TRUE(server.find("user_data")->is_null());
    EXPECT_EQ(cn1_.rebuild_password, "secret");
    EXPECT_EQ(show("alice", uuid, "2.90").string_or("OS-EXT-SRV-ATTR:hostname"), "host-1");
}

TEST_F(ServerLifecycle, APasswordIsSetOrTheRefusalIsNovas) {
    const std::string uuid = create("alice");
    const std::string body = R"({"changePassword": {"adminPass": "s3cret"}})";
    EXPECT_EQ(act("alice", uuid, body).status, 202);
    EXPECT_EQ(cn1_.admin_password, "s3cret");
    EXPECT_EQ(status(uuid), "ACTIVE");
    EXPECT_EQ(actions(uuid), (std::vector<std::string>{"changePassword", "create"}));
    EXPECT_EQ(act("alice", uuid, R"({"changePassword": {}})").status, 400);
    EXPECT_EQ(act("alice", uuid, R"({"changePassword": {"adminPass": 1}})").status, 400);

    compute::InstanceUpdate kept;  // as a node, or the guest itself, leaves it
    kept.system_metadata = compute::password_pieces(std::string(300, 'x') + "end");
    ASSERT_TRUE(conductor_->instance_save(uuid, kept).ok());
    const std::string path = "/servers/" + uuid + "/os-server-password";
    EXPECT_EQ(json(call("alice", "GET", path)).string_or("password"),
              std::string(300, 'x') + "end");
    EXPECT_EQ(call("bob", "DELETE", path).status, 404);
    EXPECT_EQ(call("alice", "DELETE", path).status, 204);
    EXPECT_EQ(json(call("alice", "GET", path)).string_or("password", "?"), "");

    cn1_.refusal =
        Error::conflict("QEMU guest agent is not enabled").with_fault("QemuGuestAgentNotEnabled");
    EXPECT_EQ(act("alice", uuid, body).status, 409);
    EXPECT_EQ(status(uuid), "ACTIVE");  // the task is over
    cn1_.refusal = Error::unsupported("no").with_fault("NotImplementedError");
    EXPECT_EQ(act("alice", uuid, body).status, 501);
    cn1_.refusal.reset();
    EXPECT_EQ(act("alice", uuid, R"({"pause": null})").status, 202);
    EXPECT_EQ(act("alice", uuid, body).status, 409);
}

TEST_F(ServerLifecycle, AResizeHoldsBothSizesUntilConfirmed) {
    const std::string uuid = create("alice");
    EXPECT_EQ(act("alice", uuid, R"({"resize": {"flavorRef": 43}})").status, 202);
    EXPECT_EQ(status(uuid), "VERIFY_RESIZE");
    EXPECT_EQ(show("alice", uuid, "2.47").find("flavor")->string_or("original_name"), "m1.43");
    EXPECT_EQ(conductor_->instances().claims("cn-1").memory_mb, 128 + 64);
    EXPECT_EQ(conductor_->instances().usage("p1").cores, 2);
    EXPECT_EQ(act("alice", uuid, R"({"confirmResize": null})").status, 204);
    EXPECT_EQ(status(uuid), "ACTIVE");
    EXPECT_EQ(conductor_->instances().claims("cn-1").memory_mb, 128);
    EXPECT_EQ(actions(uuid), (std::vector<std::string>{"confirmResize", "resize", "create"}));
}

TEST_F(ServerLifecycle, AResizeIsRevertedAndSurvivesARestartOfTheControlPlane) {
    const std::string uuid = create("alice");
    EXPECT_EQ(act("alice", uuid, R"({"resize": {"flavorRef": "43"}})").status, 202);
    // What a new process reads from the database.
    auto again =
        compute::Conductor::create({}, {*database_, clock_, random_, images_, networks_}).value();
    const compute::Instance stored = again->instances().find(uuid)->instance;
    EXPECT_EQ(stored.flavor.flavor_id, "43");
    EXPECT_EQ(stored.old_flavor->flavor_id, "42");
    EXPECT_EQ(act("alice", uuid, R"({"revertResize": null})").status, 202);
    EXPECT_EQ(show("alice", uuid, "2.47").find("flavor")->string_or("original_name"), "m1.nano");
    EXPECT_EQ(conductor_->instances().claims("cn-1").memory_mb, 64);
}

TEST_F(ServerLifecycle, MigrationsAreListed) {
    const std::string uuid = create("alice");
    act("alice", uuid, R"({"resize": {"flavorRef": "43"}})");
    EXPECT_EQ(call("alice", "GET", "/os-migrations").status, 403);
    const Json old = json(call("admin", "GET", "/os-migrations"));
    const Json first = old.find("migrations")->as_array().at(0);
    EXPECT_EQ(first.string_or("status"), "pre-migrating");
    EXPECT_EQ(first.string_or("source_compute"), "cn-1");
    EXPECT_EQ(first.string_or("dest_host"), "127.0.0.1");
    EXPECT_EQ(first.string_or("instance_uuid"), uuid);
    EXPECT_NE(first.integer_or("old_instance_type_id"), first.integer_or("new_instance_type_id"));
    EXPECT_FALSE(first.contains("uuid"));
    act("alice", uuid, R"({"confirmResize": null})");
    act("admin", uuid, R"({"migrate": null})");
    const Json page = json(call("admin", "GET", "/os-migrations?limit=1", {}, "2.80"));
    const Json newest = page.find("migrations")->as_array().at(0);
    EXPECT_EQ(newest.string_or("migration_type"), "migration");
    EXPECT_EQ(newest.string_or("user_id"), "admin");
    ASSERT_TRUE(page.contains("migrations_links"));
    const Json next =
        json(call("admin", "GET", "/os-migrations?marker=" + newest.string_or("uuid"), {}, "2.80"));
    EXPECT_EQ(next.find("migrations")->size(), 1u);
    EXPECT_EQ(next.find("migrations")->as_array().at(0).string_or("status"), "confirming");
    EXPECT_EQ(json(call("admin", "GET", "/os-migrations?status=error")).find("migrations")->size(),
              0u);
    EXPECT_EQ(call("admin", "GET", "/os-migrations?marker=nope", {}, "2.59").status, 400);
}

TEST_F(ServerLifecycle, AShelvedServerComesBackWhereItIsSent) {
    const std::string uuid = create("alice");
    EXPECT_EQ(act("alice", uuid, R"({"shelve": null})").status, 202);
    EXPECT_EQ(status(uuid), "SHELVED");
    EXPECT_EQ(images_.images.size(), 3u);
    const Reply early =
        act("alice", uuid, R"({"unshelve": {"availability_zone": "nova"}})", "2.77");
    EXPECT_EQ(early.status, 409);
    EXPECT_THAT(message(early), HasSubstr("The server status must be SHELVED_OFFLOADED"));
    EXPECT_EQ(act("admin", uuid, R"({"shelveOffload": null})").status, 202);
    EXPECT_EQ(status(uuid), "SHELVED_OFFLOADED");
    EXPECT_EQ(conductor_->instances().claims("cn-1").servers, 0);
    const Refusal refusals[] = {
        {"alice", R"({"unshelve": {"availability_zone": "mars"}})", "2.77", 400,
         "The requested availability zone is not available"},
        {"alice", R"({"unshelve": {}})", "2.77", 400, "'availability_zone' is a required property"},
        {"alice", R"({"unshelve": {}})", "2.91", 400, "does not have enough properties"},
        {"alice", R"({"unshelve": {"host": "cn-1"}})", "2.91", 403, "unshelve_to_host"},
        {"admin", R"({"unshelve": {"host": "mars"}})", "2.91", 400, "Compute host mars"},
        {"alice", R"({"unshelve": {"availability_zone": "nova", "host": "cn-1"}})", "2.90", 400,
         "('host' was unexpected)"},
    };
    for (const Refusal& refusal : refusals) {
        const Reply reply = act(refusal.token, uuid, refusal.body, refusal.version);
        EXPECT_EQ(reply.status, refusal.status) << refusal.body << " -> " << reply.body;
        EXPECT_THAT(message(reply), HasSubstr(refusal.message)) << refusal.body;
    }
    EXPECT_EQ(act("admin", uuid, R"({"unshelve": {"host": "cn-1"}})", "2.91").status, 202);
    EXPECT_EQ(status(uuid), "ACTIVE");
    EXPECT_EQ(conductor_->instances().claims("cn-1").servers, 1);
}

TEST_F(ServerLifecycle, DeletingAShelvedServerRemovesItsDisk) {
    const std::string uuid = create("alice");
    act("alice", uuid, R"({"shelve": null})");
    act("admin", uuid, R"({"shelveOffload": null})");
    EXPECT_EQ(images_.images.size(), 3u);
    EXPECT_EQ(call("alice", "DELETE", "/servers/" + uuid).status, 204);
    EXPECT_EQ(images_.images.size(), 2u);
    EXPECT_EQ(conductor_->instances().find(uuid), nullptr);
}

TEST_F(ServerLifecycle, RescueTellsThePassword) {
    const std::string uuid = create("alice");
    const Reply reply = act("alice", uuid, R"({"rescue": {"adminPass": "pw"}})");
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(json(reply).string_or("adminPass"), "pw");
    EXPECT_EQ(status(uuid), "RESCUE");
    EXPECT_EQ(act("alice", uuid, R"({"unrescue": null})").status, 202);
    const Reply made_up = act("alice", uuid, R"({"rescue": null})");
    EXPECT_EQ(json(made_up).string_or("adminPass").size(), 12u);
}

TEST_F(ServerLifecycle, StatusFollowsTheTask) {
    struct {
        const char* vm_state;
        const char* task_state;
        const char* status;
    } const rows[] = {
        {"active", "resize_prep", "RESIZE"},
        {"stopped", "resize_migrating", "RESIZE"},
        {"active", "rebuild_spawning", "REBUILD"},
        {"error", "rebuilding", "REBUILD"},
        {"stopped", "rebuilding", "REBUILD"},
        {"resized", "resize_reverting", "REVERT_RESIZE"},
        {"resized", "deleting", "VERIFY_RESIZE"},
        {"active", "image_uploading", "ACTIVE"},
        {"shelved_offloaded", "spawning", "SHELVED_OFFLOADED"},
    };
    const std::string uuid = create("alice");
    for (const auto& row : rows) {
        ASSERT_TRUE(conductor_
                        ->change_server({}, uuid,
                                        [&](compute::Instance& instance) -> Result<void> {
                                            instance.vm_state = row.vm_state;
                                            instance.task_state = row.task_state;
                                            return {};
                                        })
                        .ok());
        EXPECT_EQ(status(uuid), row.status) << row.vm_state << " " << row.task_state;
    }
}

class Deadlines : public ServerLifecycle {
protected:
    Deadlines() {
        compute::ConductorOptions options;
        options.resize_confirm_window_s = 100;
        options.rescue_timeout_s = 200;
        options.reclaim_instance_interval_s = 300;
        conductor_ =
            compute::Conductor::create(options, {*database_, clock_, random_, images_, networks_})
                .value();
        cn1_.conductor = conductor_.get();
        add_node(cn1_, "cn-1");
        services_ = std::make_unique<ComputeServices>(ComputeServices{
            *conductor_, clock_, random_, tokens_, "http://127.0.0.1:5000", 1000, "http://images"});
        router_ = std::make_unique<Router>(make_compute_router(*services_));
    }
    void pass(int64_t seconds) {
        clock_.advance(seconds * kNanosPerSecond);
        EXPECT_TRUE(conductor_->service_heartbeat("cn-1").ok());
        EXPECT_TRUE(conductor_->poll_servers("cn-1").ok());
    }
};

TEST_F(Deadlines, ADeletedServerCanBeRestoredForAWhile) {
    const std::string uuid = create("alice");
    EXPECT_EQ(call("alice", "DELETE", "/servers/" + uuid).status, 204);
    EXPECT_EQ(status(uuid), "SOFT_DELETED");
    EXPECT_EQ(conductor_->instances().usage("p1").instances, 0);
    EXPECT_EQ(json(call("alice", "GET", "/servers")).find("servers")->size(), 0u);
    EXPECT_EQ(json(call("alice", "GET", "/servers?status=SOFT_DELETED")).find("servers")->size(),
              1u);
    pass(250);
    EXPECT_EQ(act("alice", uuid, R"({"restore": null})").status, 202);
    EXPECT_EQ(status(uuid), "ACTIVE");
    pass(400);
    EXPECT_EQ(status(uuid), "ACTIVE");
    call("alice", "DELETE", "/servers/" + uuid);
    pass(299);
    EXPECT_EQ(status(uuid), "SOFT_DELETED");
    pass(2);
    EXPECT_EQ(call("alice", "GET", "/servers/" + uuid).status, 404);
}

TEST_F(Deadlines, ForceDeleteDoesNotWait) {
    const std::string uuid = create("alice");
    call("alice", "DELETE", "/servers/" + uuid);
    EXPECT_EQ(act("alice", uuid, R"({"forceDelete": null})").status, 202);
    EXPECT_EQ(call("alice", "GET", "/servers/" + uuid).status, 404);
}

TEST_F(Deadlines, RestoringAsksForQuotaAgain) {
    const std::string uuid = create("alice");
    call("alice", "DELETE", "/servers/" + uuid);
    ASSERT_TRUE(conductor_->quotas().set("p1", {{"instances", 0}}).ok());
    const Reply reply = act("alice", uuid, R"({"restore": null})");
    EXPECT_EQ(reply.status, 403);
    EXPECT_THAT(message(reply), HasSubstr("Quota exceeded for instances"));
}

TEST_F(Deadlines, ResizesAreConfirmedAndRescuesEnded) {
    const std::string resized = create("alice", "a");
    const std::string rescued = create("alice", "b");
    act("alice", resized, R"({"resize": {"flavorRef": "43"}})");
    act("alice", rescued, R"({"rescue": null})");
    clock_.advance(0);
    pass(50);
    EXPECT_EQ(status(resized), "VERIFY_RESIZE");
    EXPECT_EQ(status(rescued), "RESCUE");
    pass(60);
    EXPECT_EQ(status(resized), "ACTIVE");
    EXPECT_EQ(status(rescued), "RESCUE");
    pass(100);
    EXPECT_EQ(status(rescued), "ACTIVE");
}

}  // namespace
}  // namespace kumoi::api
