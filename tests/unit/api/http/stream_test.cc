// Streaming routes of the Beast server, over raw sockets.
#include <fcntl.h>

#include <cstring>

#include "base/file.h"
#include "server_fixture.h"

namespace kumoi::api {
namespace {

class Streams : public ServerFixture {
protected:
    Router make_router() override {
        Router router = ServerFixture::make_router();
        router.put_stream("/upload", [this](Request&, BodyReader& body) {
            const auto total = drain_body(body);
            last_error_ = total.ok() ? "" : std::string(to_string(total.error().code));
            ++uploads_;
            uploads_.notify_all();
            return total.ok() ? Reply::text(std::to_string(total.value()))
                              : Reply::text(total.error().message, 400);
        });
        router.put_stream("/refuse", [](Request&, BodyReader&) { return Reply::with_status(403); });
        router.put_stream("/throw", [](Request&, BodyReader&) -> Reply { throw 42; });
        router.put_stream("/gated", [this](Request&, BodyReader&) {
            gate_.wait();
            return Reply::text("done");
        });
        router.get_stream("/file", [this](Request&, BodyReader&) {
            UniqueFd fd(::open(file_path_.c_str(), O_RDONLY | O_CLOEXEC));
            return Reply::from_file({std::move(fd), 1, 5}, "application/octet-stream");
        });
        router.get_stream("/counted", [](Request&, BodyReader&) {
            return Reply::from_source(pieces(3), 30, "text/plain");
        });
        router.get_stream("/chunked", [](Request&, BodyReader&) {
            return Reply::from_source(pieces(3), std::nullopt, "text/plain");
        });
        router.get_stream("/short", [](Request&, BodyReader&) {
            return Reply::from_source(pieces(1), 30, "text/plain");
        });
        router.get_stream("/broken", [](Request&, BodyReader&) {
            return Reply::from_source(
                [](std::span<std::byte>) -> Result<size_t> { return Error::io("disk"); },
                std::nullopt, "text/plain");
        });
        return router;
    }

    static Result<uint64_t> drain_body(BodyReader& body) {
        std::vector<std::byte> piece(64 * 1024);
        uint64_t total = 0;
        while (const size_t size = TRY(body.read(piece))) {
            total += size;
        }
        return total;
    }
    // `count` pieces of ten bytes.
    static BodySource pieces(int count) {
        return [left = count](std::span<std::byte> buffer) mutable -> Result<size_t> {
            if (left == 0) {
                return size_t{0};
            }
            --left;
            std::memcpy(buffer.data(), "0123456789", 10);
            return size_t{10};
        };
    }

    std::string file_path_;
    std::string last_error_;
    std::atomic<int> uploads_{0};
};

TEST_P(Streams, PistacheRefusesThem) {
    auto made = make_pistache_server({}, make_router(), {clock_, random_, metrics_});
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().code, ErrorCode::Unsupported);
}

TEST_P(Streams, ReadsCountedAndChunkedUploadsAndKeepsTheConnection) {
    start();
    RawClient client(port());
    const std::string megabyte(1u << 20, 'x');
    client.send("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n" + megabyte +
                "PUT /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" +
                megabyte + "\r\n0\r\n\r\n" + "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(client.response()->body, "1048576");
    EXPECT_EQ(client.response()->body, "1048576");
    EXPECT_EQ(client.response()->body, "ok");
}

TEST_P(Streams, RefusesBeforeTheBodyIsSent) {
    start();
    RawClient client(port());
    client.send(
        "PUT /refuse HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99\r\n\r\n");
    const auto response = client.response();
    ASSERT_TRUE(response);
    EXPECT_EQ(response->status, 403);
    EXPECT_TRUE(client.closed_by_server());
}

TEST_P(Streams, ContinuesWhenTheHandlerReads) {
    start();
    RawClient client(port());
    client.send(
        "PUT /upload HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    EXPECT_EQ(client.response()->status, 100);
    client.send("abc");
    EXPECT_EQ(client.response()->body, "3");
}

TEST_P(Streams, TellsTheHandlerWhenTheClientGoesOrErrs) {
    start();
    RawClient gone(port());
    gone.send("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    gone.end_sending();
    EXPECT_EQ(gone.response()->status, 400);
    EXPECT_EQ(last_error_, to_string(ErrorCode::Cancelled));
    RawClient broken(port());
    broken.send("PUT /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
    EXPECT_EQ(broken.response()->status, 400);
    EXPECT_EQ(last_error_, to_string(ErrorCode::InvalidArgument));
    EXPECT_TRUE(broken.closed_by_server());
}

TEST_P(Streams, TimesOutUploadsThatStall) {
    start({.body_timeout_ms = 100});
    RawClient client(port());
    client.send("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    EXPECT_EQ(client.response()->status, 400);
    EXPECT_EQ(last_error_, to_string(ErrorCode::Timeout));
}

TEST_P(Streams, LimitsTheirBodies) {
    start({.stream_body_bytes_max = 5});
    RawClient counted(port());
    counted.send("PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabcdef");
    EXPECT_EQ(counted.response()->status, 413);
    RawClient chunked(port());
    chunked.send(
        "PUT /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n");
    EXPECT_EQ(chunked.response()->status, 400);
    EXPECT_EQ(last_error_, to_string(ErrorCode::TooLarge));
}

TEST_P(Streams, SendsFilesSourcesAndChunks) {
    auto directory = TemporaryDirectory::create("stream-test");
    ASSERT_TRUE(directory.ok());
    file_path_ = directory->path() + "/file";
    ASSERT_TRUE(write_file_atomic(file_path_, "0123456789").ok());
    start();
    RawClient client(port());
    const auto get = [](std::string target) {
        return "GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n";
    };
    client.send(get("/file") + get("/counted") + get("/chunked") + get("/ok"));
    EXPECT_EQ(client.response()->body, "12345");
    EXPECT_EQ(client.response()->body, "012345678901234567890123456789");
    EXPECT_EQ(client.response()->body, "012345678901234567890123456789");
    EXPECT_EQ(client.response()->body, "ok");
    client.send("HEAD /file HTTP/1.1\r\nHost: a\r\n\r\n" + get("/ok"));
    EXPECT_EQ(client.response(true)->headers.first("Content-Length"), "5");
    EXPECT_EQ(client.response()->body, "ok");
    RawClient old(port());
    old.send("GET /chunked HTTP/1.0\r\n\r\n");
    EXPECT_EQ(old.response()->body.size(), 30u);
}

TEST_P(Streams, CutsTheConnectionWhenABodyEndsEarly) {
    start();
    for (const char* target : {"/short", "/broken"}) {
        RawClient client(port());
        client.send("GET " + std::string(target) + " HTTP/1.1\r\nHost: a\r\n\r\n");
        EXPECT_FALSE(client.response()) << target;
    }
}

TEST_P(Streams, AnswersThrowingHandlersAndFullPools) {
    start({.stream_threads = 1});
    EXPECT_EQ(ask("PUT /throw HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")->status, 500);
    const std::string request = "PUT /gated HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int index = 0; index < 4; ++index) {  // one runs, two wait, one is refused
        clients.push_back(std::make_unique<RawClient>(port()));
        clients.back()->send(request);
        if (index == 0) {
            ASSERT_TRUE(gate_.wait_for_waiting(1));
        }
    }
    EXPECT_EQ(ask("GET /ok HTTP/1.1\r\nHost: a\r\n\r\n")->status, 200);
    const auto refused = clients.back()->response();
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, 503);
    gate_.open();
    EXPECT_EQ(clients.front()->response()->body, "done");
}

TEST_P(Streams, StopsWhileAnUploadHangs) {
    start();
    RawClient client(port());
    client.send(
        "PUT /upload HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n");
    EXPECT_EQ(client.response()->status, 100);
    server_->stop();
    EXPECT_EQ(uploads_.load(), 1);
}

INSTANTIATE_TEST_SUITE_P(Beast, Streams, ::testing::Values(ServerKind::Beast),
                         [](const auto&) { return "Beast"; });

}  // namespace
}  // namespace kumoi::api
