// Commands for the agent in a guest: what it is asked, and what a hostile one can do to us.
#include "compute/driver/guest_agent.h"

#include <gtest/gtest.h>

#include "base/encoding.h"
#include "compute/driver/guest_agent_channel.h"
#include "tests/support/guest_agent_fake.h"

namespace kumoi::compute {
namespace {

using Fake = GuestAgentFake;

constexpr GuestAgentOptions kPatient{10'000, 10'000};
constexpr GuestAgentOptions kHasty{50, 50};

class GuestAgentTest : public testing::Test {
protected:
    Result<GuestAgent> connect(const Fake& fake, const GuestAgentOptions& options = kPatient) {
        return GuestAgent::connect(fake.path(), options, random_);
    }
    SeededRandom random_{1, "agent"};
};

std::string behaved(const Json& request) {
    return Fake::is_sync(request) ? Fake::sync(request) : Fake::done();
}

TEST_F(GuestAgentTest, SetsAPasswordThatIsNotCrypted) {
    Json asked;
    const Fake fake([&](const Json& request) {
        asked = Fake::is_sync(request) ? asked : request;
        return behaved(request);
    });
    auto agent = connect(fake).value();
    ASSERT_TRUE(agent.ping().ok());
    ASSERT_TRUE(agent.set_user_password("root", "s3cret\"\n").ok());
    EXPECT_EQ(asked.string_or("execute"), "guest-set-user-password");
    const Json* arguments = asked.find("arguments");
    ASSERT_NE(arguments, nullptr);
    EXPECT_EQ(arguments->string_or("username"), "root");
    EXPECT_EQ(base64_decode(arguments->string_or("password")), "s3cret\"\n");
    EXPECT_FALSE(arguments->bool_or("crypted", true));
    EXPECT_EQ(fake.commands(), (std::vector<std::string>{"guest-ping", "guest-set-user-password"}));
}

TEST_F(GuestAgentTest, FreezesAndThaws) {
    bool frozen = false;
    const Fake fake([&](const Json& request) -> std::string {
        const std::string command = request.string_or("execute");
        if (command == "guest-fsfreeze-status") {
            return Fake::done(frozen ? "\"frozen\"" : "\"thawed\"");
        }
        if (command.starts_with("guest-fsfreeze-")) {
            frozen = command.ends_with("freeze");
            return Fake::done("2");
        }
        return behaved(request);
    });
    auto agent = connect(fake).value();
    EXPECT_FALSE(agent.is_frozen().value());
    EXPECT_EQ(agent.freeze().value(), 2);
    EXPECT_TRUE(agent.is_frozen().value());
    EXPECT_EQ(agent.thaw().value(), 2);
    EXPECT_FALSE(agent.is_frozen().value());
}

TEST_F(GuestAgentTest, NobodyThereIsToldApart) {
    EXPECT_EQ(GuestAgent::connect("/nonexistent/agent", kPatient, random_).error().code,
              ErrorCode::Unavailable);
    EXPECT_EQ(GuestAgent::connect(std::string(200, 'x'), kPatient, random_).error().code,
              ErrorCode::InvalidArgument);
    const Fake silent([](const Json&) { return ""; });
    const auto none = connect(silent, kHasty);
    ASSERT_FALSE(none.ok());
    EXPECT_EQ(none.error().code, ErrorCode::Timeout);
    const Fake half(
        [](const Json& request) { return Fake::is_sync(request) ? Fake::sync(request) : "{"; });
    auto agent = connect(half, {10'000, 50}).value();
    EXPECT_EQ(agent.ping().error().code, ErrorCode::Timeout);
}

TEST_F(GuestAgentTest, AnswersToOthersArePassedOver) {
    const Fake fake([](const Json& request) {
        return Fake::is_sync(request)
                   ? "{\"return\": {}}\nhalf an ans\xff{\"return\": 1}\n\xffgarbage\n" +
                         Fake::sync(request)
                   : Fake::done();
    });
    EXPECT_TRUE(connect(fake).value().ping().ok());
}

TEST_F(GuestAgentTest, ARefusalIsCutAndCleaned) {
    const Fake fake([](const Json& request) -> std::string {
        if (Fake::is_sync(request)) {
            return Fake::sync(request);
        }
        if (request.string_or("execute") == "guest-ping") {
            return R"({"error": {"class": "CommandNotFound", "desc": "no such"}})"
                   "\n";
        }
        return R"({"error": {"class": "GenericError", "desc": "\u001b[31mno\nuser)" +
               std::string(5000, 'x') + "\"}}\n";
    });
    auto agent = connect(fake).value();
    EXPECT_EQ(agent.ping().error().code, ErrorCode::Unsupported);
    const auto refused = agent.set_user_password("root", "s3cret");
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("?[31mno?user"), std::string::npos);
    EXPECT_LT(refused.error().text().size(), 400u);
    EXPECT_EQ(refused.error().text().find("s3cret"), std::string::npos);
}

TEST_F(GuestAgentTest, HostileAnswersAreBounded) {
    for (const std::string& answer :
         {std::string("\n"), std::string("[]\n"), std::string("{}\n"), std::string("\x01\xfe\n"),
          std::string("{\"return\": \"x\"}\n"), std::string("{\"return\": -1}\n"),
          std::string("{\"error\": 7}\n"), std::string(1000, '[') + "\n",
          std::string(GuestAgent::kAnswerMax + 20'000, 'x')}) {
        const Fake fake([&](const Json& request) {
            return Fake::is_sync(request) ? Fake::sync(request) : answer;
        });
        auto agent = connect(fake).value();
        const auto frozen = agent.freeze();
        EXPECT_FALSE(frozen.ok()) << answer.substr(0, 40);
        EXPECT_NE(frozen.error().code, ErrorCode::Timeout) << answer.substr(0, 40);
    }
    const Fake flood([](const Json&) { return std::string(GuestAgent::kStaleMax + 10, '\xff'); });
    EXPECT_FALSE(connect(flood, {2'000, 50}).ok());
}

TEST_F(GuestAgentTest, WhatIsFrozenGoesOnWhateverHappens) {
    bool refuse = false;
    bool thaw_fails_once = true;
    const Fake fake([&](const Json& request) -> std::string {
        const std::string command = request.string_or("execute");
        if (command == "guest-fsfreeze-freeze" && refuse) {
            return R"({"error": {"class": "GenericError", "desc": "busy"}})"
                   "\n";
        }
        if (command == "guest-fsfreeze-thaw" && std::exchange(thaw_fails_once, false)) {
            return R"({"error": {"class": "GenericError", "desc": "again"}})"
                   "\n";
        }
        return Fake::is_sync(request) ? Fake::sync(request) : Fake::done("1");
    });
    {
        auto frozen = FrozenGuest::freeze(fake.path(), kPatient, random_);
        ASSERT_TRUE(frozen.ok()) << frozen.error().text();
        (*frozen)->end();
        (*frozen)->end();
    }
    EXPECT_EQ(fake.commands(),
              (std::vector<std::string>{"guest-fsfreeze-freeze", "guest-fsfreeze-thaw",
                                        "guest-fsfreeze-thaw"}));
    refuse = true;  // some may stand still all the same
    EXPECT_FALSE(FrozenGuest::freeze(fake.path(), kPatient, random_).ok());
    EXPECT_EQ(fake.commands().size(), 5u);
    EXPECT_EQ(fake.commands().back(), "guest-fsfreeze-thaw");
    refuse = false;
    FrozenGuest::freeze(fake.path(), kPatient, random_).value()->keep();
    EXPECT_EQ(fake.commands().back(), "guest-fsfreeze-freeze");
}

}  // namespace
}  // namespace kumoi::compute
