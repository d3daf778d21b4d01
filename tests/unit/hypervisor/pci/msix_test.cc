#include "hypervisor/pci/msix.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint16_t kEnable = 1u << 15;
constexpr uint16_t kFunctionMask = 1u << 14;
constexpr uint64_t kAddress = 0xfee0'0000;

class MsixTest : public testing::Test {
protected:
    void SetUp() override { msix_.add_capability(config_, 0, 0x4000, 0x5000); }
    void control(uint16_t bits) {
        config_.write(0x42, 2, bits);
        msix_.follow_control(config_);
    }
    template <class T>
    void write(uint64_t offset, T value) {
        uint8_t data[sizeof(T)];
        std::memcpy(data, &value, sizeof(T));
        msix_.table_write(offset, data);
    }
    uint32_t read(uint64_t offset) {
        uint8_t data[4];
        msix_.table_read(offset, data);
        uint32_t value = 0;
        std::memcpy(&value, data, 4);
        return value;
    }
    uint8_t pending() {
        uint8_t data[1];
        msix_.pending_read(0, data);
        return data[0];
    }
    void program(uint16_t vector, uint32_t data) {
        write<uint32_t>(16u * vector, kAddress);
        write<uint32_t>(16u * vector + 4, 0);
        write<uint32_t>(16u * vector + 8, data);
        write<uint32_t>(16u * vector + 12, 0);
    }

    PlatformFake platform_;
    PciConfigSpace config_{{.vendor = 0x1af4, .device = 0x1041}};
    Msix msix_{platform_, 3};
};

TEST_F(MsixTest, CapabilitySaysSizeAndPlaces) {
    EXPECT_EQ(config_.read(pci::kCapabilities, 1), 0x40u);
    EXPECT_EQ(config_.read(0x40, 1), 0x11u);
    EXPECT_EQ(config_.read(0x42, 2), 2u);  // three vectors
    EXPECT_EQ(config_.read(0x44, 4), 0x4000u);
    EXPECT_EQ(config_.read(0x48, 4), 0x5000u);
    config_.write(0x42, 2, 0xffff);
    EXPECT_EQ(config_.read(0x42, 2), 0xc002u);  // the size is fixed
}

TEST_F(MsixTest, DisabledMeansNotTaken) {
    program(0, 0x31);
    EXPECT_FALSE(msix_.trigger(0));
    EXPECT_EQ(platform_.interrupt_count(), 0u);
    EXPECT_EQ(platform_.vectors_made(), 0u);
}

TEST_F(MsixTest, DeliversTheMessageOfItsVector) {
    control(kEnable);
    program(1, 0x42);
    EXPECT_TRUE(msix_.trigger(1));
    EXPECT_EQ(platform_.interrupt_count(kAddress, 0x42), 1u);
    EXPECT_EQ(platform_.vectors_made(), 1u);  // only the one that is used
}

TEST_F(MsixTest, MaskedVectorIsPendingUntilUnmasked) {
    control(kEnable);
    program(0, 0x31);
    write<uint32_t>(12, 1);
    EXPECT_TRUE(msix_.trigger(0));
    EXPECT_TRUE(msix_.trigger(0));
    EXPECT_EQ(platform_.interrupt_count(), 0u);
    EXPECT_EQ(pending(), 1u);
    write<uint32_t>(12, 0);
    EXPECT_EQ(platform_.interrupt_count(), 1u);  // once, not twice
    EXPECT_EQ(pending(), 0u);
}

TEST_F(MsixTest, FunctionMaskHoldsAllVectorsBack) {
    control(kEnable | kFunctionMask);
    program(0, 0x31);
    program(2, 0x33);
    msix_.trigger(0);
    msix_.trigger(2);
    EXPECT_EQ(pending(), 0b101u);
    control(kEnable);
    EXPECT_EQ(platform_.interrupt_count(kAddress, 0x31), 1u);
    EXPECT_EQ(platform_.interrupt_count(kAddress, 0x33), 1u);
}

TEST_F(MsixTest, VectorProgrammedBeforeEnablingWorks) {
    program(0, 0x31);
    control(kEnable);
    msix_.trigger(0);
    EXPECT_EQ(platform_.interrupt_count(kAddress, 0x31), 1u);
}

TEST_F(MsixTest, RewrittenMessageIsUsedFromThenOn) {
    control(kEnable);
    program(0, 0x31);
    msix_.trigger(0);
    write<uint32_t>(8, 0x55);
    msix_.trigger(0);
    EXPECT_EQ(platform_.interrupt_count(kAddress, 0x31), 1u);
    EXPECT_EQ(platform_.interrupt_count(kAddress, 0x55), 1u);
}

TEST_F(MsixTest, AnyWidthAndOffsetIsSafe) {
    control(kEnable);
    write<uint64_t>(0, kAddress);  // both halves at once
    write<uint8_t>(8, 0x66);
    write<uint16_t>(9, 0);
    write<uint64_t>(8, 0x66);  // data and control
    msix_.trigger(0);
    EXPECT_EQ(platform_.interrupt_count(kAddress, 0x66), 1u);
    write<uint64_t>(16 * 3 - 2, ~uint64_t{0});  // straddles the end
    write<uint64_t>(0xff8, ~uint64_t{0});
    EXPECT_EQ(read(0xff8), 0u);
    EXPECT_EQ(read(16 * 3), 0u);
    EXPECT_EQ(read(12) & ~1u, 0u);  // reserved bits stay clear
}

TEST_F(MsixTest, VectorOutOfRangeIsIgnored) {
    control(kEnable);
    EXPECT_TRUE(msix_.trigger(3));
    EXPECT_TRUE(msix_.trigger(0xffff));
    EXPECT_EQ(platform_.interrupt_count(), 0u);
}

TEST_F(MsixTest, NoVectorLeftLosesInterruptsAndCountsThem) {
    platform_.refuse_vectors = true;
    control(kEnable);
    program(0, 0x31);
    EXPECT_TRUE(msix_.trigger(0));
    EXPECT_EQ(msix_.lost_count(), 1u);
}

TEST_F(MsixTest, ResetMasksEverything) {
    control(kEnable);
    program(0, 0x31);
    msix_.reset(config_);
    EXPECT_FALSE(msix_.enabled());
    EXPECT_EQ(config_.read(0x42, 2), 2u);
    EXPECT_EQ(read(12), 1u);
    EXPECT_EQ(read(8), 0u);
    EXPECT_FALSE(msix_.trigger(0));
}

}  // namespace
}  // namespace kumoi::hypervisor
