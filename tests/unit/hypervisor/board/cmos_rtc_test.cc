#include "hypervisor/board/cmos_rtc.h"

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

constexpr int64_t k20231114 = 1'700'000'000;  // 2023-11-14 22:13:20 UTC, a Tuesday

uint8_t get(CmosRtc& rtc, uint8_t index) {
    uint8_t value = index;
    rtc.io_write(0, {&value, 1});
    rtc.io_read(1, {&value, 1});
    return value;
}

void put(CmosRtc& rtc, uint8_t index, uint8_t value) {
    rtc.io_write(0, {&index, 1});
    rtc.io_write(1, {&value, 1});
}

TEST(CmosRtc, TellsTheTimeInBcd) {
    ManualClock clock(k20231114 * kNanosPerSecond);
    CmosRtc rtc(clock, 64u << 20);
    EXPECT_EQ(get(rtc, 0x00), 0x20);
    EXPECT_EQ(get(rtc, 0x02), 0x13);
    EXPECT_EQ(get(rtc, 0x04), 0x22);
    EXPECT_EQ(get(rtc, 0x06), 3);
    EXPECT_EQ(get(rtc, 0x07), 0x14);
    EXPECT_EQ(get(rtc, 0x08), 0x11);
    EXPECT_EQ(get(rtc, 0x09), 0x23);
    EXPECT_EQ(get(rtc, 0x32), 0x20);
    clock.advance(41 * kNanosPerSecond);
    EXPECT_EQ(get(rtc, 0x00), 0x01);
    EXPECT_EQ(get(rtc, 0x02), 0x14);
}

TEST(CmosRtc, FollowsBinaryAndTwelveHourModes) {
    ManualClock clock(k20231114 * kNanosPerSecond);
    CmosRtc rtc(clock, 64u << 20);
    put(rtc, 0x0b, 0x04);  // binary, 12-hour
    EXPECT_EQ(get(rtc, 0x04), 0x80 | 10);
    EXPECT_EQ(get(rtc, 0x08), 11);
}

TEST(CmosRtc, KeepsTheTimeTheGuestSets) {
    ManualClock clock(k20231114 * kNanosPerSecond);
    CmosRtc rtc(clock, 64u << 20);
    put(rtc, 0x09, 0x30);
    put(rtc, 0x04, 0x05);
    clock.advance(3600 * kNanosPerSecond);
    EXPECT_EQ(get(rtc, 0x09), 0x30);
    EXPECT_EQ(get(rtc, 0x04), 0x06);
    put(rtc, 0x08, 0xff);  // nonsense is a time all the same
    EXPECT_LE(get(rtc, 0x08), 0x12);
}

// A month of 165 moves the year by 13, each time it is written.
TEST(CmosRtc, AClockThatIsSetForeverStaysLoadable) {
    ManualClock clock(k20231114 * kNanosPerSecond);
    CmosRtc rtc(clock, 64u << 20);
    for (int i = 0; i < 20'000; ++i) {
        put(rtc, 0x08, 0xff);
    }
    SectionWriter out("rtc", 1);
    rtc.save(out);
    auto in = SectionReader::parse(out).value();
    CmosRtc other(clock, 64u << 20);
    const auto loaded = other.load(in);
    EXPECT_TRUE(loaded.ok()) << loaded.error().text();
}

TEST(CmosRtc, ShowsUpdateInProgressJustBeforeTheSecond) {
    ManualClock clock(k20231114 * kNanosPerSecond);
    CmosRtc rtc(clock, 64u << 20);
    EXPECT_EQ(get(rtc, 0x0a) & 0x80, 0);
    clock.advance(kNanosPerSecond - 100'000);
    EXPECT_EQ(get(rtc, 0x0a) & 0x80, 0x80);
}

TEST(CmosRtc, ReportsMemorySizes) {
    ManualClock clock;
    CmosRtc rtc(clock, (uint64_t{5} << 30));  // 2 GiB low, 3 GiB high
    EXPECT_EQ(get(rtc, 0x30) | get(rtc, 0x31) << 8, 0xffff);
    EXPECT_EQ(get(rtc, 0x34) | get(rtc, 0x35) << 8, (2 * 1024 - 16) * 16);
    EXPECT_EQ(get(rtc, 0x5b) | get(rtc, 0x5c) << 8 | get(rtc, 0x5d) << 16, 3 * 1024 * 16);
}

TEST(CmosRtc, KeepsRamAndProtectsStatus) {
    ManualClock clock;
    CmosRtc rtc(clock, 64u << 20);
    put(rtc, 0x0f, 0x42);
    put(rtc, 0x0d, 0x00);
    EXPECT_EQ(get(rtc, 0x0f), 0x42);
    EXPECT_EQ(get(rtc, 0x0d), 0x80);
    rtc.reset();
    EXPECT_EQ(get(rtc, 0x0f), 0x42);
}

}  // namespace
}  // namespace kumoi::hypervisor
