#include "api/http/connection.h"

#include <gtest/gtest.h>

namespace kumoi::api {
namespace {

class ConnectionTest : public ::testing::Test {
protected:
    ConnectionTest() {
        router_.get("/ok", [](Request&) { return Reply::text("ok"); });
        router_.put_stream("/stream", [](Request&, BodyReader&) { return Reply::ok(); });
    }
    Connection make() {
        return Connection(options_, router_, dependencies_, "127.0.0.1:1", "127.0.0.1:2");
    }
    // Answers the request that is ready and sends it all; returns its target.
    static std::string serve(Connection& connection) {
        auto next = connection.next_request();
        if (!next) {
            return "";
        }
        connection.answer(make_answer(Reply::text("body"), next->context));
        connection.sent(connection.output().size());
        return next->request.raw_target;
    }

    ManualClock clock_;
    SeededRandom random_{1};
    Metrics metrics_;
    ServerOptions options_;
    Router router_;
    const ServerDependencies dependencies_{clock_, random_, metrics_};
};

constexpr std::string_view kGet = "GET /ok HTTP/1.1\r\nHost: a\r\n\r\n";

TEST_F(ConnectionTest, TakesARequestByteByByte) {
    Connection connection = make();
    for (size_t index = 0; index + 1 < kGet.size(); ++index) {
        connection.receive(kGet.substr(index, 1));
        ASSERT_FALSE(connection.next_request());
        ASSERT_TRUE(connection.wants_input());
    }
    connection.receive("\n");
    EXPECT_FALSE(connection.wants_input());
    EXPECT_EQ(serve(connection), "/ok");
    EXPECT_TRUE(connection.wants_input());
}

TEST_F(ConnectionTest, IgnoresEmptyLinesBetweenRequests) {
    Connection connection = make();
    connection.receive("\r\n\r\n" + std::string(kGet) + "\r\n" + std::string(kGet));
    EXPECT_EQ(serve(connection), "/ok");
    EXPECT_EQ(serve(connection), "/ok");
}

TEST_F(ConnectionTest, ReadsNothingWhileARequestRuns) {
    Connection connection = make();
    connection.receive(std::string(kGet) + std::string(kGet));
    auto next = connection.next_request();
    ASSERT_TRUE(next);
    EXPECT_FALSE(connection.wants_input());
    EXPECT_EQ(connection.deadline_ns(), INT64_MAX);
    EXPECT_FALSE(connection.next_request());
    connection.answer(make_answer(Reply::text("x"), next->context));
    EXPECT_FALSE(connection.next_request()) << "before the first answer is out";
    connection.sent(connection.output().size());
    EXPECT_EQ(serve(connection), "/ok");
}

TEST_F(ConnectionTest, MeasuresEachWaitByItsOwnLimit) {
    Connection connection = make();
    const auto left_ms = [&] {
        return (connection.deadline_ns() - clock_.monotonic_ns()) / kNanosPerMilli;
    };
    EXPECT_EQ(left_ms(), options_.header_timeout_ms);
    clock_.advance(kNanosPerSecond);
    connection.receive("GET /ok");
    EXPECT_EQ(left_ms(), options_.header_timeout_ms);
    clock_.advance(kNanosPerSecond);
    connection.receive(" HTTP/1.1\r\n");  // dripping does not extend it
    EXPECT_EQ(left_ms(), options_.header_timeout_ms - 1000);
    connection.receive("Host: a\r\nContent-Length: 2\r\n\r\n");
    EXPECT_EQ(left_ms(), options_.body_timeout_ms);
    connection.receive("ab");
    auto next = connection.next_request();
    connection.answer(make_answer(Reply::text("x"), next->context));
    EXPECT_EQ(left_ms(), options_.write_timeout_ms);
    clock_.advance(kNanosPerSecond);
    connection.sent(1);
    EXPECT_EQ(left_ms(), options_.write_timeout_ms);
    connection.sent(connection.output().size());
    EXPECT_EQ(left_ms(), options_.idle_timeout_ms);
    connection.expire();
    EXPECT_TRUE(connection.closed());
    EXPECT_TRUE(connection.output().empty());
}

TEST_F(ConnectionTest, LingersAfterARefusalAndBoundsWhatItDiscards) {
    Connection connection = make();
    connection.receive("nonsense\r\n\r\n");
    EXPECT_TRUE(connection.output().starts_with("HTTP/1.1 400 "));
    connection.sent(connection.output().size());
    EXPECT_TRUE(connection.wants_shutdown());
    EXPECT_FALSE(connection.wants_shutdown());
    EXPECT_FALSE(connection.closed());
    EXPECT_TRUE(connection.wants_input());
    const std::string megabyte(1u << 20, 'x');
    for (int count = 0; count < 5; ++count) {
        connection.receive(megabyte);
    }
    EXPECT_TRUE(connection.closed());
}

TEST_F(ConnectionTest, EndsOnEndOfInput) {
    Connection idle = make();
    idle.receive_end();
    EXPECT_TRUE(idle.closed());
    Connection half = make();
    half.receive("GET /");
    half.receive_end();
    EXPECT_TRUE(half.closed());
}

TEST_F(ConnectionTest, DrainClosesIdleOnesAndLastAnswersSayClose) {
    Connection idle = make();
    idle.drain();
    EXPECT_TRUE(idle.closed());
    Connection busy = make();
    busy.receive("GET /ok HTT");
    busy.drain();
    EXPECT_FALSE(busy.closed());
    busy.receive("P/1.1\r\nHost: a\r\n\r\n");
    auto next = busy.next_request();
    ASSERT_TRUE(next);
    EXPECT_FALSE(next->context.keep_alive);
    busy.answer(make_answer(Reply::text("x"), next->context));
    EXPECT_NE(busy.output().find("Connection: close"), std::string_view::npos);
    busy.sent(busy.output().size());
    EXPECT_TRUE(busy.wants_shutdown());
}

TEST_F(ConnectionTest, HandsStreamsOverWithWhatWasReadTooFar) {
    Connection connection = make();
    connection.receive(
        "PUT /stream HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        "Content-Length: 5\r\n\r\nab");
    auto next = connection.next_request();
    ASSERT_TRUE(next);
    EXPECT_TRUE(next->stream);
    EXPECT_TRUE(connection.output().empty()) << "100 Continue is the reader's";
    const Connection::Body body = connection.take_body();
    EXPECT_EQ(body.buffered, "ab");
    EXPECT_EQ(body.declared_length, 5u);
    EXPECT_TRUE(body.expects_continue);
    connection.resume(std::string(kGet), true);
    EXPECT_EQ(serve(connection), "/ok");
}

TEST_F(ConnectionTest, GivesEveryRequestAFreshId) {
    Connection connection = make();
    connection.receive(std::string(kGet) + std::string(kGet));
    const auto first = connection.next_request();
    connection.answer(make_answer(Reply::text("x"), first->context));
    connection.sent(connection.output().size());
    const auto second = connection.next_request();
    EXPECT_NE(first->request.request_id, second->request.request_id);
    EXPECT_EQ(first->request.request_id.size(), 40u);
}

TEST(HttpDate, IsTheFormOfRfc9110) {
    EXPECT_EQ(http_date(784111777 * kNanosPerSecond), "Sun, 06 Nov 1994 08:49:37 GMT");
}

}  // namespace
}  // namespace kumoi::api
