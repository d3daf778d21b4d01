// Calls, casts and fanouts between our client and our server through a real broker.
#include "tests/functional/amqp/rpc_lab.h"

namespace kumoi::amqp {
namespace {

TEST(Rpc, CallComesBackWithResultAndContext) {
    Peer server_peer;
    Peer client_peer;
    Server server(server_peer);
    AmqpRpcClient client(*client_peer.transport);
    const Json context = Json::object({{"request_id", "req-1"}, {"is_admin", true}});
    auto answer = client.call(compute_target(), context, "echo", Json::object({{"text", "grüß"}}));
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    EXPECT_EQ(answer->string_or("host"), "host1");
    EXPECT_EQ(*answer->find("context"), context);
    EXPECT_EQ(answer->find_path({"args", "text"})->as_string(), "grüß");
}

TEST(Rpc, FailureKeepsItsClass) {
    Peer peer;
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    auto answer = client.call(compute_target(), Json::object(), "fail", Json::object());
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().fault, "InstanceNotFound");
    EXPECT_EQ(answer.error().code, ErrorCode::NotFound);
    EXPECT_EQ(answer.error().message, "Instance abc could not be found.");
}

TEST(Rpc, UnknownMethodAndVersionAreRefused) {
    Peer peer;
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    auto method = client.call(compute_target(), Json::object(), "nothing", Json::object());
    ASSERT_FALSE(method.ok());
    EXPECT_EQ(method.error().fault, "NoSuchMethod");
    Target wrong = compute_target();
    wrong.version = "7.0";
    auto version = client.call(wrong, Json::object(), "echo", Json::object());
    ASSERT_FALSE(version.ok());
    EXPECT_EQ(version.error().fault, "UnsupportedVersion");
}

TEST(Rpc, CastRunsOnceAndFanoutReachesAll) {
    Peer peer;
    Server one(peer, "compute", "one");
    Server two(peer, "compute", "two");
    AmqpRpcClient client(*peer.transport);
    ASSERT_TRUE(client.cast(compute_target("two"), Json::object(), "note", Json::object()).ok());
    ASSERT_TRUE(two.wait_for_calls(1));
    EXPECT_EQ(one.calls, 0);
    Target all{.topic = "compute", .version = "6.0", .fanout = true};
    ASSERT_TRUE(client.cast(all, Json::object(), "note", Json::object()).ok());
    EXPECT_TRUE(one.wait_for_calls(1));
    EXPECT_TRUE(two.wait_for_calls(2));
}

TEST(Rpc, TwoServersOfOneTopicShareTheWork) {
    Peer peer;
    Server one(peer, "shared", "one");
    Server two(peer, "shared", "two");
    AmqpRpcClient client(*peer.transport);
    const Target any{.topic = "shared", .version = "6.0"};
    for (int count = 0; count < 10; ++count) {
        ASSERT_TRUE(client.call(any, Json::object(), "count", Json::object()).ok());
    }
    EXPECT_EQ(one.calls + two.calls, 10);
    EXPECT_GT(one.calls, 0);
    EXPECT_GT(two.calls, 0);
}

TEST(Rpc, ListensOnTwoTopics) {
    Peer peer;
    Server server(peer, std::vector<std::string>{"compute", "compute-alt"}, "both");
    AmqpRpcClient client(*peer.transport);
    Target alternative = compute_target("both");
    alternative.topic = "compute-alt";
    auto answer = client.call(alternative, Json::object(), "echo", Json::object());
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    EXPECT_EQ(answer->string_or("topic"), "compute-alt");
}

TEST(Rpc, NobodyThereIsSaidAndNotWaitedFor) {
    Peer peer;
    AmqpRpcClient client(*peer.transport);
    const Target nobody{.topic = "nobody", .version = "1.0"};
    auto answer = client.call(nobody, Json::object(), "echo", Json::object(), {.timeout_ms = 600});
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().fault, "MessageUndeliverable");
}

TEST(Rpc, CallWaitsForAServerThatStartsLater) {
    Peer peer;
    AmqpRpcClient client(*peer.transport);
    Result<Json> answer = Error::internal("not called");
    std::thread caller([&] {
        answer = client.call({.topic = "later", .server = "host1", .version = "6.0"},
                             Json::object(), "echo", Json::object());
    });
    Server server(peer, "later");
    caller.join();
    EXPECT_TRUE(answer.ok());
}

TEST(Rpc, SilentServerIsATimeout) {
    Peer peer;
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    auto answer = client.call(compute_target(), Json::object(), "sleep",
                              Json::object({{"ms", 1500}}), {.timeout_ms = 300});
    ASSERT_FALSE(answer.ok());
    EXPECT_EQ(answer.error().code, ErrorCode::Timeout);
    EXPECT_EQ(answer.error().fault, "MessagingTimeout");
    // The late reply is dropped; the next call gets its own.
    auto next = client.call(compute_target(), Json::object(), "echo", Json::object({{"n", 7}}));
    ASSERT_TRUE(next.ok());
    EXPECT_EQ(next->find_path({"args", "n"})->as_int64(), 7);
}

TEST(Rpc, SignsOfLifeKeepALongCall) {
    Peer peer;
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    auto answer =
        client.call(compute_target(), Json::object(), "sleep", Json::object({{"ms", 3500}}),
                    {.timeout_ms = 30'000, .call_monitor_timeout_s = 2});
    EXPECT_TRUE(answer.ok()) << answer.error().text();
}

}  // namespace
}  // namespace kumoi::amqp

int main(int argc, char** argv) {
    return kumoi::amqp::lab_main(argc, argv);
}
