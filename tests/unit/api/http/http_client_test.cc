#include "api/http/http_client.h"

#include <cstring>

#include "server_fixture.h"

namespace kumoi::api {
namespace {

class Client : public ServerFixture {
protected:
    Router make_router() override {
        Router router = ServerFixture::make_router();
        router.put_stream("/upload", [](Request& request, BodyReader& body) {
            std::vector<std::byte> piece(64 * 1024);
            uint64_t total = 0;
            while (true) {
                const auto size = body.read(piece);
                if (!size.ok() || size.value() == 0) {
                    break;
                }
                total += size.value();
            }
            return Reply::text(fmt::format(
                "{} {}", total, request.headers.has("Content-Length") ? "counted" : "chunked"));
        });
        return router;
    }
    std::string url(std::string_view target) const {
        return "http://127.0.0.1:" + std::to_string(port()) + std::string(target);
    }
    static BodySource bytes(size_t total) {
        return [left = total](std::span<std::byte> buffer) mutable -> Result<size_t> {
            const size_t size = std::min(left, buffer.size());
            std::memset(buffer.data(), 'x', size);
            left -= size;
            return size;
        };
    }
};

TEST_P(Client, ReportsWhatWentWrong) {
    start();
    HttpClient client({.response_bytes_max = 1000});
    EXPECT_EQ(client.send({.url = "nonsense://x"}).error().code, ErrorCode::InvalidArgument);
    EXPECT_EQ(client.send({.url = "file:///etc/passwd"}).error().code, ErrorCode::InvalidArgument);
    EXPECT_EQ(client.send({.url = url("/big")}).error().code, ErrorCode::TooLarge);
    EXPECT_EQ(client.send({.url = url("/gate"), .timeout_ms = 100}).error().code,
              ErrorCode::Timeout);
    EXPECT_EQ(client.send({.method = "A B", .url = url("/ok")}).error().code,
              ErrorCode::InvalidArgument);
    HttpRequest injecting{.url = url("/ok")};
    injecting.headers.add("X-A", "1\r\nX-B: 2");
    EXPECT_EQ(client.send(injecting).error().code, ErrorCode::InvalidArgument);
    const std::string dead = url("/ok");
    gate_.open();
    server_->stop();
    EXPECT_EQ(client.send({.url = dead}).error().code, ErrorCode::Unavailable);
}

TEST_P(Client, SendsMethodHeadersAndBodyAsGiven) {
    start();
    HttpClient client;
    HttpRequest request{.method = "POST", .url = url("/echo/a%20b?q=1"), .body = "{\"a\":1}"};
    request.headers.add("Content-Type", "application/json");
    request.headers.add("X-Twice", "1");
    request.headers.add("X-Twice", "2");
    request.headers.add("X-Empty", "");
    const auto response = client.send(request);
    ASSERT_TRUE(response.ok()) << response.error().text();
    EXPECT_EQ(response.value().status, 200);
    const Json seen = response.value().json().value();
    EXPECT_EQ(seen.string_or("body"), "{\"a\":1}");
    EXPECT_EQ(seen.string_or("target"), "/echo/a%20b?q=1");
    const std::string headers = seen.find("headers")->dump();
    EXPECT_NE(headers.find("X-Twice=1\",\"X-Twice=2"), std::string::npos) << headers;
    EXPECT_NE(headers.find("\"X-Empty=\""), std::string::npos) << headers;
    EXPECT_EQ(headers.find("Expect"), std::string::npos) << headers;
}

TEST_P(Client, ReusesConnections) {
    start();
    HttpClient client;
    const Json first = client.send({.url = url("/echo/a")})->json().value();
    const Json second = client.send({.url = url("/echo/a")})->json().value();
    EXPECT_EQ(first.string_or("peer"), second.string_or("peer"));
}

TEST_P(Client, ReturnsErrorAnswersHeadAndNoContent) {
    start();
    HttpClient client;
    EXPECT_EQ(client.send({.url = url("/nowhere")})->status, 404);
    EXPECT_EQ(client.send({.method = "DELETE", .url = url("/thing")})->status, 204);
    const auto head = client.send({.method = "HEAD", .url = url("/ok")});
    EXPECT_EQ(head.value().headers.first("Content-Length"), "2");
    EXPECT_EQ(client.send({.url = url("/headers")})->headers.all("Set-Cookie").size(), 2u);
}

TEST_P(Client, StreamsUploadsAndDownloads) {
    start();
    HttpClient client;
    const size_t size = 3'000'000;
    HttpRequest counted{.method = "PUT", .url = url("/upload")};
    counted.source = bytes(size);
    counted.source_length = size;
    EXPECT_EQ(client.send(counted)->body, "3000000 counted");
    HttpRequest chunked{.method = "PUT", .url = url("/upload")};
    chunked.source = bytes(size);
    EXPECT_EQ(client.send(chunked)->body, "3000000 chunked");
    HttpRequest download{.url = url("/big")};
    size_t got = 0;
    download.sink = [&](std::span<const std::byte> piece) -> Result<void> {
        got += piece.size();
        return {};
    };
    EXPECT_EQ(client.send(download)->body, "");
    EXPECT_EQ(got, 8u << 20);
}

TEST_P(Client, GivesBackTheErrorOfASinkOrSource) {
    start();
    HttpClient client;
    HttpRequest download{.url = url("/big")};
    download.sink = [](std::span<const std::byte>) -> Result<void> {
        return Error::exhausted("disk full");
    };
    EXPECT_EQ(client.send(download).error().message, "disk full");
    HttpRequest upload{.method = "PUT", .url = url("/upload")};
    upload.source = [](std::span<std::byte>) -> Result<size_t> { return Error::io("no disk"); };
    EXPECT_EQ(client.send(upload).error().message, "no disk");
    EXPECT_EQ(client.send({.url = url("/ok")})->body, "ok");
}

INSTANTIATE_TEST_SUITE_P(Beast, Client, ::testing::Values(ServerKind::Beast),
                         [](const auto&) { return "Beast"; });

}  // namespace
}  // namespace kumoi::api
