#include "hypervisor/virtio/queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kRings = 0x100000;
constexpr uint64_t kFeatures = virtio::kFeatureVersion1 | virtio::kFeatureIndirectDescriptors;

class QueueTest : public testing::Test, public QueueEvents {
protected:
    Queue& make(uint64_t features = kFeatures) {
        queue_ = Queue::create(platform_.memory(), driver_.config(), features, *this).value();
        return *queue_;
    }
    void queue_used(uint16_t /*queue_index*/) override { ++interrupts_; }
    void queue_broken(uint16_t /*queue_index*/, std::string_view reason) override {
        reasons_.emplace_back(reason);
    }
    // The queue must refuse the next chain for this reason, once, and stay refused.
    void expect_broken(Queue& queue, std::string_view reason) {
        EXPECT_FALSE(queue.next_chain().has_value());
        ASSERT_EQ(reasons_.size(), 1u);
        EXPECT_NE(reasons_[0].find(reason), std::string::npos) << reasons_[0];
        EXPECT_TRUE(queue.broken());
        queue.begin_batch();
        EXPECT_FALSE(queue.next_chain().has_value());
        EXPECT_FALSE(queue.rearm());
        queue.publish();
        EXPECT_EQ(reasons_.size(), 1u);
        EXPECT_EQ(driver_.used_index(), 0u);
    }

    PlatformFake platform_;
    QueueFake driver_{platform_.memory(), 0, kRings, 8};
    std::unique_ptr<Queue> queue_;
    int interrupts_ = 0;
    std::vector<std::string> reasons_;
};

TEST_F(QueueTest, RefusesMisalignedRings) {
    QueueConfig config = driver_.config();
    for (uint64_t QueueConfig::*field :
         {&QueueConfig::descriptor_gpa, &QueueConfig::available_gpa, &QueueConfig::used_gpa}) {
        QueueConfig wrong = config;
        wrong.*field += 1;
        EXPECT_FALSE(Queue::create(platform_.memory(), wrong, kFeatures, *this).ok());
    }
}

TEST_F(QueueTest, RefusesRingsOutsideOfRam) {
    const uint64_t end = platform_.memory().size();
    for (uint64_t QueueConfig::*field :
         {&QueueConfig::descriptor_gpa, &QueueConfig::available_gpa, &QueueConfig::used_gpa}) {
        QueueConfig wrong = driver_.config();
        wrong.*field = end - 16;  // begins inside, ends outside
        EXPECT_FALSE(Queue::create(platform_.memory(), wrong, kFeatures, *this).ok());
        wrong.*field = ~uint64_t{0} & ~uint64_t{15};
        EXPECT_FALSE(Queue::create(platform_.memory(), wrong, kFeatures, *this).ok());
    }
}

TEST_F(QueueTest, RefusesSizesThatAreNoPowerOfTwo) {
    for (const uint16_t size : {0, 3, 2048, 32768}) {
        QueueConfig wrong = driver_.config();
        wrong.size = size;
        EXPECT_FALSE(Queue::create(platform_.memory(), wrong, kFeatures, *this).ok()) << size;
    }
}

TEST_F(QueueTest, AvailableIndexJumpBreaksTheQueue) {
    Queue& queue = make();
    driver_.set_available_index(9);
    expect_broken(queue, "jumped");
}

TEST_F(QueueTest, AvailableIndexGoingBackBreaksTheQueue) {
    Queue& queue = make();
    driver_.set_available_index(0xffff);
    expect_broken(queue, "jumped");
}

TEST_F(QueueTest, HeadOutsideTheTableBreaksTheQueue) {
    Queue& queue = make();
    driver_.make_available(8);
    expect_broken(queue, "outside its table");
}

TEST_F(QueueTest, NextOutsideTheTableBreaksTheQueue) {
    Queue& queue = make();
    driver_.set_descriptor(0, driver_.allocate(16), 16, QueueFake::kNext, 200);
    driver_.make_available(0);
    expect_broken(queue, "outside its table");
}

TEST_F(QueueTest, LoopBreaksTheQueue) {
    Queue& queue = make();
    driver_.set_descriptor(0, driver_.allocate(16), 16, QueueFake::kNext, 1);
    driver_.set_descriptor(1, driver_.allocate(16), 16, QueueFake::kNext, 0);
    driver_.make_available(0);
    expect_broken(queue, "loops");
}

TEST_F(QueueTest, LoopOfEmptyBuffersBreaksTheQueue) {
    Queue& queue = make();
    driver_.set_descriptor(3, 0, 0, QueueFake::kNext, 3);
    driver_.make_available(3);
    expect_broken(queue, "loops");
}

TEST_F(QueueTest, BufferOutsideOfRamBreaksTheQueue) {
    Queue& queue = make();
    driver_.add({{platform_.memory().size() - 8, 16, true}});
    expect_broken(queue, "outside of RAM");
}

TEST_F(QueueTest, BufferWhoseEndWrapsBreaksTheQueue) {
    Queue& queue = make();
    driver_.add({{~uint64_t{0} - 4, 16, true}});
    expect_broken(queue, "outside of RAM");
}

TEST_F(QueueTest, TooManyBytesBreakTheQueue) {
    PlatformFake large(64u << 20);
    QueueFake driver(large.memory(), 0, kRings, 8);
    auto queue = Queue::create(large.memory(), driver.config(), kFeatures, *this).value();
    driver.add({{0x200000, 12u << 20, true}, {0x200000, 5u << 20, true}});
    EXPECT_FALSE(queue->next_chain().has_value());
    ASSERT_EQ(reasons_.size(), 1u);
    EXPECT_NE(reasons_[0].find("16 MiB"), std::string::npos);
}

TEST_F(QueueTest, ReadableAfterWritableBreaksTheQueue) {
    Queue& queue = make();
    const uint64_t gpa = driver_.allocate(32);
    driver_.add({{gpa, 16, true}, {gpa + 16, 16, false}});
    expect_broken(queue, "follows a writable");
}

TEST_F(QueueTest, IndirectWithoutNegotiationBreaksTheQueue) {
    Queue& queue = make(virtio::kFeatureVersion1);
    driver_.add_indirect({{driver_.allocate(16), 16, true}});
    expect_broken(queue, "not negotiated");
}

TEST_F(QueueTest, NestedIndirectBreaksTheQueue) {
    Queue& queue = make();
    const uint64_t table = driver_.allocate(16);
    driver_.write_descriptor(table, table, 16, QueueFake::kIndirect, 0);
    driver_.set_descriptor(0, table, 16, QueueFake::kIndirect, 0);
    driver_.make_available(0);
    expect_broken(queue, "nested");
}

TEST_F(QueueTest, IndirectWithNextBreaksTheQueue) {
    Queue& queue = make();
    const uint64_t table = driver_.allocate(16);
    driver_.write_descriptor(table, driver_.allocate(16), 16, 0, 0);
    driver_.set_descriptor(0, table, 16, QueueFake::kIndirect | QueueFake::kNext, 1);
    driver_.make_available(0);
    expect_broken(queue, "next one");
}

TEST_F(QueueTest, IndirectTableOfOddSizeBreaksTheQueue) {
    for (const uint32_t size : {0u, 8u, 17u, 16u * 1025}) {
        reasons_.clear();
        QueueFake driver(platform_.memory(), 0, 0x300000, 8);
        auto queue = Queue::create(platform_.memory(), driver.config(), kFeatures, *this).value();
        driver.set_descriptor(0, driver.allocate(64), size, QueueFake::kIndirect, 0);
        driver.set_available_index(0);
        driver.make_available(0);
        EXPECT_FALSE(queue->next_chain().has_value());
        ASSERT_EQ(reasons_.size(), 1u) << size;
        EXPECT_NE(reasons_[0].find("wrong size"), std::string::npos);
    }
}

TEST_F(QueueTest, IndirectTableOutsideOfRamBreaksTheQueue) {
    Queue& queue = make();
    driver_.set_descriptor(0, platform_.memory().size() - 8, 16, QueueFake::kIndirect, 0);
    driver_.make_available(0);
    expect_broken(queue, "outside of RAM");
}

TEST_F(QueueTest, LoopInsideIndirectTableBreaksTheQueue) {
    Queue& queue = make();
    const uint64_t table = driver_.allocate(32);
    driver_.write_descriptor(table, driver_.allocate(16), 16, QueueFake::kNext, 1);
    driver_.write_descriptor(table + 16, driver_.allocate(16), 16, QueueFake::kNext, 0);
    driver_.set_descriptor(0, table, 32, QueueFake::kIndirect, 0);
    driver_.make_available(0);
    expect_broken(queue, "loops");
}

TEST_F(QueueTest, RepublishingBuffersInFlightBreaksTheQueue) {
    Queue& queue = make();
    std::vector<Chain> held;
    for (int i = 0; i < 8; ++i) {
        driver_.add({{driver_.allocate(16), 16, true}});
        held.push_back(std::move(*queue.next_chain()));
    }
    driver_.make_available(0);
    queue.begin_batch();
    EXPECT_FALSE(queue.next_chain().has_value());
    ASSERT_EQ(reasons_.size(), 1u);
    EXPECT_NE(reasons_[0].find("in flight"), std::string::npos);
}

TEST_F(QueueTest, HandsOutReadableThenWritable) {
    Queue& queue = make();
    const uint64_t request = driver_.allocate(bytes_of("request."));
    const uint64_t answer = driver_.allocate(32);
    const uint16_t head =
        driver_.add({{request, 8, false}, {answer, 6, true}, {answer + 6, 2, true}});
    auto chain = queue.next_chain();
    ASSERT_TRUE(chain.has_value());
    EXPECT_EQ(chain->head(), head);
    EXPECT_EQ(chain->readable().size(), 1u);
    EXPECT_EQ(chain->writable().size(), 2u);
    EXPECT_EQ(chain->readable_size(), 8u);
    EXPECT_EQ(chain->writable_size(), 8u);
    std::string text(6, '\0');
    EXPECT_EQ(chain->copy_out(2, std::as_writable_bytes(std::span(text))), 6u);
    EXPECT_EQ(text, "quest.");
    EXPECT_EQ(chain->copy_in(4, bytes_of("wxyz and more")), 4u);
    chain->add_used(8);
    chain.reset();
    EXPECT_EQ(driver_.used_index(), 0u);  // not before publish()
    queue.publish();
    EXPECT_EQ(driver_.used_index(), 1u);
    EXPECT_EQ(driver_.used(0).head, head);
    EXPECT_EQ(driver_.used(0).length, 8u);
    EXPECT_EQ(driver_.load<uint32_t>(answer + 4), 0x7a797877u);
}

// For a migration: the buffers as far as anybody wrote, the used element, and the index.
TEST_F(QueueTest, MarksWhatTheDeviceWrote) {
    Queue& queue = make();
    GuestMemory& memory = platform_.memory();
    const uint64_t page = PageBitmap::kPageSize;
    const uint64_t buffers = 0x400000 - 16 * page;
    const auto marked = [&](uint64_t gpa, uint64_t pages) {
        PageBitmap taken(memory.file_pages());
        memory.take_marks(taken);
        return taken.count(gpa / page, pages);
    };
    ASSERT_LE(buffers + 16 * page, memory.regions().front().size);
    ASSERT_TRUE(memory.start_marking().ok());
    const auto next = [&] {
        driver_.add(
            {{buffers, 64, false}, {buffers + page, static_cast<uint32_t>(8 * page), true}});
        return std::move(*queue.next_chain());
    };
    {
        Chain chain = next();
        marked(0, 1);
        EXPECT_EQ(chain.copy_in(page - 1, bytes_of("ab")), 2u);
        EXPECT_EQ(marked(buffers, 16), 2u);
        std::vector<iovec> vectors;
        chain.writable_vectors(4 * page, page + 1, vectors);
        EXPECT_EQ(marked(buffers, 16), 0u) << "nothing is there yet";
    }
    EXPECT_EQ(marked(buffers, 16), 6u) << "all before the end of what was lent";
    {
        Chain chain = next();
        chain.add_used(1);
    }
    PageBitmap taken(memory.file_pages());
    memory.take_marks(taken);
    EXPECT_EQ(taken.count(buffers / page, 16), 1u);
    EXPECT_TRUE(taken.test(driver_.config().used_gpa / page));
    queue.publish();
    EXPECT_EQ(marked(driver_.config().used_gpa, 1), 1u);
    queue.rearm();
    EXPECT_EQ(marked(driver_.config().used_gpa, 1), 1u);
    queue.put_back(next());
    EXPECT_EQ(marked(buffers, 16), 0u);
}

TEST_F(QueueTest, FollowsIndirectTablesAnywhere) {
    Queue& queue = make();
    const uint64_t data = driver_.allocate(64);
    const uint64_t table = driver_.allocate(64) + 3;  // not aligned
    driver_.write_descriptor(table, data, 10, QueueFake::kNext, 1);
    driver_.write_descriptor(table + 16, data + 32, 20, QueueFake::kWrite, 0);
    driver_.set_descriptor(5, table, 32, QueueFake::kIndirect, 0);
    driver_.make_available(5);
    auto chain = queue.next_chain();
    ASSERT_TRUE(chain.has_value());
    EXPECT_EQ(chain->readable_size(), 10u);
    EXPECT_EQ(chain->writable_size(), 20u);
}

TEST_F(QueueTest, VectorsCoverExactlyThePartAskedFor) {
    Queue& queue = make();
    const uint64_t gpa = driver_.allocate(64);
    driver_.add({{gpa, 16, false}, {gpa + 16, 16, false}, {gpa + 32, 16, false}});
    auto chain = queue.next_chain();
    std::vector<iovec> vectors;
    EXPECT_EQ(chain->readable_vectors(10, 20, vectors), 20u);
    ASSERT_EQ(vectors.size(), 2u);
    EXPECT_EQ(vectors[0].iov_len, 6u);
    EXPECT_EQ(vectors[1].iov_len, 14u);
    vectors.clear();
    EXPECT_EQ(chain->readable_vectors(40, 100, vectors), 8u);
    vectors.clear();
    EXPECT_EQ(chain->readable_vectors(48, 1, vectors), 0u);
    EXPECT_TRUE(vectors.empty());
}

TEST_F(QueueTest, OneInterruptPerBatch) {
    Queue& queue = make();
    for (int i = 0; i < 5; ++i) {
        driver_.add({{driver_.allocate(16), 16, true}});
    }
    queue.begin_batch();
    while (auto chain = queue.next_chain()) {
    }
    queue.publish();
    EXPECT_EQ(driver_.used_index(), 5u);
    EXPECT_EQ(interrupts_, 1);
    queue.publish();  // nothing new
    EXPECT_EQ(interrupts_, 1);
}

TEST_F(QueueTest, NoInterruptFlagIsObeyed) {
    Queue& queue = make();
    driver_.set_no_interrupt(true);
    driver_.add({{driver_.allocate(16), 16, true}});
    queue.next_chain().reset();
    queue.publish();
    EXPECT_EQ(interrupts_, 0);
}

TEST_F(QueueTest, EventIndexDecidesAboutInterrupts) {
    Queue& queue = make(kFeatures | virtio::kFeatureEventIndex);
    driver_.set_used_event(1);  // wants to hear of the second
    driver_.add({{driver_.allocate(16), 16, true}});
    queue.next_chain().reset();
    queue.publish();
    EXPECT_EQ(interrupts_, 0);
    driver_.add({{driver_.allocate(16), 16, true}});
    queue.begin_batch();
    queue.next_chain().reset();
    queue.publish();
    EXPECT_EQ(interrupts_, 1);
    driver_.add({{driver_.allocate(16), 16, true}});
    queue.begin_batch();
    queue.next_chain().reset();
    queue.publish();
    EXPECT_EQ(interrupts_, 1);  // the event is behind us
}

TEST_F(QueueTest, RearmTellsTheDriverWhereWeAre) {
    Queue& queue = make(kFeatures | virtio::kFeatureEventIndex);
    driver_.add({{driver_.allocate(16), 16, true}});
    queue.next_chain().reset();
    EXPECT_FALSE(queue.rearm());
    EXPECT_EQ(driver_.available_event(), 1u);
    driver_.add({{driver_.allocate(16), 16, true}});
    EXPECT_TRUE(queue.rearm());  // came before we slept
}

TEST_F(QueueTest, NotificationsAreOffDuringABatch) {
    Queue& queue = make();
    queue.begin_batch();
    EXPECT_FALSE(driver_.notifications_wanted());
    EXPECT_FALSE(queue.rearm());
    EXPECT_TRUE(driver_.notifications_wanted());
}

TEST_F(QueueTest, ABatchIsBounded) {
    Queue& queue = make();
    queue.begin_batch();
    for (int i = 0; i < 8; ++i) {
        driver_.add({{driver_.allocate(16), 16, true}});
        EXPECT_TRUE(queue.next_chain().has_value());
    }
    driver_.add({{driver_.allocate(16), 16, true}});
    EXPECT_FALSE(queue.next_chain().has_value());
    EXPECT_TRUE(queue.ran_dry());
    EXPECT_TRUE(queue.rearm());
    queue.begin_batch();
    EXPECT_TRUE(queue.next_chain().has_value());
}

TEST_F(QueueTest, IndexesWrapAround) {
    Queue& queue = make();
    for (int i = 0; i < 70000; ++i) {
        driver_.add({{0x200000, 16, true}});
        queue.begin_batch();
        auto chain = queue.next_chain();
        ASSERT_TRUE(chain.has_value()) << i;
        chain.reset();
        queue.publish();
    }
    EXPECT_EQ(driver_.used_index(), static_cast<uint16_t>(70000));
    EXPECT_EQ(queue.chain_count(), 70000u);
}

TEST_F(QueueTest, PutBackIsAsIfNeverTaken) {
    Queue& queue = make();
    const uint16_t first = driver_.add({{driver_.allocate(16), 16, true}});
    const uint16_t second = driver_.add({{driver_.allocate(16), 16, true}});
    auto one = queue.next_chain();
    auto two = queue.next_chain();
    queue.put_back(std::move(*two));
    queue.put_back(std::move(*one));
    EXPECT_EQ(queue.in_flight(), 0u);
    queue.begin_batch();
    EXPECT_EQ(queue.next_chain()->head(), first);
    EXPECT_EQ(queue.next_chain()->head(), second);
}

TEST_F(QueueTest, OverlappingBuffersAreTheDriversOwnBusiness) {
    Queue& queue = make();
    const uint64_t gpa = driver_.allocate(64);
    driver_.add({{gpa, 32, false}, {gpa + 16, 32, true}});
    auto chain = queue.next_chain();
    ASSERT_TRUE(chain.has_value());
    EXPECT_EQ(chain->readable_size() + chain->writable_size(), 64u);
}

// A guest that rewrites its rings while the device walks them: whatever we see, we must stay inside
// RAM and inside our limits. Run under ASan and TSan.
TEST_F(QueueTest, SurvivesAGuestThatRewritesItsRings) {
    std::atomic<bool> stop{false};
    const auto span = platform_.memory().host_span(kRings, 0x10000).value();
    std::thread mutator([&] {
        uint64_t state = 88172645463325252ull;
        while (!stop.load(std::memory_order_relaxed)) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Descriptors and the available ring, but not the used ring: that one is ours.
            const uint64_t at =
                (state >> 8) % 2 == 0 ? (state >> 16) % 128 : 0x8000 + (state >> 16) % 24;
            auto* word = reinterpret_cast<uint16_t*>(span.data() + (at & ~uint64_t{1}));
            const auto value =
                static_cast<uint16_t>((state >> 4) % 4 == 0 ? state >> 40 : (state >> 40) % 16);
            std::atomic_ref<uint16_t>(*word).store(value, std::memory_order_relaxed);
        }
    });
    uint64_t handed_out = 0;
    uint64_t broken = 0;
    for (int round = 0; round < 20000; ++round) {
        auto queue = Queue::create(platform_.memory(), driver_.config(), kFeatures, *this).value();
        queue->begin_batch();
        while (auto chain = queue->next_chain()) {
            ++handed_out;
            uint64_t total = 0;
            for (const Descriptor& descriptor : chain->descriptors()) {
                total += descriptor.bytes.size();
                ASSERT_TRUE(!descriptor.bytes.empty());
            }
            ASSERT_LE(total, Queue::kChainBytesMax);
        }
        queue->publish();
        queue->rearm();
        broken += queue->broken() ? 1 : 0;
        reasons_.clear();
    }
    stop = true;
    mutator.join();
    EXPECT_GT(broken, 0u);
    EXPECT_GT(handed_out + broken, 100u);
}

}  // namespace
}  // namespace kumoi::hypervisor
