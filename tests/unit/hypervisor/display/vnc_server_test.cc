#include "hypervisor/display/vnc_server.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>

#include "hypervisor/display/display_config.h"

namespace kumoi::hypervisor {
namespace {

class Picture final : public DisplaySource {
public:
    DisplayMode mode() const override { return {64, 16}; }
    bool read_row(const DisplayMode&, uint32_t, std::span<uint32_t> out) const override {
        std::ranges::fill(out, colour.load());
        return true;
    }
    std::atomic<uint32_t> colour{0x010203};
};

// A viewer with blocking reads that give up after ten seconds.
class Viewer {
public:
    explicit Viewer(const std::string& path) : fd_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        const timeval limit{10, 0};
        setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    }
    void send(std::string_view bytes) {
        EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(bytes.size()));
    }
    std::string receive(size_t size) {
        std::string out(size, '\0');
        size_t done = 0;
        while (done < size) {
            const ssize_t now = recv(fd_.get(), out.data() + done, size - done, 0);
            if (now <= 0) {
                break;
            }
            done += static_cast<size_t>(now);
        }
        out.resize(done);
        return out;
    }
    void greet(char shared) {
        EXPECT_EQ(receive(12), "RFB 003.008\n");
        send("RFB 003.008\n");
        EXPECT_EQ(receive(2), "\1\1");
        send("\1");
        EXPECT_EQ(receive(4), std::string(4, '\0'));
        send(std::string(1, shared));
        EXPECT_EQ(receive(24 + 4).size(), 28u);
    }
    void ask(bool incremental) {
        send(std::string("\3") + (incremental ? '\1' : '\0') +
             std::string("\0\0\0\0\0\x40\0\x10", 8));
    }

private:
    UniqueFd fd_;
};

class VncServerTest : public ::testing::Test {
protected:
    void SetUp() override {
        char name[] = "/tmp/kumoi-vnc-XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        folder_ = name;
        server_ =
            VncServer::create({.name = "vm-1", .viewers_max = 3, .frame_ns = 1, .still_ns = 1},
                              picture_, input_)
                .value();
        listen("plain", VncServer::Kind::Plain);
        listen("web", VncServer::Kind::WebSocket);
    }
    void TearDown() override {
        server_.reset();
        std::filesystem::remove_all(folder_);
    }
    void listen(const std::string& name, VncServer::Kind kind) {
        UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path(name).copy(address.sun_path, sizeof address.sun_path - 1);
        ASSERT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        ASSERT_EQ(::listen(fd.get(), 8), 0);
        ASSERT_TRUE(server_->listen(std::move(fd), kind));
    }
    std::string path(const std::string& name) const { return folder_ + "/" + name; }

    Picture picture_;
    InputHub input_;
    std::string folder_;
    std::unique_ptr<VncServer> server_;
};

TEST_F(VncServerTest, SendsThePictureAndWhatChangesInIt) {
    Viewer viewer(path("plain"));
    viewer.greet('\1');
    viewer.ask(false);
    const std::string first = viewer.receive(16 + 64u * 16 * 4);
    ASSERT_EQ(first.size(), 16 + 64u * 16 * 4);
    EXPECT_EQ(first.substr(16, 4), std::string("\x03\x02\x01\0", 4));
    viewer.ask(true);  // waits until something changes
    picture_.colour = 0x0a0b0c;
    const std::string second = viewer.receive(16 + 64u * 16 * 4);
    EXPECT_EQ(second.substr(second.size() - 4), std::string("\x0c\x0b\x0a\0", 4));
    EXPECT_EQ(server_->statistics().find("viewers")->as_int64(), 1);
}

TEST_F(VncServerTest, SpeaksWebSocket) {
    Viewer viewer(path("web"));
    viewer.send(
        "GET /websockify HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n");
    std::string answer;
    while (!answer.ends_with("\r\n\r\n")) {
        const std::string more = viewer.receive(1);
        ASSERT_EQ(more.size(), 1u) << answer;
        answer += more;
    }
    EXPECT_EQ(viewer.receive(14), std::string("\x82\x0c") + "RFB 003.008\n");
}

TEST_F(VncServerTest, AnExclusiveViewerTakesTheOthersPlace) {
    Viewer first(path("plain"));
    first.greet('\1');
    Viewer second(path("plain"));
    second.greet('\0');
    EXPECT_EQ(first.receive(1), "");
    second.ask(false);
    EXPECT_EQ(second.receive(16).size(), 16u);
}

TEST_F(VncServerTest, ViewersAreCounted) {
    Viewer one(path("plain"));
    Viewer two(path("plain"));
    Viewer three(path("plain"));
    EXPECT_EQ(one.receive(12).size(), 12u);
    EXPECT_EQ(two.receive(12).size(), 12u);
    EXPECT_EQ(three.receive(12).size(), 12u);
    Viewer four(path("plain"));
    EXPECT_EQ(four.receive(12), "");
}

TEST_F(VncServerTest, WhatIsNoViewerIsCutOff) {
    Viewer stranger(path("plain"));
    stranger.receive(12);
    stranger.send("GET / HTTP/1.0\r\n");
    EXPECT_EQ(stranger.receive(1), "");
}

Result<DisplayConfig> parse(std::string_view text) {
    const Json json = Json::parse(text).value();
    return parse_display(JsonView(json, "display"), "/srv/vm");
}

TEST(DisplayConfigTest, HasDefaultsAndChecks) {
    const auto display =
        parse(R"({"vnc": [{"socket": "vnc.sock"}, {"listen": "[::1]:5901", "websocket": true}]})");
    ASSERT_TRUE(display) << display.error().text();
    EXPECT_TRUE(display->enabled);
    EXPECT_EQ(display->vnc[0].socket, "/srv/vm/vnc.sock");
    EXPECT_EQ(display->vnc[1].host, "::1");
    EXPECT_EQ(display->vnc[1].port, 5901);
    EXPECT_TRUE(display->vnc[1].websocket);
    for (const char* bad :
         {R"({"vnc": [{}]})", R"({"vnc": [{"socket": "a", "listen": "b:1"}]})",
          R"({"vnc": [{"listen": "nowhere"}]})", R"({"vnc": [{"listen": "a:99999"}]})",
          R"({"width": 9999})", R"({"memory_mib": 3})", R"({"wdth": 800})",
          R"({"width": 2560, "height": 1600, "memory_mib": 8})"}) {
        EXPECT_FALSE(parse(bad)) << bad;
    }
}

}  // namespace
}  // namespace kumoi::hypervisor
