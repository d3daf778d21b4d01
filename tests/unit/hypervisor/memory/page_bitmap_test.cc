#include "hypervisor/memory/page_bitmap.h"

#include <random>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {
namespace {

std::vector<PageRun> runs_of(const PageBitmap& bitmap) {
    std::vector<PageRun> runs;
    bitmap.for_each_run([&](const PageRun& run) { runs.push_back(run); });
    return runs;
}

TEST(PageBitmap, GivesRunsAcrossWords) {
    PageBitmap bitmap(200);
    EXPECT_TRUE(bitmap.empty());
    EXPECT_TRUE(runs_of(bitmap).empty());
    bitmap.set(60, 80);
    bitmap.set(199);
    bitmap.set(198, 1000);  // what is behind the end is no page
    bitmap.set(200);
    bitmap.set(UINT64_MAX, 2);
    EXPECT_EQ(runs_of(bitmap), (std::vector<PageRun>{{60, 80}, {198, 2}}));
    EXPECT_EQ(bitmap.count(), 82u);
    EXPECT_EQ(bitmap.count(0, 61), 1u);
    EXPECT_EQ(bitmap.next_run(61, 10), (PageRun{61, 10}));
    EXPECT_EQ(bitmap.next_run(140), (PageRun{198, 2}));
    EXPECT_EQ(bitmap.next_run(140, UINT64_MAX, 199), (PageRun{198, 1}));
    EXPECT_FALSE(bitmap.next_run(140, UINT64_MAX, 198));
    EXPECT_EQ(bitmap.next_run(61, UINT64_MAX, 64), (PageRun{61, 3}));
    bitmap.set_all();
    EXPECT_EQ(runs_of(bitmap), (std::vector<PageRun>{{0, 200}}));
    bitmap.clear(64, 64);
    EXPECT_EQ(runs_of(bitmap), (std::vector<PageRun>{{0, 64}, {128, 72}}));
    bitmap.clear_all();
    EXPECT_TRUE(bitmap.empty());
}

// Against a set of numbers, with sizes and places that do not fit words.
TEST(PageBitmap, IsASetOfNumbers) {
    std::mt19937_64 random(1);
    for (int round = 0; round < 200; ++round) {
        const uint64_t pages = 1 + random() % 300;
        PageBitmap bitmap(pages);
        std::set<uint64_t> model;
        for (int step = 0; step < 10; ++step) {
            const uint64_t first = random() % pages;
            const uint64_t count = random() % 130;
            const bool set = random() % 3 != 0;
            set ? bitmap.set(first, count) : bitmap.clear(first, count);
            for (uint64_t page = first; page < std::min(pages, first + count); ++page) {
                set ? (void)model.insert(page) : (void)model.erase(page);
            }
        }
        const uint64_t first = random() % pages;
        const uint64_t count = random() % (pages - first + 1);
        std::vector<uint64_t> words((count + 63) / 64);
        for (uint64_t& word : words) {
            word = random();
        }
        bitmap.merge_words(first, words, count);
        for (uint64_t i = 0; i < count; ++i) {
            if ((words[i / 64] >> (i % 64) & 1) != 0) {
                model.insert(first + i);
            }
        }
        std::set<uint64_t> got;
        bitmap.for_each_run([&](const PageRun& run) {
            ASSERT_TRUE(!got.contains(run.first - 1) ||
                        run.first == 0);  // runs are as long as can be
            for (uint64_t i = 0; i < run.count; ++i) {
                got.insert(run.first + i);
            }
        });
        ASSERT_EQ(got, model);
        ASSERT_EQ(bitmap.count(), model.size());
    }
}

TEST(PageBitmap, MergesAndSubtracts) {
    PageBitmap a(100);
    PageBitmap b(100);
    a.set(0, 10);
    b.set(5, 10);
    a.merge(b);
    EXPECT_EQ(a.count(), 15u);
    a.subtract(b);
    EXPECT_EQ(runs_of(a), (std::vector<PageRun>{{0, 5}}));
}

// However the taking and the marking meet, each mark is taken once or is still there.
TEST(PageMarks, LosesNoneBetweenThreads) {
    constexpr uint64_t kPages = 1000;
    PageMarks marks(kPages);
    std::atomic<bool> done{false};
    std::thread writer([&] {
        for (uint64_t page = 0; page < kPages; ++page) {
            marks.mark(page, 1);
        }
        done = true;
    });
    PageBitmap all(kPages);
    while (!done) {
        marks.take_into(all);
    }
    writer.join();
    marks.take_into(all);
    EXPECT_EQ(all.count(), kPages);
    PageBitmap more(kPages);
    marks.take_into(more);
    EXPECT_TRUE(more.empty());
}

TEST(GuestMemoryMarks, EveryWayOfWritingIsMarkedWhileSomebodyAsks) {
    GuestMemory memory = GuestMemory::create(1u << 20).value();
    PageBitmap taken(memory.file_pages());
    ASSERT_TRUE(memory.store(0x1000, uint32_t{1}).ok());
    memory.take_marks(taken);
    EXPECT_TRUE(taken.empty());
    ASSERT_TRUE(memory.start_marking().ok());
    ASSERT_TRUE(memory.store(0x2ffe, uint32_t{1}).ok());  // two pages
    ASSERT_TRUE(memory.fill(0x5000, 0x1001, std::byte{1}).ok());
    ASSERT_TRUE(memory.discard(0x8800, 0x2000).ok());  // whole pages only
    const auto span = memory.host_span(0x20000, 0x10000).value();
    memory.mark_written(span.subspan(0xfff, 1));
    memory.mark_written(span.first(0));
    memory.mark_written(std::span(reinterpret_cast<const std::byte*>(&memory), 1));  // not RAM
    memory.take_marks(taken);
    EXPECT_EQ(runs_of(taken), (std::vector<PageRun>{{2, 2}, {5, 2}, {9, 1}, {32, 1}}));
    ASSERT_TRUE(memory.clear().ok());
    memory.take_marks(taken);
    EXPECT_EQ(taken.count(), memory.file_pages());
    memory.stop_marking();
    ASSERT_TRUE(memory.store(0x2000, uint32_t{1}).ok());
    taken.clear_all();
    memory.take_marks(taken);
    EXPECT_TRUE(taken.empty());
}

}  // namespace
}  // namespace kumoi::hypervisor
