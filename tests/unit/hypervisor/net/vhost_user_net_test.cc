#include "hypervisor/net/vhost_user_net.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <cerrno>

#include "tests/support/vhost_user_backend_fake.h"

namespace kumoi::hypervisor {
namespace {

class VhostUserNetTest : public testing::Test {
protected:
    void SetUp() override { back_end_.loop_frames = true; }
    Result<std::vector<std::unique_ptr<NetBackend>>> open(uint16_t pairs = 1) {
        return VhostUserNet::open({.socket = "/nowhere",
                                   .pairs = pairs,
                                   .mtu = 1500,
                                   .connect = [this]() -> Result<UniqueFd> {
                                       ++connects_;
                                       if (refuse_) {
                                           return Error::unavailable("not there");
                                       }
                                       return back_end_.start();
                                   },
                                   .clock = &clock_},
                                  back_end_.start());
    }
    static int64_t send(NetBackend& card, const std::string& frame) {
        std::string header(12, '\0');
        const iovec vectors[2] = {{header.data(), 12},
                                  {const_cast<char*>(frame.data()), frame.size()}};
        return card.send(vectors);
    }
    // The next frame without its header; empty when none comes.
    static std::string receive(NetBackend& card) {
        std::string room(2000, '\0');
        const iovec vector{room.data(), room.size()};
        for (;;) {
            const int64_t size = card.receive(std::span(&vector, 1));
            if (size >= 12) {
                return room.substr(12, static_cast<size_t>(size) - 12);
            }
            pollfd polled{card.poll_fd(), POLLIN, 0};
            if (::poll(&polled, 1, 5000) != 1) {
                return {};
            }
        }
    }

    ManualClock clock_;
    VhostUserBackendFake back_end_;
    int connects_ = 0;
    bool refuse_ = false;
};

TEST_F(VhostUserNetTest, FramesTravelBothWaysManyTimesAroundTheRing) {
    auto cards = open();
    ASSERT_TRUE(cards.ok()) << cards.error().text();
    NetBackend& card = *cards->front();
    EXPECT_EQ(card.supported(), NetOffloads{});
    for (size_t i = 0; i < 3 * VhostUserNet::kRingSize; ++i) {
        const std::string frame(60 + i % 1400, static_cast<char>('a' + i % 26));
        ASSERT_EQ(send(card, frame), static_cast<int64_t>(frame.size()) + 12);
        ASSERT_EQ(receive(card), frame);
    }
}

TEST_F(VhostUserNetTest, FramesThatDoNotFitAreRefused) {
    auto cards = open();
    ASSERT_TRUE(cards.ok());
    EXPECT_EQ(send(*cards->front(), std::string(1600, 'x')), -EMSGSIZE);
    EXPECT_EQ(send(*cards->front(), std::string(1518, 'x')), 1530);
}

TEST_F(VhostUserNetTest, EachPairHasItsOwnRings) {
    auto cards = open(3);
    ASSERT_TRUE(cards.ok()) << cards.error().text();
    ASSERT_TRUE((*cards)[2]->set_active(true).ok());
    send(*(*cards)[0], "first pair....");
    send(*(*cards)[2], "third pair....");
    EXPECT_EQ(receive(*(*cards)[2]), "third pair....");
    EXPECT_EQ(receive(*(*cards)[0]), "first pair....");
}

TEST_F(VhostUserNetTest, ABackEndWithTooFewQueuesIsRefused) {
    back_end_.queue_count = 2;
    const auto cards = open(3);
    ASSERT_FALSE(cards.ok());
    EXPECT_NE(cards.error().message.find("2 pairs"), std::string::npos);
}

TEST_F(VhostUserNetTest, ABackEndThatGoesIsFoundAgain) {
    auto cards = open();
    ASSERT_TRUE(cards.ok());
    NetBackend& card = *cards->front();
    back_end_.stop();
    refuse_ = true;
    pollfd polled{card.poll_fd(), POLLIN, 0};
    ASSERT_EQ(::poll(&polled, 1, 5000), 1);  // its end wakes the device
    std::byte room[64];
    const iovec vector{room, sizeof(room)};
    while (send(card, std::string(60, 'x')) != -ENETDOWN) {
        card.receive(std::span(&vector, 1));
    }
    EXPECT_EQ(::poll(&polled, 1, 0), 0);  // and then is quiet
    clock_.advance(2 * VhostUserNet::kRetryNs);
    EXPECT_EQ(send(card, std::string(60, 'x')), -ENETDOWN);
    EXPECT_EQ(send(card, std::string(60, 'x')), -ENETDOWN);
    EXPECT_EQ(connects_, 1);  // at most once a second
    refuse_ = false;
    clock_.advance(2 * VhostUserNet::kRetryNs);
    EXPECT_EQ(send(card, std::string(60, 'y')), 72);
    EXPECT_EQ(receive(card), std::string(60, 'y'));
}

TEST_F(VhostUserNetTest, ABackEndThatLiesIsDropped) {
    auto cards = open();
    ASSERT_TRUE(cards.ok());
    NetBackend& card = *cards->front();
    refuse_ = true;
    back_end_.lie_about_head = 9999;
    std::byte room[64];
    const iovec vector{room, sizeof(room)};
    pollfd polled{card.poll_fd(), POLLIN, 0};
    ASSERT_EQ(send(card, std::string(60, 'x')), 72);
    ASSERT_EQ(::poll(&polled, 1, 5000), 1);
    EXPECT_EQ(card.receive(std::span(&vector, 1)), -EAGAIN);
    EXPECT_EQ(send(card, std::string(60, 'x')), -ENETDOWN);
}

}  // namespace
}  // namespace kumoi::hypervisor
