#include "compute/clients/cinder_client.h"

#include <gtest/gtest.h>

#include "tests/support/recorded_cloud.h"
#include "tests/unit/compute/clients/clients_world.h"

namespace kumoi::clients {
namespace {

using test::RecordedCloud;
using test::ScriptServer;
using Reply = ScriptServer::Reply;
using Request = ScriptServer::Request;

constexpr const char* kProject = "db501b6a55fc4471b729c99e758e481c";

struct World : ClientsWorld {
    explicit World(const std::string& url)
        : ClientsWorld("Cinder", url + "/v3/%(project_id)s", "volume") {}
    CinderClient cinder{service, {random, [this](int64_t ns) { waits.push_back(ns); }}};
    Caller caller = caller_of(user_context(kProject));
};

// Every request of ours that has a recorded twin equals it in body and microversion.
void expect_as_recorded(RecordedCloud& cloud, const std::string& method, const std::string& path) {
    const auto asked = cloud.asked(method, path);
    ASSERT_FALSE(asked.empty()) << path;
    const auto& recorded = cloud.recorded(method, path);
    EXPECT_EQ(asked[0].header("openstack-api-version"), recorded.microversion);
    if (!recorded.body.is_string()) {
        EXPECT_EQ(Json::parse(asked[0].body).value(), recorded.body);
    }
}

TEST(ClientsCinder, AnAttachAsksAsNovaDid) {
    RecordedCloud cloud(test::load_recording("attach_volume_cinder.json"));
    World world(cloud.url());
    const std::string base = fmt::format("/v3/{}", kProject);
    const std::string attachment_id = "bce16004-7115-475f-a9bb-4d0ba8598b75";
    const auto volume = world.cinder.volume(world.caller, "8e8e6611-d341-4184-816c-58e53837162b");
    ASSERT_TRUE(volume.ok()) << volume.error().text();
    EXPECT_EQ(volume->size_gb, 1);
    EXPECT_TRUE(volume->shared_targets);
    EXPECT_FALSE(volume->bootable || volume->encrypted || volume->multiattach);
    const Json connector =
        *cloud.recorded("PUT", base + "/attachments").body.find_path({"attachment", "connector"});
    const auto attachment = world.cinder.update_attachment(world.caller, attachment_id, connector);
    ASSERT_TRUE(attachment.ok()) << attachment.error().text();
    // As Nova saved it in the block device mapping (which adds "serial").
    EXPECT_EQ(attachment->connection_info.dump(),
              R"({"driver_volume_type":"iscsi","data":{"target_discovered":false,)"
              R"("target_portal":"127.0.0.1:3260","target_iqn":"iqn.2010-10.org.openstack:)"
              R"(volume-8e8e6611-d341-4184-816c-58e53837162b","target_lun":1,)"
              R"("volume_id":"8e8e6611-d341-4184-816c-58e53837162b","discard":false,)"
              R"("auth_method":"CHAP","auth_username":"u","auth_password":"p",)"
              R"("qos_specs":null,"access_mode":"rw","encrypted":false,"cacheable":false},)"
              R"("status":"reserved","instance":"8dce26e1-cdf8-4364-9bc8-b75203d900bc",)"
              R"("attached_at":"","detached_at":"",)"
              R"("volume_id":"8e8e6611-d341-4184-816c-58e53837162b"})");
    ASSERT_TRUE(world.cinder.complete_attachment(world.caller, attachment_id).ok());
    expect_as_recorded(cloud, "GET", base + "/volumes");
    expect_as_recorded(cloud, "PUT", base + "/attachments");
    expect_as_recorded(cloud, "POST", base + "/attachments");
}

TEST(ClientsCinder, ABootFromVolumeAndADetachAskAsNovaDid) {
    RecordedCloud cloud(test::load_recording("boot_from_volume_cinder.json"));
    World world(cloud.url());
    const std::string base = fmt::format("/v3/{}", kProject);
    const auto made = world.cinder.create_volume(
        world.caller, {.size_gb = 1, .image_id = "340aee23-0f31-4bb7-a985-456e4da837c6"});
    ASSERT_TRUE(made.ok()) << made.error().text();
    EXPECT_EQ(made->status, "creating");
    const auto attachment = world.cinder.create_attachment(
        world.caller, made->id, "bf17a912-ed9e-4a6b-8636-60bba06b4e2a", nullptr);
    ASSERT_TRUE(attachment.ok()) << attachment.error().text();
    EXPECT_EQ(attachment->connection_info.dump(), "{}");
    expect_as_recorded(cloud, "POST", base + "/volumes");
    expect_as_recorded(cloud, "POST", base + "/attachments");

    RecordedCloud detach(test::load_recording("detach_volume_cinder.json"));
    World other(detach.url());
    ASSERT_TRUE(
        other.cinder.delete_attachment(other.caller, "36a50bdf-b267-430b-a2a4-5f5f7efe1b90").ok());
    expect_as_recorded(detach, "DELETE", base + "/attachments");
}

TEST(ClientsCinder, AConnectIsRepeatedFiveTimesOnServerErrors) {
    int count = 0;
    ScriptServer server([&](const Request&) {
        ++count;
        return count < 4 ? Reply{.status = count == 1 ? 500 : 504}
                         : Reply{.body = R"({"attachment":{"id":"a"}})"};
    });
    World world(server.url());
    EXPECT_TRUE(world.cinder.update_attachment(world.caller, "a", Json::object()).ok());
    EXPECT_EQ(world.waits.size(), 3u);
    ScriptServer broken([](const Request&) { return Reply{.status = 500}; });
    World other(broken.url());
    EXPECT_FALSE(other.cinder.update_attachment(other.caller, "a", Json::object()).ok());
    EXPECT_EQ(broken.requests().size(), 5u);
    EXPECT_FALSE(other.cinder.delete_attachment(other.caller, "a").ok());
    EXPECT_EQ(broken.requests().size(), 6u);  // a 500 is not repeated there
}

TEST(ClientsCinder, AnOlderCinderIsAskedWithoutMicroversion) {
    ScriptServer server([](const Request& request) {
        return request.header("openstack-api-version").empty()
                   ? Reply{.body = R"({"volume":{"id":"v","status":"in-use","size":3}})"}
                   : Reply{.status = 406};
    });
    World world(server.url());
    EXPECT_EQ(world.cinder.volume(world.caller, "v").value().size_gb, 3);
}

TEST(ClientsCinder, RefusalsBecomeNovasExceptions) {
    for (const auto& [status, volume_fault, attachment_fault] :
         {std::tuple{404, "VolumeNotFound", "VolumeAttachmentNotFound"},
          {400, "InvalidInput", "InvalidInput"},
          {403, "Forbidden", "Forbidden"},
          {413, "OverQuota", "OverQuota"}}) {
        ScriptServer server([status = status](const Request&) { return Reply{.status = status}; });
        World world(server.url());
        EXPECT_EQ(world.cinder.volume(world.caller, "v").error().fault, volume_fault);
        EXPECT_EQ(world.cinder.attachment(world.caller, "a").error().fault, attachment_fault);
    }
    ScriptServer gone([](const Request&) { return Reply{.status = 404}; });
    World world(gone.url());
    EXPECT_TRUE(world.cinder.delete_attachment(world.caller, "a").ok());
    EXPECT_TRUE(world.cinder.delete_volume(world.caller, "v").ok());
}

TEST(ClientsCinder, ActionsHaveTheirBodies) {
    ScriptServer server(
        [](const Request&) { return Reply{.status = 202, .body = R"({"save_volume_id":"old"})"}; });
    World world(server.url());
    const auto body = [&] { return server.requests().back().body; };
    ASSERT_TRUE(world.cinder.roll_detaching(world.caller, "v").ok());
    EXPECT_EQ(body(), R"({"os-roll_detaching":{}})");
    ASSERT_TRUE(world.cinder.begin_detaching(world.caller, "v").ok());
    EXPECT_EQ(body(), R"({"os-begin_detaching":{}})");
    ASSERT_TRUE(world.cinder.reserve(world.caller, "v").ok());
    ASSERT_TRUE(world.cinder.unreserve(world.caller, "v").ok());
    EXPECT_EQ(body(), R"({"os-unreserve":{}})");
    EXPECT_EQ(world.cinder.complete_migration(world.caller, "v", "n", false).value(), "old");
    EXPECT_EQ(body(), R"({"os-migrate_volume_completion":{"new_volume":"n","error":false}})");
    ASSERT_TRUE(world.cinder.reimage(world.caller, "v", "i", true).ok());
    EXPECT_EQ(server.requests().back().header("openstack-api-version"), "volume 3.68");
    ASSERT_TRUE(world.cinder.update_snapshot_status(world.caller, "s", "creating").ok());
    EXPECT_EQ(server.requests().back().target, fmt::format("/v3/{}/snapshots/s/action", kProject));
}

TEST(ClientsCinder, EncryptionAndListsAreRead) {
    ScriptServer server([](const Request& request) {
        if (request.target.find("/encryption") != std::string::npos) {
            return Reply{.body = request.target.find("/plain/") != std::string::npos
                                     ? "{}"
                                     : R"({"encryption_key_id":"k","provider":"luks"})"};
        }
        return Reply{.body = R"({"attachments":[{"id":"a","volume_id":"v","instance":"i",)"
                             R"("status":"attached"}]})"};
    });
    World world(server.url());
    EXPECT_EQ(world.cinder.encryption(world.caller, "v").value().string_or("provider"), "luks");
    EXPECT_EQ(world.cinder.encryption(world.caller, "plain").value().size(), 0u);
    const auto list = world.cinder.attachments(world.caller, "i", "v").value();
    ASSERT_EQ(list.size(), 1u);
    EXPECT_EQ(list[0].volume_id, "v");
    EXPECT_EQ(server.requests().back().target,
              fmt::format("/v3/{}/attachments/detail?instance_id=i&volume_id=v", kProject));
    // In our own name it is another project than the server's.
    ASSERT_TRUE(world.cinder.attachments(world.caller.as_service(), "i").ok());
    EXPECT_EQ(server.requests().back().target,
              fmt::format("/v3/{}/attachments/detail?instance_id=i&all_tenants=1", kProject));
}

}  // namespace
}  // namespace kumoi::clients
