#include "hypervisor/pci/i6300esb.h"

#include <gtest/gtest.h>

#include "hypervisor/pci/pci_root.h"
#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint32_t kConfig = 0x60;
constexpr uint32_t kLock = 0x68;
constexpr uint32_t kEnable = 2;
constexpr uint64_t kReloadAt = 12;

class WatchdogTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(root_.add({1}, watchdog_).ok());
        ASSERT_TRUE(root_.assign_bars().ok());
        base_ = root_.bar_address({1}, 0);
        root_.config_write(1, 0, kConfig, 2, 3);  // as Linux does: no interrupt, 1 kHz
    }
    void write(uint64_t offset, uint32_t value, size_t width) {
        uint8_t bytes[4];
        std::memcpy(bytes, &value, 4);
        platform_.mmio_bus().write(base_ + offset, std::span<const uint8_t>(bytes, width));
    }
    void unlocked(uint64_t offset, uint32_t value, size_t width = 2) {
        write(kReloadAt, 0x80, 2);
        write(kReloadAt, 0x86, 2);
        write(offset, value, width);
    }
    void set_heartbeat(uint32_t seconds) {  // as Linux does: half of it in each stage
        unlocked(0, seconds << 9, 4);
        unlocked(4, seconds << 9, 4);
    }
    void enable() { root_.config_write(1, 0, kLock, 1, kEnable); }
    void keep_alive() { unlocked(kReloadAt, 1u << 8); }
    void pass(int64_t milliseconds) {
        loop_.run_ready();
        for (int64_t left = milliseconds; left > 0; left -= 50) {
            clock_.advance(std::min<int64_t>(left, 50) * kNanosPerMilli);
            loop_.run_ready();
        }
    }
    bool timed_out() {
        uint8_t bytes[2] = {};
        platform_.mmio_bus().read(base_ + kReloadAt, bytes);
        return (bytes[1] & 2) != 0;
    }

    PlatformFake platform_;
    ManualClock clock_;
    EventLoop loop_{clock_};
    int expired_ = 0;
    I6300Esb watchdog_{loop_, clock_, [this] { ++expired_; }};
    PciRoot root_{platform_, {}};
    uint64_t base_ = 0;
};

TEST_F(WatchdogTest, IsWhatTheDriversLookFor) {
    EXPECT_EQ(root_.config_read(1, 0, 0, 4), 0x25ab'8086u);
    EXPECT_EQ(root_.config_read(1, 0, 8, 4) >> 8, 0x08'80'00u);
}

TEST_F(WatchdogTest, ExpiresWhenNobodyKeepsItAlive) {
    set_heartbeat(10);
    enable();
    pass(9'000);
    EXPECT_EQ(expired_, 0);
    pass(2'000);
    EXPECT_EQ(expired_, 1);
    EXPECT_TRUE(timed_out());
    EXPECT_EQ(root_.config_read(1, 0, kLock, 1), 0u);  // off: the action has been taken
    pass(60'000);
    EXPECT_EQ(expired_, 1);
}

TEST_F(WatchdogTest, AKeptOneDoesNotExpire) {
    set_heartbeat(10);
    enable();
    for (int i = 0; i < 20; ++i) {
        pass(6'000);
        keep_alive();
    }
    EXPECT_EQ(expired_, 0);
    EXPECT_EQ(watchdog_.reload_count(), 20u);
    root_.config_write(1, 0, kLock, 1, 0);  // stopped
    pass(60'000);
    EXPECT_EQ(expired_, 0);
}

TEST_F(WatchdogTest, RegistersNeedTheUnlockSequence) {
    set_heartbeat(10);
    enable();
    pass(6'000);
    write(kReloadAt, 1u << 8, 2);  // no sequence: not kept alive
    write(kReloadAt, 0x86, 2);     // half a sequence
    write(kReloadAt, 1u << 8, 2);
    write(kReloadAt, 0x80, 2);
    write(kReloadAt, 1u << 8, 2);
    pass(5'000);
    EXPECT_EQ(expired_, 1);
}

TEST_F(WatchdogTest, TheTimedOutFlagSurvivesAResetAndIsCleared) {
    set_heartbeat(1);
    enable();
    pass(2'000);
    ASSERT_TRUE(root_.reset().ok());
    EXPECT_TRUE(timed_out());
    unlocked(kReloadAt, 1u << 9 | 1u << 8);
    EXPECT_FALSE(timed_out());
}

TEST_F(WatchdogTest, ALockedOneCannotBeStoppedByTheGuest) {
    set_heartbeat(10);
    root_.config_write(1, 0, kLock, 1, kEnable | 1);
    root_.config_write(1, 0, kLock, 1, 0);
    EXPECT_EQ(root_.config_read(1, 0, kLock, 1), kEnable | 1);
    pass(11'000);
    EXPECT_EQ(expired_, 1);
}

TEST_F(WatchdogTest, WithItsOutputOffNothingHappens) {
    root_.config_write(1, 0, kConfig, 2, 0x23);
    set_heartbeat(1);
    enable();
    pass(10'000);
    EXPECT_EQ(expired_, 0);
    EXPECT_FALSE(timed_out());
}

TEST_F(WatchdogTest, ExpiriesAreRateLimited) {
    unlocked(0, 1, 4);
    unlocked(4, 1, 4);
    root_.config_write(1, 0, kConfig, 2, 0x07);  // 1 MHz: a microsecond each
    root_.config_write(1, 0, kLock, 1, kEnable | 4);
    pass(1'000);
    EXPECT_LE(expired_, 5);
    EXPECT_GE(expired_, 3);
}

TEST_F(WatchdogTest, TimeStandsStillInAPause) {
    set_heartbeat(10);
    enable();
    pass(8'000);
    watchdog_.pause();
    pass(60'000);
    watchdog_.resume();
    pass(1'000);
    EXPECT_EQ(expired_, 0);
    pass(2'000);
    EXPECT_EQ(expired_, 1);
}

TEST_F(WatchdogTest, ItsStateMovesToAnother) {
    set_heartbeat(10);
    enable();
    pass(8'000);
    SectionWriter out("watchdog", 1);
    watchdog_.save(out);
    int expired = 0;
    I6300Esb other(loop_, clock_, [&expired] { ++expired; });
    auto in = SectionReader::parse(out).value();
    ASSERT_TRUE(other.load(in).ok());
    ASSERT_TRUE(in.finish().ok());
    pass(1'000);
    EXPECT_EQ(expired, 0);
    pass(1'500);
    EXPECT_EQ(expired, 1);
}

TEST_F(WatchdogTest, AHostileStateIsRefused) {
    SectionWriter out("watchdog", 1);
    out.u64(1, 0x1'0000).u64(2, 2);
    auto in = SectionReader::parse(out).value();
    EXPECT_FALSE(watchdog_.load(in).ok());
    SectionWriter running("watchdog", 1);  // runs, but is not enabled
    running.u64(1, 0).u64(2, 0).u64(3, 1).u64(4, 1).u64(5, 0).u64(6, 1).u64(7, 5).u64(8, 0);
    auto second = SectionReader::parse(running).value();
    EXPECT_FALSE(watchdog_.load(second).ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
