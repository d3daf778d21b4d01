#include "migration/link/door.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <future>

#include "base/file.h"
#include "migration/link/caller.h"

namespace kumoi::link {
namespace {

const std::string kKey(kKeySize, 'k');
const Uuid kId = *Uuid::parse("11111111-2222-4333-8444-555555555555");

class DoorTest : public testing::Test {
protected:
    void SetUp() override { open({}); }
    void open(DoorOptions options) {
        options.preamble_ms = preamble_ms_;
        auto opened = MigrationDoor::open(options, random_);
        ASSERT_TRUE(opened.ok()) << opened.error().text();
        door_ = std::move(opened).value();
        address_ = {"127.0.0.1", door_->port(), options.unix_path};
    }
    void expect(uint16_t streams_max = 4) {
        door_->expect(kId, {kKey, streams_max,
                            [this](Arrival arrival) { arrived_.set_value(std::move(arrival)); },
                            [](const std::string& asked) { return "on " + asked; }});
    }
    Arrival arrival() {
        Arrival one = arrived_.get_future().get();
        arrived_ = {};
        return one;
    }
    Result<CalledStreams> call(uint32_t round, uint16_t streams, const std::string& key = kKey,
                               const Uuid& id = kId) {
        return connect_migration(address_, id, key, round, streams, random_);
    }
    // Both ends of each stream are the same connection, in the order of the streams.
    static void check_streams(const CalledStreams& called, const Arrival& arrived) {
        ASSERT_EQ(called.streams.size(), arrived.streams.size());
        for (size_t i = 0; i < called.streams.size(); ++i) {
            const char byte = static_cast<char>('a' + i);
            ASSERT_EQ(::send(called.streams[i].socket.get(), &byte, 1, 0), 1);
            const auto got = receive_exactly(arrived.streams[i].socket.get(), 1,
                                             SystemClock().monotonic_ns() + 5 * kNanosPerSecond);
            ASSERT_TRUE(got.ok()) << got.error().text();
            EXPECT_EQ((*got)[0], byte);
            EXPECT_EQ(called.streams[i].tls_secret, arrived.streams[i].tls_secret);
        }
    }
    // Whatever it sends, the door ends the connection without a welcome.
    void expect_turned_away(const UniqueFd& socket) {
        std::string got(256, '\0');
        ssize_t count = 1;
        size_t all = 0;
        while (count > 0) {
            count = ::recv(socket.get(), got.data(), got.size(), 0);
            if (count < 0 && errno == EAGAIN) {
                pollfd one{socket.get(), POLLIN, 0};
                ::poll(&one, 1, -1);
                count = 1;
                continue;
            }
            all += count > 0 ? static_cast<size_t>(count) : 0;
        }
        EXPECT_LE(all, kGreetingSize + kReplySize);
    }

    int64_t preamble_ms_ = 5'000;
    SystemRandom random_;
    DoorAddress address_;
    std::promise<Arrival> arrived_;
    std::unique_ptr<MigrationDoor> door_;  // last: its threads use the others
};

TEST_F(DoorTest, GivesAllStreamsOfARoundToWhoExpectsThem) {
    expect();
    const auto called = call(1, 4);
    ASSERT_TRUE(called.ok()) << called.error().text();
    const Arrival arrived = arrival();
    EXPECT_EQ(arrived.round, 1u);
    EXPECT_EQ(arrived.peer, "127.0.0.1");
    EXPECT_EQ(called->encryption, Encryption::Psk);
    check_streams(*called, arrived);
}

TEST_F(DoorTest, IsAUnixSocketToo) {
    const auto folder = TemporaryDirectory::create("kumoi-door");
    ASSERT_TRUE(folder.ok());
    DoorOptions options;
    options.unix_path = folder->path() + "/door.sock";
    options.encryption = Encryption::None;
    open(options);
    expect();
    const auto called = call(1, 2);
    ASSERT_TRUE(called.ok()) << called.error().text();
    EXPECT_EQ(called->encryption, Encryption::None);
    check_streams(*called, arrival());
}

TEST_F(DoorTest, AfterABrokenLinkComesTheNextRound) {
    expect();
    ASSERT_TRUE(call(1, 2).ok());
    EXPECT_EQ(arrival().round, 1u);
    EXPECT_EQ(call(1, 2).error().code, ErrorCode::Forbidden);  // it has been
    const auto again = call(2, 3);
    ASSERT_TRUE(again.ok());
    const Arrival arrived = arrival();
    EXPECT_EQ(arrived.round, 2u);
    check_streams(*again, arrived);
    EXPECT_EQ(call(1, 1).error().code, ErrorCode::Forbidden);
}

TEST_F(DoorTest, ANewRoundReplacesOneThatWasNeverWhole) {
    expect();
    Introduction first;
    first.round = 1;
    first.count = 2;
    first.id = kId.bytes();
    auto socket = connect_tcp("127.0.0.1", door_->port(), 5000);
    ASSERT_TRUE(socket.ok());
    ASSERT_TRUE(send_preamble(socket->get(), first, kKey, random_,
                              SystemClock().monotonic_ns() + 5 * kNanosPerSecond)
                    .ok());
    ASSERT_TRUE(call(2, 1).ok());
    EXPECT_EQ(arrival().round, 2u);
    expect_turned_away(*socket);
}

TEST_F(DoorTest, TurnsAwayWhoDoesNotKnowTheKey) {
    expect();
    EXPECT_EQ(call(1, 1, std::string(kKeySize, 'x')).error().code, ErrorCode::Forbidden);
    EXPECT_EQ(call(1, 1, kKey, *Uuid::parse("21111111-2222-4333-8444-555555555555")).error().code,
              ErrorCode::Forbidden);
    EXPECT_EQ(call(1, 5).error().code, ErrorCode::Forbidden);  // more than agreed
    ASSERT_TRUE(call(1, 1).ok());
    EXPECT_EQ(arrival().streams.size(), 1u);
}

TEST_F(DoorTest, ForgetsWhatIsNotExpectedAnyMore) {
    expect();
    door_->expect(*Uuid::parse("31111111-2222-4333-8444-555555555555"), {kKey, 1, {}, {}});
    door_->forget(kId);
    EXPECT_EQ(call(1, 1).error().code, ErrorCode::Forbidden);
    EXPECT_EQ(ask_about_migration(address_, kId, kKey, "it", random_).error().code,
              ErrorCode::Forbidden);
}

TEST_F(DoorTest, AnswersQuestionsOfThoseWhoKnowTheKey) {
    expect();
    const auto answer = ask_about_migration(address_, kId, kKey, "it", random_);
    ASSERT_TRUE(answer.ok()) << answer.error().text();
    EXPECT_EQ(*answer, "on it");
    EXPECT_FALSE(
        ask_about_migration(address_, kId, std::string(kKeySize, 'x'), "it", random_).ok());
}

TEST_F(DoorTest, WithNothingExpectedConnectionsAreClosedAtOnce) {
    EXPECT_EQ(call(1, 1).error().code, ErrorCode::Unavailable);
}

TEST_F(DoorTest, APeerThatSaysNothingIsCutOff) {
    preamble_ms_ = 20;
    open({});
    expect();
    const auto silent = connect_tcp("127.0.0.1", door_->port(), 5000);
    ASSERT_TRUE(silent.ok());
    expect_turned_away(*silent);
}

TEST_F(DoorTest, GarbageIsTurnedAway) {
    expect();
    const auto socket = connect_tcp("127.0.0.1", door_->port(), 5000);
    ASSERT_TRUE(socket.ok());
    const std::string garbage(kIntroductionSize, 'g');
    ASSERT_EQ(::send(socket->get(), garbage.data(), garbage.size(), 0),
              static_cast<ssize_t>(garbage.size()));
    expect_turned_away(*socket);
}

TEST_F(DoorTest, AFloodIsBounded) {
    DoorOptions options;
    options.connections_max = 3;
    open(options);
    expect();
    std::vector<UniqueFd> flood;
    for (int i = 0; i < 8; ++i) {
        auto socket = connect_tcp("127.0.0.1", door_->port(), 5000);
        ASSERT_TRUE(socket.ok());
        flood.push_back(std::move(socket).value());
    }
    for (size_t i = 3; i < flood.size(); ++i) {
        expect_turned_away(flood[i]);
    }
    EXPECT_EQ(door_->connection_count(), 3u);
}

TEST_F(DoorTest, APeerMayNotTakeAllPlaces) {
    DoorOptions options;
    options.per_peer_max = 1;
    open(options);
    expect();
    const auto first = connect_tcp("127.0.0.1", door_->port(), 5000);
    const auto second = connect_tcp("127.0.0.1", door_->port(), 5000);
    ASSERT_TRUE(first.ok() && second.ok());
    expect_turned_away(*second);
}

TEST(Caller, SaysWhoDoesNotAnswer) {
    SystemRandom random;
    auto listener = listen_tcp({});
    ASSERT_TRUE(listener.ok());
    const uint16_t port = *local_port(listener->get());
    listener->reset();
    const auto called = connect_migration({"127.0.0.1", port, ""}, kId, kKey, 1, 1, random);
    EXPECT_EQ(called.error().code, ErrorCode::Unavailable);
    EXPECT_NE(called.error().message.find(std::to_string(port)), std::string::npos);
    CallOptions hasty;
    hasty.preamble_ms = 20;
    auto silent = listen_tcp({});
    ASSERT_TRUE(silent.ok());
    const auto waited = connect_migration({"127.0.0.1", *local_port(silent->get()), ""}, kId, kKey,
                                          1, 1, random, hasty);
    EXPECT_EQ(waited.error().code, ErrorCode::Timeout);
}

}  // namespace
}  // namespace kumoi::link
