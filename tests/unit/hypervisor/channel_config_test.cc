#include "hypervisor/channel_config.h"

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

Result<std::vector<ChannelConfig>> parse(const std::string& channels) {
    const Json json = Json::parse("{\"channels\": " + channels + "}").value();
    return parse_channels(JsonView(json), "/srv/vm");
}

TEST(ChannelConfig, NamesAndSockets) {
    const auto none = parse_channels(JsonView(Json::object()), "/");
    ASSERT_TRUE(none.ok());
    EXPECT_TRUE(none->empty());
    const auto two = parse(R"([{"name": "org.qemu.guest_agent.0", "socket": "agent.sock"},
                               {"name": "a", "socket": "/run/a"}])");
    ASSERT_TRUE(two.ok()) << two.error().text();
    EXPECT_EQ(two->at(0).name, "org.qemu.guest_agent.0");
    EXPECT_EQ(two->at(0).socket, "/srv/vm/agent.sock");
    EXPECT_EQ(two->at(1).socket, "/run/a");
}

TEST(ChannelConfig, WhatCannotBeIsRefusedByName) {
    const auto refusal = [](const std::string& channels) {
        const auto parsed = parse(channels);
        return parsed.ok() ? "" : parsed.error().message;
    };
    const auto one = [](const std::string& name, const std::string& socket) {
        return R"([{"name": ")" + name + R"(", "socket": ")" + socket + R"("}])";
    };
    for (const std::string& name : {std::string(), std::string("a/b"), std::string("..") + "/x",
                                    std::string(".x"), std::string(65, 'x'), std::string("a b")}) {
        EXPECT_NE(refusal(one(name, "s")).find("channels[0].name"), std::string::npos) << name;
    }
    EXPECT_NE(refusal(one("a", "")).find("channels[0].socket"), std::string::npos);
    EXPECT_NE(refusal(one("a", "/" + std::string(107, 'x'))).find("at most 107"),
              std::string::npos);
    EXPECT_NE(refusal(R"([{"name": "a"}])"), "");
    EXPECT_NE(refusal(R"([{"name": "a", "socket": "s", "mode": 1}])"), "");
    EXPECT_NE(refusal(R"({"name": "a"})"), "");
    EXPECT_NE(refusal(R"([{"name": "a", "socket": "s"}, {"name": "a", "socket": "t"}])"), "");
    EXPECT_NE(refusal(R"([{"name": "a", "socket": "s"}, {"name": "b", "socket": "s"}])"), "");
    std::string many = "[";
    for (int i = 0; i < 5; ++i) {
        many +=
            fmt::format("{}{{\"name\": \"c{}\", \"socket\": \"s{}\"}}", i == 0 ? "" : ",", i, i);
    }
    EXPECT_NE(refusal(many + "]").find("at most 4"), std::string::npos);
}

}  // namespace
}  // namespace kumoi::hypervisor
