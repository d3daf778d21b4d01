#include "api/amqp/pending_calls.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/fake_rpc.h"

namespace kumoi::amqp {
namespace {

constexpr int64_t kSecond = kNanosPerSecond;

TEST(PendingCalls, SettledCallReturnsItsOutcomeOnce) {
    PendingCalls calls;
    ASSERT_TRUE(calls.add("a", "conductor.ping", {.deadline_ns = 60 * kSecond}, 0));
    EXPECT_TRUE(calls.settle("a", Json(7)));
    EXPECT_FALSE(calls.settle("a", Json(8)));  // a second reply
    EXPECT_EQ(calls.wait("a").value(), Json(7));
    EXPECT_FALSE(calls.settle("a", Json(9)));  // a late one
}

TEST(PendingCalls, WaiterWakesWithItsReply) {
    PendingCalls calls;
    ASSERT_TRUE(calls.add("a", "conductor.ping", {.deadline_ns = 60 * kSecond}, 0));
    std::thread replier([&] { calls.settle("a", Json("pong")); });
    EXPECT_EQ(calls.wait("a").value(), Json("pong"));
    replier.join();
}

TEST(PendingCalls, TotalDeadlineStandsDespiteSignsOfLife) {
    PendingCalls calls;
    ASSERT_TRUE(
        calls.add("a", "x.y", {.deadline_ns = 100 * kSecond, .monitor_ns = 60 * kSecond}, 0));
    EXPECT_EQ(calls.next_deadline_ns(), 60 * kSecond);
    EXPECT_TRUE(calls.alive("a", 50 * kSecond));
    EXPECT_EQ(calls.next_deadline_ns(), 100 * kSecond);
    calls.expire(99 * kSecond);
    EXPECT_TRUE(calls.waits("a"));
    calls.expire(100 * kSecond);
    const auto outcome = calls.wait("a");
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.error().fault, "MessagingTimeout");
    EXPECT_EQ(outcome.error().message, "x.y did not answer: no reply after 100000 ms");
}

TEST(PendingCalls, SilenceEndsAMonitoredCall) {
    PendingCalls calls;
    ASSERT_TRUE(
        calls.add("a", "x.y", {.deadline_ns = 1800 * kSecond, .monitor_ns = 60 * kSecond}, 0));
    calls.expire(60 * kSecond);
    EXPECT_EQ(calls.wait("a").error().message,
              "x.y did not answer: no sign of life after 60000 ms");
    EXPECT_EQ(calls.expired(), 1u);
}

TEST(PendingCalls, ClosingFailsWhoWaitsAndWhoComes) {
    PendingCalls calls;
    ASSERT_TRUE(calls.add("a", "x.y", {.deadline_ns = kSecond}, 0));
    std::thread caller([&] { EXPECT_EQ(calls.wait("a").error().code, ErrorCode::Cancelled); });
    calls.close(Error::cancelled("closing"));
    caller.join();
    EXPECT_FALSE(calls.add("b", "x.y", {.deadline_ns = kSecond}, 0));
}

TEST(PendingCalls, ReadinessLetsACallGo) {
    PendingCalls calls;
    ASSERT_TRUE(calls.add("a", "x.y", {.deadline_ns = kSecond}, 0));
    std::thread readier([&] { calls.set_ready(true); });
    EXPECT_TRUE(calls.wait_ready("a"));
    readier.join();
    calls.set_ready(false);
    calls.expire(kSecond);
    EXPECT_FALSE(calls.wait_ready("a"));  // too late
    EXPECT_FALSE(calls.wait("a").ok());
}

TEST(FakeRpc, AnswersAsScriptedAndKeepsWhatWasSent) {
    testing::FakeRpc rpc;
    rpc.answer("ping", Json("first"));
    rpc.fail("ping", Error::not_found("gone").with_fault("InstanceNotFound"));
    const Target target{.topic = "conductor", .version = "3.0"};
    EXPECT_EQ(rpc.call(target, {}, "ping", {}).value(), Json("first"));
    EXPECT_EQ(rpc.call(target, {}, "ping", {}).error().fault, "InstanceNotFound");
    EXPECT_EQ(rpc.call(target, {}, "ping", {}).error().fault, "MessagingTimeout");
    EXPECT_TRUE(rpc.cast(target, {}, "note", Json::object({{"n", 1}})).ok());
    EXPECT_EQ(rpc.sent("ping").size(), 3u);
    EXPECT_EQ(rpc.sent("note").at(0).args.integer_or("n"), 1);
}

}  // namespace
}  // namespace kumoi::amqp
