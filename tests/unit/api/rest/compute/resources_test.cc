// Every resource but servers: flavors, key pairs, zones, hypervisors, services, limits, quotas,
// task log, metadata, tags, addresses, groups, aggregates.
#include <gmock/gmock.h>

#include "compute/ssh_key.h"
#include "tests/support/compute_rest_fixture.h"

namespace kumoi::api {
namespace {

using testing::HasSubstr;

constexpr char kEd25519[] =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me";

class Resources : public ComputeRest {
protected:
    // The one object behind `key` of a good answer.
    Json get(const std::string& token, const std::string& target, const std::string& key,
             const std::string& version = "2.1") {
        const Reply reply = call(token, "GET", target, {}, version);
        EXPECT_EQ(reply.status, 200) << target << " " << reply.body;
        const Json body = json(reply);
        EXPECT_TRUE(body.contains(key)) << reply.body;
        return body.contains(key) ? *body.find(key) : Json();
    }
};

TEST_F(Resources, FlavorsAreMadeByAdministratorsOnly) {
    const std::string body =
        R"({"flavor": {"name": "m1.big", "ram": 2048, "vcpus": 2, "disk": 10, "id": "7"}})";
    EXPECT_EQ(call("alice", "POST", "/flavors", body).status, 403);
    const Reply made = call("admin", "POST", "/flavors", body);
    ASSERT_EQ(made.status, 200) << made.body;
    EXPECT_EQ(json(made).find("flavor")->dump(),
              R"({"id":"7","name":"m1.big","ram":2048,"disk":10,"swap":"",)"
              R"("OS-FLV-EXT-DATA:ephemeral":0,"OS-FLV-DISABLED:disabled":false,"vcpus":2,)"
              R"("os-flavor-access:is_public":true,"rxtx_factor":1.0,"links":[{"rel":"self",)"
              R"("href":"http://127.0.0.1:8774/v2.1/flavors/7"},{"rel":"bookmark",)"
              R"("href":"http://127.0.0.1:8774/flavors/7"}]})");
    EXPECT_EQ(call("admin", "POST", "/flavors", body).status, 409);
    EXPECT_EQ(call("admin", "POST", "/flavors",
                   R"({"flavor": {"name": "x", "ram": 0, "vcpus": 1, "disk": 1}})")
                  .status,
              400);
    EXPECT_EQ(call("admin", "DELETE", "/flavors/7").status, 202);
    EXPECT_EQ(call("admin", "DELETE", "/flavors/7").status, 404);
}

TEST_F(Resources, FlavorListsFilterPageAndFollowTheVersion) {
    EXPECT_EQ(get("alice", "/flavors", "flavors").size(), 1u);
    EXPECT_EQ(get("alice", "/flavors?minRam=65", "flavors").size(), 0u);
    EXPECT_EQ(call("alice", "GET", "/flavors?minRam=x").status, 400);
    const Json detail = get("alice", "/flavors/detail", "flavors", "2.61").as_array()[0];
    EXPECT_TRUE(detail.contains("extra_specs"));
    EXPECT_TRUE(detail.contains("description"));
    EXPECT_EQ(get("alice", "/flavors/42", "flavor", "2.75").find("swap")->dump(), "0");
    EXPECT_TRUE(json(call("alice", "GET", "/flavors?limit=1")).contains("flavors_links"));
    EXPECT_EQ(call("alice", "GET", "/flavors?marker=9").status, 400);
    EXPECT_EQ(call("alice", "GET", "/flavors/9").status, 404);
}

TEST_F(Resources, PrivateFlavorsAreSeenByThoseWithAccess) {
    ASSERT_EQ(call("admin", "POST", "/flavors",
                   R"({"flavor": {"name": "p", "ram": 64, "vcpus": 1, "disk": 1, "id": "p",
                       "os-flavor-access:is_public": false}})")
                  .status,
              200);
    EXPECT_EQ(call("alice", "GET", "/flavors/p").status, 404);
    EXPECT_EQ(call("alice", "POST", "/servers",
                   R"({"server": {"name": "x", "flavorRef": "p", "imageRef": ")" +
                       std::string(kTestImage) + "\"}}")
                  .status,
              400);
    EXPECT_EQ(call("admin", "POST", "/flavors/p/action", R"({"addTenantAccess": {"tenant": "p1"}})")
                  .status,
              200);
    EXPECT_EQ(call("alice", "GET", "/flavors/p").status, 200);
    EXPECT_EQ(get("admin", "/flavors/p/os-flavor-access", "flavor_access").size(), 2u);
    EXPECT_EQ(
        call("admin", "POST", "/flavors/p/action", R"({"removeTenantAccess": {"tenant": "p1"}})")
            .status,
        200);
    EXPECT_EQ(call("alice", "GET", "/flavors/p").status, 404);
    EXPECT_EQ(call("admin", "GET", "/flavors/42/os-flavor-access").status, 404);
}

TEST_F(Resources, ExtraSpecsLiveTheirLife) {
    EXPECT_EQ(call("alice", "POST", "/flavors/42/os-extra_specs",
                   R"({"extra_specs": {"hw:cpu_policy": "shared"}})")
                  .status,
              403);
    EXPECT_EQ(call("admin", "POST", "/flavors/42/os-extra_specs",
                   R"({"extra_specs": {"hw:cpu_policy": "shared", "n": 5}})")
                  .status,
              200);
    EXPECT_EQ(get("alice", "/flavors/42/os-extra_specs", "extra_specs").dump(),
              R"({"hw:cpu_policy":"shared","n":"5"})");
    EXPECT_EQ(call("admin", "PUT", "/flavors/42/os-extra_specs/n", R"({"n": "6"})").status, 200);
    EXPECT_EQ(call("admin", "PUT", "/flavors/42/os-extra_specs/n", R"({"m": "6"})").status, 400);
    EXPECT_EQ(call("admin", "DELETE", "/flavors/42/os-extra_specs/n").status, 200);
    EXPECT_EQ(call("admin", "DELETE", "/flavors/42/os-extra_specs/n").status, 404);
}

TEST_F(Resources, KeyPairsAreImportedWithNovasFingerprint) {
    const std::string body =
        fmt::format(R"({{"keypair": {{"name": "k", "public_key": "{}"}}}})", kEd25519);
    const Reply made = call("alice", "POST", "/os-keypairs", body);
    ASSERT_EQ(made.status, 200) << made.body;
    const Json keypair = *json(made).find("keypair");
    EXPECT_EQ(keypair.string_or("fingerprint").size(), 47u);
    EXPECT_FALSE(keypair.contains("type"));
    EXPECT_FALSE(keypair.contains("private_key"));
    EXPECT_EQ(call("alice", "POST", "/os-keypairs", body, "2.2").status, 409);
    EXPECT_EQ(get("alice", "/os-keypairs", "keypairs").size(), 1u);
    EXPECT_EQ(get("bob", "/os-keypairs", "keypairs").size(), 0u);
    EXPECT_EQ(call("bob", "GET", "/os-keypairs/k").status, 404);
    EXPECT_EQ(get("alice", "/os-keypairs/k", "keypair", "2.2").string_or("type"), "ssh");
    EXPECT_EQ(call("bob", "GET", "/os-keypairs?user_id=alice", {}, "2.10").status, 403);
    EXPECT_EQ(get("admin", "/os-keypairs?user_id=alice", "keypairs", "2.10").size(), 1u);
    EXPECT_EQ(call("alice", "DELETE", "/os-keypairs/k", {}, "2.2").status, 204);
    EXPECT_EQ(call("alice", "DELETE", "/os-keypairs/k").status, 404);
}

TEST_F(Resources, KeyPairsRefuseWhatIsNoKey) {
    const char* bad[] = {"ssh-ed25519", "ssh-ed25519 !!!",
                         "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA==", "ssh-dss AAAAB3NzaC1kc3MAAAAA",
                         "x y z"};
    for (const char* key : bad) {
        const Reply reply =
            call("alice", "POST", "/os-keypairs",
                 fmt::format(R"({{"keypair": {{"name": "k", "public_key": "{}"}}}})", key));
        EXPECT_EQ(reply.status, 400) << key;
        EXPECT_THAT(message(reply),
                    HasSubstr("Keypair data is invalid: failed to generate fingerprint"));
    }
    const Reply x509 = call("alice", "POST", "/os-keypairs",
                            R"({"keypair": {"name": "k", "type": "x509"}})", "2.2");
    EXPECT_EQ(x509.status, 400);
    EXPECT_THAT(message(x509), HasSubstr("x509 are not supported"));
    EXPECT_EQ(call("alice", "POST", "/os-keypairs", R"({"keypair": {"name": "k"}})", "2.92").status,
              400);
}

TEST_F(Resources, GeneratedKeyPairsParseBack) {
    const Reply made =
        call("alice", "POST", "/os-keypairs", R"({"keypair": {"name": "gen"}})", "2.2");
    ASSERT_EQ(made.status, 201) << made.body;
    const Json keypair = *json(made).find("keypair");
    EXPECT_THAT(keypair.string_or("private_key"), HasSubstr("-----BEGIN RSA PRIVATE KEY-----"));
    const auto parsed = compute::parse_ssh_public_key(keypair.string_or("public_key"));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(parsed->fingerprint_md5, keypair.string_or("fingerprint"));
    const auto ed25519 = compute::generate_ssh_keypair(compute::SshKeyKind::Ed25519, "c").value();
    EXPECT_EQ(compute::parse_ssh_public_key(ed25519.public_key)->fingerprint_md5,
              ed25519.fingerprint_md5);
    EXPECT_THAT(ed25519.private_key, HasSubstr("-----BEGIN OPENSSH PRIVATE KEY-----"));
}

TEST_F(Resources, ZonesHypervisorsAndServicesShowTheHosts) {
    const Json zones = get("alice", "/os-availability-zone", "availabilityZoneInfo");
    EXPECT_EQ(zones.dump(), R"([{"zoneName":"nova","zoneState":{"available":true},"hosts":null}])");
    EXPECT_EQ(call("alice", "GET", "/os-availability-zone/detail").status, 403);
    EXPECT_EQ(get("admin", "/os-availability-zone/detail", "availabilityZoneInfo").size(), 2u);

    create("alice");
    EXPECT_EQ(call("alice", "GET", "/os-hypervisors").status, 403);
    const Json node = get("admin", "/os-hypervisors/detail", "hypervisors", "2.53").as_array()[0];
    EXPECT_EQ(node.string_or("id"), "0b9a1f9e-6c1f-4c58-8d6a-000000000001");
    EXPECT_EQ(node.integer_or("memory_mb_used"), 64);
    EXPECT_EQ(node.integer_or("running_vms"), 1);
    EXPECT_EQ(node.find("cpu_info")->string_or("arch"), "x86_64");
    EXPECT_EQ(get("admin", "/os-hypervisors/1", "hypervisor").integer_or("id"), 1);
    const Json newest =
        get("admin", "/os-hypervisors/" + node.string_or("id"), "hypervisor", "2.88");
    EXPECT_FALSE(newest.contains("vcpus"));
    EXPECT_THAT(newest.string_or("uptime"), HasSubstr("up 1:01"));
    EXPECT_EQ(call("admin", "GET", "/os-hypervisors/statistics", {}, "2.88").status, 404);
    EXPECT_EQ(
        get("admin", "/os-hypervisors/statistics", "hypervisor_statistics").integer_or("count"), 1);

    const Json services = get("admin", "/os-services", "services", "2.53");
    EXPECT_EQ(services.size(), 3u);
    EXPECT_EQ(call("alice", "GET", "/os-services").status, 403);
    const Json compute_service =
        get("admin", "/os-services?binary=nova-compute", "services", "2.53").as_array()[0];
    EXPECT_EQ(compute_service.string_or("zone"), "nova");
    EXPECT_EQ(compute_service.string_or("state"), "up");
    const std::string path = "/os-services/" + compute_service.string_or("id");
    EXPECT_EQ(call("admin", "DELETE", path, {}, "2.53").status, 409);
    const Reply disabled = call("admin", "PUT", path,
                                R"({"status": "disabled", "disabled_reason": "memory"})", "2.53");
    ASSERT_EQ(disabled.status, 200) << disabled.body;
    EXPECT_EQ(json(disabled).find("service")->string_or("disabled_reason"), "memory");
    EXPECT_EQ(call("admin", "PUT", path, R"({"disabled_reason": "x"})", "2.53").status, 400);
    EXPECT_EQ(
        call("admin", "PUT", "/os-services/enable", R"({"host": "cn-1", "binary": "nova-compute"})")
            .status,
        200);
    EXPECT_EQ(
        call("admin", "PUT", "/os-services/enable", R"({"host": "cn-9", "binary": "nova-compute"})")
            .status,
        404);
}

TEST_F(Resources, QuotasBoundWhatLimitsShow) {
    EXPECT_EQ(get("alice", "/limits", "limits").find("absolute")->integer_or("maxTotalInstances"),
              10);
    EXPECT_EQ(
        call("alice", "PUT", "/os-quota-sets/p1", R"({"quota_set": {"instances": 1}})").status,
        403);
    EXPECT_EQ(
        call("admin", "PUT", "/os-quota-sets/p1", R"({"quota_set": {"instances": 1}})").status,
        200);
    create("alice");
    const Reply over = call("alice", "POST", "/servers", create_body("two"));
    EXPECT_EQ(over.status, 403);
    EXPECT_EQ(message(over),
              "Quota exceeded for instances: Requested 1, but already used 1 of 1 "
              "instances");
    const Json detail = get("alice", "/os-quota-sets/p1/detail", "quota_set");
    EXPECT_EQ(detail.find("instances")->dump(), R"({"limit":1,"in_use":1,"reserved":0})");
    EXPECT_EQ(call("alice", "GET", "/os-quota-sets/p2").status, 403);
    EXPECT_EQ(
        call("admin", "PUT", "/os-quota-sets/p1", R"({"quota_set": {"instances": 0}})").status,
        400);
    EXPECT_EQ(call("admin", "PUT", "/os-quota-sets/p1", R"({"quota_set": {"colours": 0}})").status,
              400);
    EXPECT_EQ(call("admin", "DELETE", "/os-quota-sets/p1").status, 202);
    EXPECT_EQ(get("alice", "/os-quota-sets/p1/defaults", "quota_set").integer_or("instances"), 10);
    EXPECT_FALSE(get("alice", "/os-quota-sets/p1", "quota_set", "2.36").contains("floating_ips"));
    EXPECT_EQ(get("admin", "/limits?tenant_id=p1", "limits")
                  .find("absolute")
                  ->integer_or("totalInstancesUsed"),
              1);
    EXPECT_EQ(call("alice", "GET", "/limits?tenant_id=p2").status, 403);
}

TEST_F(Resources, TheTaskLogTellsWhoDidWhat) {
    const std::string id = create("alice");
    ASSERT_EQ(call("alice", "POST", "/servers/" + id + "/action", R"({"os-stop": null})").status,
              202);
    const std::string path = "/servers/" + id + "/os-instance-actions";
    const Json actions = get("alice", path, "instanceActions", "2.58");
    ASSERT_EQ(actions.size(), 2u);
    EXPECT_EQ(actions.as_array()[0].string_or("action"), "stop");
    EXPECT_TRUE(actions.as_array()[0].contains("updated_at"));
    const std::string create_id = actions.as_array()[1].string_or("request_id");
    EXPECT_FALSE(get("alice", path + "/" + create_id, "instanceAction").contains("events"));
    const Json newer = get("alice", path + "/" + create_id, "instanceAction", "2.62");
    const Json event = newer.find("events")->as_array()[0];
    EXPECT_EQ(event.string_or("result"), "Success");
    EXPECT_FALSE(event.contains("host"));
    EXPECT_FALSE(event.contains("traceback"));
    const Json admins = get("admin", path + "/" + create_id, "instanceAction", "2.84");
    EXPECT_EQ(admins.find("events")->as_array()[0].string_or("host"), "cn-1");
    EXPECT_EQ(call("alice", "GET", path + "/req-9").status, 404);
    ASSERT_EQ(call("alice", "DELETE", "/servers/" + id).status, 204);
    EXPECT_EQ(call("alice", "GET", path).status, 404);
    EXPECT_EQ(get("alice", path, "instanceActions", "2.21").size(), 3u);
    EXPECT_EQ(call("bob", "GET", path, {}, "2.21").status, 404);
}

TEST_F(Resources, MetadataAndTagsChangeInPlace) {
    const std::string id = create("alice");
    const std::string metadata = "/servers/" + id + "/metadata";
    EXPECT_EQ(call("alice", "POST", metadata, R"({"metadata": {"a": "1", "b": "2"}})").status, 200);
    EXPECT_EQ(get("alice", metadata, "metadata").dump(), R"({"a":"1","b":"2"})");
    EXPECT_EQ(call("alice", "PUT", metadata + "/a", R"({"meta": {"a": "3"}})").status, 200);
    EXPECT_EQ(call("alice", "PUT", metadata + "/a", R"({"meta": {"z": "3"}})").status, 400);
    EXPECT_EQ(get("alice", metadata + "/a", "meta").dump(), R"({"a":"3"})");
    EXPECT_EQ(call("alice", "DELETE", metadata + "/a").status, 204);
    EXPECT_EQ(call("alice", "DELETE", metadata + "/a").status, 404);
    EXPECT_EQ(call("alice", "PUT", metadata, R"({"metadata": {"c": "4"}})").status, 200);
    EXPECT_EQ(get("alice", metadata, "metadata").dump(), R"({"c":"4"})");

    const std::string tags = "/servers/" + id + "/tags";
    EXPECT_EQ(call("alice", "GET", tags, {}, "2.25").status, 404);
    EXPECT_EQ(call("alice", "PUT", tags, R"({"tags": ["x", "y"]})", "2.26").status, 200);
    EXPECT_EQ(call("alice", "PUT", tags + "/z", {}, "2.26").status, 201);
    EXPECT_EQ(call("alice", "PUT", tags + "/z", {}, "2.26").status, 204);
    EXPECT_EQ(call("alice", "GET", tags + "/z", {}, "2.26").status, 204);
    EXPECT_EQ(call("alice", "DELETE", tags + "/z", {}, "2.26").status, 204);
    EXPECT_EQ(call("alice", "DELETE", tags + "/z", {}, "2.26").status, 404);
    EXPECT_EQ(get("alice", tags, "tags", "2.26").dump(), R"(["x","y"])");
    EXPECT_EQ(json(call("alice", "GET", "/servers?tags=x,y", {}, "2.26")).find("servers")->size(),
              1u);
    EXPECT_EQ(
        json(call("alice", "GET", "/servers?not-tags-any=x", {}, "2.26")).find("servers")->size(),
        0u);
}

TEST_F(Resources, AddressesInterfacesAndTheRest) {
    const std::string id = create("alice");
    const std::string path = "/servers/" + id;
    EXPECT_EQ(get("alice", path + "/ips", "addresses").dump(),
              R"({"private":[{"version":4,"addr":"10.0.0.5"}]})");
    EXPECT_EQ(call("alice", "GET", path + "/ips/other").status, 404);
    EXPECT_EQ(get("alice", path + "/os-interface", "interfaceAttachments").size(), 1u);
    EXPECT_EQ(call("alice", "GET", path + "/os-interface/x").status, 404);
    EXPECT_EQ(get("alice", path + "/os-security-groups", "security_groups").size(), 1u);
    EXPECT_EQ(get("alice", path + "/os-volume_attachments", "volumeAttachments").size(), 0u);
    EXPECT_EQ(call("alice", "GET", path + "/diagnostics").status, 403);
    EXPECT_EQ(json(call("admin", "GET", path + "/diagnostics", {}, "2.48")).string_or("driver"),
              "kumoi");
    EXPECT_EQ(get("alice", path + "/topology", "nodes", "2.78").size(), 1u);
    EXPECT_EQ(get("alice", "/extensions", "extensions").size(), 17u);
    EXPECT_EQ(call("alice", "GET", "/extensions/nope").status, 404);
}

TEST_F(Resources, ServerGroupsFollowTheVersion) {
    const Reply old = call("alice", "POST", "/os-server-groups",
                           R"({"server_group": {"name": "g", "policies": ["anti-affinity"]}})");
    ASSERT_EQ(old.status, 200) << old.body;
    EXPECT_EQ(json(old).find("server_group")->find("policies")->dump(), R"(["anti-affinity"])");
    EXPECT_EQ(call("alice", "POST", "/os-server-groups",
                   R"({"server_group": {"name": "g", "policies": ["soft-affinity"]}})")
                  .status,
              400);
    const Reply made = call("alice", "POST", "/os-server-groups",
                            R"({"server_group": {"name": "h", "policy": "anti-affinity",
                 "rules": {"max_server_per_host": 2}}})",
                            "2.64");
    ASSERT_EQ(made.status, 200) << made.body;
    const std::string id = json(made).find("server_group")->string_or("id");
    EXPECT_EQ(call("bob", "GET", "/os-server-groups/" + id).status, 404);
    const Reply in_group = call("alice", "POST", "/servers",
                                R"({"server": {"name": "x", "flavorRef": "42", "imageRef": ")" +
                                    std::string(kTestImage) +
                                    R"("}, "os:scheduler_hints": {"group": ")" + id + "\"}}");
    ASSERT_EQ(in_group.status, 202) << in_group.body;
    const std::string server = json(in_group).find("server")->string_or("id");
    EXPECT_EQ(show("alice", server, "2.71").find("server_groups")->dump(), "[\"" + id + "\"]");
    EXPECT_EQ(get("alice", "/os-server-groups", "server_groups").size(), 2u);
    EXPECT_EQ(get("bob", "/os-server-groups", "server_groups").size(), 0u);
    EXPECT_EQ(call("alice", "DELETE", "/os-server-groups/" + id).status, 204);
}

TEST_F(Resources, AggregatesMakeZones) {
    EXPECT_EQ(call("alice", "GET", "/os-aggregates").status, 403);
    const Reply made = call("admin", "POST", "/os-aggregates",
                            R"({"aggregate": {"name": "fast", "availability_zone": "az1"}})");
    ASSERT_EQ(made.status, 200) << made.body;
    const std::string path =
        "/os-aggregates/" + std::to_string(json(made).find("aggregate")->integer_or("id"));
    EXPECT_EQ(call("admin", "POST", path + "/action", R"({"add_host": {"host": "cn-9"}})").status,
              404);
    EXPECT_EQ(call("admin", "POST", path + "/action", R"({"add_host": {"host": "cn-1"}})").status,
              200);
    EXPECT_EQ(call("admin", "POST", path + "/action", R"({"add_host": {"host": "cn-1"}})").status,
              409);
    EXPECT_EQ(get("alice", "/os-availability-zone", "availabilityZoneInfo")
                  .as_array()[0]
                  .string_or("zoneName"),
              "az1");
    const Reply in_zone =
        call("alice", "POST", "/servers", create_body("z", R"(, "availability_zone": "az1")"));
    EXPECT_EQ(in_zone.status, 202);
    EXPECT_EQ(call("admin", "DELETE", path).status, 400);
    EXPECT_EQ(call("admin", "POST", path + "/action",
                   R"({"set_metadata": {"metadata": {"ssd": "true"}}})")
                  .status,
              200);
    EXPECT_EQ(
        call("admin", "POST", path + "/action", R"({"remove_host": {"host": "cn-1"}})").status,
        200);
    EXPECT_EQ(call("admin", "DELETE", path).status, 200);
    EXPECT_EQ(call("admin", "GET", path).status, 404);
}

TEST_F(Resources, InterfacesAreAttachedAndDetached) {
    const std::string path = "/servers/" + create("alice") + "/os-interface";
    const std::string net = kTestNetwork;
    const auto attach = [&](const std::string& body, const std::string& version = "2.1") {
        return call("alice", "POST", path, R"({"interfaceAttachment": )" + body + "}", version);
    };
    const Reply by_network =
        attach(R"({"net_id": ")" + net + R"(", "fixed_ips": [{"ip_address": "10.0.0.9"}]})");
    ASSERT_EQ(by_network.status, 200) << by_network.body;
    const Json view = *json(by_network).find("interfaceAttachment");
    EXPECT_EQ(view.string_or("net_id"), net);
    EXPECT_EQ(view.string_or("mac_addr"), "fa:16:3e:00:00:02");
    EXPECT_FALSE(view.contains("tag"));
    EXPECT_EQ(cn1_.attached->fixed_ip, "10.0.0.9");
    const std::string port = "33333333-2222-3333-4444-555555555555";
    const Reply by_port = attach(R"({"port_id": ")" + port + R"(", "tag": "blue"})", "2.70");
    ASSERT_EQ(by_port.status, 200) << by_port.body;
    EXPECT_EQ(json(by_port).find("interfaceAttachment")->string_or("tag"), "blue");
    EXPECT_EQ(call("alice", "POST", path, "{}").status, 200);  // the only network
    EXPECT_EQ(get("alice", path, "interfaceAttachments").size(), 4u);

    EXPECT_EQ(attach(R"({"net_id": ")" + net + R"(", "port_id": ")" + port + R"("})").status, 400);
    EXPECT_EQ(attach(R"({"fixed_ips": [{"ip_address": "10.0.0.9"}]})").status, 400);
    EXPECT_EQ(attach(R"({"fixed_ips": []})").status, 400);
    EXPECT_EQ(attach(R"({"tag": "blue"})").status, 400);  // before 2.49
    EXPECT_EQ(call("bob", "POST", path, "{}").status, 404);
    EXPECT_EQ(call("rita", "POST", path, "{}").status, 403);
    cn1_.refusal = Error::conflict("two").with_fault("NetworkAmbiguous");
    EXPECT_EQ(call("alice", "POST", path, "{}").status, 400);
    EXPECT_EQ(call("alice", "DELETE", path + "/" + port).status, 409);  // the node refuses
    cn1_.refusal.reset();
    EXPECT_EQ(call("rita", "DELETE", path + "/" + port).status, 403);
    EXPECT_EQ(call("alice", "DELETE", path + "/" + port).status, 202);
    EXPECT_EQ(cn1_.calls.back().substr(0, 17), "detach_interface ");
    EXPECT_EQ(call("alice", "DELETE", path + "/nope").status, 404);
}

TEST_F(Resources, InterfacesAreNotForServersThatMayNotChange) {
    const std::string id = create("alice");
    const std::string path = "/servers/" + id + "/os-interface";
    EXPECT_EQ(call("alice", "POST", "/servers/" + id + "/action", R"({"suspend": null})").status,
              202);
    const Reply refused = call("alice", "POST", path, "{}");
    EXPECT_EQ(refused.status, 409);
    EXPECT_NE(message(refused).find("attach_interface"), std::string::npos);
    EXPECT_EQ(call("alice", "DELETE", path + "/11111111-2222-3333-4444-555555555555").status, 409);
}

}  // namespace
}  // namespace kumoi::api
