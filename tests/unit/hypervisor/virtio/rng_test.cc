#include "hypervisor/virtio/rng.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

class RngTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(device_.start().ok()); }
    PlatformFake platform_;
    SeededRandom random_{7};
    VirtioRng rng_{"rng0", random_};
    DeviceFake device_{rng_, platform_.memory()};
    QueueFake& queue_ = device_.add_queue(0, 8);
};

TEST_F(RngTest, ReadableBuffersAreMalformed) {
    queue_.add({{queue_.allocate(16), 16, false}});
    queue_.add({{queue_.allocate(16), 16, false}, {queue_.allocate(16), 16, true}});
    device_.kick(0);
    EXPECT_EQ(queue_.used_index(), 2u);
    EXPECT_EQ(queue_.used(0).length, 0u);
    EXPECT_EQ(queue_.used(1).length, 0u);
    EXPECT_EQ(device_.statistic("malformed_chains"), 2u);
    EXPECT_TRUE(device_.broken_reasons.empty());
}

TEST_F(RngTest, FillsEveryWritableBuffer) {
    const uint64_t gpa = queue_.allocate(64);
    queue_.add({{gpa, 24, true}, {gpa + 24, 40, true}});
    device_.kick(0);
    EXPECT_EQ(queue_.used(0).length, 64u);
    const auto bytes = queue_.get(gpa, 64);
    EXPECT_LT(std::count(bytes.begin(), bytes.end(), std::byte{0}), 16);
    EXPECT_EQ(device_.statistic("bytes"), 64u);
    EXPECT_EQ(device_.interrupts, 1);
}

TEST_F(RngTest, OneRequestIsBounded) {
    queue_.add({{0x800000, 1u << 20, true}});
    device_.kick(0);
    EXPECT_EQ(queue_.used(0).length, VirtioRng::kFillBytesMax);
    EXPECT_EQ(queue_.load<uint64_t>(0x800000 + VirtioRng::kFillBytesMax), 0u);
}

TEST_F(RngTest, HasNoConfiguration) {
    std::vector<uint8_t> bytes(8, 0xaa);
    rng_.read_config(0xfffffffc, bytes);
    EXPECT_EQ(bytes, std::vector<uint8_t>(8, 0));
}

}  // namespace
}  // namespace kumoi::hypervisor
