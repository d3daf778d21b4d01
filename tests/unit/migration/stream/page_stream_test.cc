#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <future>
#include <mutex>

#include "hypervisor/memory/page_bitmap.h"
#include "migration/stream/page_receiver.h"
#include "migration/stream/page_sender.h"

namespace kumoi::migration {
namespace {

using hypervisor::PageBitmap;

constexpr uint64_t kPages = 4000;  // not a whole number of chunks

struct Ends {
    std::vector<std::unique_ptr<StreamSocket>> ours, theirs;
};

Ends connect(size_t count) {
    Ends ends;
    for (size_t i = 0; i < count; ++i) {
        int fds[2];
        EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        ends.ours.push_back(StreamSocket::adopt(UniqueFd(fds[0])).value());
        ends.theirs.push_back(StreamSocket::adopt(UniqueFd(fds[1])).value());
    }
    return ends;
}

// Guest memory: a memfd, as the machine has it.
struct Memory {
    UniqueFd fd;
    Mapping mapping;
    static Memory create() {
        Memory memory{UniqueFd(memfd_create("test", MFD_CLOEXEC)), {}};
        EXPECT_EQ(ftruncate(memory.fd.get(), kPages * kPage), 0);
        memory.mapping =
            Mapping::map(memory.fd.get(), kPages * kPage, PROT_READ | PROT_WRITE, MAP_SHARED)
                .value();
        return memory;
    }
    std::byte* page(uint64_t number) const { return mapping.data() + number * kPage; }
    void fill(uint64_t number, uint8_t seed) const {
        for (uint64_t i = 0; i < kPage; ++i) {
            page(number)[i] = static_cast<std::byte>(seed + i % 7);
        }
    }
};

class PageStreamTest : public testing::TestWithParam<size_t> {
protected:
    void connect_all(PageSender::Options options = {}) {
        Ends ends = connect(GetParam());
        PageReceiver::Events events;
        events.round_done = [this](uint32_t round) {
            const std::lock_guard lock(mutex_);
            rounds_done_ = round + 1;
            changed_.notify_all();
        };
        events.failed = [this](const Error& error) {
            const std::lock_guard lock(mutex_);
            error_ = error;
            changed_.notify_all();
        };
        receiver_ = std::make_unique<PageReceiver>(std::move(ends.theirs), target_.mapping.bytes(),
                                                   std::move(events));
        PageSender::Memory memory{source_.mapping.bytes(), source_.fd.get(),
                                  [this](uint64_t first, uint64_t count) -> Result<void> {
                                      const std::lock_guard lock(mutex_);
                                      rearmed_.set(first, count);
                                      return {};
                                  },
                                  &free_};
        sender_ =
            std::make_unique<PageSender>(std::move(ends.ours), std::move(memory), clock_, options);
    }
    void wait_round(uint32_t round) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return rounds_done_ > round || error_; });
        ASSERT_FALSE(error_) << error_->text();
    }
    bool equal() const {
        return std::memcmp(source_.mapping.data(), target_.mapping.data(), kPages * kPage) == 0;
    }

    SystemClock clock_;
    Memory source_ = Memory::create();
    Memory target_ = Memory::create();
    PageBitmap rearmed_{kPages};
    hypervisor::FreePages free_{kPages};
    std::mutex mutex_;
    std::condition_variable changed_;
    uint32_t rounds_done_ = 0;
    std::optional<Error> error_;
    std::unique_ptr<PageReceiver> receiver_;
    std::unique_ptr<PageSender> sender_;
};

TEST_P(PageStreamTest, BringsPagesAndLeavesHolesAlone) {
    for (uint64_t page = 0; page < kPages; page += 5) {
        source_.fill(page, static_cast<uint8_t>(page));
    }
    source_.page(1)[17] = std::byte{0};  // there, and zero
    connect_all();
    PageBitmap all(kPages);
    all.set_all();
    ASSERT_TRUE(sender_->send_round(0, all, PageSender::Holes::Skip).ok());
    wait_round(0);
    EXPECT_TRUE(equal());
    EXPECT_EQ(rearmed_.count(), kPages);  // also what is a hole: else it is told of for ever
    EXPECT_EQ(sender_->figures().pages, kPages / 5);
    EXPECT_EQ(sender_->figures().zero_pages, 1u);
    EXPECT_EQ(receiver_->pages(), kPages / 5);
}

TEST_P(PageStreamTest, ReadingSkipsHolesWithoutFillingThem) {
    source_.fill(100, 1);
    connect_all();
    PageBitmap all(kPages);
    all.set_all();
    ASSERT_TRUE(sender_->send_round(0, all, PageSender::Holes::Skip).ok());
    wait_round(0);
    struct stat status {};
    ASSERT_EQ(fstat(source_.fd.get(), &status), 0);
    EXPECT_EQ(status.st_blocks * 512, static_cast<blkcnt_t>(kPage));
    ASSERT_EQ(fstat(target_.fd.get(), &status), 0);
    EXPECT_EQ(status.st_blocks * 512, static_cast<blkcnt_t>(kPage));
}

TEST_P(PageStreamTest, OnlyPagesOfTheRoundAreRearmed) {
    connect_all();
    PageBitmap some(kPages);
    some.set(3);
    some.set(62, 5);
    some.set(511, 130);
    some.set(kPages - 1);
    ASSERT_TRUE(sender_->send_round(0, some).ok());
    wait_round(0);
    EXPECT_TRUE(std::ranges::equal(rearmed_.words(), some.words()));
}

TEST_P(PageStreamTest, FreePagesAreNeitherSentNorRearmedInTheFirstRound) {
    for (uint64_t page = 0; page < kPages; page += 2) {
        source_.fill(page, 1);
    }
    free_.mark(10, 100);
    free_.mark(510, 1500);  // whole chunks too
    connect_all();
    PageBitmap all(kPages);
    all.set_all();
    ASSERT_TRUE(sender_->send_round(0, all, PageSender::Holes::Skip).ok());
    wait_round(0);
    EXPECT_EQ(sender_->figures().free_pages, 800u);
    EXPECT_EQ(receiver_->pages(), kPages / 2 - 800);
    for (const uint64_t page : {9u, 10u, 109u, 110u, 509u, 510u, 2009u, 2010u}) {
        const bool free = (page >= 10 && page < 110) || (page >= 510 && page < 2010);
        EXPECT_EQ(rearmed_.test(page), !free) << page;
        EXPECT_EQ(target_.page(page)[0] != std::byte{0}, !free && page % 2 == 0) << page;
    }
    ASSERT_TRUE(sender_->send_round(1, all, PageSender::Holes::Read).ok());
    wait_round(1);
    EXPECT_TRUE(equal());
}

TEST_P(PageStreamTest, APageThatBecameZeroIsZeroThereToo) {
    source_.fill(7, 1);
    connect_all();
    PageBitmap some(kPages);
    some.set(7);
    ASSERT_TRUE(sender_->send_round(0, some).ok());
    std::memset(source_.page(7), 0, kPage);
    ASSERT_TRUE(sender_->send_round(1, some).ok());
    wait_round(1);
    EXPECT_TRUE(equal());
}

TEST_P(PageStreamTest, TheLastRoundWins) {
    connect_all();
    PageBitmap all(kPages);
    all.set_all();
    for (uint32_t round = 0; round < 20; ++round) {
        for (uint64_t page = 0; page < kPages; page += 3) {
            source_.fill(page, static_cast<uint8_t>(page + round));
        }
        ASSERT_TRUE(sender_->send_round(round, all).ok());
    }
    wait_round(19);
    EXPECT_TRUE(equal());
}

TEST_P(PageStreamTest, CompressedPagesArriveAndTakeLess) {
    for (uint64_t page = 0; page < kPages; ++page) {
        source_.fill(page, static_cast<uint8_t>(page));
    }
    connect_all({.compress = true, .judge = false});
    PageBitmap all(kPages);
    all.set_all();
    ASSERT_TRUE(sender_->send_round(0, all).ok());
    wait_round(0);
    EXPECT_TRUE(equal());
    EXPECT_LT(sender_->figures().bytes, kPages * kPage / 10);
}

// Four rounds of pages that change by a word; then one of pages that change wholly.
TEST_P(PageStreamTest, PagesThatAreSentAgainCostWhatHasChanged) {
    for (uint64_t page = 0; page < kPages; ++page) {
        source_.fill(page, static_cast<uint8_t>(page));
    }
    connect_all({.compress = true, .delta = true, .judge = false});
    sender_->allow_delta();
    PageBitmap all(kPages);
    all.set_all();
    ASSERT_TRUE(sender_->send_round(0, all, PageSender::Holes::Skip).ok());
    PageBitmap some(kPages);
    some.set(100, 400);  // the cache has an eighth of all pages
    ASSERT_TRUE(sender_->send_round(1, some).ok());
    EXPECT_EQ(sender_->figures().delta_pages, 0u);
    for (uint32_t round = 2; round < 5; ++round) {
        for (uint64_t page = 100; page < 500; page += 2) {
            source_.page(page)[round * 8] ^= std::byte{0x80};
        }
        ASSERT_TRUE(sender_->send_round(round, some).ok());
    }
    std::memset(source_.page(101), 0, kPage);
    source_.fill(102, 200);
    ASSERT_TRUE(sender_->send_round(5, some).ok());
    source_.fill(101, 7);  // after it was zero
    ASSERT_TRUE(sender_->send_round(6, some).ok());
    wait_round(6);
    EXPECT_TRUE(equal());
    EXPECT_EQ(sender_->figures().delta_pages, 3u * 200);
    EXPECT_EQ(sender_->figures().same_pages, 3u * 200 + 398 + 399);
}

TEST_P(PageStreamTest, DeltasAreNotSentToWhoDoesNotTakeThem) {
    source_.fill(7, 1);
    connect_all({.delta = true});
    PageBitmap some(kPages);
    some.set(7);
    for (uint32_t round = 0; round < 4; ++round) {
        ASSERT_TRUE(sender_->send_round(round, some).ok());
    }
    wait_round(3);
    EXPECT_EQ(sender_->figures().delta_pages + sender_->figures().same_pages, 0u);
    EXPECT_EQ(receiver_->pages(), 4u);
}

TEST_P(PageStreamTest, StoppingEndsASenderWhoseReceiverDoesNotRead) {
    Ends ends = connect(GetParam());
    for (uint64_t page = 0; page < kPages; ++page) {
        source_.fill(page, 1);
    }
    PageSender sender(std::move(ends.ours),
                      {source_.mapping.bytes(), source_.fd.get(), {}, nullptr}, clock_, {});
    PageBitmap all(kPages);
    all.set_all();
    auto sent = std::async(std::launch::async, [&] { return sender.send_round(0, all); });
    std::byte first{};
    ASSERT_TRUE(ends.theirs.front()->receive(std::span(&first, 1)).ok());  // it has begun
    sender.stop();
    EXPECT_EQ(sent.get().error().code, ErrorCode::Cancelled);
}

TEST_P(PageStreamTest, ABrokenConnectionIsAnErrorOnBothSides) {
    source_.fill(0, 1);
    connect_all();
    PageBitmap some(kPages);
    some.set(0);
    ASSERT_TRUE(sender_->send_round(0, some).ok());
    wait_round(0);
    sender_->stop();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return error_.has_value(); });
    EXPECT_EQ(error_->code, ErrorCode::Unavailable);
}

INSTANTIATE_TEST_SUITE_P(Streams, PageStreamTest, testing::Values(1, 2, 4));

TEST(PageFrame, RefusesWhatIsOutsideOfMemory) {
    std::vector<std::byte> bytes;
    encode_runs(std::vector<PageRun>{{.first = 99, .count = 2}}, bytes);
    EXPECT_EQ(decode_runs(bytes, 100).error().code, ErrorCode::Corrupt);
    EXPECT_TRUE(decode_runs(bytes, 101).ok());
    encode_runs(std::vector<PageRun>{{.first = UINT64_MAX, .count = 2}}, bytes);
    EXPECT_EQ(decode_runs(bytes, 101).error().code, ErrorCode::Corrupt);
    encode_runs(std::vector<PageRun>{{.first = 0, .count = kFramePagesMax + 1}}, bytes);
    EXPECT_EQ(decode_runs(bytes, 1 << 20).error().code, ErrorCode::Corrupt);
}

TEST(PageFrame, ADamagedHeaderIsNoticed) {
    FrameHeader header;
    header.round = 3;
    auto bytes = header.encode();
    EXPECT_EQ(FrameHeader::decode(bytes).value().round, 3u);
    for (size_t i = 0; i < bytes.size(); ++i) {
        auto damaged = bytes;
        damaged[i] ^= std::byte{0x10};
        EXPECT_FALSE(FrameHeader::decode(damaged).ok()) << i;
    }
}

TEST(Pacer, SpreadsBytesOverTime) {
    Pacer pacer(1'000'000);
    EXPECT_EQ(pacer.book(100'000, 1'000'000'000), 0);
    EXPECT_NEAR(static_cast<double>(pacer.book(100'000, 1'000'000'000)), 90e6, 1e6);
    EXPECT_NEAR(static_cast<double>(pacer.book(100'000, 1'100'000'000)), 90e6, 1e6);
    Pacer unlimited(0);
    EXPECT_EQ(unlimited.book(100'000'000, 1'100'000'000), 0);
}

}  // namespace
}  // namespace kumoi::migration
