// The connection, its outbox and its consumers over a link that does what the test says.
#include "api/amqp/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_broker_link.h"

namespace kumoi::amqp {
namespace {

using ::testing::ElementsAre;

class ConnectionTest : public ::testing::Test {
protected:
    ConnectionTest()
        : loop(clock),
          random(1),
          connection({loop, clock, random, metrics, connector}, options,
                     TransportUrl::parse("rabbit://a,b").value(), "test") {}

    void start() {
        connection.start();
        run();
    }
    void run() {
        for (int round = 0; round < 10; ++round) {
            loop.run_ready();
        }
    }
    void pass(int64_t milliseconds) {
        clock.advance(milliseconds * kNanosPerMilli);
        run();
    }
    void event(LinkEvent happened) {
        connector.log.events.emplace_back(std::move(happened));
        run();
    }
    void lose() {
        connector.log.events.emplace_back(Error::unavailable("socket closed"));
        run();
    }
    void publish(const std::string& key, int64_t timeout_ms = 60'000) {
        Publication made;
        made.message = {.exchange = "nova", .routing_key = key, .body = "body of " + key};
        made.message.mandatory = true;
        made.exchange = topic_exchange(options, "nova");
        made.deadline_ns = clock.monotonic_ns() + timeout_ms * kNanosPerMilli;
        connection.publish(std::move(made), [this, key](const Result<void>& outcome) {
            done.push_back(key + (outcome.ok() ? " ok" : " " + outcome.error().fault));
        });
        run();
    }
    std::vector<std::string> published() const {
        std::vector<std::string> keys;
        for (const OutgoingMessage& message : connector.log.published) {
            keys.push_back(message.routing_key);
        }
        return keys;
    }

    ManualClock clock;
    EventLoop loop;
    SeededRandom random;
    Metrics metrics;
    testing::FakeConnector connector;
    AmqpOptions options;
    // Written to until the connection is gone.
    std::vector<std::string> done;
    std::vector<std::string> bodies;
    std::vector<bool> states;
    Connection connection;
};

TEST_F(ConnectionTest, PublishIsDoneWhenConfirmed) {
    start();
    publish("conductor");
    EXPECT_TRUE(done.empty());
    event(Confirm{1, false, true});
    EXPECT_THAT(done, ElementsAre("conductor ok"));
    EXPECT_EQ(connector.log.count("exchange nova"), 1u);
}

TEST_F(ConnectionTest, ExchangeIsDeclaredOncePerLink) {
    start();
    publish("a");
    publish("b");
    EXPECT_EQ(connector.log.count("exchange nova"), 1u);
    lose();
    pass(1000);
    EXPECT_EQ(connector.log.count("exchange nova"), 2u);
}

TEST_F(ConnectionTest, MultipleConfirmSettlesAllBefore) {
    start();
    publish("a");
    publish("b");
    publish("c");
    event(Confirm{2, true, true});
    EXPECT_THAT(done, ElementsAre("a ok", "b ok"));
}

TEST_F(ConnectionTest, ReturnedMessageIsUndeliverable) {
    start();
    publish("a");
    publish("b");
    event(Returned{312, "NO_ROUTE", "nova", "b", "body of b"});
    event(Confirm{2, true, true});
    EXPECT_THAT(done, ElementsAre("a ok", "b MessageUndeliverable"));
}

TEST_F(ConnectionTest, RefusedMessageIsSentAgain) {
    start();
    publish("a");
    event(Confirm{1, false, false});
    EXPECT_THAT(published(), ElementsAre("a", "a"));
    event(Confirm{2, false, true});
    EXPECT_THAT(done, ElementsAre("a ok"));
}

TEST_F(ConnectionTest, UnconfirmedIsSentAgainOnTheNextHostInOrder) {
    start();
    publish("a");
    publish("b");
    event(Confirm{1, false, true});
    publish("c");
    lose();
    publish("d");
    EXPECT_THAT(published(), ElementsAre("a", "b", "c"));
    pass(1000);
    EXPECT_EQ(connector.hosts.size(), 2u);
    EXPECT_THAT(published(), ElementsAre("a", "b", "c", "b", "c", "d"));
    event(Confirm{3, true, true});
    EXPECT_THAT(done, ElementsAre("a ok", "b ok", "c ok", "d ok"));
}

TEST_F(ConnectionTest, DeadlinePassesWithoutABroker) {
    connector.failures.assign(100, Error::unavailable("connection refused"));
    start();
    publish("a", 2000);
    pass(1000);
    EXPECT_TRUE(done.empty());
    pass(1000);
    EXPECT_THAT(done, ElementsAre("a MessageDeliveryFailure"));
}

TEST_F(ConnectionTest, NothingIsSentWhileBlocked) {
    start();
    event(BlockedChanged{true, "low on memory"});
    EXPECT_TRUE(connection.is_blocked());
    publish("a");
    EXPECT_TRUE(published().empty());
    event(BlockedChanged{});
    EXPECT_THAT(published(), ElementsAre("a"));
}

TEST_F(ConnectionTest, ClosedPublishChannelIsOpenedAndEverythingDeclaredAgain) {
    start();
    publish("a");
    event(ChannelClosed{LinkChannel::Publish, 404, "NOT_FOUND - no exchange"});
    EXPECT_EQ(connector.log.count("exchange nova"), 2u);
    EXPECT_THAT(published(), ElementsAre("a", "a"));
    EXPECT_EQ(connector.log.links, 1);
}

TEST_F(ConnectionTest, BrokerThatConfirmsNothingIsLeft) {
    start();
    publish("a");
    for (int second = 0; second < 20; ++second) {
        pass(1000);
    }
    EXPECT_EQ(connector.log.links, 2);
    EXPECT_THAT(published(), ElementsAre("a", "a"));
}

TEST_F(ConnectionTest, ConsumersComeBackAfterLossCancelAndClosedChannel) {
    connection.add_consumer(topic_subscription(options, "nova", "compute.h", true),
                            {.delivered = [&](Delivery&& got) { bodies.push_back(got.body); },
                             .changed = [&](bool up) { states.push_back(up); }});
    start();
    EXPECT_EQ(connector.log.count("consume compute.h 1"), 1u);
    event(Delivery{.consumer_tag = "1", .delivery_tag = 1, .body = "x"});
    EXPECT_THAT(bodies, ElementsAre("x"));
    event(ConsumerCancelled{"1"});
    EXPECT_EQ(connector.log.count("queue compute.h"), 2u);
    event(ChannelClosed{LinkChannel::Consume, 406, "unknown delivery tag"});
    EXPECT_EQ(connector.log.count("consume compute.h 1"), 3u);
    lose();
    pass(1000);
    EXPECT_EQ(connector.log.count("consume compute.h 1"), 4u);
    EXPECT_THAT(states, ElementsAre(true, false, true, false, true, false, true));
}

TEST_F(ConnectionTest, OldDeliveriesCannotBeAcknowledgedOnANewChannel) {
    Delivery last;
    connection.add_consumer(topic_subscription(options, "nova", "compute.h", true),
                            {.delivered = [&](Delivery&& got) { last = std::move(got); }});
    start();
    event(Delivery{.consumer_tag = "1", .delivery_tag = 5, .body = "x"});
    event(ChannelClosed{LinkChannel::Consume, 541, "error"});
    EXPECT_FALSE(connection.acknowledge(last.epoch, last.delivery_tag));
    event(Delivery{.consumer_tag = "1", .delivery_tag = 1, .body = "x"});
    EXPECT_TRUE(connection.acknowledge(last.epoch, last.delivery_tag));
    EXPECT_THAT(connector.log.acked, ElementsAre(1u));
}

TEST_F(ConnectionTest, OtherDurabilityIsAdopted) {
    connector.log.refusals["queue compute.h"].push_back(
        Error::conflict("406 PRECONDITION_FAILED - inequivalent arg 'durable' for queue"));
    connection.add_consumer(topic_subscription(options, "nova", "compute.h", true), {});
    start();
    ASSERT_EQ(connector.log.queues.size(), 2u);
    EXPECT_FALSE(connector.log.queues[0].durable);
    EXPECT_TRUE(connector.log.queues[1].durable);
    EXPECT_EQ(connector.log.count("consume compute.h 1"), 1u);
    lose();
    pass(1000);
    EXPECT_TRUE(connector.log.queues.back().durable);  // remembered
    EXPECT_EQ(connector.log.queues.size(), 3u);
}

TEST_F(ConnectionTest, QueueWithOtherArgumentsIsUsedAsItIs) {
    connector.log.refusals["queue compute.h"].push_back(
        Error::conflict("406 PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue"));
    connector.log.consumers["compute.h"] = 0;
    connection.add_consumer(topic_subscription(options, "nova", "compute.h", true), {});
    start();
    EXPECT_EQ(connector.log.count("consume compute.h 1"), 1u);
}

TEST_F(ConnectionTest, StuckQueueIsDeletedAndMadeAnew) {
    connector.log.refusals["queue compute.h"].push_back(
        Error::not_found("404 NOT_FOUND - home node 'rabbit@x' of durable queue is down"));
    connection.add_consumer(topic_subscription(options, "nova", "compute.h", true), {});
    start();
    EXPECT_EQ(connector.log.count("delete compute.h"), 1u);
    EXPECT_EQ(connector.log.count("consume compute.h 1"), 1u);
}

TEST_F(ConnectionTest, RefusedConsumerIsTriedAgainAndTheOthersAtOnce) {
    connection.add_consumer(topic_subscription(options, "nova", "one", true), {});
    connection.add_consumer(topic_subscription(options, "nova", "two", true), {});
    connector.log.refusals["consume two 2"].push_back(Error::not_found("404 NOT_FOUND"));
    start();
    EXPECT_EQ(connector.log.links, 1);
    EXPECT_EQ(connector.log.count("consume one 1"), 2u);  // its channel was closed with it
    pass(250);
    EXPECT_EQ(connector.log.count("consume two 2"), 2u);
}

TEST_F(ConnectionTest, ProbeMendsAQueueWithoutItsConsumer) {
    connection.add_consumer(topic_subscription(options, "nova", "compute", false), {});
    connection.add_consumer(reply_subscription(options, "1234"), {});
    start();
    connector.log.consumers = {{"compute", 0}, {"reply_1234", 1}};
    connection.probe();
    run();
    EXPECT_EQ(connector.log.count("consume reply_1234 2"), 1u);
    connector.log.consumers = {{"compute", 1}, {"reply_1234", 0}};
    connection.probe();
    run();
    EXPECT_EQ(connector.log.count("consume reply_1234 2"), 2u);
    EXPECT_EQ(connector.log.count("consume compute 1"), 1u);
    connector.log.consumers = {{"reply_1234", 1}};  // "compute" has been deleted
    connection.probe();
    run();
    EXPECT_EQ(connector.log.count("consume compute 1"), 2u);
}

TEST_F(ConnectionTest, StreamIsReadOnFromTheLastOffset) {
    options.rabbit_stream_fanout = true;
    connection.add_consumer(fanout_subscription(options, "compute", ""),
                            {.delivered = [](auto&&) {}});
    start();
    event(Delivery{.consumer_tag = "1", .delivery_tag = 1, .stream_offset = 41});
    auto* link = &connector.log;
    event(ConsumerCancelled{"1"});
    EXPECT_EQ(link->count("consume compute_fanout 1"), 2u);
}

TEST_F(ConnectionTest, StoppingFailsWhatWaits) {
    start();
    publish("a");
    connection.stop();
    EXPECT_THAT(done, ElementsAre("a "));
    publish("b");
    EXPECT_THAT(done, ElementsAre("a ", "b "));
}

TEST(HostRotation, RoundsHavePausesAndClosedPortsAreLookedAtOften) {
    AmqpOptions options;
    SeededRandom random(3);
    HostRotation rotation(options, 2, random);
    const size_t first = rotation.host();
    EXPECT_EQ(rotation.delay_ms_after_loss(), 1000);
    EXPECT_EQ(rotation.delay_ms_after_failure(true), 0);
    EXPECT_NE(rotation.host(), first);
    int64_t last = 0;
    for (int round = 0; round < 40; ++round) {
        last = rotation.delay_ms_after_failure(true);
        rotation.delay_ms_after_failure(true);
    }
    EXPECT_GE(last, 30'000);
    EXPECT_LE(last, 30'500);
    rotation.connected();
    for (int attempt = 0; attempt < 40; ++attempt) {
        EXPECT_LE(rotation.delay_ms_after_failure(false), 2000);
    }
}

}  // namespace
}  // namespace kumoi::amqp
