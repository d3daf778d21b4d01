// An operator's word against a cloud of a few lines.
#include "api/cli/settle_migration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kumoi::cli {
namespace {

using testing::HasSubstr;

class SettleMigration : public testing::Test {
protected:
    Result<api::HttpResponse> answer(const api::HttpRequest& request) {
        api::HttpResponse response;
        response.status = 200;
        const std::string path = request.url.substr(std::string("http://nova").size());
        if (request.url.starts_with("http://k")) {
            response.status = 201;
            response.headers.set("X-Subject-Token", "t");
            response.body = R"({"token":{"catalog":[{"type":"compute","endpoints":[
                {"interface":"public","region_id":"R","url":"http://nova"}]}]}})";
        } else if (path.starts_with("/os-services")) {
            if (request.method == "PUT") {
                written.push_back(path + " " + request.body);
                forced_down = true;
            }
            Json service = Json::object(
                {{"id", "s2"}, {"host", "cn-2"}, {"state", state}, {"forced_down", forced_down}});
            Json all = Json::array();
            all.push_back(std::move(service));
            response.body = Json::object({{"services", std::move(all)}}).dump();
        } else if (path.ends_with("/migrations")) {
            response.body = moves ? R"({"migrations":[{"id":7,"status":"running",
                "source_compute":"cn-1","dest_compute":"cn-2"}]})"
                                  : R"({"migrations":[]})";
        } else {
            response.body =
                Json::object({{"server", Json::object({{"OS-EXT-STS:task_state", task},
                                                       {"OS-EXT-SRV-ATTR:host", "cn-1"}})}})
                    .dump();
        }
        return response;
    }
    Result<void> fence(const std::string& host) {
        return fence_host_of_migration(cloud, Json::object({{"id", "a"}, {"name", "web"}}), host);
    }
    bool moves = true;
    bool forced_down = false;
    std::string state = "down";
    Json task = "migrating";
    std::vector<std::string> written;
    Cloud cloud{{.auth_url = "http://k", .user_name = "u", .password = "p"},
                [this](const api::HttpRequest& request) { return answer(request); }};
};

TEST_F(SettleMigration, TheServiceOfTheHostThatIsOffIsForcedDownOnce) {
    ASSERT_TRUE(fence("cn-2").ok());
    ASSERT_EQ(written.size(), 1u);
    EXPECT_THAT(written[0], HasSubstr("/os-services/s2 {\"forced_down\":true}"));
    ASSERT_TRUE(fence("cn-2").ok()) << "it is";
    EXPECT_EQ(written.size(), 1u);
}

TEST_F(SettleMigration, AHostThatAnswersIsNotOff) {
    state = "up";
    const auto refused = fence("cn-2");
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message, HasSubstr("is not off"));
    EXPECT_TRUE(written.empty());
}

TEST_F(SettleMigration, NeitherAnotherHostNorAServerThatDoesNotMove) {
    EXPECT_THAT(fence("cn-3").error().message, HasSubstr("between cn-1 and cn-2, not cn-3"));
    moves = false;
    EXPECT_EQ(fence("cn-2").error().code, ErrorCode::NotFound);
    EXPECT_TRUE(written.empty());
}

TEST_F(SettleMigration, ItIsOverWhenTheServerIsNotMigratingAnyMore) {
    EXPECT_EQ(settled_host(cloud, "a").value(), "");
    task = Json();
    EXPECT_EQ(settled_host(cloud, "a").value(), "cn-1");
}

}  // namespace
}  // namespace kumoi::cli
