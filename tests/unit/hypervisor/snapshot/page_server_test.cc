// PageServer and SaveJob over real userfaultfds, with a BlockSource and a guest made of threads.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <functional>
#include <latch>
#include <mutex>
#include <thread>
#include <utility>

#include <fcntl.h>

#include "base/file.h"
#include "hypervisor/snapshot/page_server.h"
#include "hypervisor/snapshot/save_job.h"
#include "hypervisor/snapshot/snapshot_reader.h"

using namespace kumoi;
using namespace kumoi::hypervisor;
using namespace kumoi::hypervisor::snapshot;

namespace {

constexpr uint64_t kMemory = 64 * kBlockSize;

uint64_t word_of(uint64_t page) {
    return page % 3 == 0 ? 0 : page * 0x9e3779b97f4a7c15ull;
}

// Every third page is zero, every other holds its number.
class FakeSource final : public BlockSource {
public:
    uint64_t memory_size() const override { return kMemory; }
    Result<uint16_t> read_block(uint64_t block, std::span<std::byte> out) override {
        if (auto meanwhile = std::exchange(fails_after, {})) {
            meanwhile();
            return Error::io("the old connection is gone, as the test wants");
        }
        if (broken) {
            return Error::io("the disk is gone, as the test wants");
        }
        uint16_t present = 0;
        std::memset(out.data(), 0, out.size());
        for (unsigned page = 0; page < kBlockPages; ++page) {
            const uint64_t word = word_of(block * kBlockPages + page);
            std::memcpy(out.data() + page * kPageSize, &word, sizeof word);
            present |= static_cast<uint16_t>(word != 0 ? 1u << page : 0u);
        }
        ++reads;
        return present;
    }
    static std::atomic<bool> broken;
    static std::atomic<int> reads;
    static std::function<void()> fails_after;  // of the next read
};
std::function<void()> FakeSource::fails_after;
std::atomic<bool> FakeSource::broken{false};
std::atomic<int> FakeSource::reads{0};

class OnDemand : public testing::Test {
protected:
    void SetUp() override {
        FakeSource::broken = false;
        FakeSource::reads = 0;
        FakeSource::fails_after = {};
        if (!Userfault::open(direct_files(), Userfault::Mode::Missing)) {
            GTEST_SKIP() << "no userfaultfd here";
        }
    }
    std::unique_ptr<PageServer> start(PageServer::Options options, PageServer::Events events = {}) {
        return start(clock_, std::move(options), std::move(events));
    }
    std::unique_ptr<PageServer> start(const Clock& clock, PageServer::Options options,
                                      PageServer::Events events) {
        auto server = PageServer::start(direct_files(), memory_, std::make_unique<FakeSource>(),
                                        clock, std::move(options), std::move(events));
        EXPECT_TRUE(server.ok()) << server.error().text();
        return std::move(server).value();
    }
    uint64_t read_page(uint64_t page) {
        // Volatile: read also where nobody looks at the answer.
        const std::byte* at = memory_.regions().front().host + page * kPageSize;
        return *reinterpret_cast<const volatile uint64_t*>(at);
    }
    GuestMemory memory_ = GuestMemory::create(kMemory).value();
    SystemClock clock_;
};

}  // namespace

TEST_F(OnDemand, PagesComeWhenTheyAreTouched) {
    auto server = start({.quiet_ms = 60'000});
    for (const uint64_t page : {1000u, 0u, 17u, 18u, 1u}) {
        EXPECT_EQ(read_page(page), word_of(page)) << page;
    }
    EXPECT_LE(FakeSource::reads, 4);  // not more than was touched
    EXPECT_FALSE(server->finished());
    EXPECT_GE(server->statistics().faults, 3u);
}

TEST_F(OnDemand, TheFillerBringsTheRestAndThenNothingIsWatched) {
    std::latch finished(1);
    auto server = start({.quiet_ms = 0}, {.finished = [&] { finished.count_down(); }});
    finished.wait();
    EXPECT_TRUE(server->finished());
    EXPECT_EQ(FakeSource::reads, 64);
    EXPECT_LT(memory_.resident_bytes(), kMemory);  // zero pages are holes still
    server.reset();
    for (uint64_t page = 0; page < kMemory / kPageSize; ++page) {
        ASSERT_EQ(read_page(page), word_of(page)) << page;
    }
}

TEST_F(OnDemand, ManyThreadsTouchWhileItFills) {
    std::latch finished(1);
    auto server = start({.quiet_ms = 1}, {.finished = [&] { finished.count_down(); }});
    std::atomic<int> wrong{0};
    std::vector<std::thread> guests;
    for (uint64_t seed = 1; seed <= 4; ++seed) {
        guests.emplace_back([&, seed] {
            for (uint64_t i = 0; i < 4096; ++i) {
                const uint64_t page = (i * 769 + seed * 101) % (kMemory / kPageSize);
                wrong += read_page(page) != word_of(page) ? 1 : 0;
            }
        });
    }
    for (std::thread& guest : guests) {
        guest.join();
    }
    finished.wait();
    EXPECT_EQ(wrong, 0);
}

TEST_F(OnDemand, WorkingSetIsRecordedAndBroughtFirst) {
    std::latch recorded(1);
    std::vector<uint32_t> blocks;
    {
        ManualClock clock;
        auto server = start(clock, {.quiet_ms = 30, .fill = false},
                            {.recorded = [&](std::vector<uint32_t> seen) {
                                blocks = std::move(seen);
                                recorded.count_down();
                            }});
        read_page(5 * kBlockPages + 1);
        read_page(2 * kBlockPages + 1);
        clock.advance(30 * kNanosPerMilli);
        recorded.wait();
    }
    EXPECT_EQ(blocks, (std::vector<uint32_t>{5, 2}));
    memory_ = GuestMemory::create(kMemory).value();
    FakeSource::reads = 0;
    auto server = start({.working_set = blocks, .quiet_ms = 60'000});
    while (server->statistics().prefetched < 2) {
        std::this_thread::yield();
    }
    EXPECT_EQ(server->statistics().blocks_done, 2u);
    EXPECT_EQ(read_page(5 * kBlockPages + 2), word_of(5 * kBlockPages + 2));
    EXPECT_EQ(server->statistics().faults, 0u);
}

TEST_F(OnDemand, AMissingSourceMakesTheGuestWaitAndARetryLetsItGoOn) {
    FakeSource::broken = true;
    std::latch failed(1);
    auto server = start({.quiet_ms = 60'000}, {.failed = [&](const Error& error) {
                            EXPECT_EQ(error.code, ErrorCode::Io);
                            failed.count_down();
                        }});
    std::atomic<uint64_t> got{0};
    std::thread guest([&] { got = read_page(100); });
    failed.wait();
    EXPECT_EQ(got, 0u);
    FakeSource::broken = false;
    server->retry();
    guest.join();
    EXPECT_EQ(got, word_of(100));
}

// A connection breaks, and a new one is there before whoever asked on the old one knows.
TEST_F(OnDemand, WhatWasAskedForBeforeARetryIsAskedForAgain) {
    PageServer* server = nullptr;
    std::latch made(1);
    FakeSource::fails_after = [&] {
        made.wait();
        server->retry();
    };
    std::atomic<bool> failed{false};
    auto owner = start({.quiet_ms = 60'000}, {.failed = [&](const Error&) { failed = true; }});
    std::atomic<uint64_t> got{0};
    std::thread guest([&] { got = read_page(100); });
    server = owner.get();
    made.count_down();
    while (got == 0 && !failed) {
        std::this_thread::yield();
    }
    EXPECT_FALSE(failed);
    owner.reset();  // lets it go in any case
    guest.join();
}

TEST_F(OnDemand, DestroyingLetsWaitersGo) {
    FakeSource::broken = true;
    std::latch failed(1);
    auto server =
        start({.quiet_ms = 60'000}, {.failed = [&](const Error&) { failed.count_down(); }});
    std::thread guest([&] { read_page(100); });
    failed.wait();
    server.reset();
    guest.join();
}

// --- Saving ---

namespace {

class Saving : public testing::TestWithParam<SaveJob::Mode> {
protected:
    void SetUp() override {
        if (!Userfault::open(direct_files(), Userfault::Mode::WriteProtect)) {
            GTEST_SKIP() << "no write-protecting userfaultfd here";
        }
        char name[] = "/tmp/kumoi-save-XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        folder_ = name;
        for (uint64_t page = 0; page < kPages; page += 2) {  // every other page stays a hole
            store(page, page + 1);
        }
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    void store(uint64_t page, uint64_t value) {
        std::atomic_ref<uint64_t>(
            *reinterpret_cast<uint64_t*>(memory_.regions().front().host + page * kPageSize))
            .store(value);
    }
    std::unique_ptr<SaveJob> job(size_t copies_max = 8) {
        SnapshotOutput output;
        output.partial = folder_ + "/file.part";
        output.path = folder_ + "/file";
        output.fd = open_file(output.partial, O_RDWR | O_CREAT | O_TRUNC).value();
        auto writer =
            SnapshotWriter::create(std::move(output), memory_.size(), Compression::None).value();
        auto made = SaveJob::create(direct_files(), memory_, std::move(writer), clock_,
                                    {.mode = GetParam(), .threads = 2, .copies_max = copies_max});
        EXPECT_TRUE(made.ok());
        return std::move(made).value();
    }
    void expect_saved() {
        auto reader =
            SnapshotReader::open(open_file(folder_ + "/file", O_RDONLY).value(), "file").value();
        std::vector<std::byte> block(kBlockSize);
        for (uint64_t i = 0; i < reader->block_count(); ++i) {
            ASSERT_TRUE(reader->read_block(i, block).ok());
            for (unsigned page = 0; page < kBlockPages; ++page) {
                uint64_t word = 0;
                std::memcpy(&word, block.data() + page * kPageSize, sizeof word);
                const uint64_t number = i * kBlockPages + page;
                ASSERT_EQ(word, number % 2 == 0 ? number + 1 : 0) << number;
            }
        }
    }
    static constexpr uint64_t kMib = 16;
    static constexpr uint64_t kPages = kMib * 256;
    GuestMemory memory_ = GuestMemory::create(kMib << 20).value();
    SystemClock clock_;
    std::string folder_;
};

}  // namespace

TEST_P(Saving, TheFileHoldsTheMomentOfPrepare) {
    auto running = job();
    ASSERT_TRUE(running->arm().ok());
    for (uint64_t page = 0; page < kPages; page += 34) {  // the last moment before it stops
        store(page, 0);
        store(page, page + 1);
    }
    ASSERT_TRUE(running->prepare().ok());
    std::atomic<bool> stop{false};
    std::vector<std::thread> guests;
    if (GetParam() == SaveJob::Mode::Live) {  // writes everywhere, holes too, all the time
        for (uint64_t seed = 1; seed <= 2; ++seed) {
            guests.emplace_back([&, seed] {
                for (uint64_t i = 0; !stop; ++i) {
                    store((i * 769 + seed * 11) % kPages, ~i);
                }
            });
        }
    }
    std::latch done(1);
    Result<void> result;
    ASSERT_TRUE(running
                    ->start({"kumoi-1", "", "{}", "", "", 0}, {},
                            [&](Result<void> answer) {
                                result = std::move(answer);
                                done.count_down();
                            })
                    .ok());
    done.wait();
    stop = true;
    for (std::thread& guest : guests) {
        guest.join();
    }
    ASSERT_TRUE(result.ok()) << result.error().text();
    EXPECT_EQ(running->statistics().blocks_done, running->statistics().blocks);
    expect_saved();
}

TEST_P(Saving, CancelLeavesNoFileAndNobodyWaiting) {
    auto running = job();
    ASSERT_TRUE(running->arm().ok());
    ASSERT_TRUE(running->prepare().ok());
    std::latch done(1);
    running->cancel();
    ASSERT_TRUE(running
                    ->start({}, {},
                            [&](const Result<void>& answer) {
                                EXPECT_EQ(answer.error().code, ErrorCode::Cancelled);
                                done.count_down();
                            })
                    .ok());
    done.wait();
    running.reset();
    EXPECT_TRUE(std::filesystem::is_empty(folder_));
    store(3, 3);
}

INSTANTIATE_TEST_SUITE_P(Modes, Saving,
                         testing::Values(SaveJob::Mode::Stopped, SaveJob::Mode::Live));
