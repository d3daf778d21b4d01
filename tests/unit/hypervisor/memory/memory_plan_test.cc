#include "hypervisor/memory/memory_plan.h"

#include <gtest/gtest.h>

#include <mutex>

#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kMib = 1u << 20;
constexpr uint64_t kGib = 1u << 30;

// A host with everything: what it was asked is remembered, and ordinary memory is given.
class BigHost final : public MemoryHost {
public:
    Result<UniqueFd> make_file(uint64_t huge_page_size) override {
        page_sizes.push_back(huge_page_size);
        return system_memory_host().make_file(0);
    }
    Result<void> use_transparent_huge_pages(std::span<std::byte> memory) override {
        advised += memory.size();
        return {};
    }
    Result<void> bind(std::span<std::byte> memory, uint32_t host_node) override {
        bound.emplace_back(memory.size() >> 20, host_node);
        return {};
    }
    Result<void> populate(std::span<std::byte> memory) override {
        const std::lock_guard lock(mutex);
        populated += memory.size();
        ++parts;
        if (parts == fails_at) {
            return Error::exhausted("no page left, as the test wants");
        }
        return {};
    }
    std::vector<uint64_t> page_sizes;
    uint64_t advised = 0;
    std::vector<std::pair<uint64_t, uint32_t>> bound;
    std::mutex mutex;
    uint64_t populated = 0;
    int parts = 0;
    int fails_at = 0;
};

TEST(MemoryPlan, TheHotRegionIsBehindRamInFewBlocks) {
    EXPECT_EQ(plan_hot_memory(512 * kMib, 512 * kMib).size, 0u);
    const auto small = plan_hot_memory(512 * kMib, 1024 * kMib);
    EXPECT_EQ(small.base, 4 * kGib);
    EXPECT_EQ(small.size, 512 * kMib);
    EXPECT_EQ(small.block_size, 2 * kMib);
    const uint64_t boot = kPciHoleStart + 3 * kGib + 2 * kMib;
    const auto large = plan_hot_memory(boot, boot + 63 * kGib);
    EXPECT_EQ(large.base, 8 * kGib);
    EXPECT_EQ(large.block_size, 256 * kMib);
    EXPECT_GE(large.size, 63 * kGib);
    EXPECT_LE(large.size / large.block_size, HotMemoryPlan::kBlocksMax);
    EXPECT_EQ(plan_hot_memory(kGib, kGib + 3 * kMib).size, 4 * kMib);  // whole blocks
}

TEST(MemoryPlan, NodesGetTheirRangesAroundThePciHole) {
    MemoryConfig config;
    const uint64_t first = kPciHoleStart - kGib;  // the second node lies on both sides of the hole
    config.numa = {{{0, 1}, first >> 20, 0, {}}, {{2, 3}, 4096, 1, {30, 10}}};
    const uint64_t size = first + 4 * kGib;
    const auto layout = numa_layout(config, size, 4, plan_hot_memory(size, size + kGib));
    ASSERT_EQ(layout.memory.size(), 4u);
    EXPECT_EQ(layout.memory[0].size, first);
    EXPECT_EQ(layout.memory[1].base, first);
    EXPECT_EQ(layout.memory[1].size, 1 * kGib);
    EXPECT_EQ(layout.memory[2].base, 4 * kGib);
    EXPECT_EQ(layout.memory[2].size, 3 * kGib);
    EXPECT_EQ(layout.memory[2].node, 1u);
    EXPECT_TRUE(layout.memory[3].hotplug);
    EXPECT_EQ(layout.node_of_cpu, (std::vector<uint32_t>{0, 0, 1, 1}));
    EXPECT_EQ(layout.distances, (std::vector<std::vector<uint32_t>>{{10, 20}, {30, 10}}));
    EXPECT_EQ(numa_layout({}, kGib, 2, {}).nodes, 0u);
    const auto one = numa_layout({}, kGib, 2, plan_hot_memory(kGib, 2 * kGib));
    EXPECT_EQ(one.nodes, 1u);
    EXPECT_EQ(one.memory.size(), 2u);
    EXPECT_TRUE(one.distances.empty());
}

TEST(MemoryPlan, AsksTheHostForWhatTheConfigurationSays) {
    BigHost host;
    MemoryConfig config;
    config.transparent_huge_pages = true;
    config.numa = {{{0}, 6, 1, {}}, {{1}, 4, std::nullopt, {}}};
    auto memory = GuestMemory::create(10 * kMib);
    ASSERT_TRUE(memory.ok());
    ASSERT_TRUE(place_memory(config, memory->boot_bytes(), host).ok());
    EXPECT_EQ(host.advised, 10 * kMib);
    EXPECT_EQ(host.bound, (std::vector<std::pair<uint64_t, uint32_t>>{{6, 1}}));
    ASSERT_TRUE(populate_memory(config, memory->boot_bytes(), 3, host).ok());
    EXPECT_EQ(host.populated, 0u);
    config.prealloc = true;
    ASSERT_TRUE(populate_memory(config, memory->boot_bytes(), 3, host).ok());
    EXPECT_EQ(host.populated, 10 * kMib);
    EXPECT_EQ(host.parts, 3);
    host.parts = 0;
    host.fails_at = 2;
    EXPECT_FALSE(populate_memory(config, memory->boot_bytes(), 3, host).ok());
}

TEST(MemoryPlan, HugePagesComeFromAFileOfHugePages) {
    BigHost host;
    GuestMemory::Options options;
    options.size = 4 * kMib;
    options.page_size = 2 * kMib;
    auto memory = GuestMemory::create(options, host);
    ASSERT_TRUE(memory.ok());
    EXPECT_TRUE(memory->huge_pages());
    EXPECT_EQ(memory->discard(0, kMib).value(), 0u);  // half a page is not given back
    EXPECT_EQ(memory->discard(kMib, 3 * kMib).value(), 2 * kMib);
    EXPECT_EQ(host.page_sizes, std::vector<uint64_t>{2 * kMib});
    options.size = 3 * kMib;
    EXPECT_FALSE(GuestMemory::create(options, host).ok());
}

TEST(MemoryPlan, RealHugePages) {
    GuestMemory::Options options;
    options.size = 4 * kMib;
    options.page_size = 2 * kMib;
    auto memory = GuestMemory::create(options, system_memory_host());
    if (!memory) {
        GTEST_SKIP() << "this host has no pool of 2 MiB pages: " << memory.error().text();
    }
    ASSERT_TRUE(system_memory_host().populate(memory->boot_bytes()).ok());
    EXPECT_EQ(memory->resident_bytes(), 4 * kMib);
    ASSERT_TRUE(memory->store<uint64_t>(3 * kMib, 77).ok());
    EXPECT_EQ(memory->discard(0, 2 * kMib).value(), 2 * kMib);
    EXPECT_EQ(memory->resident_bytes(), 2 * kMib);
    EXPECT_EQ(memory->load<uint64_t>(3 * kMib).value(), 77u);
    ASSERT_TRUE(memory->clear().ok());
    EXPECT_EQ(memory->load<uint64_t>(3 * kMib).value(), 0u);
    options.size = uint64_t{1} << 46;  // more than any pool has
    EXPECT_FALSE(GuestMemory::create(options, system_memory_host()).ok());
}

TEST(MemoryPlan, RealPopulationMakesEveryPage) {
    auto memory = GuestMemory::create(4 * kMib);
    ASSERT_TRUE(memory.ok());
    EXPECT_LT(memory->resident_bytes(), 4 * kMib);
    ASSERT_TRUE(system_memory_host().populate(memory->boot_bytes()).ok());
    EXPECT_EQ(memory->resident_bytes(), 4 * kMib);
}

TEST(MemoryPlan, RealBindingIsRefusedForANodeThatIsNotThere) {
    auto memory = GuestMemory::create(4 * kMib);
    ASSERT_TRUE(memory.ok());
    const auto first = system_memory_host().bind(memory->boot_bytes(), 0);
    if (!first) {
        GTEST_SKIP() << "this kernel binds no memory: " << first.error().text();
    }
    const auto refused = system_memory_host().bind(memory->boot_bytes(), 1000);
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("1000"), std::string::npos);
}

class HotMemoryTest : public testing::Test {
protected:
    static GuestMemory make() {
        GuestMemory::Options options;
        options.size = 8 * kMib;
        options.hot = {4 * kGib, 8 * kMib, 2 * kMib};
        return std::move(GuestMemory::create(options, system_memory_host())).value();
    }
    GuestMemory memory_ = make();
};

TEST_F(HotMemoryTest, OnlyPluggedBlocksAreMemory) {
    const uint64_t base = 4 * kGib;
    EXPECT_EQ(memory_.end(), base + 8 * kMib);
    EXPECT_EQ(memory_.boot_size(), 8 * kMib);
    EXPECT_EQ(memory_.size(), 16 * kMib);
    EXPECT_FALSE(memory_.store<uint64_t>(base, 1).ok());
    ASSERT_TRUE(memory_.plug_hot(0).ok());
    ASSERT_TRUE(memory_.plug_hot(1).ok());
    ASSERT_TRUE(memory_.plug_hot(3).ok());
    EXPECT_TRUE(memory_.store<uint64_t>(base + 2 * kMib - 4, 0x1122334455667788).ok());
    EXPECT_EQ(*memory_.load<uint64_t>(base + 2 * kMib - 4), 0x1122334455667788u);
    EXPECT_FALSE(memory_.load<uint64_t>(base + 4 * kMib - 4).ok());  // into block 2
    EXPECT_FALSE(memory_.load<uint64_t>(base + 8 * kMib - 4).ok());  // out of the region
    EXPECT_FALSE(memory_.host_span(base, UINT64_MAX).ok());
    EXPECT_TRUE(memory_.host_span(base + 8 * kMib - 8, 8).ok());
    const auto regions = memory_.plugged_regions();
    ASSERT_EQ(regions.size(), 2u);
    EXPECT_EQ(regions[0].size, 4 * kMib);
    EXPECT_EQ(regions[1].gpa, base + 6 * kMib);
    EXPECT_EQ(regions[1].file_offset, 14 * kMib);
}

TEST_F(HotMemoryTest, AnUnpluggedBlockIsGivenBackAndComesAgainEmpty) {
    const uint64_t base = 4 * kGib;
    const uint64_t before = memory_.resident_bytes();
    ASSERT_TRUE(memory_.plug_hot(0).ok());
    ASSERT_TRUE(memory_.store<uint64_t>(base, 7).ok());
    EXPECT_GT(memory_.resident_bytes(), before);
    const auto late = *memory_.host_span(base, 8);  // an I/O under way
    EXPECT_EQ(memory_.address_of(late), base);
    ASSERT_TRUE(memory_.unplug_hot(0).ok());
    EXPECT_EQ(memory_.resident_bytes(), before);
    EXPECT_FALSE(memory_.load<uint64_t>(base).ok());
    late[0] = std::byte{9};
    ASSERT_TRUE(memory_.plug_hot(0).ok());
    EXPECT_EQ(*memory_.load<uint64_t>(base), 0u);
}

TEST_F(HotMemoryTest, RestoredContentStaysAndABalloonReachesPluggedBlocks) {
    const uint64_t base = 4 * kGib;
    memory_.hot_bytes(1)[0] = std::byte{5};  // what a restore has put there
    ASSERT_TRUE(memory_.plug_hot(1, HotContent::Keep).ok());
    EXPECT_EQ(*memory_.load<uint8_t>(base + 2 * kMib), 5u);
    EXPECT_EQ(memory_.discard(base, 8 * kMib).value(), 2 * kMib);
    EXPECT_EQ(*memory_.load<uint8_t>(base + 2 * kMib), 0u);
}

TEST_F(HotMemoryTest, WhileASaveReadsNothingComesOrGoes) {
    ASSERT_TRUE(memory_.plug_hot(0).ok());
    ASSERT_TRUE(memory_.store<uint64_t>(4 * kGib, 7).ok());
    memory_.forbid_discard();
    EXPECT_FALSE(memory_.plug_hot(1).ok());
    EXPECT_FALSE(memory_.unplug_hot(0).ok());
    EXPECT_EQ(*memory_.load<uint64_t>(4 * kGib), 7u);
    EXPECT_EQ(memory_.plugged_regions().size(), 1u);
    memory_.allow_discard();
    EXPECT_TRUE(memory_.unplug_hot(0).ok());
}

}  // namespace
}  // namespace kumoi::hypervisor
