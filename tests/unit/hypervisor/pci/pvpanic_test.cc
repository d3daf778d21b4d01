#include "hypervisor/pci/pvpanic.h"

#include <gtest/gtest.h>

#include "hypervisor/pci/pci_root.h"
#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

class PvPanicTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(root_.add({1}, device_).ok());
        ASSERT_TRUE(root_.assign_bars().ok());
        base_ = root_.bar_address({1}, 0);
        ASSERT_NE(base_, 0u);
    }
    void write(uint64_t offset, std::vector<uint8_t> bytes) {
        platform_.mmio_bus().write(base_ + offset, bytes);
    }

    PlatformFake platform_;
    int panics_ = 0;
    int crash_loads_ = 0;
    PvPanic device_{{[this] { ++panics_; }, [this] { ++crash_loads_; }}};
    PciRoot root_{platform_, {}};
    uint64_t base_ = 0;
};

TEST_F(PvPanicTest, IsWhatTheDriversLookFor) {
    EXPECT_EQ(root_.config_read(1, 0, 0, 4), 0x0011'1b36u);
    EXPECT_EQ(root_.config_read(1, 0, 8, 4), 0x0880'0001u);
}

TEST_F(PvPanicTest, TellsWhichEventsItKnows) {
    uint8_t byte[1] = {};
    platform_.mmio_bus().read(base_, byte);
    EXPECT_EQ(byte[0], PvPanic::kPanicked | PvPanic::kCrashLoaded);
    uint8_t wide[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    platform_.mmio_bus().read(base_ + 1, wide);
    for (const uint8_t value : wide) {
        EXPECT_EQ(value, 0);
    }
}

TEST_F(PvPanicTest, HandsOnWhatTheGuestSays) {
    write(0, {PvPanic::kPanicked});
    EXPECT_EQ(panics_, 1);
    EXPECT_EQ(crash_loads_, 0);
    write(0, {PvPanic::kCrashLoaded, 0xff, 0xff, 0xff});
    EXPECT_EQ(panics_, 1);
    EXPECT_EQ(crash_loads_, 1);
    EXPECT_EQ(device_.panic_count(), 1u);
    EXPECT_EQ(device_.crash_loaded_count(), 1u);
}

TEST_F(PvPanicTest, IgnoresUnknownEventsAndPlaces) {
    write(0, {0xfc});
    write(1, {PvPanic::kPanicked});
    write(0xfff, {PvPanic::kPanicked});
    EXPECT_EQ(panics_ + crash_loads_, 0);
}

}  // namespace
}  // namespace kumoi::hypervisor
