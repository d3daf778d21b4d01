#include <gmock/gmock.h>

#include <set>

#include "tests/support/compute_rest_fixture.h"

namespace kumoi::api {
namespace {

using testing::HasSubstr;

class Servers : public ComputeRest {};

TEST_F(Servers, NeedAToken) {
    const Reply reply = call("", "GET", "/servers");
    EXPECT_EQ(reply.status, 401);
    EXPECT_THAT(reply.headers.first_or("WWW-Authenticate"), HasSubstr("Keystone uri="));
    EXPECT_EQ(call("stolen", "GET", "/servers").status, 401);
}

struct BadCreate {
    std::string body;
    std::string version;
    int status;
    std::string message;
};

TEST_F(Servers, RefuseBadCreatesInNovasWords) {
    const std::string image = kTestImage;
    const auto server = [&](const std::string& extra) {
        return R"({"server": {"name": "x", "flavorRef": "42", "imageRef": ")" + image + "\"" +
               extra + "}}";
    };
    const BadCreate cases[] = {
        {"{", "2.1", 400, "Malformed request body"},
        {"[]", "2.1", 400, "Malformed request body"},
        {"{}", "2.1", 400, "'server' is a required property"},
        {R"({"server": {}, "x": 1})", "2.1", 400, "'x' was unexpected"},
        {R"({"server": 5})", "2.1", 400, "5 is not of type 'object'"},
        {R"({"server": {"flavorRef": "42"}})", "2.1", 400, "'name' is a required property"},
        {R"({"server": {"name": 7}})", "2.1", 400,
         "Invalid input for field/attribute name. Value: 7. 7 is not of type 'string'"},
        {R"({"server": {"name": ""}})", "2.1", 400, "is too short"},
        {R"({"server": {"name": " a"}})", "2.1", 400, "no space at either end"},
        {server(R"(, "colour": "red")"), "2.1", 400, "('colour' was unexpected)"},
        {server(R"(, "description": "d")"), "2.18", 400, "('description' was unexpected)"},
        {server(R"(, "networks": "none")"), "2.36", 400, "networks"},
        {server(""), "2.37", 400, "'networks' is a required property"},
        {server(R"(, "networks": "some")"), "2.37", 400, "networks"},
        {server(R"(, "networks": [{"uuid": "nope"}])"), "2.1", 400, "'nope' is not a 'uuid'"},
        {server(R"(, "networks": [{}])"), "2.1", 400, "missing 'uuid'"},
        {server(R"(, "user_data": "***")"), "2.1", 400, "base64"},
        {server(R"(, "min_count": 3, "max_count": 2)"), "2.1", 400,
         "min_count must be <= max_count"},
        {server(R"(, "min_count": 0)"), "2.1", 400, "0 is less than the minimum of 1"},
        {server(R"(, "metadata": {"a/b": "c"})"), "2.1", 400, "does not match any of the regexes"},
        {server(R"(, "metadata": {"a": 5})"), "2.1", 400, "5 is not of type 'string'"},
        {server(R"(, "networks": "none", "tags": ["a,b"])"), "2.52", 400, "tags"},
        {server(R"(, "networks": "none", "personality": [])"), "2.57", 400,
         "('personality' was unexpected)"},
        {server(R"(, "accessIPv4": "::1")"), "2.1", 400, "is not a 'ipv4'"},
        {server(R"(, "availability_zone": "nova:cn-1")"), "2.1", 403,
         "Policy doesn't allow os_compute_api:servers:create:forced_host to be performed."},
        {server(R"(, "availability_zone": "mars")"), "2.1", 400,
         "The requested availability zone is not available"},
        {server(R"(, "key_name": "lost")"), "2.1", 400, "Invalid key_name provided."},
        {R"({"server": {"name": "x", "flavorRef": "9", "imageRef": ")" + image + "\"}}", "2.1", 400,
         "Flavor 9 could not be found."},
        {R"({"server": {"name": "x", "flavorRef": "42", "imageRef": "5"}})", "2.1", 400,
         "'5' is not a 'uuid'"},
        {R"({"server": {"name": "x", "flavorRef": "42"}})", "2.1", 400,
         "Invalid imageRef provided."},
    };
    for (const BadCreate& bad : cases) {
        const Reply reply = call("alice", "POST", "/servers", bad.body, bad.version);
        EXPECT_EQ(reply.status, bad.status) << bad.body << " -> " << reply.body;
        EXPECT_THAT(message(reply), HasSubstr(bad.message)) << bad.body;
    }
    EXPECT_TRUE(conductor_->instances().all().empty());
}

TEST_F(Servers, CreateAnswersLikeNova) {
    const Reply reply = call("alice", "POST", "/servers", create_body("s-net"));
    ASSERT_EQ(reply.status, 202) << reply.body;
    const Json server = *json(reply).find("server");
    const std::string id = server.string_or("id");
    const std::string self = "http://127.0.0.1:8774/v2.1/servers/" + id;
    EXPECT_EQ(reply.headers.first_or("Location"), self);
    EXPECT_EQ(server.find("links")->dump(),
              R"([{"rel":"self","href":")" + self +
                  R"("},{"rel":"bookmark","href":"http://127.0.0.1:8774/servers/)" + id + "\"}]");
    EXPECT_EQ(server.string_or("OS-DCF:diskConfig"), "MANUAL");
    EXPECT_EQ(server.find("security_groups")->dump(), R"([{"name":"default"}])");
    EXPECT_EQ(server.string_or("adminPass").size(), 12u);
    EXPECT_EQ(server.size(), 5u);
    EXPECT_TRUE(networks_.automatic);
    EXPECT_EQ(show("alice", id, "2.1").string_or("status"), "ACTIVE");
}

TEST_F(Servers, CreateHandsEverythingToTheNode) {
    const Reply reply =
        call("alice", "POST", "/servers",
             create_body("full", R"(, "networks": [{"uuid": "23ccefce-ba10-4ab8-9367-abd32b4fc0af",
            "fixed_ip": "10.0.0.9"}], "user_data": "IyEvYmluL3No", "metadata": {"a": "b"},
            "tags": ["t2", "t1"], "description": "d", "config_drive": "True",
            "adminPass": "secret", "hostname": "other")"),
             "2.90");
    ASSERT_EQ(reply.status, 202) << reply.body;
    ASSERT_EQ(cn1_.builds.size(), 1u);
    const compute::BuildRequest& build = cn1_.builds[0];
    EXPECT_EQ(build.requested_networks[0].network_id, kTestNetwork);
    EXPECT_EQ(build.requested_networks[0].fixed_ip, "10.0.0.9");
    EXPECT_EQ(build.instance.user_data, "IyEvYmluL3No");
    EXPECT_EQ(build.instance.admin_password, "secret");
    EXPECT_EQ(build.instance.hostname, "other");
    EXPECT_EQ(build.instance.tags, (std::vector<std::string>{"t1", "t2"}));
    EXPECT_TRUE(build.instance.config_drive);
    EXPECT_EQ(build.context.request_id, "req-1");
}

TEST_F(Servers, ShowFollowsTheMicroversion) {
    const std::string id = create("alice");
    const std::set<std::string> base = {"id",
                                        "name",
                                        "status",
                                        "tenant_id",
                                        "user_id",
                                        "metadata",
                                        "hostId",
                                        "image",
                                        "flavor",
                                        "created",
                                        "updated",
                                        "addresses",
                                        "accessIPv4",
                                        "accessIPv6",
                                        "links",
                                        "progress",
                                        "OS-DCF:diskConfig",
                                        "OS-EXT-AZ:availability_zone",
                                        "config_drive",
                                        "key_name",
                                        "OS-SRV-USG:launched_at",
                                        "OS-SRV-USG:terminated_at",
                                        "security_groups",
                                        "OS-EXT-STS:task_state",
                                        "OS-EXT-STS:vm_state",
                                        "OS-EXT-STS:power_state",
                                        "os-extended-volumes:volumes_attached"};
    const auto keys = [&](const std::string& token, const std::string& version) {
        std::set<std::string> result;
        const Json server = show(token, id, version);
        for (const auto& [key, value] : server.as_object()) {
            result.insert(key);
        }
        return result;
    };
    EXPECT_EQ(keys("alice", "2.1"), base);
    const std::pair<const char*, const char*> added[] = {{"2.9", "locked"},
                                                         {"2.19", "description"},
                                                         {"2.26", "tags"},
                                                         {"2.63", "trusted_image_certificates"},
                                                         {"2.71", "server_groups"},
                                                         {"2.73", "locked_reason"},
                                                         {"2.90", "OS-EXT-SRV-ATTR:hostname"},
                                                         {"2.96", "pinned_availability_zone"}};
    std::set<std::string> expected = base;
    for (const auto& [version, key] : added) {
        expected.insert(key);
        EXPECT_EQ(keys("alice", version), expected) << version;
    }
    EXPECT_TRUE(keys("admin", "2.1").contains("OS-EXT-SRV-ATTR:instance_name"));
    EXPECT_FALSE(keys("admin", "2.2").contains("OS-EXT-SRV-ATTR:launch_index"));
    EXPECT_TRUE(keys("admin", "2.3").contains("OS-EXT-SRV-ATTR:launch_index"));
    EXPECT_TRUE(keys("admin", "2.16").contains("host_status"));
    EXPECT_FALSE(keys("alice", "2.16").contains("host_status"));
}

TEST_F(Servers, ShowHasNovasValues) {
    const std::string id = create("alice");
    const Json server = show("admin", id, "2.96");
    EXPECT_EQ(server.find("flavor")->dump(),
              R"({"vcpus":1,"ram":64,"disk":1,"ephemeral":0,"swap":0,"original_name":"m1.nano",)"
              R"("extra_specs":{}})");
    EXPECT_EQ(server.find("addresses")->dump(),
              R"({"private":[{"version":4,"addr":"10.0.0.5","OS-EXT-IPS:type":"fixed",)"
              R"("OS-EXT-IPS-MAC:mac_addr":"fa:16:3e:00:00:01"}]})");
    EXPECT_EQ(server.string_or("OS-EXT-SRV-ATTR:instance_name"), "instance-00000001");
    EXPECT_EQ(server.string_or("host_status"), "UP");
    EXPECT_EQ(server.string_or("created"), "2026-11-23T09:38:39Z");
    EXPECT_EQ(server.string_or("OS-SRV-USG:launched_at"), "2027-01-15T08:00:00.000000");
    EXPECT_EQ(server.string_or("hostId").size(), 56u);
    EXPECT_EQ(show("alice", id, "2.46").find("flavor")->string_or("id"), "42");
}

TEST_F(Servers, AnotherProjectsServerIsNotThere) {
    const std::string id = create("alice");
    EXPECT_EQ(call("bob", "GET", "/servers/" + id).status, 404);
    EXPECT_EQ(call("bob", "DELETE", "/servers/" + id).status, 404);
    EXPECT_EQ(json(call("bob", "GET", "/servers")).find("servers")->size(), 0u);
    EXPECT_EQ(call("admin", "GET", "/servers/" + id).status, 200);
    EXPECT_EQ(call("alice", "GET", "/servers/no-uuid").status, 404);
    EXPECT_EQ(message(call("alice", "GET", "/servers/no-uuid")),
              "Instance no-uuid could not be found.");
}

TEST_F(Servers, ReadersReadAndDoNothingElse) {
    const std::string id = create("alice");
    EXPECT_EQ(call("rita", "GET", "/servers/" + id).status, 200);
    const Reply create_reply = call("rita", "POST", "/servers", create_body("x"));
    EXPECT_EQ(create_reply.status, 403);
    EXPECT_THAT(message(create_reply),
                HasSubstr("Policy doesn't allow os_compute_api:servers:create to be performed."));
    const Reply stop = call("rita", "POST", "/servers/" + id + "/action", R"({"os-stop": null})");
    EXPECT_EQ(stop.status, 403);
    EXPECT_THAT(message(stop),
                HasSubstr("Policy doesn't allow os_compute_api:servers:stop to be performed."));
    EXPECT_EQ(call("rita", "DELETE", "/servers/" + id).status, 403);
}

TEST_F(Servers, ActionsGoThroughTheTable) {
    const std::string id = create("alice");
    const std::string path = "/servers/" + id + "/action";
    const auto act = [&](const std::string& body, const std::string& version = "2.1") {
        return call("alice", "POST", path, body, version);
    };
    EXPECT_EQ(act(R"({"os-start": null})").status, 409);
    EXPECT_EQ(message(act(R"({"os-start": null})")).substr(0, 62 + 24),
              "Cannot 'start' instance " + id + " while it is in vm_state a");
    EXPECT_EQ(act(R"({"os-stop": null})").status, 202);
    EXPECT_EQ(show("alice", id, "2.1").string_or("status"), "SHUTOFF");
    EXPECT_EQ(act(R"({"os-start": null})").status, 202);
    EXPECT_EQ(act(R"({"reboot": {"type": "SOFT"}})").status, 202);
    EXPECT_EQ(act(R"({"reboot": {"type": "soon"}})").status, 400);
    EXPECT_EQ(act(R"({"reboot": null})").status, 400);
    EXPECT_EQ(act(R"({"pause": null})").status, 202);
    EXPECT_EQ(show("alice", id, "2.1").string_or("status"), "PAUSED");
    EXPECT_EQ(act(R"({"unpause": null})").status, 202);
    EXPECT_EQ(act(R"({"lock": {"locked_reason": "mine"}})", "2.73").status, 202);
    EXPECT_EQ(show("alice", id, "2.73").string_or("locked_reason"), "mine");
    EXPECT_EQ(act(R"({"os-stop": null})").status, 409);
    EXPECT_EQ(act(R"({"unlock": null})").status, 202);
    const Reply console = act(R"({"os-getConsoleOutput": {"length": 1}})");
    EXPECT_EQ(console.status, 200);
    EXPECT_EQ(json(console).string_or("output"), "line 3\n");
    EXPECT_EQ(act(R"({"os-resetState": {"state": "error"}})").status, 403);
    EXPECT_EQ(act(R"({"dance": null})").status, 400);
    EXPECT_EQ(act(R"({"os-stop": null, "os-start": null})").status, 400);
    EXPECT_EQ(act("{}").status, 400);
    EXPECT_EQ(act(R"({"os-getVNCConsole": {"type": "novnc"}})", "2.6").status, 404);
}

TEST_F(Servers, UpdateChangesWhatItMay) {
    const std::string id = create("alice");
    const Reply reply = call("alice", "PUT", "/servers/" + id,
                             R"({"server": {"name": "new", "description": null,
                                 "accessIPv4": "10.1.1.1"}})",
                             "2.19");
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_EQ(json(reply).find("server")->string_or("name"), "new");
    EXPECT_EQ(json(reply).find("server")->string_or("accessIPv4"), "10.1.1.1");
    EXPECT_FALSE(json(reply).find("server")->contains("OS-EXT-STS:vm_state"));
    EXPECT_EQ(call("alice", "PUT", "/servers/" + id, R"({"server": {"flavorRef": "1"}})").status,
              400);
    EXPECT_EQ(call("alice", "PUT", "/servers/" + id, R"({"server": {"description": "x"}})").status,
              400);
}

TEST_F(Servers, DeleteIsGone) {
    const std::string id = create("alice");
    const Reply reply = call("alice", "DELETE", "/servers/" + id);
    EXPECT_EQ(reply.status, 204);
    EXPECT_TRUE(reply.body.empty());
    EXPECT_EQ(call("alice", "GET", "/servers/" + id).status, 404);
    EXPECT_EQ(call("alice", "DELETE", "/servers/" + id).status, 404);
}

TEST_F(Servers, ListsPageByMarkerNewestFirst) {
    std::vector<std::string> ids;
    for (const char* name : {"a", "b", "c"}) {
        ids.insert(ids.begin(), create("alice", name));
        clock_.advance(kNanosPerSecond);
    }
    const Json first = json(call("alice", "GET", "/servers?limit=2"));
    ASSERT_EQ(first.find("servers")->size(), 2u);
    EXPECT_EQ(first.find("servers")->as_array()[0].string_or("id"), ids[0]);
    EXPECT_EQ(first.find("servers_links")->as_array()[0].string_or("href"),
              "http://127.0.0.1:8774/v2.1/servers?limit=2&marker=" + ids[1]);
    const Json rest = json(call("alice", "GET", "/servers?limit=2&marker=" + ids[1]));
    ASSERT_EQ(rest.find("servers")->size(), 1u);
    EXPECT_EQ(rest.find("servers")->as_array()[0].string_or("id"), ids[2]);
    EXPECT_FALSE(rest.contains("servers_links"));
    EXPECT_EQ(call("alice", "GET", "/servers?limit=-1").status, 400);
    EXPECT_EQ(call("alice", "GET", "/servers?limit=x").status, 400);
    EXPECT_EQ(message(call("alice", "GET", "/servers?marker=x")), "marker [x] not found");
}

TEST_F(Servers, ListsFilterAndSort) {
    const std::string web = create("alice", "web");
    const std::string db = create("alice", "db-1");
    create("bob", "web-of-bob");
    ASSERT_EQ(call("alice", "POST", "/servers/" + db + "/action", R"({"os-stop": null})").status,
              202);
    const auto names = [&](const std::string& token, const std::string& query,
                           const std::string& version = "2.1") {
        const Reply reply = call(token, "GET", "/servers?" + query, {}, version);
        EXPECT_EQ(reply.status, 200) << reply.body;
        std::string text;
        const Json body = json(reply);
        for (const Json& server : body.find("servers")->as_array()) {
            text += server.string_or("name") + " ";
        }
        return text;
    };
    EXPECT_EQ(names("alice", "sort_key=display_name&sort_dir=asc"), "db-1 web ");
    EXPECT_EQ(names("alice", "name=%5Edb"), "db-1 ");
    EXPECT_EQ(names("alice", "status=SHUTOFF"), "db-1 ");
    EXPECT_EQ(names("alice", "status=active"), "web ");
    EXPECT_EQ(names("alice", "status=nonsense"), "");
    EXPECT_EQ(names("alice", "vm_state=stopped"), "db-1 web ");  // not for users before 2.83
    EXPECT_EQ(names("alice", "vm_state=stopped", "2.83"), "db-1 ");
    EXPECT_EQ(names("admin", "all_tenants=1&vm_state=stopped"), "db-1 ");
    EXPECT_EQ(names("admin", "all_tenants=1&host=cn-1&name=bob"), "web-of-bob ");
    EXPECT_EQ(names("admin", "project_id=p2"), "web-of-bob ");
    EXPECT_EQ(names("admin", ""), "");
    EXPECT_EQ(names("alice", "image=nope"), "");
    EXPECT_EQ(names("alice", "flavor=42&ip=10%5C.0"), "db-1 web ");
    EXPECT_EQ(call("alice", "GET", "/servers?all_tenants=1").status, 403);
    EXPECT_EQ(call("alice", "GET", "/servers?name=(").status, 400);
    EXPECT_EQ(call("alice", "GET", "/servers?name=" + std::string(300, 'a')).status, 400);
    EXPECT_EQ(call("alice", "GET", "/servers?status=nonsense", {}, "2.38").status, 400);
    EXPECT_EQ(call("alice", "GET", "/servers?colour=red", {}, "2.74").status, 200);
    EXPECT_EQ(call("alice", "GET", "/servers?colour=red", {}, "2.75").status, 400);
    EXPECT_EQ(call("alice", "GET", "/servers?sort_key=colour").status, 400);
}

TEST_F(Servers, ListsShowWhatWasDeletedSince) {
    const std::string id = create("alice");
    clock_.advance(10 * kNanosPerSecond);
    ASSERT_EQ(call("alice", "DELETE", "/servers/" + id).status, 204);
    const Json since =
        json(call("alice", "GET", "/servers/detail?changes-since=2026-11-23T09:38:40Z"));
    ASSERT_EQ(since.find("servers")->size(), 1u);
    EXPECT_EQ(since.find("servers")->as_array()[0].string_or("status"), "DELETED");
    EXPECT_EQ(json(call("alice", "GET", "/servers/detail")).find("servers")->size(), 0u);
    EXPECT_EQ(
        json(call("admin", "GET", "/servers?all_tenants=1&deleted=True")).find("servers")->size(),
        1u);
    EXPECT_EQ(call("alice", "GET", "/servers?status=deleted").status, 403);
    EXPECT_EQ(call("alice", "GET", "/servers?changes-since=yesterday").status, 400);
}

TEST_F(Servers, KeptTextFollowsTheRecordTheVersionAndTheHost) {
    const std::string id = create("alice");
    const auto status = [&](const std::string& version) {
        return json(call("admin", "GET", "/servers/detail?all_tenants=1", {}, version))
            .find("servers")
            ->as_array()[0];
    };
    EXPECT_EQ(status("2.16").string_or("host_status"), "UP");
    EXPECT_FALSE(status("2.1").contains("host_status"));
    ASSERT_EQ(call("alice", "POST", "/servers/" + id + "/action", R"({"os-stop": null})").status,
              202);
    EXPECT_EQ(status("2.16").string_or("status"), "SHUTOFF");
    clock_.advance(120 * kNanosPerSecond);
    EXPECT_EQ(status("2.16").string_or("host_status"), "UNKNOWN");
}

TEST_F(Servers, MicroversionsAreNegotiated) {
    const Reply old = call("alice", "GET", "/servers", {}, "2.27");
    EXPECT_EQ(old.headers.first_or("OpenStack-API-Version"), "compute 2.27");
    EXPECT_EQ(old.headers.first_or("X-OpenStack-Nova-API-Version"), "2.27");
    EXPECT_EQ(old.headers.count("Vary"), 2u);
    EXPECT_EQ(call("alice", "GET", "/servers", {}, "latest")
                  .headers.first_or("X-OpenStack-Nova-API-Version"),
              "2.96");
    const Reply future = call("alice", "GET", "/servers", {}, "2.97");
    EXPECT_EQ(future.status, 406);
    EXPECT_EQ(json(future).find("computeFault")->string_or("message"),
              "Version 2.97 is not supported by the API. Minimum is 2.1 and maximum is 2.96.");
    EXPECT_EQ(call("alice", "GET", "/servers", {}, "two").status, 400);
    EXPECT_EQ(call("alice", "GET", "/servers", {}, "2.01").status, 400);
    EXPECT_EQ(call("alice", "GET", "/servers", {}, "3.1").status, 406);
}

TEST_F(Servers, TheProjectMayStandInThePath) {
    const std::string id = create("alice");
    EXPECT_EQ(call("alice", "GET", "/p1/servers/" + id).status, 200);
    EXPECT_EQ(call("alice", "GET", "/p1/servers/detail").status, 200);
    const Reply wrong = call("alice", "GET", "/p2/servers");
    EXPECT_EQ(wrong.status, 400);
    EXPECT_THAT(message(wrong), HasSubstr("Malformed request URL"));
}

TEST_F(Servers, VersionDocumentsNeedNoToken) {
    HeaderMap headers;
    headers.add("Host", "127.0.0.1:8774");
    Request root = make_request("GET", "/", {}, headers);
    const Json versions = json(router_->handle(root));
    EXPECT_EQ(versions.find("versions")->as_array()[0].string_or("version"), "2.96");
    const Reply one = call("", "GET", "/");
    EXPECT_EQ(one.status, 200);
    EXPECT_EQ(json(one).find("version")->string_or("min_version"), "2.1");
}

}  // namespace
}  // namespace kumoi::api
