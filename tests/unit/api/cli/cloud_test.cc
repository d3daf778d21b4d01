#include "api/cli/cloud.h"

#include <gtest/gtest.h>

namespace kumoi::cli {
namespace {

api::HttpResponse reply(int status, std::string body) {
    api::HttpResponse response;
    response.status = status;
    response.body = std::move(body);
    return response;
}

const char* const kLogin =
    R"({"token":{"catalog":[{"type":"compute","endpoints":[
    {"interface":"public","region_id":"R1","url":"http://one:8774/v2.1/"},
    {"interface":"public","region_id":"R2","url":"http://two:8774/v2.1"}]},
    {"type":"image","endpoints":[
    {"interface":"public","region_id":"R1","url":"http://one:9292"}]}]}})";

// Answers by "METHOD url", and remembers what was asked.
class CloudTest : public testing::Test {
protected:
    Cloud make(const std::string& region = {}) {
        Credentials credentials{.auth_url = "http://k:5000", .user_name = "ann", .password = "pw"};
        credentials.region = region;
        credentials.origin = "Test";
        answers_["POST http://k:5000/v3/auth/tokens"] = reply(login_status_, kLogin);
        answers_["POST http://k:5000/v3/auth/tokens"].headers.set("X-Subject-Token", "t1");
        return Cloud(credentials, [this](const api::HttpRequest& request) {
            asked_.push_back(request.method + " " + request.url);
            tokens_.push_back(request.headers.first_or("X-Auth-Token"));
            const auto found = answers_.find(asked_.back());
            return found == answers_.end()
                       ? Result<api::HttpResponse>(Error::unavailable("nobody at {}", request.url))
                       : Result<api::HttpResponse>(found->second);
        });
    }
    int login_status_ = 201;
    std::map<std::string, api::HttpResponse> answers_;
    std::vector<std::string> asked_;
    std::vector<std::string> tokens_;
};

TEST_F(CloudTest, SaysWhoseCredentialsWereRefused) {
    login_status_ = 401;
    Cloud cloud = make();
    answers_["POST http://k:5000/v3/auth/tokens"].body =
        R"({"error":{"code":401,"message":"No.","title":"Unauthorized"}})";
    const auto refused = cloud.get("compute", "/servers");
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::Unauthenticated);
    EXPECT_EQ(refused.error().message, "Test was not accepted at http://k:5000/v3: No.");
}

TEST_F(CloudTest, ReportsAnUnreachableServiceAndAMissingOne) {
    Cloud cloud = make();
    EXPECT_EQ(cloud.get("compute", "/servers").error().code, ErrorCode::Unavailable);
    EXPECT_EQ(cloud.get("network", "/networks").error().code, ErrorCode::NotFound);
}

TEST_F(CloudTest, LogsInOnceAndChoosesTheRegion) {
    answers_["GET http://two:8774/v2.1/flavors"] = reply(200, "{}");
    Cloud cloud = make("R2");
    ASSERT_TRUE(cloud.get("compute", "/flavors").ok());
    ASSERT_TRUE(cloud.get("compute", "/flavors").ok());
    EXPECT_EQ(asked_, (std::vector<std::string>{"POST http://k:5000/v3/auth/tokens",
                                                "GET http://two:8774/v2.1/flavors",
                                                "GET http://two:8774/v2.1/flavors"}));
    EXPECT_EQ(tokens_, (std::vector<std::string>{"", "t1", "t1"}));
}

TEST_F(CloudTest, FollowsPagesOnlyWhereTheCatalogPoints) {
    answers_["GET http://one:8774/v2.1/servers/detail"] = reply(200,
                                                                R"({"servers":[{"id":"a"}],
        "servers_links":[{"rel":"next","href":"http://evil/x?marker=a"}]})");
    answers_["GET http://one:8774/v2.1/servers/detail?marker=a"] =
        reply(200, R"({"servers":[{"id":"b"}]})");
    answers_["GET http://one:9292/v2/images"] =
        reply(200, R"({"images":[{"id":"i"}],"next":"/v2/images?marker=i"})");
    answers_["GET http://one:9292/v2/images?marker=i"] = reply(200, R"({"images":[]})");
    Cloud cloud = make("R1");
    EXPECT_EQ(cloud.list("compute", "/servers/detail", "servers").value().size(), 2u);
    EXPECT_EQ(cloud.list("image", "/images", "images").value().size(), 1u);
    for (const std::string& url : asked_) {
        EXPECT_EQ(url.find("evil"), std::string::npos);
    }
}

TEST(ErrorOf, ReadsTheBodiesOfEveryApi) {
    const auto text = [](int status, const char* body) {
        return error_of(reply(status, body)).message;
    };
    EXPECT_EQ(text(404, R"({"itemNotFound":{"code":404,"message":"no server"}})"), "no server");
    EXPECT_EQ(text(401, R"({"error":{"code":401,"message":"no","title":"x"}})"), "no");
    EXPECT_EQ(text(409, R"({"NeutronError":{"type":"x","message":"in use","detail":""}})"),
              "in use");
    EXPECT_EQ(text(404, "<html><head><title>404</title></head><body><h1>404</h1>\n gone</body>"),
              "404 gone");
    EXPECT_EQ(text(502, ""), "The service answered with status 502.");
}

TEST(ErrorOf, StatusesBecomeCodesAndTheRequestIdTheHint) {
    auto response = reply(403, R"({"forbidden":{"code":403,"message":"quota"}})");
    response.headers.set("X-Openstack-Request-Id", "req-1");
    const Error error = error_of(response);
    EXPECT_EQ(error.code, ErrorCode::Forbidden);
    EXPECT_EQ(error.hint, "request req-1");
    EXPECT_EQ(error_of(reply(504, "")).code, ErrorCode::Timeout);
    EXPECT_EQ(error_of(reply(500, "")).code, ErrorCode::Internal);
}

}  // namespace
}  // namespace kumoi::cli
