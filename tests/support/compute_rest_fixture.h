// ComputeRest: the Compute API over a real conductor in memory, two fake nodes and three users,
// called through its Router without any server. Tokens: "admin", "alice" (member of p1), "rita"
// (reader of p1), "bob" (member of p2).
#pragma once

#include <gtest/gtest.h>

#include "api/rest/compute/compute_api.h"
#include "tests/support/conductor_fakes.h"

namespace kumoi::api {

class TokensFake final : public TokenValidator {
public:
    Result<AuthContext> validate(std::string_view token) override {
        AuthContext who;
        who.user_id = who.user_name = std::string(token);
        who.project_id = token == "bob" ? "p2" : token == "admin" ? "p0" : "p1";
        who.domain_id = "default";
        who.roles = {token == "admin" ? "admin" : token == "rita" ? "reader" : "member"};
        who.is_admin = token == "admin";
        if (token != "admin" && token != "alice" && token != "rita" && token != "bob") {
            return Error::unauthenticated("no such token");
        }
        return who;
    }
};

constexpr char kTestImage[] = "340aee23-0f31-4bb7-a985-456e4da837c6";
constexpr char kTestNetwork[] = "23ccefce-ba10-4ab8-9367-abd32b4fc0af";

class ComputeRest : public testing::Test {
protected:
    ComputeRest() {
        images_.add(kTestImage);
        database_ = compute::Database::open(":memory:").value();
        conductor_ =
            compute::Conductor::create({}, {*database_, clock_, random_, images_, networks_})
                .value();
        cn1_.conductor = cn2_.conductor = conductor_.get();
        cn1_.clock = cn2_.clock = &clock_;
        add_node(cn1_, "cn-1");
        compute::Flavor flavor;
        flavor.flavor_id = "42";
        flavor.name = "m1.nano";
        flavor.vcpus = 1;
        flavor.memory_mb = 64;
        flavor.root_gb = 1;
        EXPECT_TRUE(conductor_->flavors().create(flavor).ok());
        services_ = std::make_unique<ComputeServices>(ComputeServices{
            *conductor_, clock_, random_, tokens_, "http://127.0.0.1:5000", 1000, "http://images"});
        router_ = std::make_unique<Router>(make_compute_router(*services_));
    }

    void add_node(compute::conductor_fakes::ComputeApiFake& node, const std::string& host) {
        conductor_->register_host(host, node);
        EXPECT_TRUE(conductor_->service_heartbeat(host).ok());
        EXPECT_TRUE(conductor_->compute_node_update(node.node(8, 8192, 100)).ok());
    }

    // `version`: "2.1"; the target is below the API's root: "/servers?limit=1".
    Reply call(const std::string& token, const std::string& method, const std::string& target,
               const std::string& body = {}, const std::string& version = "2.1") {
        HeaderMap headers;
        headers.add("Host", "127.0.0.1:8774");
        headers.add("OpenStack-API-Version", "compute " + version);
        if (!token.empty()) {
            headers.add("X-Auth-Token", token);
        }
        if (!body.empty()) {
            headers.add("Content-Type", "application/json");
        }
        Request request = make_request(method, "/v2.1" + target, body, headers);
        request.request_id = "req-" + std::to_string(++requests_);
        return router_->handle(request);
    }

    static Json json(const Reply& reply) {
        auto parsed = Json::parse(reply.body);
        EXPECT_TRUE(parsed.ok()) << reply.status << " " << reply.body;
        return parsed.ok() ? parsed.value() : Json();
    }
    static std::string message(const Reply& reply) {
        const Json body = json(reply);
        return body.as_object().front().second.string_or("message");
    }

    static std::string create_body(const std::string& name, const std::string& extra = {}) {
        return fmt::format(
            R"({{"server": {{"name": "{}", "flavorRef": "42", "imageRef": "{}"{}}}}})", name,
            kTestImage, extra);
    }
    std::string create(const std::string& token, const std::string& name = "web") {
        const Reply reply = call(token, "POST", "/servers", create_body(name));
        EXPECT_EQ(reply.status, 202) << reply.body;
        return json(reply).find("server")->string_or("id");
    }
    Json show(const std::string& token, const std::string& uuid, const std::string& version) {
        const Reply reply = call(token, "GET", "/servers/" + uuid, {}, version);
        EXPECT_EQ(reply.status, 200) << reply.body;
        return *json(reply).find("server");
    }

    ManualClock clock_{1'795'426'719 * kNanosPerSecond};
    SeededRandom random_{1};
    compute::conductor_fakes::ImageApiFake images_;
    compute::conductor_fakes::NetworkApiFake networks_;
    std::unique_ptr<compute::Database> database_;
    std::unique_ptr<compute::Conductor> conductor_;
    compute::conductor_fakes::ComputeApiFake cn1_{"cn-1"};
    compute::conductor_fakes::ComputeApiFake cn2_{"cn-2"};
    TokensFake tokens_;
    std::unique_ptr<ComputeServices> services_;
    std::unique_ptr<Router> router_;
    int requests_ = 0;
};

}  // namespace kumoi::api
