#include "hypervisor/vhost_user/driver_ring.h"

#include <cstring>

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

class DriverRingTest : public ::testing::Test {
protected:
    // The back end's hand on the used ring.
    void put_used(uint16_t at, uint32_t slot) {
        std::byte* used = const_cast<std::byte*>(ring_.used());
        std::memcpy(used + 4 + 8u * (at % ring_.size()), &slot, sizeof(slot));
    }
    void set_used_index(uint16_t index) {
        std::memcpy(const_cast<std::byte*>(ring_.used()) + 2, &index, sizeof(index));
    }
    void set_used_flags(uint16_t flags) {
        std::memcpy(const_cast<std::byte*>(ring_.used()), &flags, sizeof(flags));
    }

    alignas(64) std::array<std::byte, 4096> memory_{};
    DriverRing ring_{memory_, 8};
};

TEST_F(DriverRingTest, GivesAndTakesBackInAnyOrder) {
    ring_.give(3);
    ring_.give(5);
    EXPECT_TRUE(ring_.publish());
    EXPECT_FALSE(ring_.publish());  // nothing new
    put_used(0, 5);
    put_used(1, 3);
    set_used_index(2);
    EXPECT_EQ(ring_.take().value(), 5);
    EXPECT_EQ(ring_.take().value(), 3);
    EXPECT_FALSE(ring_.take().value().has_value());
    EXPECT_EQ(ring_.with_back_end(), 0);
}

TEST_F(DriverRingTest, ABackEndThatIsAwakeIsNotKicked) {
    ring_.give(0);
    set_used_flags(1);
    EXPECT_FALSE(ring_.publish());
}

TEST_F(DriverRingTest, IndexesWrapAround) {
    for (uint32_t i = 0; i < 70000; ++i) {
        ring_.give(1);
        (void)ring_.publish();
        put_used(static_cast<uint16_t>(i), 1);
        set_used_index(static_cast<uint16_t>(i + 1));
        ASSERT_EQ(ring_.take().value(), 1) << i;
    }
}

TEST_F(DriverRingTest, AnIndexThatMovedTooFarIsAnError) {
    ring_.give(0);
    (void)ring_.publish();
    set_used_index(2);
    EXPECT_EQ(ring_.take().error().code, ErrorCode::Corrupt);
    set_used_index(0xffff);
    EXPECT_EQ(ring_.take().error().code, ErrorCode::Corrupt);
}

TEST_F(DriverRingTest, ASlotThatWasNotGivenIsAnError) {
    ring_.give(0);
    ring_.give(1);
    (void)ring_.publish();
    set_used_index(1);
    for (const uint32_t slot : {2u, 8u, 0xffffffffu}) {
        put_used(0, slot);
        EXPECT_EQ(ring_.take().error().code, ErrorCode::Corrupt) << slot;
    }
    put_used(0, 1);
    EXPECT_EQ(ring_.take().value(), 1);
    set_used_index(2);
    put_used(1, 1);  // the same again
    EXPECT_EQ(ring_.take().error().code, ErrorCode::Corrupt);
}

TEST_F(DriverRingTest, AResetForgetsWhatWasGiven) {
    ring_.give(4);
    (void)ring_.publish();
    ring_.reset();
    EXPECT_EQ(ring_.with_back_end(), 0);
    EXPECT_FALSE(ring_.take().value().has_value());
    ring_.give(4);
    EXPECT_TRUE(ring_.publish());
}

}  // namespace
}  // namespace kumoi::hypervisor
