// What happens when the broker dies, freezes, blocks, or loses queues under us.
#include "api/amqp/rabbit_link.h"
#include "tests/functional/amqp/rpc_lab.h"

namespace kumoi::amqp {
namespace {

using Clock = std::chrono::steady_clock;

Result<Json> echo(AmqpRpcClient& client, int64_t timeout_ms = 30'000) {
    return client.call(compute_target(), Json::object(), "echo", Json::object(),
                       {.timeout_ms = timeout_ms});
}

// A stranger at the broker, to do damage with.
std::unique_ptr<BrokerLink> stranger() {
    const auto url = TransportUrl::parse(broker->url()).value();
    return connect_rabbit(url.hosts[0], url.vhost, AmqpOptions(), "stranger").value();
}

void delete_queue(const std::string& name) {
    const auto deleted = stranger()->delete_queue(name);
    ASSERT_TRUE(deleted.ok()) << deleted.error().text();
}

TEST(Outage, RpcWorksAgainWithinFiveSecondsOfTheBrokersReturn) {
    Peer server_peer;
    Peer client_peer;
    Server server(server_peer);
    AmqpRpcClient client(*client_peer.transport);
    ASSERT_TRUE(echo(client).ok());
    broker->kill();
    ASSERT_TRUE(eventually([&] { return !client.is_listening(); }));
    EXPECT_FALSE(echo(client, 300).ok());
    ASSERT_TRUE(broker->start_again().ok());
    const auto back = Clock::now();
    const auto answer = echo(client);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - back);
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    std::printf("RPC works %d ms after the broker's return\n", static_cast<int>(took.count()));
    EXPECT_LT(took.count(), 5000);
}

TEST(Outage, CallMadeWhileTheBrokerIsAwayIsAnsweredAfterItsReturn) {
    Peer peer;
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    broker->kill();
    Result<Json> answer = Error::internal("not called");
    std::thread caller([&] { answer = echo(client, 60'000); });
    ASSERT_TRUE(broker->start_again().ok());
    caller.join();
    EXPECT_TRUE(answer.ok()) << answer.error().text();
}

TEST(Outage, ReplyFindsACallerThatLostItsBrokerMeanwhile) {
    Peer server_peer;
    Peer client_peer;
    Server server(server_peer);
    AmqpRpcClient client(*client_peer.transport);
    Result<Json> answer = Error::internal("not called");
    std::thread caller([&] {
        answer = client.call(compute_target(), Json::object(), "sleep",
                             Json::object({{"ms", 1500}}), {.timeout_ms = 60'000});
    });
    ASSERT_TRUE(server.wait_for_calls(1));
    broker->kill();
    ASSERT_TRUE(broker->start_again().ok());
    caller.join();
    EXPECT_TRUE(answer.ok()) << answer.error().text();
    EXPECT_EQ(server.calls, 1);
}

TEST(Outage, FrozenBrokerCostsATimeoutAndNothingElse) {
    Peer peer;
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    ASSERT_TRUE(echo(client).ok());
    broker->freeze();
    const auto frozen = echo(client, 500);
    broker->thaw();
    ASSERT_FALSE(frozen.ok());
    EXPECT_EQ(frozen.error().code, ErrorCode::Timeout);
    const auto answer = echo(client);
    EXPECT_TRUE(answer.ok()) << answer.error().text();
}

TEST(Outage, DeletedReplyQueueIsDeclaredAgain) {
    Peer peer;
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    ASSERT_TRUE(echo(client).ok());
    delete_queue(client.reply_queue());
    const auto answer = echo(client);
    EXPECT_TRUE(answer.ok()) << answer.error().text();
}

TEST(Outage, DeletedServerQueuesAreDeclaredAgain) {
    Peer peer;
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    delete_queue("compute.host1");
    delete_queue("compute");
    ASSERT_TRUE(server.server.wait_until_listening(10'000));
    EXPECT_TRUE(echo(client).ok());
    const Target any{.topic = "compute", .version = "6.0"};
    EXPECT_TRUE(client.call(any, Json::object(), "echo", Json::object()).ok());
}

TEST(Outage, DeletedFanoutExchangeIsDeclaredAgainByThePublisher) {
    Peer server_peer;
    Peer client_peer;
    AmqpRpcClient client(*client_peer.transport);
    const Target all{.topic = "compute", .version = "6.0", .fanout = true};
    {
        Server server(server_peer);
        ASSERT_TRUE(client.cast(all, Json::object(), "note", Json::object()).ok());
        ASSERT_TRUE(server.wait_for_calls(1));
    }
    // Its last queue is gone, and with it the exchange that the publisher has declared.
    ASSERT_TRUE(client.cast(all, Json::object(), "note", Json::object()).ok());
    Server again(server_peer);
    ASSERT_TRUE(client.cast(all, Json::object(), "note", Json::object()).ok());
    EXPECT_TRUE(again.wait_for_calls(1));
}

bool was_deaf(Peer& peer) {
    return peer.metrics.render().find("kumoi_rpc_deaf_total 0") == std::string::npos;
}

TEST(Outage, WatchdogIsContentWithAReplyQueueThatWorks) {
    AmqpOptions options;
    options.probe_interval_ms = 50;
    options.probe_answer_ms = 2000;
    Peer peer(options);
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    for (int count = 0; count < 20; ++count) {
        ASSERT_TRUE(echo(client).ok());
    }
    EXPECT_FALSE(was_deaf(peer));
}

TEST(Outage, WatchdogMendsAReplyQueueThatIsDeaf) {
    AmqpOptions options;
    options.probe_interval_ms = 100;
    options.probe_answer_ms = 500;
    Peer peer(options);
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    ASSERT_TRUE(echo(client).ok());
    {
        // Every other message of the reply queue goes to a thief who never acknowledges.
        auto thief = stranger();
        ASSERT_TRUE(thief->open_consume_channel().ok());
        ASSERT_TRUE(thief->consume(client.reply_queue(), "thief", 0, Json::object()).ok());
        EXPECT_TRUE(eventually([&] { return was_deaf(peer); }));
    }
    const auto answer = echo(client);
    EXPECT_TRUE(answer.ok()) << answer.error().text();
}

TEST(Outage, BlockedPublisherWaitsAndGoesOn) {
    Peer peer;
    Server server(peer);
    AmqpRpcClient client(*peer.transport);
    ASSERT_TRUE(broker->ctl({"set_vm_memory_high_watermark", "absolute", "1MB"}).ok());
    EXPECT_TRUE(eventually([&] {
        [[maybe_unused]] const auto tried = echo(client, 300);
        return peer.transport->publishing().is_blocked();
    }));
    EXPECT_EQ(echo(client, 300).error().code, ErrorCode::Timeout);
    ASSERT_TRUE(broker->ctl({"set_vm_memory_high_watermark", "absolute", "512MB"}).ok());
    const auto answer = echo(client);
    EXPECT_TRUE(answer.ok()) << answer.error().text();
    EXPECT_FALSE(peer.transport->publishing().is_blocked());
}

TEST(Outage, WrongPasswordIsARefusalThatSaysSo) {
    auto url = TransportUrl::parse(broker->url()).value();
    url.hosts[0].password = "wrong";
    const auto link = connect_rabbit(url.hosts[0], url.vhost, AmqpOptions(), "stranger");
    ASSERT_FALSE(link.ok());
    EXPECT_EQ(link.error().code, ErrorCode::Unauthenticated);
    EXPECT_THAT(link.error().message, ::testing::HasSubstr("403"));
    url.vhost = "nowhere";
    url.hosts[0].password = "guest";
    EXPECT_EQ(connect_rabbit(url.hosts[0], url.vhost, AmqpOptions(), "stranger").error().code,
              ErrorCode::Unauthenticated);
}

TEST(Outage, FirstHostIsDead) {
    for (int attempt = 0; attempt < 3; ++attempt) {  // the first host is chosen at random
        AmqpOptions options;
        options.transport_url = fmt::format("rabbit://guest:guest@127.0.0.1:{},127.0.0.1:{}/",
                                            testing::free_port(), broker->port());
        Peer peer(options);
        Server server(peer);
        AmqpRpcClient client(*peer.transport);
        EXPECT_TRUE(echo(client).ok());
    }
}

}  // namespace
}  // namespace kumoi::amqp

int main(int argc, char** argv) {
    return kumoi::amqp::lab_main(argc, argv);
}
