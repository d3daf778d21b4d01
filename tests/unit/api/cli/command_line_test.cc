#include "api/cli/command_line.h"

#include <gtest/gtest.h>

#include "api/cli/exit_code.h"

namespace kumoi::cli {
namespace {

// A cloud with one image, one flavor and one network, in which servers become active at the third
// look.
class CommandLineTest : public testing::Test {
protected:
    api::HttpResponse answer(const api::HttpRequest& request) {
        api::HttpResponse response;
        response.status = 200;
        const std::string asked = request.method + " " + request.url;
        if (asked == "POST http://k/v3/auth/tokens") {
            response.headers.set("X-Subject-Token", "t");
            response.body = R"({"token":{"catalog":[
                {"type":"compute","endpoints":[{"interface":"public","url":"http://c"}]},
                {"type":"image","endpoints":[{"interface":"public","url":"http://i"}]},
                {"type":"network","endpoints":[{"interface":"public","url":"http://n"}]}]}})";
        } else if (asked == "GET http://i/v2/images") {
            response.body = R"({"images":[{"id":"i1","name":"alpine","size":1000}]})";
        } else if (asked == "GET http://c/flavors/detail") {
            response.body =
                R"({"flavors":[{"id":"f1","name":"tiny","ram":128,"vcpus":1,"disk":1}]})";
        } else if (asked == "GET http://n/v2.0/networks") {
            response.body = R"({"networks":[{"id":"n1","name":"lan"}]})";
        } else if (asked == "POST http://c/servers") {
            created_ = request.body;
            response.status = 202;
            response.body = R"({"server":{"id":"s1"}})";
        } else if (asked == "GET http://c/servers/s1") {
            response.body = ++looks_ < 3 ? R"({"server":{"id":"s1","name":"web","status":"BUILD"}})"
                                         : final_server_;
        } else if (asked == "GET http://c/servers/detail") {
            response.body = R"({"servers":[{"id":"s1","name":"web","status":"ACTIVE"}]})";
        } else {
            response.status = 404;
            response.body = R"({"itemNotFound":{"code":404,"message":"nothing"}})";
        }
        return response;
    }
    int run(const std::vector<std::string>& arguments) {
        Session session(clock_, [](const std::string&) { return std::optional<std::string>(); });
        Credentials credentials{.auth_url = "http://k", .user_name = "ann", .password = "pw"};
        session.set_cloud(std::make_unique<Cloud>(
            credentials, [this](const api::HttpRequest& request) -> Result<api::HttpResponse> {
                if (unreachable_) {
                    return Error::unavailable("nobody there");
                }
                return answer(request);
            }));
        testing::internal::CaptureStdout();
        testing::internal::CaptureStderr();
        const int code = run_command_line(arguments, session);
        out_ = testing::internal::GetCapturedStdout();
        err_ = testing::internal::GetCapturedStderr();
        return code;
    }

    ManualClock clock_;
    bool unreachable_ = false;
    int looks_ = 0;
    std::string created_, out_, err_;
    std::string final_server_ =
        R"({"server":{"id":"s1","name":"web","status":"ACTIVE",
        "addresses":{"lan":[{"addr":"10.0.0.7"}]}}})";
};

TEST_F(CommandLineTest, WrongUseIsTwoAndGoesToStderr) {
    for (const auto& arguments :
         std::vector<std::vector<std::string>>{{},
                                               {"nonsense"},
                                               {"server"},
                                               {"server", "show"},
                                               {"server", "list", "--nonsense"},
                                               {"server", "list", "-f", "xml"},
                                               {"server", "list", "-c", "nope"}}) {
        EXPECT_EQ(run(arguments), kUsage);
        EXPECT_EQ(out_, "");
        EXPECT_NE(err_, "");
    }
}

TEST_F(CommandLineTest, OtherFailuresHaveTheirOwnCodes) {
    EXPECT_EQ(run({"server", "show", "none"}), kNotFound);
    EXPECT_EQ(run({"completion", "tcsh"}), kUsage);
    unreachable_ = true;
    EXPECT_EQ(run({"server", "list"}), kUnreachable);
    EXPECT_NE(err_.find("Error: "), std::string::npos);
    EXPECT_EQ(out_, "");
}

TEST_F(CommandLineTest, LaunchFillsInFlavorAndNetworkAndWaits) {
    ASSERT_EQ(run({"server", "launch", "alp", "web", "-f", "value", "-c", "ADDRESS"}), kDone)
        << err_;
    EXPECT_EQ(
        created_,
        R"({"server":{"name":"web","imageRef":"i1","flavorRef":"f1","networks":[{"uuid":"n1"}]}})");
    EXPECT_EQ(out_, "10.0.0.7\n");
    EXPECT_NE(err_.find("active in"), std::string::npos);
    EXPECT_NE(err_.find("kumoi server console web"), std::string::npos);
    EXPECT_EQ(looks_, 3);
}

TEST_F(CommandLineTest, LaunchShowsTheSchedulersReasons) {
    final_server_ =
        R"({"server":{"id":"s1","name":"web","status":"ERROR","fault":{"code":500,
        "message":"No valid host was found. cn-1: RamFilter: 9 MiB usable"}}})";
    EXPECT_EQ(run({"server", "launch", "alpine", "web"}), kRefused);
    EXPECT_NE(err_.find("RamFilter: 9 MiB usable"), std::string::npos);
}

TEST_F(CommandLineTest, NoWaitReturnsAtOnce) {
    EXPECT_EQ(run({"server", "launch", "alpine", "web", "--no-wait", "-f", "value"}), kDone);
    EXPECT_EQ(out_, "s1\n");
    EXPECT_EQ(looks_, 0);
}

TEST_F(CommandLineTest, GlobalOptionsStandAnywhere) {
    EXPECT_EQ(run({"-f", "value", "-c", "NAME", "server", "list"}), kDone);
    EXPECT_EQ(out_, "web\n");
    EXPECT_EQ(run({"server", "list", "-c", "NAME", "-c", "STATUS", "-f", "csv"}), kDone);
    EXPECT_EQ(out_, "NAME,STATUS\nweb,ACTIVE\n");
}

TEST_F(CommandLineTest, CompletionKnowsEveryNounAndVerb) {
    for (const char* shell : {"bash", "zsh", "fish"}) {
        EXPECT_EQ(run({"completion", shell}), kDone);
        for (const char* word : {"server", "launch", "vm", "stats", "flavor", "check"}) {
            EXPECT_NE(out_.find(word), std::string::npos) << shell << " " << word;
        }
    }
}

TEST_F(CommandLineTest, HelpIsNoError) {
    EXPECT_EQ(run({"--help"}), kDone);
    EXPECT_EQ(run({"server", "launch", "--help"}), kDone);
    EXPECT_EQ(run({"version"}), kDone);
    EXPECT_TRUE(out_.starts_with("kumoi "));
}

}  // namespace
}  // namespace kumoi::cli
