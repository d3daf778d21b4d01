#include "api/rest/network/network_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kumoi::api {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Tokens are "<project>:<role>".
class TokensFake final : public TokenValidator {
public:
    Result<AuthContext> validate(std::string_view token) override {
        const size_t colon = token.find(':');
        if (colon == std::string_view::npos) {
            return Error::unauthenticated("no such token");
        }
        AuthContext who;
        who.user_id = "user";
        who.project_id = token.substr(0, colon);
        who.roles = {std::string(token.substr(colon + 1))};
        who.is_admin = who.roles[0] == "admin";
        return who;
    }
};

class NetworkApiTest : public ::testing::Test {
protected:
    void SetUp() override {
        database_ = compute::Database::open(":memory:").value();
        service_ = compute::NetworkService::create(*database_, clock_, random_).value();
        router_ = make_network_router(
            *service_, tokens_, {"http://127.0.0.1:5000", [] {
                                     return std::vector<NetworkAgent>{{"a-1", "host1", true, 0, 0}};
                                 }});
    }
    Reply call(const std::string& method, const std::string& target, const std::string& body = {},
               const std::string& token = "a:member") {
        HeaderMap headers;
        headers.add("X-Auth-Token", token);
        headers.add("Host", "net:9696");
        Request request = make_request(method, target, body, headers);
        return router_.handle(request);
    }
    Json json(const std::string& method, const std::string& target, const std::string& body = {},
              const std::string& token = "a:member") {
        const Reply reply = call(method, target, body, token);
        last_status_ = reply.status;
        return Json::parse(reply.body).value_or(Json());
    }
    std::string fault(const std::string& method, const std::string& target,
                      const std::string& body = {}, const std::string& token = "a:member") {
        const Json answer = json(method, target, body, token);
        const Json* error = answer.find("NeutronError");
        return std::to_string(last_status_) + " " +
               (error == nullptr ? "no error" : error->string_or("type"));
    }
    std::string create(const std::string& plural, const std::string& singular,
                       const std::string& body, const std::string& token = "a:member") {
        const Json answer = json("POST", "/v2.0/" + plural, body, token);
        EXPECT_EQ(last_status_, 201) << answer.dump();
        const Json* one = answer.find(singular);
        return one == nullptr ? "" : one->string_or("id");
    }
    std::string make_network(const std::string& name, const std::string& token = "a:member") {
        return create("networks", "network", R"({"network": {"name": ")" + name + R"("}})", token);
    }
    std::string make_subnet(const std::string& network, const std::string& cidr = "10.0.0.0/24") {
        return create("subnets", "subnet",
                      R"({"subnet": {"network_id": ")" + network +
                          R"(", "ip_version": 4, "cidr": ")" + cidr + R"("}})");
    }
    std::vector<std::string> names(const std::string& target, const std::string& plural,
                                   const std::string& token = "a:member") {
        const Json answer = json("GET", target, {}, token);
        std::vector<std::string> result;
        const Json* items = answer.find(plural);
        for (const Json& item : items == nullptr ? Json::Array() : items->as_array()) {
            result.push_back(item.string_or("name"));
        }
        return result;
    }

    ManualClock clock_;
    SeededRandom random_{3};
    TokensFake tokens_;
    std::unique_ptr<compute::Database> database_;
    std::unique_ptr<compute::NetworkService> service_;
    Router router_;
    int last_status_ = 0;
};

TEST_F(NetworkApiTest, NoTokenNoAnswer) {
    EXPECT_EQ(call("GET", "/v2.0/networks", {}, "nonsense").status, 401);
    EXPECT_EQ(call("GET", "/", {}, "nonsense").status, 200);
}

TEST_F(NetworkApiTest, ReaderMayReadOnly) {
    EXPECT_EQ(call("GET", "/v2.0/networks", {}, "a:reader").status, 200);
    EXPECT_EQ(fault("POST", "/v2.0/networks", R"({"network": {"name": "x"}})", "a:reader"),
              "403 PolicyNotAuthorized");
    EXPECT_EQ(fault("GET", "/v2.0/networks", {}, ":member"), "403 PolicyNotAuthorized");
}

TEST_F(NetworkApiTest, BadBodiesAreRefusedInNeutronsWords) {
    EXPECT_EQ(fault("POST", "/v2.0/networks", R"({"net": {}})"), "400 HTTPBadRequest");
    EXPECT_EQ(fault("POST", "/v2.0/networks", R"({"networks": []})"), "400 HTTPBadRequest");
    EXPECT_EQ(fault("POST", "/v2.0/networks", R"({"networks": [3]})"), "400 HTTPBadRequest");
    const auto message = [&](const std::string& body) {
        return json("POST", "/v2.0/networks", body).find("NeutronError")->string_or("message");
    };
    EXPECT_EQ(message(R"({"network": {"colour": "red"}})"), "Unrecognized attribute(s) 'colour'");
    EXPECT_THAT(message(R"({"network": {"admin_state_up": "maybe"}})"),
                HasSubstr("Invalid input for admin_state_up"));
    EXPECT_THAT(message(R"({"network": {"name": 3}})"), HasSubstr("Invalid input for name"));
    EXPECT_THAT(message(R"({"network": {"name": ")" + std::string(256, 'x') + R"("}})"),
                HasSubstr("maximum length of 255"));
    EXPECT_THAT(message(R"({"network": {"project_id": "b"}})"), HasSubstr("admin privileges"));
    EXPECT_EQ(fault("POST", "/v2.0/subnets", R"({"subnet": {"cidr": "10.0.0.0/24"}})"),
              "400 HTTPBadRequest");
    EXPECT_EQ(call("POST", "/v2.0/networks", "{").status, 400);
}

TEST_F(NetworkApiTest, NetworkLooksLikeNeutrons) {
    const std::string id = make_network("net1");
    const std::string subnet = make_subnet(id);
    const Json answer = json("GET", "/v2.0/networks/" + id);
    const Json& network = *answer.find("network");
    EXPECT_EQ(network.string_or("name"), "net1");
    EXPECT_EQ(network.string_or("status"), "ACTIVE");
    EXPECT_EQ(network.string_or("tenant_id"), "a");
    EXPECT_EQ(network.string_or("project_id"), "a");
    EXPECT_EQ(network.find("subnets")->as_array().at(0).as_string(), subnet);
    EXPECT_EQ(network.bool_or("router:external", true), false);
    EXPECT_EQ(network.string_or("created_at"), "2023-11-14T22:13:20Z");
    EXPECT_FALSE(network.contains("provider:network_type"));
    const Json seen_by_admin = json("GET", "/v2.0/networks/" + id, {}, "x:admin");
    EXPECT_EQ(seen_by_admin.find("network")->string_or("provider:network_type"), "local");
}

TEST_F(NetworkApiTest, AnotherProjectSees404) {
    const std::string id = make_network("net1");
    EXPECT_EQ(fault("GET", "/v2.0/networks/" + id, {}, "b:member"), "404 NetworkNotFound");
    EXPECT_EQ(fault("DELETE", "/v2.0/networks/" + id, {}, "b:member"), "404 NetworkNotFound");
    EXPECT_EQ(fault("PUT", "/v2.0/networks/" + id, R"({"network": {"name": "mine"}})", "b:member"),
              "404 NetworkNotFound");
    EXPECT_EQ(fault("PUT", "/v2.0/networks/" + id + "/tags", R"({"tags": ["x"]})", "b:member"),
              "404 TagResourceNotFound");
    EXPECT_TRUE(names("/v2.0/networks", "networks", "b:member").empty());
    EXPECT_EQ(fault("GET", "/v2.0/quotas/a", {}, "b:member"), "403 PolicyNotAuthorized");
}

TEST_F(NetworkApiTest, ListFiltersSortsSelectsAndPages) {
    for (const char* name : {"c", "a", "b", "d"}) {
        make_network(name);
    }
    EXPECT_THAT(names("/v2.0/networks", "networks"), ElementsAre("c", "a", "b", "d"));
    EXPECT_THAT(names("/v2.0/networks?name=a&name=d", "networks"), ElementsAre("a", "d"));
    EXPECT_THAT(names("/v2.0/networks?sort_key=name&sort_dir=desc", "networks"),
                ElementsAre("d", "c", "b", "a"));
    EXPECT_TRUE(names("/v2.0/networks?shared=True", "networks").empty());
    EXPECT_EQ(names("/v2.0/networks?router:external=False&admin_state_up=true", "networks").size(),
              4U);
    EXPECT_EQ(fault("GET", "/v2.0/networks?colour=red"), "400 InvalidInput");
    EXPECT_EQ(fault("GET", "/v2.0/networks?sort_key=colour&sort_dir=asc"), "400 HTTPBadRequest");
    EXPECT_EQ(fault("GET", "/v2.0/networks?limit=-1"), "400 HTTPBadRequest");
    EXPECT_EQ(fault("GET", "/v2.0/networks?limit=1&marker=zzz"), "400 HTTPBadRequest");
    const Json selected = json("GET", "/v2.0/networks?fields=name&fields=id&name=a");
    EXPECT_EQ(selected.find("networks")->as_array().at(0).size(), 2U);
    const Json page = json("GET", "/v2.0/networks?sort_key=name&sort_dir=asc&limit=2");
    EXPECT_EQ(page.find("networks")->size(), 2U);
    const std::string next = page.find("networks_links")->as_array().at(0).string_or("href");
    EXPECT_THAT(next, HasSubstr("http://net:9696/v2.0/networks?"));
    EXPECT_THAT(names(next.substr(std::string("http://net:9696").size()), "networks"),
                ElementsAre("c", "d"));
}

TEST_F(NetworkApiTest, BulkCreatesAllOrNothing) {
    const Json both =
        json("POST", "/v2.0/networks", R"({"networks": [{"name": "x"}, {"name": "y"}]})");
    EXPECT_EQ(last_status_, 201);
    EXPECT_EQ(both.find("networks")->size(), 2U);
    EXPECT_EQ(fault("POST", "/v2.0/networks", R"({"networks": [{"name": "z"}, {"mtu": 3}]})"),
              "400 InvalidInput");
    EXPECT_THAT(names("/v2.0/networks", "networks"), ElementsAre("x", "y"));
}

TEST_F(NetworkApiTest, PortRoundTrip) {
    const std::string network = make_network("net");
    const std::string subnet = make_subnet(network);
    const std::string id = create("ports", "port",
                                  R"({"port": {"network_id": ")" + network +
                                      R"(", "name": "p", "fixed_ips": [{"subnet_id": ")" + subnet +
                                      R"(", "ip_address": "10.0.0.9"}],
                       "allowed_address_pairs": [{"ip_address": "10.0.0.128/25"}]}})");
    const Json answer = json("GET", "/v2.0/ports/" + id);
    const Json& port = *answer.find("port");
    EXPECT_EQ(port.find("fixed_ips")->as_array().at(0).string_or("ip_address"), "10.0.0.9");
    EXPECT_EQ(port.find("allowed_address_pairs")->as_array().at(0).string_or("mac_address"),
              port.string_or("mac_address"));
    EXPECT_EQ(port.string_or("status"), "DOWN");
    EXPECT_EQ(port.find("security_groups")->size(), 1U);
    EXPECT_FALSE(port.contains("binding:host_id"));
    EXPECT_THAT(names("/v2.0/ports?fixed_ips=ip_address%3D10.0.0.9", "ports"), ElementsAre("p"));
    EXPECT_THAT(names("/v2.0/ports?fixed_ips=ip_address_substr%3D0.0.9", "ports"),
                ElementsAre("p"));
    EXPECT_TRUE(names("/v2.0/ports?fixed_ips=ip_address%3D10.0.0.8", "ports").empty());
    EXPECT_EQ(fault("PUT", "/v2.0/ports/" + id, R"({"port": {"network_id": "x"}})"),
              "400 HTTPBadRequest");
    EXPECT_EQ(fault("PUT", "/v2.0/ports/" + id, R"({"port": {"binding:host_id": "h"}})"),
              "403 PolicyNotAuthorized");
    const Json bound =
        json("PUT", "/v2.0/ports/" + id, R"({"port": {"binding:host_id": "h"}})", "x:admin");
    EXPECT_EQ(bound.find("port")->string_or("binding:vif_type"), "bridge");
    EXPECT_EQ(fault("DELETE", "/v2.0/subnets/" + subnet), "409 SubnetInUse");
    EXPECT_EQ(fault("DELETE", "/v2.0/networks/" + network), "409 NetworkInUse");
    EXPECT_EQ(call("DELETE", "/v2.0/ports/" + id).status, 204);
    EXPECT_EQ(call("DELETE", "/v2.0/networks/" + network).status, 204);
}

TEST_F(NetworkApiTest, SecurityGroupRules) {
    const std::string group =
        create("security-groups", "security_group", R"({"security_group": {"name": "web"}})");
    EXPECT_THAT(names("/v2.0/security-groups", "security_groups"), ElementsAre("default", "web"));
    const std::string start =
        R"({"security_group_rule": {"security_group_id": ")" + group + R"(", )";
    const std::string id =
        create("security-group-rules", "security_group_rule",
               start + R"("direction": "ingress", "protocol": "TCP", "port_range_min": "80",
                          "port_range_max": 80, "ethertype": "IPv4"}})");
    const Json answer = json("GET", "/v2.0/security-group-rules/" + id);
    EXPECT_EQ(answer.find("security_group_rule")->string_or("protocol"), "tcp");
    EXPECT_EQ(answer.find("security_group_rule")->integer_or("port_range_min"), 80);
    EXPECT_EQ(fault("POST", "/v2.0/security-group-rules", start + R"("direction": "up"}})"),
              "400 HTTPBadRequest");
    EXPECT_EQ(fault("POST", "/v2.0/security-group-rules",
                    start + R"("direction": "ingress", "ethertype": "IPX"}})"),
              "400 SecurityGroupRuleInvalidEtherType");
    EXPECT_EQ(
        json("GET", "/v2.0/security-group-rules?security_group_id=" + group + "&direction=ingress")
            .find("security_group_rules")
            ->size(),
        1U);
    EXPECT_EQ(fault("GET", "/v2.0/security-group-rules/" + id, {}, "b:member"),
              "404 SecurityGroupRuleNotFound");
    EXPECT_EQ(call("DELETE", "/v2.0/security-group-rules/" + id).status, 204);
    EXPECT_EQ(call("DELETE", "/v2.0/security-groups/" + group).status, 204);
}

TEST_F(NetworkApiTest, TagsQuotasAgentsAndExtensions) {
    const std::string id = make_network("net");
    EXPECT_EQ(call("PUT", "/v2.0/networks/" + id + "/tags", R"({"tags": ["b", "a"]})").status, 200);
    EXPECT_EQ(call("PUT", "/v2.0/networks/" + id + "/tags/c").status, 201);
    EXPECT_EQ(call("DELETE", "/v2.0/networks/" + id + "/tags/b").status, 204);
    EXPECT_EQ(json("GET", "/v2.0/networks/" + id + "/tags").dump(), R"({"tags":["a","c"]})");
    EXPECT_THAT(names("/v2.0/networks?tags=a,c", "networks"), ElementsAre("net"));
    EXPECT_TRUE(names("/v2.0/networks?not-tags-any=a", "networks").empty());
    EXPECT_EQ(json("GET", "/v2.0/quotas/a").find("quota")->integer_or("network"), 100);
    EXPECT_EQ(
        json("GET", "/v2.0/quotas/a/details").find("quota")->find("network")->integer_or("used"),
        1);
    EXPECT_EQ(fault("PUT", "/v2.0/quotas/a", R"({"quota": {"network": 1}})"),
              "403 PolicyNotAuthorized");
    EXPECT_EQ(call("PUT", "/v2.0/quotas/a", R"({"quota": {"network": 1}})", "x:admin").status, 200);
    EXPECT_EQ(fault("POST", "/v2.0/networks", R"({"network": {}})"), "409 OverQuota");
    EXPECT_EQ(fault("GET", "/v2.0/agents"), "403 PolicyNotAuthorized");
    EXPECT_EQ(json("GET", "/v2.0/agents", {}, "x:admin").find("agents")->size(), 1U);
    EXPECT_EQ(call("GET", "/v2.0/extensions/security-group").status, 200);
    EXPECT_EQ(call("GET", "/v2.0/extensions/router").status, 404);
    EXPECT_EQ(call("GET", "/v2.0/floatingips").status, 404);
    EXPECT_EQ(call("PATCH", "/v2.0/networks").status, 405);
}

}  // namespace
}  // namespace kumoi::api
