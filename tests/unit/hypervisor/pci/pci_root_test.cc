#include "hypervisor/pci/pci_root.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "tests/support/platform_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kWindow = 0xd000'0000;
constexpr uint64_t kEcam = 0xe000'0000;

// A function with one 64-bit BAR of 4 KiB whose registers answer their own offset.
class DeviceStub final : public PciDevice, public IoDevice {
public:
    DeviceStub() : config_({.vendor = 0x1234, .device = 0x5678, .class_code = 0x010203}) {
        config_.add_bar(0, 0x1000, BarWidth::Memory64);
        config_.add_bar(2, 0x100, BarWidth::Memory32);
    }
    std::string name() const override { return "stub"; }
    uint32_t config_read(uint32_t offset, uint32_t width) override {
        return config_.read(offset, width);
    }
    void config_write(uint32_t offset, uint32_t width, uint32_t value) override {
        config_.write(offset, width, value);
    }
    void reset() override {
        ++resets;
        config_.reset_command();
    }
    PciConfigSpace* config_space() override { return &config_; }
    IoDevice* bar(unsigned /*index*/) override { return this; }
    void bar_moved(unsigned index, uint64_t base) override { bases[index] = base; }
    void io_read(uint64_t offset, std::span<uint8_t> data) override {
        std::fill(data.begin(), data.end(), static_cast<uint8_t>(offset));
    }
    void io_write(uint64_t /*offset*/, std::span<const uint8_t> /*data*/) override { ++writes; }

    std::map<unsigned, uint64_t> bases;
    int resets = 0;
    int writes = 0;

private:
    PciConfigSpace config_;
};

class PciRootTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(root_.add({3}, device_).ok());
        ASSERT_TRUE(root_.assign_bars().ok());
        ASSERT_TRUE(root_.attach().ok());
    }
    uint32_t port_read(uint64_t port, size_t width) {
        std::vector<uint8_t> data(width);
        platform_.port_bus().read(port, data);
        uint32_t value = 0;
        std::memcpy(&value, data.data(), width);
        return value;
    }
    void port_write(uint64_t port, uint32_t value, size_t width) {
        uint8_t data[4];
        std::memcpy(data, &value, 4);
        platform_.port_bus().write(port, std::span<const uint8_t>(data, width));
    }
    void select(uint32_t slot, uint32_t offset) {
        port_write(0xcf8, 1u << 31 | slot << 11 | (offset & 0xfc), 4);
    }
    uint64_t mmio_read(uint64_t address, size_t width) {
        std::vector<uint8_t> data(width);
        platform_.mmio_bus().read(address, data);
        uint64_t value = 0;
        std::memcpy(&value, data.data(), width);
        return value;
    }

    PlatformFake platform_;
    DeviceStub device_;
    PciRoot root_{platform_,
                  {.mmio32_base = kWindow, .mmio32_size = 0x1000'0000, .ecam_base = kEcam}};
};

TEST_F(PciRootTest, RefusesATakenSlotAndSlotsOutOfRange) {
    DeviceStub other;
    EXPECT_FALSE(root_.add({3}, other).ok());
    EXPECT_FALSE(root_.add({0}, other).ok());
    EXPECT_FALSE(root_.add({0, 1}, other).ok());
    EXPECT_FALSE(root_.add({32}, other).ok());
    EXPECT_FALSE(root_.add({4, 8}, other).ok());
}

class PciFunctionsTest : public testing::Test {
protected:
    uint32_t port_read(PciAddress at, uint32_t offset, size_t width) {
        const uint32_t address = 1u << 31 | at.slot << 11 | at.function << 8 | (offset & 0xfc);
        uint8_t bytes[4];
        std::memcpy(bytes, &address, 4);
        platform_.port_bus().write(0xcf8, bytes);
        uint8_t data[4] = {};
        platform_.port_bus().read(0xcfc + (offset & 3), std::span(data, width));
        uint32_t value = 0;
        std::memcpy(&value, data, 4);
        return value;
    }
    uint32_t ecam_read(PciAddress at, uint32_t offset) {
        uint8_t data[4] = {};
        platform_.mmio_bus().read(kEcam + (at.slot << 15) + (at.function << 12) + offset, data);
        uint32_t value = 0;
        std::memcpy(&value, data, 4);
        return value;
    }

    PlatformFake platform_;
    DeviceStub alone_, zero_, three_, seven_;
    PciRoot root_{platform_,
                  {.mmio32_base = kWindow, .mmio32_size = 0x1000'0000, .ecam_base = kEcam}};
};

TEST_F(PciFunctionsTest, EachFunctionAnswersForItself) {
    ASSERT_TRUE(root_.add({5, 0}, zero_).ok());
    ASSERT_TRUE(root_.add({5, 3}, three_).ok());
    ASSERT_TRUE(root_.add({5, 7}, seven_).ok());
    ASSERT_TRUE(root_.assign_bars().ok());
    ASSERT_TRUE(root_.attach().ok());
    for (const unsigned function : {0u, 3u, 7u}) {
        EXPECT_EQ(port_read({5, function}, 0, 4), 0x5678'1234u);
        EXPECT_EQ(ecam_read({5, function}, 0), 0x5678'1234u);
    }
    for (const unsigned function : {1u, 2u, 4u, 5u, 6u}) {
        EXPECT_EQ(port_read({5, function}, 0, 4), 0xffff'ffffu);
        EXPECT_EQ(ecam_read({5, function}, 0), 0xffff'ffffu);
    }
    EXPECT_NE(root_.bar_address({5, 3}, 0), root_.bar_address({5, 7}, 0));
    root_.config_write(5, 3, 0x10, 4, 0xd800'0000);  // moves its own BAR only
    EXPECT_EQ(root_.bar_address({5, 3}, 0), 0xd800'0000u);
    EXPECT_EQ(zero_.bases[0], root_.bar_address({5, 0}, 0));
    ASSERT_TRUE(root_.reset().ok());
    EXPECT_EQ(zero_.resets + three_.resets + seven_.resets, 3);
}

TEST_F(PciFunctionsTest, TheHeaderTypeTellsOfOtherFunctions) {
    ASSERT_TRUE(root_.add({4}, alone_).ok());
    ASSERT_TRUE(root_.add({5, 0}, zero_).ok());
    ASSERT_TRUE(root_.add({5, 3}, three_).ok());
    ASSERT_TRUE(root_.attach().ok());
    EXPECT_EQ(root_.config_read(4, 0, 0x0e, 1), 0u);
    EXPECT_EQ(root_.config_read(5, 0, 0x0e, 1), 0x80u);
    EXPECT_EQ(root_.config_read(5, 0, 0x0c, 4), 0x0080'0000u);
    EXPECT_EQ(root_.config_read(5, 0, 0x0d, 2), 0x8000u);
    EXPECT_EQ(root_.config_read(5, 0, 0x0f, 1), 0u);
    EXPECT_EQ(root_.config_read(5, 0, 0x0d, 1), 0u);
    EXPECT_EQ(port_read({5, 3}, 0x0e, 1), 0x80u);
    EXPECT_EQ(root_.config_read(0, 0, 0x0e, 1), 0u);
}

TEST_F(PciFunctionsTest, ASlotWithoutFunctionZeroIsRefused) {
    ASSERT_TRUE(root_.add({5, 3}, three_).ok());
    const auto assigned = root_.assign_bars();
    ASSERT_FALSE(assigned.ok());
    EXPECT_NE(assigned.error().message.find("slot 5"), std::string::npos);
}

TEST_F(PciFunctionsTest, ATakenFunctionIsNamed) {
    ASSERT_TRUE(root_.add({5, 0}, zero_).ok());
    ASSERT_TRUE(root_.add({5, 1}, three_).ok());
    const auto added = root_.add({5, 1}, seven_);
    ASSERT_FALSE(added.ok());
    EXPECT_NE(added.error().message.find("slot 5 function 1"), std::string::npos);
}

TEST_F(PciRootTest, AbsentFunctionsReadAllOnesInEveryWidth) {
    EXPECT_EQ(root_.config_read(9, 0, 0, 4), 0xffff'ffffu);
    EXPECT_EQ(root_.config_read(9, 0, 0, 2), 0xffffu);
    EXPECT_EQ(root_.config_read(9, 0, 0, 1), 0xffu);
    EXPECT_EQ(root_.config_read(3, 1, 0, 4), 0xffff'ffffu);
    EXPECT_EQ(root_.config_read(77, 0, 0, 4), 0xffff'ffffu);
    root_.config_write(9, 0, 4, 2, 7);  // goes nowhere
    EXPECT_EQ(mmio_read(kEcam + (9u << 15), 4), 0xffff'ffffu);
}

TEST_F(PciRootTest, HostBridgeIsWhatFirmwareLooksFor) {
    EXPECT_EQ(root_.config_read(0, 0, 0, 4), 0x29c0'8086u);
    EXPECT_EQ(root_.config_read(0, 0, 0x2c, 4), 0x1100'1af4u);
    EXPECT_EQ(root_.config_read(0, 0, 0x60, 4), kEcam | 1);
}

TEST_F(PciRootTest, EcamFollowsPciexbarAndComesBackAtReset) {
    constexpr uint64_t kMoved = 0xb000'0000;
    root_.config_write(0, 0, 0x60, 4, 0);  // off first, as firmware does
    EXPECT_EQ(root_.ecam_address(), 0u);
    EXPECT_EQ(mmio_read(kEcam + (3u << 15), 4), 0xffff'ffffu);
    root_.config_write(0, 0, 0x64, 4, 0);
    root_.config_write(0, 0, 0x60, 4, kMoved | 1);
    EXPECT_EQ(root_.ecam_address(), kMoved);
    EXPECT_EQ(mmio_read(kMoved + (3u << 15), 4), 0x5678'1234u);
    ASSERT_TRUE(root_.reset().ok());
    EXPECT_EQ(root_.ecam_address(), kEcam);
    EXPECT_EQ(mmio_read(kEcam + (3u << 15), 4), 0x5678'1234u);
}

TEST_F(PciRootTest, EcamIsOffWhereSomethingElseIs) {
    root_.config_write(0, 0, 0x60, 4, static_cast<uint32_t>(kWindow) | 1);  // over the BARs
    EXPECT_EQ(root_.ecam_address(), 0u);
    select(3, 0);
    EXPECT_EQ(port_read(0xcfc, 4), 0x5678'1234u);
}

TEST_F(PciRootTest, PamRegistersAreStorageAndResetToZero) {
    root_.config_write(0, 0, 0x90, 4, 0x3333'3330);
    root_.config_write(0, 0, 0x94, 4, 0x0033'3333);
    EXPECT_EQ(root_.config_read(0, 0, 0x90, 4), 0x3333'3330u);
    EXPECT_EQ(root_.config_read(0, 0, 0x94, 4) & 0xff'ffff, 0x33'3333u);
    ASSERT_TRUE(root_.reset().ok());
    EXPECT_EQ(root_.config_read(0, 0, 0x90, 1), 0u);
}

TEST_F(PciRootTest, AByteToTheResetControlRegisterResets) {
    port_write(0xcf9, 0x02, 1);
    EXPECT_EQ(platform_.resets, 0);
    port_write(0xcf9, 0x06, 1);
    EXPECT_EQ(platform_.resets, 1);
}

TEST_F(PciRootTest, BothWaysReachTheSameRegisters) {
    select(3, 0);
    EXPECT_EQ(port_read(0xcfc, 4), 0x5678'1234u);
    EXPECT_EQ(port_read(0xcfe, 2), 0x5678u);
    EXPECT_EQ(port_read(0xcfd, 1), 0x12u);
    EXPECT_EQ(mmio_read(kEcam + (3u << 15), 4), 0x5678'1234u);
    EXPECT_EQ(mmio_read(kEcam + (3u << 15) + 2, 2), 0x5678u);
    EXPECT_EQ(mmio_read(kEcam + (3u << 15) + 0x9, 2), 0x0203u);
    EXPECT_EQ(mmio_read(kEcam + (3u << 15), 8) & 0xffff'ffff, 0x5678'1234u);
}

TEST_F(PciRootTest, DataPortsAnswerOnlyWhenEnabledAndOnBusZero) {
    port_write(0xcf8, 3u << 11, 4);  // enable bit off
    EXPECT_EQ(port_read(0xcfc, 4), 0xffff'ffffu);
    port_write(0xcf8, 1u << 31 | 1u << 16 | 3u << 11, 4);  // bus 1
    EXPECT_EQ(port_read(0xcfc, 4), 0xffff'ffffu);
    port_write(0xcf8, 0x1234, 2);  // not a doubleword: not the address register
    EXPECT_EQ(port_read(0xcf8, 4), 1u << 31 | 1u << 16 | 3u << 11);
    select(3, 0);
    EXPECT_EQ(port_read(0xcfe, 4), 0xffff'ffffu);  // past the data register
}

TEST_F(PciRootTest, ExtendedSpaceReadsZeroAndIgnoresWrites) {
    root_.config_write(3, 0, 0x400, 4, 0xffff'ffff);
    EXPECT_EQ(root_.config_read(3, 0, 0x400, 4), 0u);
    EXPECT_EQ(root_.config_read(3, 0, 0xfe, 4), 0u);  // straddles the end
}

TEST_F(PciRootTest, BarsArePlacedInsideTheWindowAndAligned) {
    const uint64_t big = root_.bar_address({3}, 0);
    const uint64_t small = root_.bar_address({3}, 2);
    EXPECT_GE(big, kWindow);
    EXPECT_EQ(big % 0x1000, 0u);
    EXPECT_EQ(small % 0x100, 0u);
    EXPECT_GE(small, big + 0x1000);
    EXPECT_EQ(mmio_read(big + 0x42, 1), 0x42u);
    EXPECT_EQ(device_.bases[0], big);
}

TEST_F(PciRootTest, SizingReadsBackTheMask) {
    root_.config_write(3, 0, 0x04, 2, 0);  // decoding off, as drivers do
    root_.config_write(3, 0, 0x10, 4, 0xffff'ffff);
    root_.config_write(3, 0, 0x14, 4, 0xffff'ffff);
    EXPECT_EQ(root_.config_read(3, 0, 0x10, 4), 0xffff'f004u);  // 64-bit memory, 4 KiB
    EXPECT_EQ(root_.config_read(3, 0, 0x14, 4), 0xffff'ffffu);
    root_.config_write(3, 0, 0x18, 4, 0xffff'ffff);
    EXPECT_EQ(root_.config_read(3, 0, 0x18, 4), 0xffff'ff00u);
    root_.config_write(3, 0, 0x1c, 4, 0xffff'ffff);
    EXPECT_EQ(root_.config_read(3, 0, 0x1c, 4), 0u);  // no such BAR
}

TEST_F(PciRootTest, SizingWithDecodingOnUnmapsAndComesBack) {
    const uint64_t base = root_.bar_address({3}, 0);
    root_.config_write(3, 0, 0x10, 4, 0xffff'ffff);
    EXPECT_EQ(root_.config_read(3, 0, 0x10, 4), 0xffff'f004u);
    EXPECT_EQ(mmio_read(base, 4), 0xffff'ffffu);
    root_.config_write(3, 0, 0x10, 4, static_cast<uint32_t>(base));
    EXPECT_EQ(mmio_read(base + 1, 1), 1u);
}

TEST_F(PciRootTest, MemoryEnableIsHonoured) {
    const uint64_t base = root_.bar_address({3}, 0);
    root_.config_write(3, 0, 0x04, 2, 0);
    EXPECT_EQ(mmio_read(base, 4), 0xffff'ffffu);
    EXPECT_EQ(device_.bases[0], 0u);
    root_.config_write(3, 0, 0x04, 2, pci::kCommandMemory);
    EXPECT_EQ(mmio_read(base + 7, 1), 7u);
    EXPECT_EQ(device_.bases[0], base);
}

TEST_F(PciRootTest, ABarMovesWithinTheWindow) {
    const uint64_t old = root_.bar_address({3}, 0);
    root_.config_write(3, 0, 0x10, 4, 0xd800'0000);
    EXPECT_EQ(root_.bar_address({3}, 0), 0xd800'0000u);
    EXPECT_EQ(mmio_read(0xd800'0009, 1), 9u);
    EXPECT_EQ(mmio_read(old, 1), 0xffu);
    EXPECT_EQ(device_.bases[0], 0xd800'0000u);
}

TEST_F(PciRootTest, AMoveOntoAnotherBarIsRolledBack) {
    DeviceStub other;
    ASSERT_TRUE(root_.add({4}, other).ok());
    ASSERT_TRUE(root_.reset().ok());
    const uint64_t base = root_.bar_address({3}, 0);
    const uint64_t taken = root_.bar_address({4}, 0);
    ASSERT_NE(taken, 0u);
    root_.config_write(3, 0, 0x10, 4, static_cast<uint32_t>(taken));
    EXPECT_EQ(root_.bar_address({3}, 0), base);
    EXPECT_EQ(root_.config_read(3, 0, 0x10, 4), static_cast<uint32_t>(base) | 4);
    EXPECT_EQ(mmio_read(base + 5, 1), 5u);
    EXPECT_EQ(root_.bar_address({4}, 0), taken);
    root_.config_write(3, 0, 0x04, 2, 0);  // unmaps before `other` goes
    root_.config_write(4, 0, 0x04, 2, 0);
}

TEST_F(PciRootTest, OutsideTheWindowsNothingIsDecoded) {
    root_.config_write(3, 0, 0x10, 4, 0x0010'0000);  // RAM
    EXPECT_EQ(root_.bar_address({3}, 0), 0u);
    EXPECT_EQ(root_.config_read(3, 0, 0x10, 4), 0x0010'0004u);
    root_.config_write(3, 0, 0x10, 4, static_cast<uint32_t>(kEcam));
    EXPECT_EQ(root_.bar_address({3}, 0), 0u);
    root_.config_write(3, 0, 0x14, 4, 0xffff'ffff);
    EXPECT_EQ(root_.bar_address({3}, 0), 0u);
}

TEST_F(PciRootTest, ResetPutsBarsBackWhereTheBoardWantsThem) {
    const uint64_t base = root_.bar_address({3}, 0);
    root_.config_write(3, 0, 0x10, 4, 0xd800'0000);
    ASSERT_TRUE(root_.reset().ok());
    EXPECT_EQ(device_.resets, 1);
    EXPECT_EQ(root_.bar_address({3}, 0), base);
}

TEST(PciRoot, RefusesWhenTheWindowIsFull) {
    PlatformFake platform;
    DeviceStub one;
    DeviceStub two;
    PciRoot root(platform, {.mmio32_base = kWindow, .mmio32_size = 0x2000, .ecam_base = 0});
    ASSERT_TRUE(root.add({1}, one).ok());
    ASSERT_TRUE(root.add({2}, two).ok());
    auto assigned = root.assign_bars();
    ASSERT_FALSE(assigned.ok());
    EXPECT_EQ(assigned.error().code, ErrorCode::Exhausted);
    EXPECT_NE(assigned.error().message.find("stub"), std::string::npos);
}

TEST(PciRoot, PlacesWideBarsAbove4GibWhenAsked) {
    PlatformFake platform;
    DeviceStub one;
    PciRoot root(platform, {.mmio32_base = kWindow,
                            .mmio32_size = 0x1000'0000,
                            .mmio64_base = 0x40'0000'0000,
                            .mmio64_size = 0x1000'0000,
                            .ecam_base = 0,
                            .bars_above_4gib = true});
    ASSERT_TRUE(root.add({1}, one).ok());
    ASSERT_TRUE(root.assign_bars().ok());
    EXPECT_EQ(root.bar_address({1}, 0), 0x40'0000'0000u);
    EXPECT_LT(root.bar_address({1}, 2), 1ull << 32);
}

}  // namespace
}  // namespace kumoi::hypervisor
