#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "hypervisor/board/cpu_hotplug.h"
#include "hypervisor/board/gpe_block.h"
#include "hypervisor/board/hotplug_layout.h"
#include "hypervisor/board/pci_hotplug.h"

namespace kumoi::hypervisor {
namespace {

template <class T>
T in(IoDevice& device, uint64_t offset) {
    std::array<uint8_t, sizeof(T)> data{};
    device.io_read(offset, data);
    T value{};
    std::memcpy(&value, data.data(), sizeof value);
    return value;
}

template <class T>
void out(IoDevice& device, uint64_t offset, T value) {
    std::array<uint8_t, sizeof(T)> data{};
    std::memcpy(data.data(), &value, sizeof value);
    device.io_write(offset, data);
}

TEST(GpeBlock, AsksForTheSciWhileAnEnabledEventIsRaised) {
    bool sci = false;
    GpeBlock gpe([&](bool wanted) { sci = wanted; });
    gpe.raise(1);
    EXPECT_FALSE(sci);
    EXPECT_EQ(in<uint16_t>(gpe, 0), 2u);
    out<uint8_t>(gpe, 8, 0x06);
    EXPECT_TRUE(sci);
    EXPECT_TRUE(gpe.enabled(2));
    out<uint8_t>(gpe, 0, 0xfd);  // another bit: stays
    EXPECT_TRUE(sci);
    out<uint8_t>(gpe, 0, 0x02);
    EXPECT_FALSE(sci);
    gpe.raise(2);
    EXPECT_TRUE(sci);
    gpe.reset();
    EXPECT_FALSE(sci);
}

TEST(GpeBlock, EventsThatDoNotExistStayZero) {
    GpeBlock gpe([](bool) {});
    out<uint32_t>(gpe, 8, ~0u);
    out<uint32_t>(gpe, 12, ~0u);
    EXPECT_EQ(in<uint64_t>(gpe, 8), 0xffffu);
    EXPECT_EQ(in<uint64_t>(gpe, 0), 0u);
    out<uint64_t>(gpe, 14, ~0ull);  // beyond the block: nothing
    EXPECT_EQ(in<uint64_t>(gpe, 8), 0xffffu);
}

class PciHotplugTest : public testing::Test {
protected:
    int changes_ = 0;
    uint32_t ejected_ = 0;
    int ejections_ = 0;
    PciHotplug registers_{0x7fff'fff8,
                          {.changed = [this] { ++changes_; },
                           .ejected =
                               [this](uint32_t slots) {
                                   ejected_ |= slots;
                                   ++ejections_;
                               }}};
};

TEST_F(PciHotplugTest, AnnouncesWhatCameUntilAcknowledged) {
    registers_.set_present(3, true);  // as the machine was made: no event
    EXPECT_EQ(changes_, 0);
    registers_.insert(11);
    EXPECT_EQ(changes_, 1);
    EXPECT_EQ(in<uint32_t>(registers_, board::kPciHotplugInserted), 1u << 11);
    EXPECT_EQ(in<uint32_t>(registers_, board::kPciHotplugEject), 1u << 11 | 1u << 3);
    out<uint32_t>(registers_, board::kPciHotplugInserted, 1u << 12);
    EXPECT_EQ(in<uint32_t>(registers_, board::kPciHotplugInserted), 1u << 11);
    out<uint32_t>(registers_, board::kPciHotplugInserted, 1u << 11);
    EXPECT_EQ(in<uint32_t>(registers_, board::kPciHotplugInserted), 0u);
}

TEST_F(PciHotplugTest, EjectsOnlyWhatIsThereAndOnlyOnce) {
    registers_.set_present(3, true);
    registers_.request_removal(3);
    EXPECT_EQ(in<uint32_t>(registers_, board::kPciHotplugRemoving), 1u << 3);
    out<uint32_t>(registers_, board::kPciHotplugEject, ~0u);
    EXPECT_EQ(ejected_, 1u << 3);
    EXPECT_EQ(in<uint32_t>(registers_, board::kPciHotplugRemoving), 0u);
    for (int i = 0; i < 1000; ++i) {
        out<uint32_t>(registers_, board::kPciHotplugEject, ~0u);
    }
    EXPECT_EQ(ejections_, 1);
}

TEST_F(PciHotplugTest, PartsOfTheBoardAreNotEjected) {
    registers_.set_present(1, true);
    registers_.set_present(31, true);
    out<uint32_t>(registers_, board::kPciHotplugEject, ~0u);
    EXPECT_EQ(ejections_, 0);
}

TEST_F(PciHotplugTest, OddAccessesDoNothing) {
    registers_.set_present(3, true);
    out<uint8_t>(registers_, board::kPciHotplugEject, 0xff);
    out<uint16_t>(registers_, board::kPciHotplugEject, 0xffff);
    out<uint32_t>(registers_, board::kPciHotplugEject + 1, ~0u);
    out<uint64_t>(registers_, board::kPciHotplugEject, ~0ull);
    out<uint32_t>(registers_, board::kPciHotplugRemovable, 0);
    EXPECT_EQ(ejections_, 0);
    EXPECT_EQ(in<uint32_t>(registers_, board::kPciHotplugRemovable), 0x7fff'fff8u);
    EXPECT_EQ(in<uint8_t>(registers_, board::kPciHotplugRemovable), 0xf8u);
    EXPECT_EQ(in<uint64_t>(registers_, 1000), ~0ull);
}

TEST_F(PciHotplugTest, AWithdrawnRequestIsNotSeen) {
    registers_.set_present(3, true);
    registers_.request_removal(3);
    registers_.withdraw_removal(3);
    EXPECT_EQ(in<uint32_t>(registers_, board::kPciHotplugRemoving), 0u);
    registers_.insert(4);
    registers_.reset();
    EXPECT_EQ(in<uint32_t>(registers_, board::kPciHotplugInserted), 0u);
    EXPECT_EQ(in<uint32_t>(registers_, board::kPciHotplugEject), 3u << 3);
}

class CpuHotplugTest : public testing::Test {
protected:
    uint8_t status(uint32_t cpu) {
        out<uint32_t>(registers_, board::kCpuHotplugSelect, cpu);
        return in<uint8_t>(registers_, board::kCpuHotplugStatus);
    }
    uint32_t next() { return in<uint32_t>(registers_, board::kCpuHotplugNext); }
    int changes_ = 0;
    std::vector<uint32_t> ejected_;
    CpuHotplug registers_{2,
                          4,
                          {.changed = [this] { ++changes_; },
                           .ejected = [this](uint32_t cpu) { ejected_.push_back(cpu); }}};
};

TEST_F(CpuHotplugTest, TellsWhichProcessorsCome) {
    EXPECT_EQ(status(1), board::kCpuPresent);
    EXPECT_EQ(status(2), 0);
    EXPECT_EQ(status(4), 0);  // does not exist
    EXPECT_EQ(next(), ~0u);
    registers_.insert(2);
    EXPECT_EQ(changes_, 1);
    EXPECT_EQ(next(), 2u);
    EXPECT_EQ(status(2), board::kCpuPresent | board::kCpuInserted);
    out<uint8_t>(registers_, board::kCpuHotplugStatus, board::kCpuInserted);
    EXPECT_EQ(status(2), board::kCpuPresent);
    EXPECT_EQ(next(), ~0u);
}

TEST_F(CpuHotplugTest, TheGuestEjectsAProcessorOnceAndNeverTheFirst) {
    registers_.request_removal(1);
    EXPECT_EQ(status(1), board::kCpuPresent | board::kCpuRemoving);
    out<uint8_t>(registers_, board::kCpuHotplugStatus, board::kCpuEject);
    out<uint8_t>(registers_, board::kCpuHotplugStatus, board::kCpuEject);
    EXPECT_EQ(ejected_, std::vector<uint32_t>{1});
    EXPECT_FALSE(registers_.present(1));
    for (const uint32_t cpu : {0u, 3u, 4u, ~0u}) {
        out<uint32_t>(registers_, board::kCpuHotplugSelect, cpu);
        out<uint8_t>(registers_, board::kCpuHotplugStatus, 0xff);
    }
    EXPECT_EQ(ejected_.size(), 1u);
    EXPECT_TRUE(registers_.present(0));
}

TEST_F(CpuHotplugTest, StateComesBackAndIsChecked) {
    registers_.insert(3);
    const auto state = registers_.state();
    CpuHotplug other(1, 4, {.changed = [] {}, .ejected = [](uint32_t) {}});
    ASSERT_TRUE(other.set_state(state).ok());
    EXPECT_TRUE(other.present(3));
    EXPECT_FALSE(other.set_state({1, 1, 1}).ok());
    EXPECT_FALSE(other.set_state({0, 1, 1, 1}).ok());
    EXPECT_FALSE(other.set_state({1, 0x80, 1, 1}).ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
