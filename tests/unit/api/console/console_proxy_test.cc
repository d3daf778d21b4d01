#include "api/console/console_proxy.h"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "base/file.h"

namespace kumoi::api {
namespace {

constexpr char kBase[] = "http://cloud:6080/vnc_auto.html";

TEST(ConsoleOrigin, OnlyTheProxysOwnPagesAndAllowedOnes) {
    const std::vector<std::string> allowed{"horizon.example"};
    const auto check = [&](std::string_view origin, std::string_view host,
                           std::string_view base = kBase) {
        return check_console_origin(origin, host, base, allowed).ok();
    };
    EXPECT_TRUE(check("", "cloud:6080"));
    EXPECT_TRUE(check("http://cloud:6080", "cloud:6080"));
    EXPECT_TRUE(check("http://CLOUD", "cloud:6080"));
    EXPECT_TRUE(check("http://horizon.example", "cloud:6080"));
    EXPECT_TRUE(check("http://[::1]:6080", "[::1]:6080"));
    EXPECT_TRUE(check("http://cloud", "cloud", "ws://cloud/"));
    EXPECT_TRUE(check("https://cloud", "cloud", "wss://cloud/"));
    EXPECT_FALSE(check("http://evil.example", "cloud:6080"));
    EXPECT_FALSE(check("http://cloud.evil.example", "cloud:6080"));
    EXPECT_FALSE(check("https://cloud:6080", "cloud:6080"));
    EXPECT_FALSE(check("http://cloud", "cloud", "https://cloud/"));
    EXPECT_FALSE(check("null", "cloud:6080"));
    EXPECT_FALSE(check("http://", ""));
    EXPECT_FALSE(check("cloud", "cloud"));
}

TEST(ConsoleToken, ComesFromTheQueryOrTheCookie) {
    EXPECT_EQ(console_token_of({.target = "/?token=abc"}), "abc");
    EXPECT_EQ(console_token_of({.target = "/websockify?a=b&token=a%62c"}), "abc");
    EXPECT_EQ(console_token_of({.target = "/", .cookie = "x=1; token=abc; y=2"}), "abc");
    EXPECT_EQ(console_token_of({.target = "/?token=q", .cookie = "token=c"}), "q");
    EXPECT_EQ(console_token_of({.target = "/", .cookie = "tokens=1"}), "");
    EXPECT_EQ(console_token_of({.target = "/%zz"}), "");
}

class Files : public testing::Test {
protected:
    Files() {
        std::filesystem::create_directories(folder_ + "/web/core");
        write("web/vnc_auto.html", "<html>");
        write("web/core/rfb.js", "code");
        write("secret", "secret");
        std::filesystem::create_symlink("../secret", folder_ + "/web/link");
        std::filesystem::create_symlink("vnc_auto.html", folder_ + "/web/inside.html");
    }
    ~Files() override { std::filesystem::remove_all(folder_); }
    void write(const std::string& name, const std::string& text) {
        EXPECT_TRUE(write_file_atomic(folder_ + "/" + name, text).ok());
    }
    std::string get(const std::string& target, const std::string& method = "GET") {
        return StaticFiles(folder_ + "/web").answer(method + " " + target + " HTTP/1.1\r\n");
    }

    const std::string folder_ = testing::TempDir() + "kumoi-files-" + std::to_string(::getpid());
};

TEST_F(Files, AreSentWithTheirTypeAndNothingElseIs) {
    EXPECT_TRUE(get("/vnc_auto.html?path=%3Ftoken%3D1").starts_with("HTTP/1.1 200 OK"));
    EXPECT_TRUE(get("/vnc_auto.html").ends_with("\r\n\r\n<html>"));
    EXPECT_NE(get("/core/rfb.js").find("Content-Type: text/javascript"), std::string::npos);
    EXPECT_TRUE(get("/inside.html").ends_with("<html>"));
    EXPECT_TRUE(get("/vnc_auto.html", "HEAD").ends_with("\r\n\r\n"));
    EXPECT_TRUE(get("/vnc_auto.html", "POST").starts_with("HTTP/1.1 405"));
    for (const char* target : {"/", "/core", "/missing", "/link", "/../secret", "/%2e%2e/secret",
                               "/core/../../secret", "/..%2fsecret", "//etc/passwd", "/%00"}) {
        const std::string answer = get(target);
        EXPECT_TRUE(answer.starts_with("HTTP/1.1 40")) << target << answer;
        EXPECT_EQ(answer.find("root:"), std::string::npos);
    }
    EXPECT_TRUE(
        StaticFiles("/nonexistent").answer("GET /a HTTP/1.1\r\n").starts_with("HTTP/1.1 404"));
    EXPECT_TRUE(StaticFiles("/nonexistent").answer("nonsense\r\n").starts_with("HTTP/1.1 400"));
}

// A guest's console: what connects is answered by the test.
class GuestSocket {
public:
    GuestSocket() : path_(testing::TempDir() + "kumoi-guest-" + std::to_string(::getpid())) {
        ::unlink(path_.c_str());
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
        listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address),
                  0);
        EXPECT_EQ(::listen(listener_.get(), 8), 0);
    }
    ~GuestSocket() { ::unlink(path_.c_str()); }
    UniqueFd accept() { return UniqueFd(::accept(listener_.get(), nullptr, nullptr)); }
    const std::string& path() const { return path_; }

private:
    const std::string path_;
    UniqueFd listener_;
};

class Proxy : public Files {
protected:
    void SetUp() override {
        ConsoleProxyOptions options;
        options.files = folder_ + "/web";
        options.sessions_max = 4;
        const auto validate = [this](std::string_view token) -> Result<compute::ConsoleToken> {
            if (token == "good") {
                return compute::ConsoleToken{"uuid", "novnc", kBase, {"cn-1", guest_.path()}};
            }
            if (token == "gone") {
                return compute::ConsoleToken{"uuid", "novnc", kBase, {"cn-1", "/nonexistent"}};
            }
            return Error::not_found("Token not found");
        };
        auto proxy = ConsoleProxy::start(std::move(options), validate, clock_, metrics_);
        ASSERT_TRUE(proxy.ok()) << proxy.error().text();
        proxy_ = std::move(*proxy);
    }
    UniqueFd connect() {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(proxy_->port());
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        return fd;
    }
    static void send(const UniqueFd& fd, const std::string& text) {
        EXPECT_TRUE(write_all(fd.get(), std::as_bytes(std::span(text))).ok());
    }
    static std::string receive(const UniqueFd& fd, size_t size) {  // all of it, or up to the end
        std::string got;
        char byte = 0;
        while (got.size() < size && ::read(fd.get(), &byte, 1) == 1) {
            got += byte;
        }
        return got;
    }
    UniqueFd open(const std::string& target, const std::string& more = {}) {
        UniqueFd fd = connect();
        send(fd,
             "GET " + target +
                 " HTTP/1.1\r\nHost: cloud:6080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Protocol: binary\r\n" +
                 more + "\r\n");
        return fd;
    }
    static std::string head(const UniqueFd& fd) {
        std::string got;
        while (!got.ends_with("\r\n\r\n")) {
            const std::string byte = receive(fd, 1);
            if (byte.empty()) {
                break;
            }
            got += byte;
        }
        return got;
    }

    // The proxy hears of closed connections when it hears of them.
    void wait_until_nobody_is_there() {
        const Gauge& open = metrics_.gauge("kumoi_console_sessions", "Connections that are open.");
        while (open.value() != 0) {
            std::this_thread::yield();
        }
    }

    SystemClock clock_;
    Metrics metrics_;
    GuestSocket guest_;
    std::unique_ptr<ConsoleProxy> proxy_;
};

TEST_F(Proxy, RelaysBothWaysAndTellsTheEnd) {
    const UniqueFd client = open("/?token=good", "Origin: http://cloud:6080\r\n");
    UniqueFd guest = guest_.accept();
    const std::string answer = head(client);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 101")) << answer;
    EXPECT_NE(answer.find("Sec-WebSocket-Protocol: binary"), std::string::npos);
    send(guest, "RFB 003.008\n");
    EXPECT_EQ(receive(client, 14), "\x82\x0cRFB 003.008\n");
    send(client, std::string("\x82\x83\x01\x02\x03\x04", 6) + static_cast<char>('a' ^ 1) +
                     static_cast<char>('b' ^ 2) + static_cast<char>('c' ^ 3));
    EXPECT_EQ(receive(guest, 3), "abc");
    const std::string large(600'000, 'x');  // more than anybody buffers
    std::thread writer([&] { send(guest, large); });
    size_t seen = 0;
    while (seen < large.size()) {
        const std::string frame = receive(client, 2);
        ASSERT_EQ(frame.size(), 2u);
        const auto size = static_cast<uint8_t>(frame[1]);
        size_t length = size;
        if (size >= 126) {
            length = 0;
            for (const char byte : receive(client, size == 126 ? 2 : 8)) {
                length = length << 8 | static_cast<uint8_t>(byte);
            }
        }
        seen += receive(client, length).size();
    }
    writer.join();
    guest.reset();
    const std::string end = receive(client, 4);
    EXPECT_EQ(end.substr(0, 1), "\x88");
    EXPECT_EQ(end.substr(2), "\x03\xe9");
}

TEST_F(Proxy, RefusesBeforeTheConsoleIsTouched) {
    EXPECT_TRUE(head(open("/?token=bad")).starts_with("HTTP/1.1 403"));
    EXPECT_TRUE(head(open("/")).starts_with("HTTP/1.1 403"));
    EXPECT_TRUE(head(open("/?token=gone")).starts_with("HTTP/1.1 403"));
    EXPECT_TRUE(
        head(open("/?token=good", "Origin: http://evil.example\r\n")).starts_with("HTTP/1.1 403"));
    EXPECT_TRUE(
        head(open("/?token=good", "Sec-WebSocket-Version: 12\r\n")).starts_with("HTTP/1.1 4"));
}

TEST_F(Proxy, SendsFiles) {
    const UniqueFd client = connect();
    send(client, "GET /vnc_auto.html HTTP/1.1\r\nHost: cloud\r\n\r\n");
    EXPECT_TRUE(receive(client, 100'000).ends_with("<html>"));  // and then it closes
}

TEST_F(Proxy, TurnsAwayWhatIsTooMuchAndGoesOn) {
    {
        std::vector<UniqueFd> clients;
        for (int i = 0; i < 4; ++i) {
            clients.push_back(connect());
        }
        EXPECT_EQ(receive(connect(), 1), "");
    }
    wait_until_nobody_is_there();
    const UniqueFd long_request = connect();
    send(long_request, std::string(9000, 'a'));
    EXPECT_EQ(receive(long_request, 1), "");
    wait_until_nobody_is_there();
    const UniqueFd client = open("/?token=good");
    EXPECT_TRUE(head(client).starts_with("HTTP/1.1 101"));
    proxy_.reset();  // ends it
    EXPECT_EQ(receive(client, 1), "");
}

}  // namespace
}  // namespace kumoi::api
