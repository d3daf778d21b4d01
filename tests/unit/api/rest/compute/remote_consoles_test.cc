// Addresses of consoles by both ways to ask, what their tokens open, and for how long.
#include "compute/conductor/console_auth.h"
#include "tests/support/compute_rest_fixture.h"

namespace kumoi::api {
namespace {

class RemoteConsoles : public ComputeRest {
protected:
    RemoteConsoles() {
        consoles_ =
            compute::ConsoleAuth::create({.novnc_base_url = "http://cloud:6080/vnc_auto.html",
                                          .serial_base_url = "ws://cloud:6080/",
                                          .token_ttl_s = 60},
                                         *database_, clock_, random_, *conductor_)
                .value();
        services_->consoles = consoles_.get();
        uuid_ = create("alice");
    }
    Reply ask(const std::string& protocol, const std::string& type,
              const std::string& token = "alice", const std::string& version = "2.6") {
        return call(token, "POST", "/servers/" + uuid_ + "/remote-consoles",
                    fmt::format(R"({{"remote_console": {{"protocol": "{}", "type": "{}"}}}})",
                                protocol, type),
                    version);
    }
    std::string url(const Reply& reply, const char* key = "remote_console") {
        EXPECT_EQ(reply.status, 200) << reply.body;
        return json(reply).find(key)->string_or("url");
    }
    static std::string token_in(const std::string& url) {
        const std::string mark = url.find("token%3D") != std::string::npos ? "token%3D" : "token=";
        return url.substr(url.find(mark) + mark.size());
    }

    std::unique_ptr<compute::ConsoleAuth> consoles_;
    std::string uuid_;
};

TEST_F(RemoteConsoles, AddressesCarryATokenThatOpensTheConsole) {
    const std::string vnc = url(ask("vnc", "novnc"));
    EXPECT_TRUE(vnc.starts_with("http://cloud:6080/vnc_auto.html?path=%3Ftoken%3D")) << vnc;
    EXPECT_EQ(token_in(vnc).size(), 64u);
    const auto opened = consoles_->validate(token_in(vnc));
    ASSERT_TRUE(opened.ok());
    EXPECT_EQ(opened->instance_uuid, uuid_);
    EXPECT_EQ(opened->connection.socket, "/servers/" + uuid_ + "/vnc.sock");
    EXPECT_EQ(opened->connection.host, "cn-1");
    const std::string serial = url(ask("serial", "serial"));
    EXPECT_TRUE(serial.starts_with("ws://cloud:6080/?token=")) << serial;
    EXPECT_EQ(consoles_->validate(token_in(serial))->connection.socket,
              "/servers/" + uuid_ + "/console.sock");
    EXPECT_NE(token_in(url(ask("vnc", "novnc"))), token_in(vnc));
}

TEST_F(RemoteConsoles, OlderMicroversionsUseActions) {
    const std::string path = "/servers/" + uuid_ + "/action";
    const Reply vnc = call("alice", "POST", path, R"({"os-getVNCConsole": {"type": "novnc"}})");
    EXPECT_TRUE(consoles_->validate(token_in(url(vnc, "console"))).ok());
    const Reply serial =
        call("alice", "POST", path, R"({"os-getSerialConsole": {"type": "serial"}})");
    EXPECT_TRUE(consoles_->validate(token_in(url(serial, "console"))).ok());
    EXPECT_EQ(
        call("alice", "POST", path, R"({"os-getSPICEConsole": {"type": "spice-html5"}})").status,
        400);
    EXPECT_EQ(ask("vnc", "novnc", "alice", "2.5").status, 404);
}

TEST_F(RemoteConsoles, RefusesAsNovaDoes) {
    EXPECT_EQ(ask("vnc", "serial").status, 400);
    EXPECT_EQ(ask("serial", "novnc").status, 400);
    EXPECT_EQ(ask("spice", "spice-html5").status, 400);
    EXPECT_EQ(ask("telnet", "novnc").status, 400);
    EXPECT_EQ(ask("mks", "webmks").status, 400);
    EXPECT_EQ(ask("mks", "webmks", "alice", "2.8").status, 400);
    EXPECT_EQ(ask("vnc", "novnc", "bob").status, 404);   // another project's
    EXPECT_EQ(ask("vnc", "novnc", "rita").status, 403);  // only reads
    EXPECT_EQ(call("alice", "POST", "/servers/" + uuid_ + "/remote-consoles", "{}", "2.6").status,
              400);
    cn1_.console_refusal = Error::conflict("it does not run").with_fault("InstanceNotReady");
    EXPECT_EQ(ask("vnc", "novnc").status, 409);
    services_->consoles = nullptr;
    EXPECT_EQ(ask("vnc", "novnc").status, 400);
}

TEST_F(RemoteConsoles, TokensExpireAndGoWithTheirServer) {
    const std::string first = token_in(url(ask("vnc", "novnc")));
    clock_.advance(59 * kNanosPerSecond);
    EXPECT_TRUE(consoles_->validate(first).ok());
    clock_.advance(kNanosPerSecond);
    EXPECT_FALSE(consoles_->validate(first).ok());
    const std::string second = token_in(url(ask("vnc", "novnc")));
    EXPECT_TRUE(consoles_->validate(second).ok());
    EXPECT_EQ(call("alice", "DELETE", "/servers/" + uuid_).status, 204);
    EXPECT_FALSE(consoles_->validate(second).ok());
    EXPECT_FALSE(consoles_->validate("").ok());
    EXPECT_FALSE(consoles_->validate(std::string(1000, 'a')).ok());
}

TEST_F(RemoteConsoles, AServersOldestTokensGo) {
    const std::string oldest = token_in(url(ask("vnc", "novnc")));
    for (int64_t i = 1; i < compute::ConsoleAuth::kTokensMax; ++i) {
        ASSERT_TRUE(consoles_->get_vnc_console({}, uuid_, "novnc").ok());
    }
    EXPECT_TRUE(consoles_->validate(oldest).ok());
    ASSERT_TRUE(consoles_->get_vnc_console({}, uuid_, "novnc").ok());
    EXPECT_FALSE(consoles_->validate(oldest).ok());
}

TEST_F(RemoteConsoles, AdministratorsSeeWhatATokenOpens) {
    const std::string path = "/os-console-auth-tokens/" + token_in(url(ask("vnc", "novnc")));
    const Reply shown = call("admin", "GET", path, {}, "2.31");
    ASSERT_EQ(shown.status, 200) << shown.body;
    const Json console = *json(shown).find("console");
    EXPECT_EQ(console.string_or("instance_uuid"), uuid_);
    EXPECT_EQ(console.string_or("host"), "cn-1");
    EXPECT_EQ(console.string_or("internal_access_path"), "/servers/" + uuid_ + "/vnc.sock");
    EXPECT_EQ(call("admin", "GET", path, {}, "2.30").status, 400);
    EXPECT_EQ(call("alice", "GET", path, {}, "2.31").status, 403);
    EXPECT_EQ(call("admin", "GET", "/os-console-auth-tokens/nothing", {}, "2.31").status, 404);
}

TEST_F(RemoteConsoles, AnOperatorTurnsThemOff) {
    auto off = compute::ConsoleAuth::create({.vnc_enabled = false, .serial_enabled = false},
                                            *database_, clock_, random_, *conductor_)
                   .value();
    services_->consoles = off.get();
    EXPECT_EQ(ask("vnc", "novnc").status, 400);
    EXPECT_EQ(ask("serial", "serial").status, 400);
}

}  // namespace
}  // namespace kumoi::api
