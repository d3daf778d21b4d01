#include "hypervisor/vcpu/vcpu_throttle.h"

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kPage = 4096;

class ThrottleTest : public ::testing::Test {
protected:
    VcpuThrottle::Machine machine(bool with_rings) {
        VcpuThrottle::Machine machine;
        machine.vcpus = [] { return 2u; };
        machine.rest = [this](uint32_t vcpu, int64_t rest_ns) { rested[vcpu] += rest_ns; };
        if (with_rings) {
            machine.dirtied = [this](uint32_t vcpu) -> Result<uint64_t> { return dirtied[vcpu]; };
        }
        return machine;
    }
    void run_for(int64_t nanoseconds) {
        constexpr int64_t kStep = kNanosPerMilli / 2;
        for (int64_t passed = 0; passed < nanoseconds; passed += kStep) {
            clock.advance(kStep);
            loop.run_ready();
        }
    }
    ManualClock clock;
    EventLoop loop{clock};
    int64_t rested[2] = {0, 0};
    uint64_t dirtied[2] = {0, 0};
};

TEST_F(ThrottleTest, ASliceHasItsShareAndTimeToRunIn) {
    for (uint32_t percent = 0; percent <= 99; ++percent) {
        const auto slice = VcpuThrottle::slice_for(percent);
        const int64_t period = slice.run_ns + slice.rest_ns;
        EXPECT_NEAR(static_cast<double>(slice.rest_ns * 100), static_cast<double>(period * percent),
                    100.0);
        EXPECT_GE(slice.run_ns, VcpuThrottle::kRunMinNs);
        EXPECT_LE(slice.rest_ns, VcpuThrottle::kRestMaxNs);
    }
}

TEST_F(ThrottleTest, EveryVcpuLosesItsShareUntilItIsNone) {
    VcpuThrottle throttle(loop, clock, machine(false));
    EXPECT_FALSE(throttle.set(100).ok());
    ASSERT_TRUE(throttle.set(40).ok());
    run_for(kNanosPerSecond);
    EXPECT_NEAR(static_cast<double>(rested[0]), 0.4 * kNanosPerSecond, 0.01 * kNanosPerSecond);
    EXPECT_EQ(rested[0], rested[1]);
    ASSERT_TRUE(throttle.set(99).ok());
    rested[0] = 0;
    run_for(kNanosPerSecond);
    EXPECT_NEAR(static_cast<double>(rested[0]), 0.99 * kNanosPerSecond, 0.1 * kNanosPerSecond);
    ASSERT_TRUE(throttle.set(0).ok());
    rested[0] = 0;
    run_for(kNanosPerSecond);
    EXPECT_EQ(rested[0], 0);
    EXPECT_EQ(throttle.set_dirty_limit(1).error().code, ErrorCode::Unsupported);
    EXPECT_TRUE(throttle.set_dirty_limit(0).ok());
}

TEST_F(ThrottleTest, OnlyWhoWritesTooMuchRests) {
    dirtied[0] = 1'000'000;  // before it began: nobody's fault
    VcpuThrottle throttle(loop, clock, machine(true));
    ASSERT_TRUE(throttle.set_dirty_limit(100 * kPage * 100).ok());  // 100 pages a period
    run_for(VcpuThrottle::kPeriodNs);
    EXPECT_EQ(rested[0], 0);
    dirtied[0] += 300;
    dirtied[1] += 100;
    run_for(VcpuThrottle::kPeriodNs);
    EXPECT_EQ(rested[0], 2 * VcpuThrottle::kPeriodNs);
    EXPECT_EQ(rested[1], 0);
    dirtied[0] += 1'000'000;
    rested[0] = 0;
    run_for(VcpuThrottle::kPeriodNs);
    EXPECT_EQ(rested[0], VcpuThrottle::kRestMaxNs);
}

}  // namespace
}  // namespace kumoi::hypervisor
