#include "api/rest/auth_middleware.h"

#include <gtest/gtest.h>

namespace kumoi::api {
namespace {

class FixedTokens final : public TokenValidator {
public:
    Result<AuthContext> validate(std::string_view token) override {
        ++calls;
        if (token == "broken") {
            return Error::internal("database gone");
        }
        if (token == "ann") {
            return AuthContext{.user_id = "ann", .project_id = "p1", .roles = {"member"}};
        }
        if (token == "nova") {
            return AuthContext{.user_id = "nova", .project_id = "service", .roles = {"service"}};
        }
        return Error::unauthenticated("unknown");
    }
    int calls = 0;
};

class AuthMiddlewareTest : public testing::Test {
protected:
    AuthMiddlewareTest() {
        router_.use(authenticate(
            tokens_, {.identity_uri = "http://127.0.0.1:5000", .open_routes = {"/", "/v2.1"}}));
        router_.get("/", [](Request&) { return Reply::text("versions"); });
        router_.get("/v2.1", [](Request& request) {
            const AuthContext* who = auth_if_any(request);
            return Reply::text(who == nullptr ? "nobody" : who->user_id);
        });
        router_.get("/v2.1/servers", [](Request& request) {
            const AuthContext& who = auth_of(request);
            return Reply::text(fmt::format("{} {} {}", who.user_id, who.request_id,
                                           who.has_role("service") ? "service" : "-"));
        });
    }
    Reply get(std::string_view target, const std::string& token = {},
              const std::string& service_token = {}) {
        Request request = make_request("GET", target);
        if (!token.empty()) {
            request.headers.set("X-Auth-Token", token);
        }
        if (!service_token.empty()) {
            request.headers.set("X-Service-Token", service_token);
        }
        request.request_id = "req-1";
        return router_.handle(request);
    }
    FixedTokens tokens_;
    Router router_;
};

TEST_F(AuthMiddlewareTest, RefusesAsKeystonemiddlewareDoes) {
    for (const std::string& token : {std::string(), std::string("wrong"), std::string(5000, 'x')}) {
        const Reply reply = get("/v2.1/servers", token);
        EXPECT_EQ(reply.status, 401);
        EXPECT_EQ(reply.headers.first_or("WWW-Authenticate"),
                  "Keystone uri=\"http://127.0.0.1:5000\"");
        const Json body = Json::parse(reply.body).value();
        EXPECT_EQ(body.find("error")->integer_or("code"), 401);
        EXPECT_EQ(body.find("error")->string_or("title"), "Unauthorized");
        EXPECT_EQ(body.find("error")->string_or("message"),
                  "The request you have made requires authentication.");
    }
    EXPECT_EQ(tokens_.calls, 1);  // nothing absurd reaches the validator
}

TEST_F(AuthMiddlewareTest, UnknownPathsDoNotTellThemselvesApartWithoutToken) {
    EXPECT_EQ(get("/v2.1/no-such-thing").status, 401);
    EXPECT_EQ(get("/v2.1/no-such-thing", "ann").status, 404);
}

TEST_F(AuthMiddlewareTest, AFailingValidatorIsNotAnUnknownToken) {
    EXPECT_EQ(get("/v2.1/servers", "broken").status, 500);
}

TEST_F(AuthMiddlewareTest, AttachesWhoAsks) {
    EXPECT_EQ(get("/v2.1/servers", "ann").body, "ann req-1 -");
}

TEST_F(AuthMiddlewareTest, OpenRoutesNeedNoTokenAndUseAGoodOne) {
    EXPECT_EQ(get("/").body, "versions");
    EXPECT_EQ(get("/v2.1/").body, "nobody");
    EXPECT_EQ(get("/v2.1", "wrong").body, "nobody");
    EXPECT_EQ(get("/v2.1", "ann").body, "ann");
}

TEST_F(AuthMiddlewareTest, ServiceTokensLendTheirRole) {
    EXPECT_EQ(get("/v2.1/servers", "ann", "nova").body, "ann req-1 service");
    EXPECT_EQ(get("/v2.1/servers", "ann", "wrong").body, "ann req-1 -");
    EXPECT_EQ(get("/v2.1/servers", "ann", "ann").body, "ann req-1 -");
    EXPECT_EQ(get("/v2.1/servers", {}, "nova").status, 401);
}

}  // namespace
}  // namespace kumoi::api
