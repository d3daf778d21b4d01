#include "hypervisor/virtio/mem.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kBase = 1ull << 32;
constexpr uint64_t kBlock = 2u << 20;

class HotMemoryFake final : public HotMemory {
public:
    uint64_t base() const override { return kBase; }
    uint64_t block_size() const override { return kBlock; }
    uint32_t block_count() const override { return 8; }
    Result<void> plug(uint32_t block, HotContent content) override {
        kept += content == HotContent::Keep ? 1 : 0;
        if (block == refuses) {
            return Error::exhausted("no slot left, as the test wants");
        }
        EXPECT_FALSE(plugged[block]);
        plugged[block] = true;
        return {};
    }
    Result<void> unplug(uint32_t block) override {
        EXPECT_TRUE(plugged[block]);
        plugged[block] = false;
        return {};
    }
    std::array<bool, 8> plugged{};
    int kept = 0;
    uint32_t refuses = 100;
};

enum : uint16_t { kPlug, kUnplug, kUnplugAll, kState };
enum : uint16_t { kAck, kNack, kBusy, kError };

class MemTest : public testing::Test {
protected:
    struct Reply {
        uint32_t length;
        uint16_t response;
        uint16_t state;
    };
    void SetUp() override { ASSERT_TRUE(device_.start().ok()); }
    Reply ask(uint16_t type, uint64_t address = 0, uint16_t blocks = 0) {
        std::array<std::byte, 24> request{};
        std::memcpy(request.data(), &type, 2);
        std::memcpy(request.data() + 8, &address, 8);
        std::memcpy(request.data() + 16, &blocks, 2);
        const uint64_t reply = queue_.allocate(10);
        queue_.add({{queue_.allocate(request), 24, false}, {reply, 10, true}});
        const uint16_t index = queue_.used_index();
        device_.kick(0);
        return {queue_.used(index).length, queue_.load<uint16_t>(reply),
                queue_.load<uint16_t>(reply + 8)};
    }
    uint16_t response(uint16_t type, uint64_t block, uint16_t count) {
        return ask(type, kBase + block * kBlock, count).response;
    }
    template <class T>
    T config(uint32_t offset) {
        std::array<uint8_t, sizeof(T)> bytes{};
        mem_.read_config(offset, bytes);
        T value{};
        std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }
    PlatformFake platform_;
    HotMemoryFake memory_;
    std::vector<uint64_t> changes_;
    VirtioMem mem_{"memory", memory_, 1,
                   [this](VirtioMem::Sizes sizes) { changes_.push_back(sizes.plugged); }};
    DeviceFake device_{mem_, platform_.memory()};
    QueueFake& queue_ = device_.add_queue(0, 16);
};

TEST_F(MemTest, TellsItsRegion) {
    ASSERT_TRUE(mem_.set_requested_size(3 * kBlock).ok());
    EXPECT_EQ(config<uint64_t>(0), kBlock);
    EXPECT_EQ(config<uint16_t>(8), 1u);
    EXPECT_EQ(config<uint64_t>(16), kBase);
    EXPECT_EQ(config<uint64_t>(24), 8 * kBlock);
    EXPECT_EQ(config<uint64_t>(32), 8 * kBlock);
    EXPECT_EQ(config<uint64_t>(40), 0u);
    EXPECT_EQ(config<uint64_t>(48), 3 * kBlock);
    EXPECT_EQ(config<uint64_t>(0xffff'fff0), 0u);
    EXPECT_FALSE(mem_.set_requested_size(kBlock / 2).ok());
    EXPECT_FALSE(mem_.set_requested_size(9 * kBlock).ok());
}

TEST_F(MemTest, PlugsWhatWasRequestedAndNoMore) {
    EXPECT_EQ(response(kPlug, 0, 1), kNack);
    ASSERT_TRUE(mem_.set_requested_size(3 * kBlock).ok());
    EXPECT_EQ(response(kPlug, 2, 2), kAck);
    EXPECT_TRUE(memory_.plugged[2] && memory_.plugged[3]);
    EXPECT_EQ(response(kPlug, 4, 2), kNack);  // would be four
    EXPECT_FALSE(memory_.plugged[4]);
    EXPECT_EQ(response(kPlug, 3, 1), kError);  // is plugged
    EXPECT_EQ(response(kPlug, 1, 2), kError);  // one of them is
    EXPECT_EQ(response(kPlug, 7, 1), kAck);
    EXPECT_EQ(mem_.sizes().plugged, 3 * kBlock);
    EXPECT_EQ(changes_, (std::vector<uint64_t>{2 * kBlock, 3 * kBlock}));
}

TEST_F(MemTest, UnplugsOnlyWhatIsPlugged) {
    ASSERT_TRUE(mem_.set_requested_size(8 * kBlock).ok());
    ASSERT_EQ(response(kPlug, 0, 4), kAck);
    EXPECT_EQ(response(kUnplug, 3, 2), kError);
    EXPECT_TRUE(memory_.plugged[3]);
    EXPECT_EQ(response(kUnplug, 3, 1), kAck);
    EXPECT_FALSE(memory_.plugged[3]);
    EXPECT_EQ(ask(kState, kBase, 3).state, 0u);
    EXPECT_EQ(ask(kState, kBase + 4 * kBlock, 4).state, 1u);
    EXPECT_EQ(ask(kState, kBase, 4).state, 2u);
    EXPECT_EQ(ask(kUnplugAll).response, kAck);
    EXPECT_EQ(mem_.sizes().plugged, 0u);
    EXPECT_EQ(memory_.plugged, (std::array<bool, 8>{}));
}

TEST_F(MemTest, RangesOutsideTheRegionAreErrors) {
    ASSERT_TRUE(mem_.set_requested_size(8 * kBlock).ok());
    for (const uint16_t type : {kPlug, kUnplug, kState}) {
        EXPECT_EQ(ask(type, 0, 1).response, kError);
        EXPECT_EQ(ask(type, kBase - kBlock, 1).response, kError);
        EXPECT_EQ(ask(type, kBase + 4096, 1).response, kError);
        EXPECT_EQ(ask(type, kBase, 0).response, kError);
        EXPECT_EQ(ask(type, kBase, 9).response, kError);
        EXPECT_EQ(ask(type, kBase + 7 * kBlock, 2).response, kError);
        EXPECT_EQ(ask(type, kBase + 8 * kBlock, 1).response, kError);
        EXPECT_EQ(ask(type, UINT64_MAX - kBlock + 1, 0xffff).response, kError);
    }
    EXPECT_EQ(ask(77, kBase, 1).response, kError);
    EXPECT_EQ(device_.statistic("plugged_bytes"), 0u);
    EXPECT_TRUE(device_.broken_reasons.empty());
}

TEST_F(MemTest, MalformedChainsGetNoAnswer) {
    queue_.add({{queue_.allocate(24), 23, false}, {queue_.allocate(10), 10, true}});
    queue_.add({{queue_.allocate(24), 24, false}, {queue_.allocate(10), 9, true}});
    queue_.add({{queue_.allocate(24), 24, false}});
    device_.kick(0);
    EXPECT_EQ(queue_.used_index(), 3u);
    EXPECT_EQ(queue_.used(0).length + queue_.used(1).length + queue_.used(2).length, 0u);
    EXPECT_EQ(device_.statistic("malformed_chains"), 3u);
}

TEST_F(MemTest, WhatTheHostCannotPlugIsTriedAgainLater) {
    ASSERT_TRUE(mem_.set_requested_size(8 * kBlock).ok());
    memory_.refuses = 2;
    EXPECT_EQ(response(kPlug, 0, 4), kBusy);
    EXPECT_EQ(memory_.plugged, (std::array<bool, 8>{}));  // all or nothing
    memory_.refuses = 100;
    EXPECT_EQ(response(kPlug, 0, 4), kAck);
}

TEST_F(MemTest, SavedStatePlugsTheSameBlocks) {
    ASSERT_TRUE(mem_.set_requested_size(4 * kBlock).ok());
    ASSERT_EQ(response(kPlug, 1, 2), kAck);
    SectionWriter out("memory", 1);
    mem_.save(out);
    HotMemoryFake other;
    VirtioMem restored("memory", other, 1, [](VirtioMem::Sizes) {});
    auto in = SectionReader::parse(out);
    ASSERT_TRUE(in.ok());
    ASSERT_TRUE(restored.load(*in).ok());
    ASSERT_TRUE(in->finish().ok());
    EXPECT_EQ(other.plugged, memory_.plugged);
    EXPECT_EQ(other.kept, 2);  // the memory's content came before
    EXPECT_EQ(memory_.kept, 0);
    EXPECT_EQ(restored.sizes().requested, 4 * kBlock);
    ASSERT_TRUE(restored.unplug_all().ok());
    EXPECT_EQ(other.plugged, (std::array<bool, 8>{}));
}

TEST_F(MemTest, SavedStateOfAnotherShapeIsRefused) {
    const auto refused = [](uint64_t requested, uint64_t block_size, size_t bitmap) {
        SectionWriter out("memory", 1);
        out.u64(1, requested).u64(2, block_size);
        out.bytes(kSectionMustUnderstand | 3, std::vector<uint8_t>(bitmap, 0xff));
        HotMemoryFake memory;
        VirtioMem mem("memory", memory, 0, {});
        auto in = SectionReader::parse(out);
        EXPECT_TRUE(in.ok());
        return !mem.load(*in).ok();
    };
    EXPECT_FALSE(refused(kBlock, kBlock, 1));
    EXPECT_TRUE(refused(kBlock + 1, kBlock, 1));
    EXPECT_TRUE(refused(9 * kBlock, kBlock, 1));
    EXPECT_TRUE(refused(kBlock, 2 * kBlock, 1));
    EXPECT_TRUE(refused(kBlock, kBlock, 2));
    EXPECT_TRUE(refused(kBlock, kBlock, 0));
}

// The driver's queue is gone, the blocks are not: only the machine's own reset takes them.
TEST_F(MemTest, ADriversResetKeepsTheBlocks) {
    ASSERT_TRUE(mem_.set_requested_size(4 * kBlock).ok());
    ASSERT_EQ(response(kPlug, 0, 4), kAck);
    device_.stop();
    EXPECT_EQ(mem_.sizes().plugged, 4 * kBlock);
    ASSERT_TRUE(mem_.set_requested_size(0).ok());  // nobody there to be told
    ASSERT_TRUE(mem_.unplug_all().ok());
    EXPECT_EQ(mem_.sizes().plugged, 0u);
}

TEST_F(MemTest, AChangeOfTheRequestIsAnInterrupt) {
    ASSERT_TRUE(mem_.set_requested_size(2 * kBlock).ok());
    EXPECT_EQ(device_.config_changes, 1);
    ASSERT_EQ(response(kPlug, 0, 2), kAck);
    ASSERT_TRUE(
        mem_.set_requested_size(kBlock).ok());  // less than is plugged: the driver gives back
    EXPECT_EQ(device_.config_changes, 2);
    EXPECT_EQ(response(kPlug, 4, 1), kNack);
    EXPECT_EQ(response(kUnplug, 1, 1), kAck);
    EXPECT_EQ(mem_.sizes().plugged, kBlock);
}

}  // namespace
}  // namespace kumoi::hypervisor
