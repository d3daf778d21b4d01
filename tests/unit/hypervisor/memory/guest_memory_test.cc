#include "hypervisor/memory/guest_memory.h"

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

TEST(GuestMemory, RefusesSizesThatAreNotPages) {
    EXPECT_FALSE(GuestMemory::create(0).ok());
    EXPECT_FALSE(GuestMemory::create(4097).ok());
}

TEST(GuestMemory, SplitsAroundThePciHole) {
    auto memory = GuestMemory::create(kPciHoleStart + (1u << 20));
    ASSERT_TRUE(memory.ok()) << memory.error().text();
    ASSERT_EQ(memory->regions().size(), 2u);
    EXPECT_EQ(memory->regions()[0].size, kPciHoleStart);
    EXPECT_EQ(memory->regions()[1].gpa, kHighMemoryStart);
    EXPECT_EQ(memory->regions()[1].size, 1u << 20);
    EXPECT_TRUE(memory->store(kHighMemoryStart, uint32_t{7}).ok());
    EXPECT_FALSE(memory->load<uint8_t>(kPciHoleStart).ok());
}

TEST(GuestMemory, RefusesAccessesThatLeaveRam) {
    auto memory = GuestMemory::create(1u << 20);
    ASSERT_TRUE(memory.ok());
    EXPECT_TRUE(memory->load<uint8_t>((1u << 20) - 1).ok());
    EXPECT_FALSE(memory->load<uint16_t>((1u << 20) - 1).ok());
    EXPECT_FALSE(memory->host_span(0, (1u << 20) + 1).ok());
    EXPECT_FALSE(memory->host_span(UINT64_MAX, 2).ok());
    EXPECT_FALSE(memory->host_span(16, UINT64_MAX).ok());
    EXPECT_FALSE(memory->fill(1u << 20, 1, std::byte{1}).ok());
}

TEST(GuestMemory, ClearGivesZerosAndReturnsPages) {
    auto memory = GuestMemory::create(1u << 20);
    ASSERT_TRUE(memory.ok());
    EXPECT_EQ(memory->resident_bytes(), 0u);
    ASSERT_TRUE(memory->store(0x1234, uint64_t{0xdeadbeef}).ok());
    EXPECT_GT(memory->resident_bytes(), 0u);
    ASSERT_TRUE(memory->clear().ok());
    EXPECT_EQ(memory->resident_bytes(), 0u);
    EXPECT_EQ(memory->load<uint64_t>(0x1234).value(), 0u);
}

}  // namespace
}  // namespace kumoi::hypervisor
