#include <gtest/gtest.h>

#include "base/file.h"
#include "base/python_json.h"
#include "compute/clients/neutron_network.h"
#include "tests/support/recorded_cloud.h"
#include "tests/unit/compute/clients/clients_world.h"

namespace kumoi::clients {
namespace {

using compute::Instance;
using compute::VifInfo;
using test::RecordedCloud;
using test::ScriptServer;
using Reply = ScriptServer::Reply;
using Request = ScriptServer::Request;

constexpr const char* kProject = "db501b6a55fc4471b729c99e758e481c";
constexpr const char* kNetwork = "23ccefce-ba10-4ab8-9367-abd32b4fc0af";

struct World : ClientsWorld {
    explicit World(const std::string& url) : ClientsWorld("Neutron", url) {}
    NeutronClient neutron{service, clock, 600 * kNanosPerSecond};
    NeutronNetwork network{neutron, "br-int"};
    compute::RequestContext context = user_context(kProject);
};

Instance server_of(const std::string& uuid, const std::string& host = "cn1") {
    Instance instance;
    instance.uuid = uuid;
    instance.project_id = kProject;
    instance.host = host;
    instance.hostname = "vm";
    instance.availability_zone = "nova";
    instance.security_groups = {"default"};
    return instance;
}

// What Nova wrote into the info cache in the recording `key`, as text.
std::string recorded_info(const std::string& key, size_t index) {
    const Json json =
        Json::parse(read_file("tests/data/openstack/network_info.json").value()).value();
    return json.find(key)->as_array().at(index).as_string();
}

// Ours asks for the floating addresses of all ports at once, and for none by address.
void answer_floating_ips(RecordedCloud& cloud, const std::string& port_id) {
    for (int i = 0; i < 4; ++i) {
        cloud.answer_once("GET", "/v2.0/floatingips?port_id=" + port_id,
                          {.body = R"({"floatingips":[]})"});
    }
}

TEST(ClientsNeutron, ABuildAsksAndWritesAsNovaDid) {
    RecordedCloud cloud(test::load_recording("create_neutron.json"));
    World world(cloud.url());
    answer_floating_ips(cloud, "86f82c6b-46f9-4932-8d2f-c98275a1e4bd");
    const Instance instance = server_of("378f288d-d15c-4e53-abee-05a66119550b");
    const auto vifs =
        world.network.allocate_for_instance(world.context, instance, {{.network_id = kNetwork}});
    ASSERT_TRUE(vifs.ok()) << vifs.error().text();
    EXPECT_EQ(network_info_text(*vifs), recorded_info("03", 0));
    const VifInfo& vif = vifs->front();
    EXPECT_EQ(vif.mac, "fa:16:3e:f9:d7:64");
    EXPECT_EQ(vif.mtu, 1450);
    EXPECT_EQ(vif.vif_type, "bridge");
    EXPECT_EQ(vif.bridge, "brq23ccefce-ba");
    EXPECT_EQ(vif.devname, "tap86f82c6b-46");
    EXPECT_EQ(vif.details.at("port_filter"), "true");
    EXPECT_TRUE(vif.active && vif.created_by_nova);
    ASSERT_EQ(vif.fixed_ips.size(), 1u);
    EXPECT_EQ(vif.fixed_ips[0].address, "10.1.1.146");
    EXPECT_EQ(vif.fixed_ips[0].prefix_length, 16);
    EXPECT_EQ(vif.fixed_ips[0].gateway, "10.1.0.1");
    for (const char* method : {"POST", "PUT"}) {
        const auto asked = cloud.asked(method, "/v2.0/ports");
        ASSERT_EQ(asked.size(), 1u) << method;
        EXPECT_EQ(Json::parse(asked[0].body).value(), cloud.recorded(method, "/v2.0/ports").body);
    }
    EXPECT_EQ(cloud.asked("POST", "/v2.0/ports")[0].header("x-auth-token"), "user-token");
    EXPECT_EQ(cloud.asked("PUT", "/v2.0/ports")[0].header("x-auth-token"), "");  // ours
    EXPECT_EQ(cloud.asked("GET", "/").size(), 7u);
}

// A project's networks as Neutron lists them, and what it makes for a project that has none.
struct ProjectNetworks {
    explicit ProjectNetworks(std::string own)
        : networks(std::move(own)), server([this](const Request& request) {
              if (request.target.starts_with("/v2.0/auto-allocated-topology/")) {
                  made_for = request.target;
                  return Reply{.body = R"({"auto_allocated_topology":{"id":"made"}})"};
              }
              if (request.target.starts_with("/v2.0/networks?") &&
                  request.target.find("id=made") != std::string::npos) {
                  return Reply{.body = R"({"networks":[{"id":"made","subnets":["s"]}]})"};
              }
              if (request.target.starts_with("/v2.0/networks?")) {
                  const bool shared = request.target.find("shared=True") != std::string::npos;
                  return Reply{.body = shared ? R"({"networks":[]})" : networks};
              }
              if (request.method == "POST") {
                  posted = request.body;
                  return Reply{.status = 409, .body = R"({"NeutronError":{"type":"OverQuota"}})"};
              }
              return Reply{.body = R"({"ports":[],"extensions":[],"security_groups":[]})"};
          }) {}
    std::string networks, made_for, posted;
    ScriptServer server;
};

TEST(ClientsNeutron, AServerThatNamesNoNetworkGetsTheOnlyOneOrOneMadeForIt) {
    ProjectNetworks one(R"({"networks":[{"id":"mine","subnets":["s"]}]})");
    World world(one.server.url());
    Instance instance = server_of("s1");
    instance.security_groups.clear();
    for (const compute::RequestedNetwork& asked :
         {compute::RequestedNetwork{}, compute::RequestedNetwork{.network_id = "auto"}}) {
        one.posted.clear();
        (void)world.network.allocate_for_instance(world.context, instance, {asked});
        EXPECT_NE(one.posted.find(R"("network_id":"mine")"), std::string::npos) << one.posted;
    }
    EXPECT_EQ(one.made_for, "");

    ProjectNetworks none(R"({"networks":[]})");
    World other(none.server.url());
    const auto nothing = other.network.allocate_for_instance(other.context, instance, {{}});
    ASSERT_TRUE(nothing.ok()) << nothing.error().text();
    EXPECT_TRUE(nothing->empty());
    EXPECT_EQ(none.made_for, "");
    (void)other.network.allocate_for_instance(other.context, instance, {{.network_id = "auto"}});
    EXPECT_EQ(none.made_for, std::string("/v2.0/auto-allocated-topology/") + kProject);
    EXPECT_NE(none.posted.find(R"("network_id":"made")"), std::string::npos) << none.posted;
}

// A server with one port in a network of two subnets, the first of which is full.
TEST(ClientsNeutron, AnAddressComesFromTheFirstSubnetWithRoomAndGoesAlone) {
    std::vector<std::string> puts, token;
    std::string ports = R"({"ports":[{"id":"p1","fixed_ips":[
        {"subnet_id":"s1","ip_address":"10.0.0.5"},{"subnet_id":"s1","ip_address":"10.0.0.6"}]}]})";
    ScriptServer server([&](const Request& request) {
        if (request.method == "PUT") {
            puts.push_back(request.target + " " + request.body);
            token.push_back(request.header("x-auth-token"));
            const bool full = request.body.find(R"({"subnet_id":"s1"}]})") != std::string::npos;
            return full ? Reply{.status = 409,
                                .body = R"({"NeutronError":{"type":"IpAddressGenerationFailure"}})"}
                        : Reply{.body = R"({"port":{"id":"p1"}})"};
        }
        if (request.target.starts_with("/v2.0/subnets?network_id=net")) {
            return Reply{.body = R"({"subnets":[{"id":"s1"},{"id":"s2"}]})"};
        }
        const bool asked = request.target.find("device_owner=compute%3Anova") != std::string::npos;
        return Reply{.body = asked ? ports : R"({"ports":[],"subnets":[]})"};
    });
    World world(server.url());
    const Instance instance = server_of("s1");
    ASSERT_TRUE(world.network.add_fixed_ip(world.context, instance, "net").ok());
    ASSERT_EQ(puts.size(), 2u);
    EXPECT_NE(puts[1].find(R"("ip_address":"10.0.0.6"},{"subnet_id":"s2"}])"), std::string::npos);
    EXPECT_EQ(token[1], "user-token");
    puts.clear();
    ASSERT_TRUE(world.network.remove_fixed_ip(world.context, instance, "10.0.0.5").ok());
    EXPECT_EQ(puts[0], R"(/v2.0/ports/p1 {"port":{"fixed_ips":[{"subnet_id":"s1",)"
                       R"("ip_address":"10.0.0.6"}]}})");
    ports = R"({"ports":[]})";
    EXPECT_EQ(world.network.remove_fixed_ip(world.context, instance, "10.0.0.5").error().fault,
              "FixedIpNotFoundForInstance");
    for (const char* network : {"net", "elsewhere"}) {
        const auto none = world.network.add_fixed_ip(world.context, instance, network);
        EXPECT_EQ(none.error().fault, "NetworkNotFoundForInstance") << network;
    }
}

TEST(ClientsNeutron, AUsersOwnPortIsTakenOverAndKept) {
    RecordedCloud cloud(test::load_recording("create_existing_port_neutron.json"));
    World world(cloud.url());
    const std::string port_id = "988818d7-6402-4e7d-a745-e10d3297b37c";
    answer_floating_ips(cloud, port_id);
    cloud.answer_once("GET", "/v2.0/extensions", {.body = R"({"extensions":[]})"});
    const Instance instance = server_of("57ed91d3-b315-4b93-8b80-bf98955ff8cd");
    const auto vifs =
        world.network.allocate_for_instance(world.context, instance, {{.port_id = port_id}});
    ASSERT_TRUE(vifs.ok()) << vifs.error().text();
    EXPECT_FALSE(vifs->front().created_by_nova);
    const Json info = Json::parse(network_info_text(*vifs)).value();
    EXPECT_TRUE(info.as_array()[0].bool_or("preserve_on_delete"));
    EXPECT_EQ(network_info_text(*vifs), recorded_info("40", 0));
    EXPECT_TRUE(cloud.asked("POST", "/v2.0/ports").empty());
    EXPECT_EQ(Json::parse(cloud.asked("PUT", "/v2.0/ports")[0].body).value(),
              cloud.recorded("PUT", "/v2.0/ports").body);
}

TEST(ClientsNeutron, AttachAndDetachOfOneInterface) {
    RecordedCloud cloud(test::load_recording("attach_interface_neutron.json"));
    World world(cloud.url());
    const std::string port_id = "60d0a56a-ae12-4d53-be2c-467558156bee";
    answer_floating_ips(cloud, port_id);
    cloud.answer_once("GET", "/v2.0/extensions", {.body = R"({"extensions":[]})"});
    cloud.answer_once("GET", "/v2.0/ports/" + port_id,
                      {.body = cloud.recorded("PUT", "/v2.0/ports/" + port_id).reply.dump()});
    Instance instance = server_of("25f1d56d-08b5-44d9-9a48-cd1b85b16d29");
    const auto vif =
        world.network.allocate_port_for_instance(world.context, instance, {.network_id = kNetwork});
    ASSERT_TRUE(vif.ok()) << vif.error().text();
    EXPECT_EQ(vif->port_id, port_id);
    EXPECT_EQ(vif->fixed_ips[0].address, "10.1.1.38");
    instance.network_info = {*vif};
    cloud.answer_once("DELETE", "/v2.0/ports/" + port_id, {.status = 204});
    EXPECT_TRUE(world.network.deallocate_port_for_instance(world.context, instance, port_id).ok());
}

TEST(ClientsNeutron, ARefreshKeepsTheOrderAndWhatTheNodeNoted) {
    RecordedCloud cloud(test::load_recording("attach_interface_neutron.json"));
    World world(cloud.url());
    cloud.answer_once("GET",
                      "/v2.0/floatingips?port_id=60d0a56a-ae12-4d53-be2c-467558156bee"
                      "&port_id=22ff0cc5-f730-4b8e-b987-d48ee17d7d6f",
                      {.body = R"({"floatingips":[{"port_id":"22ff0cc5-f730-4b8e-b987-d48ee17d7d6f",
                          "fixed_ip_address":"10.1.0.150","floating_ip_address":"172.24.0.3"}]})"});
    cloud.answer_once("GET",
                      "/v2.0/floatingips?port_id=22ff0cc5-f730-4b8e-b987-d48ee17d7d6f"
                      "&port_id=60d0a56a-ae12-4d53-be2c-467558156bee",
                      {.body = R"({"floatingips":[{"port_id":"22ff0cc5-f730-4b8e-b987-d48ee17d7d6f",
                          "fixed_ip_address":"10.1.0.150","floating_ip_address":"172.24.0.3"}]})"});
    Instance instance = server_of("25f1d56d-08b5-44d9-9a48-cd1b85b16d29");
    instance.network_info = parse_network_info(recorded_info("38", 1)).value();
    ASSERT_EQ(instance.network_info.size(), 2u);
    std::swap(instance.network_info[0], instance.network_info[1]);
    instance.network_info[0].tap_name = "ktx";
    instance.network_info[0].created_by_nova = false;
    instance.network_info[0].pci_slot = 7;
    instance.network_info[1].tag = "lan";
    instance.network_info.push_back({.port_id = "gone"});
    const auto vifs = world.network.refresh(world.context, instance);
    ASSERT_TRUE(vifs.ok()) << vifs.error().text();
    ASSERT_EQ(vifs->size(), 2u);
    EXPECT_EQ((*vifs)[0].port_id, instance.network_info[0].port_id);
    EXPECT_EQ((*vifs)[0].tap_name, "ktx");
    EXPECT_FALSE((*vifs)[0].created_by_nova);
    EXPECT_NE((*vifs)[1].raw.find("172.24.0.3"), std::string::npos);
    const auto cached = parse_network_info(network_info_text(*vifs)).value();
    EXPECT_EQ(cached[0].pci_slot, 7u);
    EXPECT_EQ(cached[1].tag, "lan");
}

TEST(ClientsNeutron, ADeleteFreesWhatNovaMade) {
    RecordedCloud cloud(test::load_recording("delete_neutron.json"));
    World world(cloud.url());
    const Instance instance = server_of("378f288d-d15c-4e53-abee-05a66119550b");
    ASSERT_TRUE(world.network.deallocate_for_instance(world.context, instance).ok());
    EXPECT_EQ(cloud.requests().size(), 2u);
}

TEST(ClientsNeutron, ADeleteUnbindsTheUsersPort) {
    const std::string port = R"({"id":"p1","binding:profile":{"pci_slot":"0","mine":1}})";
    ScriptServer server([&](const Request& request) {
        if (request.target.starts_with("/v2.0/ports?")) {
            return Reply{.body = "{\"ports\":[" + port + "]}"};
        }
        if (request.target.starts_with("/v2.0/extensions")) {
            return Reply{.body = R"({"extensions":[{"alias":"dns-integration"}]})"};
        }
        return Reply{.body = "{\"port\":" + port + "}"};
    });
    World world(server.url());
    Instance instance = server_of("s1");
    instance.network_info = {{.port_id = "p1", .created_by_nova = false}};
    ASSERT_TRUE(world.network.deallocate_for_instance(world.context, instance).ok());
    const auto last = server.requests().back();
    EXPECT_EQ(last.method, "PUT");
    EXPECT_EQ(last.body,
              R"({"port":{"binding:host_id":null,"binding:profile":{"mine":1},"device_id":"",)"
              R"("device_owner":"","dns_name":""}})");
}

TEST(ClientsNeutron, APortOlderThanItsServerIsNeverDeleted) {
    std::string deleted;
    ScriptServer server([&](const Request& request) {
        if (request.method == "DELETE") {
            deleted += request.target;
            return Reply{.status = 204};
        }
        if (request.target.starts_with("/v2.0/ports?")) {
            return Reply{.body = R"({"ports":[{"id":"theirs","created_at":"2026-11-23T09:00:00Z"},)"
                                 R"({"id":"novas","created_at":"2026-11-23T09:00:01Z"}]})"};
        }
        return Reply{.body = R"({"port":{"id":"theirs"},"extensions":[]})"};
    });
    World world(server.url());
    Instance instance = server_of("s1");  // whose cache was lost with the process that built it
    instance.created_ns = parse_iso8601("2026-11-23T09:00:01Z").value();
    ASSERT_TRUE(world.network.deallocate_for_instance(world.context, instance).ok());
    EXPECT_EQ(deleted, "/v2.0/ports/novas");
}

TEST(ClientsNeutron, AMoveBindsThePortsAsNovaDid) {
    RecordedCloud cloud(test::load_recording("cold_migrate_neutron.json"));
    World world(cloud.url());
    Instance instance = server_of("ab62980d-d9ee-45da-8fb6-31c9a0da437c");
    const auto bound = world.network.rebind(world.context, instance, "cn1");
    ASSERT_TRUE(bound.ok()) << bound.error().text();
    const auto asked = cloud.asked("PUT", "/v2.0/ports");
    ASSERT_EQ(asked.size(), 1u);
    EXPECT_EQ(Json::parse(asked[0].body).value(), cloud.recorded("PUT", "/v2.0/ports").body);
}

TEST(ClientsNeutron, ALiveMigrationMovesBindingsAsNovaDid) {
    RecordedCloud cloud(test::load_recording("live_migrate_neutron.json"));
    World world(cloud.url());
    Instance instance = server_of("ab62980d-d9ee-45da-8fb6-31c9a0da437c");
    instance.network_info = parse_network_info(recorded_info("35", 0)).value();
    auto outcome = world.network.set_migrating_to(world.context, instance, "cn1", "cn2");
    ASSERT_TRUE(outcome.ok()) << outcome.error().text();
    EXPECT_EQ(Json::parse(cloud.asked("PUT", "/v2.0/ports")[0].body).value(),
              cloud.recorded("PUT", "/v2.0/ports").body);
    outcome = world.network.activate_bindings(world.context, instance, "cn2");
    ASSERT_TRUE(outcome.ok()) << outcome.error().text();
    EXPECT_TRUE(cloud.asked("PUT", "/v2.0/ports").back().target.ends_with("/cn2/activate"));
    outcome = world.network.delete_bindings(world.context, instance, "cn1");
    ASSERT_TRUE(outcome.ok()) << outcome.error().text();
}

// A Neutron that refuses the request whose line starts with `refused`, and records what is undone.
struct BrokenNeutron {
    BrokenNeutron(std::string line, Reply answer)
        : refused(std::move(line)),
          refusal(std::move(answer)),
          server([this](const Request& request) {
              const std::string text = request.method + " " + request.target;
              if (text.starts_with(refused)) {
                  return refusal;
              }
              if (request.method == "POST") {
                  ++made;
                  return Reply{
                      .status = 201,
                      .body = fmt::format(
                          R"({{"port":{{"id":"new-{}","mac_address":"m","fixed_ips":[]}}}})",
                          made)};
              }
              if (request.target.starts_with("/v2.0/networks")) {
                  return Reply{.body = R"({"networks":[{"id":"n1","subnets":["s"]},)"
                                       R"({"id":"n2","subnets":["s"]}]})"};
              }
              if (request.target.starts_with("/v2.0/security-groups")) {
                  return Reply{.body = R"({"security_groups":[{"id":"g1","name":"web"}]})"};
              }
              if (request.target.starts_with("/v2.0/extensions")) {
                  return Reply{.body = R"({"extensions":[]})"};
              }
              if (request.target.starts_with("/v2.0/ports/")) {
                  return Reply{.body = R"({"port":{"id":"x","fixed_ips":[{}],"device_id":"other",)"
                                       R"("network_id":"n1","tenant_id":"db"}})"};
              }
              return Reply{.body = R"({"ports":[]})"};
          }) {}
    std::string refused;
    Reply refusal;
    int made = 0;
    ScriptServer server;
};

TEST(ClientsNeutron, AFailedAllocationLeavesNoPort) {
    BrokenNeutron neutron(
        "PUT /v2.0/ports/new-2",
        {.body = R"({"port":{"id":"new-2","binding:vif_type":"binding_failed"}})"});
    World world(neutron.server.url());
    const auto vifs = world.network.allocate_for_instance(
        world.context, server_of("s1"), {{.network_id = "n1"}, {.network_id = "n2"}});
    ASSERT_FALSE(vifs.ok());
    EXPECT_EQ(vifs.error().fault, "PortBindingFailed");
    std::vector<std::string> deleted;
    for (const Request& request : neutron.server.requests()) {
        if (request.method == "DELETE") {
            deleted.push_back(request.target);
        }
    }
    EXPECT_EQ(deleted, (std::vector<std::string>{"/v2.0/ports/new-1", "/v2.0/ports/new-2"}));
}

TEST(ClientsNeutron, RefusalsBecomeNovasExceptions) {
    const auto refused = [](const char* type, int status) {
        return Reply{.status = status,
                     .body = fmt::format(
                         R"({{"NeutronError":{{"type":"{}","message":"no","detail":""}}}})", type)};
    };
    const std::tuple<const char*, Reply, const char*> cases[] = {
        {"POST", refused("OverQuota", 409), "PortLimitExceeded"},
        {"POST", refused("IpAddressGenerationFailure", 409), "NoMoreFixedIps"},
        {"POST", refused("IpAddressInUse", 409), "FixedIpAlreadyInUse"},
        {"POST", refused("Weird", 400), "PortUpdateFailed"},
        {"GET /v2.0/networks", Reply{.body = R"({"networks":[]})"}, "NetworkNotFound"},
    };
    for (const auto& [line, reply, fault] : cases) {
        BrokenNeutron neutron(line, reply);
        World world(neutron.server.url());
        const auto vifs = world.network.allocate_for_instance(world.context, server_of("s1"),
                                                              {{.network_id = "n1"}});
        ASSERT_FALSE(vifs.ok());
        EXPECT_EQ(vifs.error().fault, fault);
    }
}

TEST(ClientsNeutron, PortsAndGroupsThatCannotBeUsedAreRefused) {
    BrokenNeutron neutron("nothing", {});
    World world(neutron.server.url());
    auto vifs =
        world.network.allocate_for_instance(world.context, server_of("s1"), {{.port_id = "x"}});
    ASSERT_FALSE(vifs.ok());
    EXPECT_EQ(vifs.error().fault, "PortInUse");
    Instance instance = server_of("s1");
    instance.security_groups = {"nope"};
    vifs = world.network.allocate_for_instance(world.context, instance, {{.network_id = "n1"}});
    ASSERT_FALSE(vifs.ok());
    EXPECT_EQ(vifs.error().fault, "SecurityGroupNotFound");
    const auto found = world.network.validate_networks(world.context, {}, true, {});
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(found.error().fault, "NetworkAmbiguous");
}

TEST(ClientsNeutron, ExtensionsAreRememberedForAWhile) {
    BrokenNeutron neutron("nothing", {});
    World world(neutron.server.url());
    EXPECT_FALSE(world.neutron.has_extension({}, "dns-integration").value());
    EXPECT_FALSE(world.neutron.has_extension({}, "other").value());
    EXPECT_EQ(neutron.server.requests().size(), 1u);
    world.clock.advance(601 * kNanosPerSecond);
    EXPECT_FALSE(world.neutron.has_extension({}, "other").value());
    EXPECT_EQ(neutron.server.requests().size(), 2u);
}

TEST(ClientsVif, EveryRecordedCacheComesBackByteForByte) {
    const Json json =
        Json::parse(read_file("tests/data/openstack/network_info.json").value()).value();
    size_t count = 0;
    for (const auto& [key, texts] : json.as_object()) {
        for (const Json& text : texts.as_array()) {
            const auto vifs = parse_network_info(text.as_string());
            ASSERT_TRUE(vifs.ok()) << vifs.error().text();
            EXPECT_EQ(network_info_text(*vifs), text.as_string());
            ++count;
        }
    }
    EXPECT_EQ(count, 18u);
}

TEST(ClientsVif, ActiveIsTheNodesToSet) {
    auto vifs = parse_network_info(recorded_info("03", 0)).value();
    vifs[0].active = false;
    EXPECT_NE(network_info_text(vifs).find("\"active\": false"), std::string::npos);
    EXPECT_EQ(network_info_text(vifs).size(), recorded_info("03", 0).size() + 1);
}

TEST(ClientsVif, WhatOnlyThisNodeKnowsTravelsInMeta) {
    const std::string before = recorded_info("03", 0);
    auto vifs = parse_network_info(before).value();
    EXPECT_EQ(vifs[0].pci_slot, 0u);
    vifs[0].pci_slot = 5;
    vifs[0].tag = "l\"an";
    vifs[0].detaching = true;
    auto again = parse_network_info(network_info_text(vifs)).value();
    EXPECT_EQ(again[0].pci_slot, 5u);
    EXPECT_EQ(again[0].tag, "l\"an");
    EXPECT_TRUE(again[0].detaching);
    again[0].detaching = false;
    EXPECT_FALSE(parse_network_info(network_info_text(again)).value()[0].detaching);
    again[0].pci_slot = 0;
    again[0].tag.clear();
    EXPECT_EQ(network_info_text(again), before);
    compute::VifInfo plain;  // not from Neutron
    plain.port_id = "p";
    plain.pci_slot = 3;
    EXPECT_EQ(parse_vif(Json::parse(vif_text(plain)).value())->pci_slot, 3u);
    for (const char* own : {R"({"pci_slot":99})", R"({"pci_slot":-1})", R"({"pci_slot":"x"})", "[]",
                            R"({"tag":7,"detaching":1})", "null"}) {
        const auto vif = parse_vif(
            Json::parse(fmt::format(R"({{"id":"p","network":{{}},"meta":{{"kumoi":{}}}}})", own))
                .value());
        ASSERT_TRUE(vif.ok()) << own;
        EXPECT_EQ(vif->pci_slot, 0u) << own;
        EXPECT_TRUE(vif->tag.empty() && !vif->detaching) << own;
    }
}

TEST(ClientsVif, OpenVSwitchPortsNameTheirBridge) {
    const Json port = Json::parse(R"({"id":"00000090-0000-4000-8000-000000000090",
        "mac_address":"fa:16:3e:00:00:01","network_id":"n","admin_state_up":true,"status":"DOWN",
        "binding:vif_type":"ovs","binding:vif_details":{"ovs_hybrid_plug":false},
        "fixed_ips":[{"subnet_id":"s6","ip_address":"2001:db8::5"}]})")
                          .value();
    NeutronRecords records;
    records.networks = {Json::parse(R"({"id":"n","name":"netz","tenant_id":"t","mtu":1442,
        "provider:network_type":"vlan","provider:physical_network":"phys"})")
                            .value()};
    records.subnets = {Json::parse(R"({"id":"s6","cidr":"2001:db8::/64","gateway_ip":null,
        "enable_dhcp":false,"dns_nameservers":["2001:db8::1"],"ipv6_address_mode":"slaac",
        "host_routes":[{"destination":"::/0","nexthop":"2001:db8::9"}]})")
                           .value()};
    const Json vif = build_vif(port, records, {}).value();
    EXPECT_EQ(vif.string_or("ovs_interfaceid"), "00000090-0000-4000-8000-000000000090");
    EXPECT_EQ(vif.find_path({"network", "bridge"})->as_string(), "br-int");
    EXPECT_EQ(vif.find_path({"network", "meta"})->dump(),
              R"({"injected":false,"tenant_id":"t","mtu":1442,"physical_network":"phys",)"
              R"("tunneled":false})");
    EXPECT_FALSE(vif.bool_or("active", true));
    const Json& subnet = vif.find_path({"network", "subnets"})->as_array()[0];
    EXPECT_EQ(subnet.integer_or("version"), 6);
    EXPECT_EQ(subnet.find("gateway")->dump(),
              R"({"address":null,"type":"gateway","version":null,"meta":{}})");
    EXPECT_EQ(subnet.find("routes")->dump(),
              R"([{"cidr":"::/0","gateway":{"address":"2001:db8::9","type":"gateway",)"
              R"("version":6,"meta":{}},"interface":null,"meta":{}}])");
    const VifInfo info = parse_vif(vif).value();
    EXPECT_EQ(info.fixed_ips[0].ip_version, 6);
    EXPECT_FALSE(info.fixed_ips[0].enable_dhcp);
    EXPECT_EQ(info.details.at("ovs_hybrid_plug"), "false");
}

TEST(ClientsVif, HostileTextIsAnError) {
    for (const char* text : {"{}", "[1]", "[{\"id\":1}]", "[{\"id\":\"x\"}]", "[{", "null",
                             R"([{"id":"x","network":{},"active":"yes"}])"}) {
        EXPECT_FALSE(parse_network_info(text).ok()) << text;
    }
    EXPECT_TRUE(parse_network_info("").value().empty());
    EXPECT_TRUE(parse_network_info("[]").value().empty());
}

TEST(ClientsVif, PythonsJsonEscapesAllButAscii) {
    const Json json =
        Json::parse(R"({"a":["\u00fc\ud83d\ude00\u0001\"\\/"],"b":1.5,"c":null})").value();
    EXPECT_EQ(python_dump(json),
              R"({"a": ["\u00fc\ud83d\ude00\u0001\"\\/"], "b": 1.5, "c": null})");
}

}  // namespace
}  // namespace kumoi::clients
