#include <gtest/gtest.h>

#include <thread>

#include "compute/clients/http_client.h"
#include "compute/clients/keystone_session.h"
#include "compute/clients/service_client.h"
#include "compute/clients/service_fault.h"
#include "tests/support/recorded_cloud.h"

namespace kumoi::clients {
namespace {

using test::RecordedCloud;
using test::ScriptServer;
using Reply = ScriptServer::Reply;
using Request = ScriptServer::Request;

AuthOptions password_options(const std::string& url) {
    return {.section = "placement",
            .auth_url = url,
            .username = "placement",
            .user_domain_name = "Default",
            .password = "secret",
            .project_name = "service",
            .project_domain_name = "Default"};
}

// A Keystone whose tokens are "token-1", "token-2", ...; each lives an hour from
// 2023-11-14T22:13:20Z, which is where a ManualClock begins. Also a service below /svc that knows
// the newest token only.
struct MiniCloud {
    explicit MiniCloud(std::string lifetime_end = "2023-11-14T23:13:20.000000Z")
        : end(std::move(lifetime_end)),
          server([this](const Request& request) { return answer(request); }) {}

    Reply answer(const Request& request) {
        if (request.target == "/v3/auth/tokens" && request.method == "POST") {
            ++tokens;
            return {.status = 201,
                    .headers = {{"X-Subject-Token", "token-" + std::to_string(tokens)}},
                    .body = Json::object({{"token", token_body()}}).dump()};
        }
        if (request.target.starts_with("/v3/auth/tokens")) {
            return {.status = request.header("x-subject-token") == "good" ? 200 : 404,
                    .body = Json::object({{"token", token_body()}}).dump()};
        }
        const bool known = request.header("x-auth-token") == "token-" + std::to_string(tokens) ||
                           request.header("x-auth-token") == "user";
        const bool service_known =
            refused_service.empty() || request.header("x-service-token") != refused_service;
        return {.status = known && service_known ? 200 : 401, .body = "{}"};
    }
    Json token_body() const {
        Json endpoint = Json::object(
            {{"interface", "internal"}, {"region", "R1"}, {"url", "http://svc/v3/own"}});
        Json service =
            Json::object({{"type", "volumev3"}, {"endpoints", Json(Json::Array{endpoint})}});
        return Json::object({{"expires_at", end},
                             {"issued_at", "2023-11-14T22:13:20.000000Z"},
                             {"project", Json::object({{"id", "own"}, {"name", "service"}})},
                             {"catalog", Json(Json::Array{service})}});
    }

    std::string end;
    std::string refused_service;
    int tokens = 0;
    ScriptServer server;
};

struct Clients {
    ManualClock clock;
    SeededRandom random{1};
    HttpClient http;
    RetryingTransport transport{http, {}, random, [](int64_t) {}};
};

TEST(ClientsKeystone, AsksAsNovaDidAndReadsTheTokenOfARealCloud) {
    RecordedCloud cloud(test::load_recording("first_start.json"));
    Clients clients;
    KeystoneSession session(password_options(cloud.url()), clients.http, clients.clock);
    const auto token = session.token();
    ASSERT_TRUE(token.ok()) << token.error().text();
    EXPECT_EQ((*token)->user_name, "placement");
    EXPECT_EQ((*token)->project_name, "service");
    EXPECT_EQ((*token)->roles.size(), 4u);
    EXPECT_EQ(iso8601((*token)->expires_ns), "2026-11-24T09:36:34Z");
    const auto asked = cloud.asked("POST", "/v3/auth/tokens");
    ASSERT_EQ(asked.size(), 1u);
    EXPECT_EQ(Json::parse(asked[0].body).value(), cloud.recorded("POST", "/v3/auth/tokens").body);
    ServiceOptions placement{.service_type = "placement"};
    EXPECT_EQ(session.endpoint(placement).value(), "http://127.0.0.1:8778");
    ServiceOptions cinder{.service_type = "block-storage"};
    EXPECT_EQ(session.endpoint(cinder).value(),
              "http://127.0.0.1:8776/v3/2134bf5694ce47398705c7c616390b84");
    ServiceOptions nothing{.service_type = "object-store"};
    const auto none = session.endpoint(nothing);
    ASSERT_FALSE(none.ok());
    EXPECT_EQ(none.error().fault, "EndpointNotFound");
    EXPECT_NE(none.error().hint.find("placement"), std::string::npos);
}

TEST(ClientsKeystone, RenewsShortlyBeforeTheEnd) {
    MiniCloud cloud;
    Clients clients;
    KeystoneSession session(password_options(cloud.server.url()), clients.http, clients.clock);
    EXPECT_EQ(session.token().value()->id, "token-1");
    clients.clock.advance(3'479 * kNanosPerSecond);
    EXPECT_EQ(session.token().value()->id, "token-1");
    clients.clock.advance(2 * kNanosPerSecond);
    EXPECT_EQ(session.token().value()->id, "token-2");
}

TEST(ClientsKeystone, ManyThreadsFetchOneToken) {
    MiniCloud cloud;
    Clients clients;
    KeystoneSession session(password_options(cloud.server.url()), clients.http, clients.clock);
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&] { EXPECT_TRUE(session.token().ok()); });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(cloud.tokens, 1);
}

TEST(ClientsKeystone, RefusedCredentialsSayWhereToLook) {
    ScriptServer server([](const Request&) {
        return Reply{.status = 401,
                     .body = R"({"error":{"code":401,"message":"wrong","title":"Unauthorized"}})"};
    });
    Clients clients;
    KeystoneSession session(password_options(server.url()), clients.http, clients.clock);
    const auto token = session.token();
    ASSERT_FALSE(token.ok());
    EXPECT_EQ(token.error().code, ErrorCode::Unauthenticated);
    EXPECT_NE(token.error().message.find("wrong"), std::string::npos);
    EXPECT_NE(token.error().hint.find("[placement]"), std::string::npos);
}

TEST(ClientsKeystone, EveryKindOfAuthHasItsBody) {
    AuthOptions options{.auth_type = "v3applicationcredential",
                        .auth_url = "http://k",
                        .application_credential_id = "ac",
                        .application_credential_secret = "s"};
    EXPECT_EQ(auth_request(options).value().dump(),
              R"({"auth":{"identity":{"methods":["application_credential"],)"
              R"("application_credential":{"secret":"s","id":"ac"}}}})");
    options = {.auth_type = "v3token", .project_id = "p", .token = "t"};
    EXPECT_EQ(auth_request(options).value().dump(),
              R"({"auth":{"identity":{"methods":["token"],"token":{"id":"t"}},)"
              R"("scope":{"project":{"id":"p"}}}})");
    options = {.user_id = "u", .password = "x", .system_scope = "all"};
    EXPECT_EQ(auth_request(options).value().dump(),
              R"({"auth":{"identity":{"methods":["password"],"password":{"user":)"
              R"({"id":"u","password":"x"}}},"scope":{"system":{"all":true}}}})");
    options = {.user_id = "u", .password = "x", .domain_name = "d"};
    EXPECT_EQ(auth_request(options).value().find_path({"auth", "scope"})->dump(),
              R"({"domain":{"name":"d"}})");
    options = {.section = "neutron", .auth_type = "v3oidcpassword"};
    EXPECT_EQ(auth_request(options).error().code, ErrorCode::Unsupported);
    EXPECT_EQ(auth_request(AuthOptions{.section = "x"}).error().code, ErrorCode::InvalidArgument);
}

TEST(ClientsKeystone, FindsVersion3) {
    EXPECT_EQ(identity_v3_url("http://h/identity"), "http://h/identity/v3");
    EXPECT_EQ(identity_v3_url("http://h:5000/v3/"), "http://h:5000/v3");
    EXPECT_EQ(identity_v3_url("http://h:5000/v2.0"), "http://h:5000/v3");
}

TEST(ClientsKeystone, ValidatesAUsersToken) {
    MiniCloud cloud;
    Clients clients;
    KeystoneSession session(password_options(cloud.server.url()), clients.http, clients.clock);
    EXPECT_EQ(session.validate("good", false).value().project_id, "own");
    EXPECT_EQ(session.validate("bad", true).error().code, ErrorCode::Unauthenticated);
    EXPECT_EQ(cloud.server.requests().back().target, "/v3/auth/tokens?allow_expired=1");
}

TEST(ClientsService, ARefusedTokenIsRenewedOnce) {
    MiniCloud cloud;
    Clients clients;
    KeystoneSession session(password_options(cloud.server.url()), clients.http, clients.clock);
    ServiceClient service("Svc", {.endpoint_override = cloud.server.url() + "/svc/"},
                          {&session, nullptr, clients.transport});
    ASSERT_EQ(service.send({}, {.path = "/a"}).value().status, 200);
    ++cloud.tokens;  // Keystone lost it: the one we hold is not the newest
    EXPECT_EQ(service.send({}, {.path = "/a"}).value().status, 200);
    EXPECT_EQ(cloud.tokens, 3);
    const auto requests = cloud.server.requests();
    EXPECT_EQ(requests.back().target, "/svc/a");
    EXPECT_EQ(requests.back().header("x-auth-token"), "token-3");
}

TEST(ClientsService, AUsersTokenTravelsWithAServiceToken) {
    MiniCloud cloud;
    Clients clients;
    KeystoneSession service_user(password_options(cloud.server.url()), clients.http, clients.clock);
    ServiceClient service("Svc",
                          {.endpoint_override = cloud.server.url() + "/v3/%(project_id)s",
                           .version_service = "volume"},
                          {nullptr, &service_user, clients.transport});
    const Json wire = Json::parse(R"({"auth_token":"user","request_id":"req-1","project_id":"p1",
        "global_request_id":"req-0"})")
                          .value();
    const Caller caller = caller_from_wire(&wire, "", "");
    ASSERT_EQ(service.send(caller, {.path = "/volumes", .microversion = "3.44"}).value().status,
              200);
    const auto request = cloud.server.requests().back();
    EXPECT_EQ(request.target, "/v3/p1/volumes");
    EXPECT_EQ(request.header("x-auth-token"), "user");
    EXPECT_EQ(request.header("x-service-token"), "token-1");
    EXPECT_EQ(request.header("openstack-api-version"), "volume 3.44");
    EXPECT_EQ(request.header("x-openstack-request-id"), "req-0");

    cloud.refused_service = "token-1";
    EXPECT_EQ(service.send(caller, {.path = "/volumes"}).value().status, 200);
    EXPECT_EQ(cloud.server.requests().back().header("x-service-token"), "token-2");
    EXPECT_EQ(service.send(Caller{}, {.path = "/"}).error().code, ErrorCode::Unauthenticated);
}

TEST(ClientsService, AUsersVolumesAreInTheUsersProject) {
    MiniCloud cloud;
    Clients clients;
    KeystoneSession session(password_options(cloud.server.url()), clients.http, clients.clock);
    ServiceClient cinder("Cinder", {.service_type = "block-storage"},
                         {&session, nullptr, clients.transport});
    EXPECT_EQ(cinder.endpoint(Caller{}).value(), "http://svc/v3/own");
    Caller caller{.user_token = "user", .project_id = "theirs"};
    EXPECT_EQ(cinder.endpoint(caller).value(), "http://svc/v3/theirs");
    caller.catalog = std::make_shared<const ServiceCatalog>(
        ServiceCatalog::parse(Json::parse(R"([{"type":"volumev3","name":"cinderv3","endpoints":
            [{"region":"R1","publicURL":"http://pub/v3/theirs"}]}])")
                                  .value())
            .value());
    EXPECT_EQ(cinder.endpoint(caller).value(), "http://pub/v3/theirs");
}

TEST(ClientsService, InOurOwnNameTheAddressHasOurOwnProject) {
    MiniCloud cloud;
    Clients clients;
    KeystoneSession session(password_options(cloud.server.url()), clients.http, clients.clock);
    ServiceClient cinder("Cinder", {.endpoint_override = "http://svc/v3/%(project_id)s"},
                         {&session, nullptr, clients.transport});
    const Caller recovered{.project_id = "theirs"};  // a journal keeps no token
    EXPECT_EQ(cinder.endpoint(recovered).value(), "http://svc/v3/own");
    EXPECT_EQ(cinder.endpoint(Caller{.user_token = "user", .project_id = "theirs"}).value(),
              "http://svc/v3/theirs");
}

TEST(ClientsFault, ReadsEveryServicesRefusal) {
    const auto parsed = [](std::string body) {
        return parse_fault({.status = 409, .headers = {}, .body = std::move(body)});
    };
    const auto neutron =
        parsed(R"({"NeutronError":{"type":"IpAddressInUse","message":"taken","detail":""}})");
    EXPECT_EQ(neutron.type, "IpAddressInUse");
    EXPECT_EQ(neutron.message, "taken");
    const auto placement = parsed(R"({"errors":[{"status":409,"title":"Conflict","detail":"again",
        "code":"placement.concurrent_update"}]})");
    EXPECT_EQ(placement.code, "placement.concurrent_update");
    EXPECT_EQ(placement.message, "again");
    EXPECT_EQ(parsed(R"({"itemNotFound":{"code":404,"message":"no volume"}})").message,
              "no volume");
    EXPECT_EQ(parsed("<html><body><h1>409 Conflict</h1>\n  in use</body></html>").message,
              "409 Conflict in use");
    EXPECT_EQ(parsed("").message, "");
    EXPECT_LE(parsed(std::string(100'000, 'x')).message.size(), 1003u);
    const Error error = refusal("Neutron", "make a port",
                                {.status = 404, .headers = {}, .body = "{}"}, "NetworkNotFound");
    EXPECT_EQ(error.code, ErrorCode::NotFound);
    EXPECT_EQ(error.fault, "NetworkNotFound");
}

TEST(ClientsOptions, ReadsAnOrdinaryNovaConf) {
    OptionTable table;
    table.add_all(client_option_table());
    const auto config = Config::parse(R"([placement]
auth_type = password
auth_url = http://k:5000
username = placement
password = secret
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = RegionOne
valid_interfaces = internalURL
cafile = /etc/ssl/ca.pem
timeout = 20
[neutron]
auth_section = placement
http_retries = 5
[cinder]
catalog_info = volumev3:cinderv3:publicURL
os_region_name = R2
[glance]
api_servers = http://g1:9292,http://g2:9292
)",
                                      table);
    ASSERT_TRUE(config.ok()) << config.error().text();
    const AuthOptions placement = AuthOptions::from_config(*config, "placement");
    EXPECT_EQ(placement.username, "placement");
    EXPECT_TRUE(placement.configured());
    EXPECT_FALSE(AuthOptions::from_config(*config, "cinder").configured());
    EXPECT_EQ(AuthOptions::from_config(*config, "neutron").password, "secret");
    EXPECT_EQ(ServiceOptions::from_config(*config, "placement").interfaces,
              std::vector<std::string>{"internal"});
    EXPECT_EQ(ServiceOptions::from_config(*config, "neutron").retries.attempts_max, 6);
    EXPECT_EQ(ServiceOptions::from_config(*config, "neutron").service_type, "network");
    const ServiceOptions cinder = ServiceOptions::from_config(*config, "cinder");
    EXPECT_EQ(cinder.service_type + cinder.service_name + cinder.interfaces[0] + cinder.region_name,
              "volumev3cinderv3publicR2");
    EXPECT_EQ(ServiceOptions::from_config(*config, "glance").endpoint_override, "http://g1:9292");
    const HttpClientOptions http = http_options_from_config(*config, "placement");
    EXPECT_EQ(http.tls.ca_file, "/etc/ssl/ca.pem");
    EXPECT_EQ(http.timeout_ms, 20'000);
}

}  // namespace
}  // namespace kumoi::clients
