// Bandwidth limits of a network card: frames wait where they are, none is lost, and the rate is
// what was asked for. Time is the fake's.
#include "hypervisor/virtio/net_limit.h"

#include <gtest/gtest.h>

#include <cmath>

#include "hypervisor/virtio/net.h"
#include "tests/support/net_backend_fake.h"
#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kPlain = virtio::kFeatureVersion1;
constexpr uint32_t kPayload = 1500;
constexpr uint16_t kQueueSize = 64;

double error(double got, double wanted) {
    return std::abs(got - wanted) / wanted;
}

class NetLimitTest : public testing::Test {
protected:
    void start(const NicLimits& limits) {
        ASSERT_TRUE(net_.set_limits(limits, device_.clock().monotonic_ns()).ok());
        ASSERT_TRUE(device_.start(kPlain).ok());
        for (uint16_t i = 0; i < kQueueSize; ++i) {
            const uint64_t gpa = 0x400000 + uint64_t{i} * 2048;
            transmit_.set_descriptor(i, gpa, 12 + kPayload, 0, 0);
            receive_.set_descriptor(i, gpa + 0x100000, 2048, QueueFake::kWrite, 0);
        }
    }
    // A driver that always has a full queue of frames to send, and of buffers to receive into.
    void refill(QueueFake& queue, uint16_t& offered) {
        while (static_cast<uint16_t>(offered - queue.used_index()) < kQueueSize) {
            queue.make_available(offered % kQueueSize);
            ++offered;
        }
    }
    void pass(int64_t nanoseconds, int64_t step) {
        for (const int64_t end = device_.clock().monotonic_ns() + nanoseconds;
             device_.clock().monotonic_ns() < end;) {
            device_.advance(step);
            device_.run_loop();
            if (sending_) {
                refill(transmit_, sent_);
                device_.kick(1);
            }
            if (receiving_) {
                refill(receive_, received_);
                while (backend_->incoming.size() < kQueueSize) {
                    backend_->arrive(kPayload, 'x');
                }
                device_.kick(0);
            }
        }
    }

    PlatformFake platform_;
    BackendInMemory* backend_ = new BackendInMemory;
    VirtioNet net_{
        {.name = "net0", .mac = {2, 0, 0, 1, 2, 3}, .mtu = 1500, .queue_size = kQueueSize},
        backends_of({backend_})};
    DeviceFake device_{net_, platform_.memory()};
    QueueFake& receive_ = device_.add_queue(0, kQueueSize);
    QueueFake& transmit_ = device_.add_queue(1, kQueueSize);
    bool sending_ = false;
    bool receiving_ = false;
    uint16_t sent_ = 0;
    uint16_t received_ = 0;
};

TEST_F(NetLimitTest, WithoutLimitsNothingWaits) {
    start({});
    sending_ = receiving_ = true;
    pass(20 * kNanosPerMilli, kNanosPerMilli);
    EXPECT_EQ(device_.statistic("tx_throttled"), 0u);
    EXPECT_EQ(device_.statistic("rx_throttled"), 0u);
    EXPECT_GE(backend_->sent.size(), 20u * kQueueSize);
}

TEST_F(NetLimitTest, WhatTheGuestSendsKeepsItsRateWithLateTimers) {
    for (const uint64_t rate : {100u << 10, 1u << 20, 20u << 20}) {
        SCOPED_TRACE(rate);
        backend_->sent.clear();
        if (!sending_) {
            start({.outbound = {.average = rate}});
            sending_ = true;
        }
        ASSERT_TRUE(
            net_.set_limits({.outbound = {.average = rate}}, device_.clock().monotonic_ns()).ok());
        pass(kNanosPerSecond / 10, 1'370'000);  // what waited for the limit before
        backend_->sent.clear();
        pass(10 * kNanosPerSecond, 1'370'000);  // a loop that is never on time
        const double got = static_cast<double>(backend_->sent.size()) * kPayload / 10;
        EXPECT_LE(error(got, static_cast<double>(rate)), 0.02) << got;
    }
    EXPECT_GT(device_.statistic("tx_throttled"), 0u);
    EXPECT_EQ(device_.statistic("tx_dropped"), 0u);
}

TEST_F(NetLimitTest, WhatTheGuestReceivesKeepsItsRateAndWaitsInTheBackend) {
    start({.inbound = {.average = 1 << 20}});
    receiving_ = true;
    pass(10 * kNanosPerSecond, 730'000);
    const auto bytes = static_cast<double>(device_.statistic("rx_bytes"));
    EXPECT_LE(error(bytes / 10, 1 << 20), 0.02) << bytes;
    EXPECT_EQ(device_.statistic("rx_dropped"), 0u);
    EXPECT_GT(device_.statistic("rx_throttled"), 0u);
    EXPECT_FALSE(backend_->incoming.empty());
}

TEST_F(NetLimitTest, ABurstIsSentAtOnceThenTheAverageHolds) {
    start({.outbound = {.average = 1 << 20, .burst = 256 << 10}});
    sending_ = true;
    pass(kNanosPerMilli, kNanosPerMilli / 100);
    EXPECT_LE(error(static_cast<double>(backend_->sent.size()) * kPayload, (256 << 10) + 1024),
              0.02);
    backend_->sent.clear();
    pass(kNanosPerSecond, kNanosPerMilli);
    EXPECT_LE(error(static_cast<double>(backend_->sent.size()) * kPayload, 1 << 20), 0.02);
}

TEST_F(NetLimitTest, OneDirectionDoesNotHoldBackTheOther) {
    start({.outbound = {.average = 1}});
    sending_ = receiving_ = true;
    pass(20 * kNanosPerMilli, kNanosPerMilli);
    EXPECT_EQ(backend_->sent.size(), 1u);
    EXPECT_GE(device_.statistic("rx_frames"), 20u * kQueueSize);
}

TEST_F(NetLimitTest, ALiftedLimitIsNoticedInTime) {
    start({.inbound = {.average = 1}, .outbound = {.average = 1}});
    sending_ = receiving_ = true;
    pass(10 * kNanosPerMilli, kNanosPerMilli);
    ASSERT_TRUE(net_.set_limits({}, device_.clock().monotonic_ns()).ok());
    EXPECT_EQ(net_.limits(), NicLimits{});
    sending_ = receiving_ = false;  // nobody rings
    const size_t before = backend_->sent.size();
    pass(NetLimit::kHoldNsMax + kNanosPerMilli, kNanosPerMilli);
    EXPECT_EQ(backend_->sent.size(), before + kQueueSize);
    EXPECT_GE(device_.statistic("rx_frames"), kQueueSize - 1u);
}

TEST_F(NetLimitTest, APauseEndsTheWaitAndEarnsNothing) {
    start({.outbound = {.average = 10'000}});
    sending_ = true;
    pass(10 * kNanosPerMilli, kNanosPerMilli);
    const size_t before = backend_->sent.size();
    device_.quiesce();
    device_.advance(3600 * kNanosPerSecond);
    device_.loop().run_ready();  // no timer of ours is left
    EXPECT_EQ(backend_->sent.size(), before);
    net_.resume();
    device_.kick(1);
    EXPECT_EQ(backend_->sent.size(), before + 1);
    pass(kNanosPerSecond, kNanosPerMilli);
    EXPECT_LE(backend_->sent.size(), before + 8);
}

TEST_F(NetLimitTest, SenselessLimitsAreRefused) {
    EXPECT_FALSE(net_.set_limits({.inbound = {.maximum = 5}}, 0).ok());
    EXPECT_EQ(net_.limits(), NicLimits{});
}

}  // namespace
}  // namespace kumoi::hypervisor
