#include "compute/clients/http_client.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/script_server.h"

namespace kumoi::clients {
namespace {

using test::ScriptServer;
using Reply = ScriptServer::Reply;
using Request = ScriptServer::Request;

TEST(ClientsHttp, SendsWhatWasAskedAndReturnsTheReply) {
    ScriptServer server([](const Request& request) {
        return Reply{.status = 201,
                     .headers = {{"X-Subject-Token", "abc"}},
                     .body = request.method + " " + request.body};
    });
    HttpClient client;
    const auto reply = client.send({.method = "PUT",
                                    .url = server.url() + "/a?b=c",
                                    .headers = {{"X-Thing", "1"}, {"X-Empty", ""}},
                                    .body = "hello"});
    ASSERT_TRUE(reply.ok()) << reply.error().text();
    EXPECT_EQ(reply.value().status, 201);
    EXPECT_EQ(reply.value().body, "PUT hello");
    EXPECT_EQ(reply.value().headers.first("x-subject-token"), "abc");
    const auto requests = server.requests();
    ASSERT_EQ(requests.size(), 1u);
    EXPECT_EQ(requests[0].target, "/a?b=c");
    EXPECT_EQ(requests[0].header("x-thing"), "1");
    EXPECT_EQ(requests[0].header("expect"), "");
}

TEST(ClientsHttp, ReusesItsConnection) {
    ScriptServer server([](const Request&) { return Reply{.body = "x"}; });
    HttpClient client;
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(client.send({.url = server.url()}).ok());
    }
    EXPECT_EQ(server.connection_count(), 1);
    EXPECT_EQ(client.connections_opened(), 1u);
}

TEST(ClientsHttp, OneClientServesManyThreads) {
    ScriptServer server([](const Request& request) { return Reply{.body = request.target}; });
    HttpClient client;
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; ++t) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 25; ++i) {
                const std::string path = fmt::format("/{}/{}", t, i);
                const auto reply = client.send({.url = server.url() + path});
                right += reply.ok() && reply.value().body == path ? 1 : 0;
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(right.load(), 200);
    EXPECT_LE(server.connection_count(), 8);
}

TEST(ClientsHttp, AConnectionTheServerGaveUpIsReplaced) {
    ScriptServer server(
        [](const Request& request) { return Reply{.body = request.body, .close_after = true}; });
    HttpClient client;
    for (int i = 0; i < 3; ++i) {
        const auto reply =
            client.send({.method = "PUT", .url = server.url(), .body = std::to_string(i)});
        ASSERT_TRUE(reply.ok()) << reply.error().text();
        EXPECT_EQ(reply.value().body, std::to_string(i));
    }
}

TEST(ClientsHttp, ARequestWithEffectsIsNotRepeatedBehindOurBack) {
    int count = 0;
    ScriptServer server([&](const Request&) {
        ++count;
        return Reply{.body = "x", .hang_up = count == 2};
    });
    HttpClient client;
    ASSERT_TRUE(client.send({.method = "POST", .url = server.url(), .body = "first"}).ok());
    const auto lost = client.send({.method = "POST", .url = server.url(), .body = "second"});
    ASSERT_FALSE(lost.ok());
    EXPECT_EQ(lost.error().code, ErrorCode::Unavailable);
    EXPECT_EQ(lost.error().fault, "");  // it may have arrived
    EXPECT_EQ(count, 2);
}

TEST(ClientsHttp, ABodyCutShortIsAnError) {
    ScriptServer server([](const Request& request) {
        return Reply{.body = std::string(10'000, 'x'),
                     .cut_after = 5'000,
                     .chunked = request.target == "/chunked"};
    });
    HttpClient client;
    for (const char* path : {"/length", "/chunked"}) {
        const auto reply = client.send({.url = server.url() + path});
        ASSERT_FALSE(reply.ok()) << path;
        EXPECT_EQ(reply.error().code, ErrorCode::Unavailable);
    }
}

TEST(ClientsHttp, AServerThatHangsUpOrNeverAnswersIsAnError) {
    ScriptServer server([](const Request& request) {
        return Reply{.never = request.target == "/never", .hang_up = true};
    });
    HttpClient client({.timeout_ms = 80});
    const auto never = client.send({.url = server.url() + "/never"});
    ASSERT_FALSE(never.ok());
    EXPECT_EQ(never.error().code, ErrorCode::Timeout);
    const auto gone = client.send({.url = server.url() + "/gone"});
    ASSERT_FALSE(gone.ok());
    EXPECT_EQ(gone.error().code, ErrorCode::Unavailable);
    EXPECT_EQ(gone.error().fault, "");  // it may have arrived
}

TEST(ClientsHttp, NoServerIsAConnectFailure) {
    std::string url;
    {
        ScriptServer server([](const Request&) { return Reply{}; });
        url = server.url();
    }
    HttpClient client;
    const auto reply = client.send({.url = url});
    ASSERT_FALSE(reply.ok());
    EXPECT_EQ(reply.error().fault, kConnectFailure);
}

TEST(ClientsHttp, LimitsOfBodyAndHeadersHold) {
    ScriptServer server([](const Request& request) {
        Reply reply{.body = std::string(2'000, 'x')};
        if (request.target == "/headers") {
            reply.headers.emplace_back("X-Long", std::string(5'000, 'y'));
        }
        return reply;
    });
    HttpClient client({.reply_bytes_max = 1'000, .reply_header_bytes_max = 4'000});
    for (const char* path : {"/body", "/headers"}) {
        const auto reply = client.send({.url = server.url() + path});
        ASSERT_FALSE(reply.ok());
        EXPECT_EQ(reply.error().code, ErrorCode::TooLarge) << path;
    }
}

TEST(ClientsHttp, RefusesHeadersThatWouldSplitTheRequest) {
    HttpClient client;
    const auto reply = client.send(
        {.url = "http://127.0.0.1:1/", .headers = {{"X-Auth-Token", "a\r\nX-Evil: 1"}}});
    ASSERT_FALSE(reply.ok());
    EXPECT_EQ(reply.error().code, ErrorCode::InvalidArgument);
    EXPECT_EQ(client.send({.url = "file:///etc/passwd"}).error().code, ErrorCode::InvalidArgument);
}

TEST(ClientsHttp, StreamsUpAndDown) {
    ScriptServer server([](const Request& request) { return Reply{.body = request.body}; });
    HttpClient client;
    const std::string data(3'000'000, 'z');
    std::string got;
    HttpRequest request{.method = "PUT", .url = server.url()};
    request.source = [&](std::span<std::byte> buffer, uint64_t offset) -> Result<size_t> {
        const size_t count = std::min<size_t>(buffer.size(), data.size() - offset);
        std::memcpy(buffer.data(), data.data() + offset, count);
        return count;
    };
    request.sink = [&](std::span<const std::byte> bytes) -> Result<void> {
        got.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return {};
    };
    ASSERT_TRUE(client.send(request).ok());
    EXPECT_EQ(got, data);
    EXPECT_EQ(server.requests()[0].header("transfer-encoding"), "chunked");
}

TEST(ClientsHttp, ErrorsOfSourceAndSinkComeBack) {
    ScriptServer server([](const Request&) { return Reply{.body = "data"}; });
    HttpClient client;
    HttpRequest up{.method = "PUT", .url = server.url()};
    up.source = [](std::span<std::byte>, uint64_t) -> Result<size_t> {
        return Error::io("disk broke");
    };
    EXPECT_EQ(client.send(up).error().message, "disk broke");
    HttpRequest down{.url = server.url()};
    down.sink = [](std::span<const std::byte>) -> Result<void> {
        return Error::exhausted("disk full");
    };
    EXPECT_EQ(client.send(down).error().message, "disk full");
}

TEST(ClientsHttp, TheBodyOfARefusalNeverReachesTheSink) {
    ScriptServer server([](const Request&) { return Reply{.status = 404, .body = "no such"}; });
    HttpClient client;
    HttpRequest request{.url = server.url()};
    request.sink = [](std::span<const std::byte>) -> Result<void> {
        return Error::internal("called");
    };
    const auto reply = client.send(request);
    ASSERT_TRUE(reply.ok());
    EXPECT_EQ(reply.value().body, "no such");
}

TEST(ClientsHttp, EscapesQueries) {
    EXPECT_EQ(QueryString().add("binding:host_id", "a b").add("id", "x").add("id", "y").text(),
              "?binding%3Ahost_id=a%20b&id=x&id=y");
    EXPECT_EQ(QueryString().text(), "");
}

}  // namespace
}  // namespace kumoi::clients
