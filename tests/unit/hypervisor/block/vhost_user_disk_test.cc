#include "hypervisor/block/vhost_user_disk.h"

#include <cerrno>
#include <cstring>
#include <deque>

#include <gtest/gtest.h>

#include "hypervisor/memory/guest_memory.h"
#include "tests/support/vhost_user_backend_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr size_t kDiskSize = 1 << 20;

struct ClientFake final : DiskClient {
    void disk_completed(uint32_t token, int result) override { results[token] = result; }
    void disk_batch_done() override {}
    std::map<uint32_t, int> results;
};

class VhostUserDiskTest : public ::testing::Test {
protected:
    VhostUserDiskTest() { config(kDiskSize / 512); }
    ~VhostUserDiskTest() override { queue_.reset(); }

    void config(uint64_t sectors) {
        virtio_block::Config config{};
        config.capacity = sectors;
        config.blk_size = 512;
        config.seg_max = 126;
        config.num_queues = 4;
        config.max_discard_sectors = 64;
        config.max_write_zeroes_sectors = 64;
        std::memcpy(backend_.config.data(), &config, sizeof(config));
    }
    Result<void> open(int64_t drain_timeout_ms = 5000) {
        VhostUserDisk::Options options;
        options.socket = "fake";
        options.drain_timeout_ms = drain_timeout_ms;
        options.connect = [this]() -> Result<UniqueFd> {
            ++connects_;
            if (refuse_connects_) {
                return Error::unavailable("as the test wants");
            }
            return backend_.start();
        };
        UniqueFd first = TRY(options.connect());
        disk_ = TRY(VhostUserDisk::open(std::move(options), std::move(first), memory_));
        return {};
    }
    void open_queue() { queue_ = disk_->open_queue(loop_, client_).value(); }
    std::byte* guest(size_t at) { return memory_.regions()[0].host + at; }
    void submit(DiskOperation operation, uint64_t offset, size_t size, size_t at, uint32_t token) {
        DiskRequest request;
        request.operation = operation;
        request.offset = offset;
        request.size = size;
        request.token = token;
        if (operation == DiskOperation::Read || operation == DiskOperation::Write) {
            request.vectors = {{guest(at), size / 2}, {guest(at + size / 2), size - size / 2}};
        }
        ASSERT_TRUE(queue_->submit(request));
    }
    int run(DiskOperation operation, uint64_t offset, size_t size, size_t at = 0) {
        submit(operation, offset, size, at, 77);
        queue_->kick();
        queue_->drain();
        return client_.results.at(77);
    }

    VhostUserBackendFake backend_{kDiskSize};
    GuestMemory memory_ = GuestMemory::create(1 << 20).value();
    ManualClock clock_;
    EventLoop loop_{clock_};
    ClientFake client_;
    std::unique_ptr<DiskImage> disk_;
    std::unique_ptr<DiskQueue> queue_;
    int connects_ = 0;
    bool refuse_connects_ = false;
};

TEST_F(VhostUserDiskTest, DescribesTheBackEndsDisk) {
    ASSERT_TRUE(open().ok());
    EXPECT_EQ(disk_->size(), kDiskSize);
    EXPECT_EQ(disk_->block_size(), 512u);
    EXPECT_FALSE(disk_->read_only());
    EXPECT_TRUE(disk_->can_discard());
    EXPECT_EQ(disk_->queue_count_max(), 4);
}

TEST_F(VhostUserDiskTest, ReadsWritesAndFlushes) {
    ASSERT_TRUE(open().ok());
    open_queue();
    std::memset(guest(0), 0xab, 8192);
    EXPECT_EQ(run(DiskOperation::Write, 4096, 8192, 0), 0);
    EXPECT_EQ(backend_.disk[4096], std::byte{0xab});
    EXPECT_EQ(backend_.disk[4096 + 8191], std::byte{0xab});
    EXPECT_EQ(backend_.disk[4095], std::byte{0});
    EXPECT_EQ(run(DiskOperation::Read, 4096, 8192, 65536), 0);
    EXPECT_EQ(std::memcmp(guest(0), guest(65536), 8192), 0);
    EXPECT_EQ(run(DiskOperation::Flush, 0, 0), 0);
    EXPECT_EQ(backend_.flushes, 1u);
}

TEST_F(VhostUserDiskTest, LargeRangesAreGivenInTheBackEndsSteps) {
    ASSERT_TRUE(open().ok());
    open_queue();
    std::fill(backend_.disk.begin(), backend_.disk.end(), std::byte{1});
    EXPECT_EQ(run(DiskOperation::WriteZeroes, 512, 512 * 200), 0);
    EXPECT_EQ(backend_.served, 4u);  // 64 sectors each
    EXPECT_EQ(backend_.disk[511], std::byte{1});
    EXPECT_EQ(backend_.disk[512], std::byte{0});
    EXPECT_EQ(backend_.disk[512 + 512 * 200 - 1], std::byte{0});
    EXPECT_EQ(backend_.disk[512 + 512 * 200], std::byte{1});
}

TEST_F(VhostUserDiskTest, ErrorsOfTheBackEndAreErrorsOfTheRequest) {
    backend_.status_to_answer = 1;
    ASSERT_TRUE(open().ok());
    open_queue();
    EXPECT_EQ(run(DiskOperation::Read, 0, 512), -EIO);
    backend_.status_to_answer = 2;
    EXPECT_EQ(run(DiskOperation::WriteZeroes, 0, 512), -EOPNOTSUPP);
    EXPECT_EQ(run(DiskOperation::Discard, 0, 512), 0);  // a hint
    backend_.status_to_answer = 0x55;
    EXPECT_EQ(run(DiskOperation::Write, 0, 512), -EIO);
}

TEST_F(VhostUserDiskTest, AFullRingTakesMoreAfterCompletions) {
    ASSERT_TRUE(open().ok());
    open_queue();
    for (uint32_t i = 0; i < VhostUserDisk::kRingSize; ++i) {
        submit(DiskOperation::Read, 0, 512, 0, i);
    }
    DiskRequest request;
    request.operation = DiskOperation::Flush;
    EXPECT_FALSE(queue_->submit(request));
    queue_->drain();
    EXPECT_EQ(client_.results.size(), VhostUserDisk::kRingSize);
    EXPECT_TRUE(queue_->submit(request));
    queue_->drain();
}

// --- Back ends that die ---

TEST_F(VhostUserDiskTest, WhatADeadBackEndHadIsGivenToItsSuccessor) {
    ASSERT_TRUE(open().ok());
    open_queue();
    std::memset(guest(0), 0x5a, 4096);
    backend_.swallow = true;
    submit(DiskOperation::Write, 0, 4096, 0, 1);
    submit(DiskOperation::Write, 8192, 4096, 0, 2);
    queue_->kick();
    for (uint64_t seen = 0; seen < 2; seen = backend_.swallowed) {
        backend_.swallowed.wait(seen);
    }
    backend_.stop();
    backend_.swallow = false;
    submit(DiskOperation::Write, 16384, 4096, 0, 3);  // comes while nobody is there
    queue_->kick();
    queue_->drain();
    EXPECT_EQ(connects_, 2);
    for (const uint32_t token : {1u, 2u, 3u}) {
        EXPECT_EQ(client_.results.at(token), 0) << token;
    }
    EXPECT_EQ(backend_.disk[0], std::byte{0x5a});
    EXPECT_EQ(backend_.disk[8192 + 4095], std::byte{0x5a});
    EXPECT_EQ(backend_.disk[16384], std::byte{0x5a});
}

TEST_F(VhostUserDiskTest, TriesAgainUntilABackEndIsThere) {
    ASSERT_TRUE(open().ok());
    open_queue();
    backend_.stop();
    refuse_connects_ = true;
    while (connects_ < 3) {  // the first was the open()
        clock_.advance(kNanosPerSecond);
        loop_.run_ready();
    }
    refuse_connects_ = false;
    clock_.advance(kNanosPerSecond);
    loop_.run_ready();
    EXPECT_EQ(run(DiskOperation::Read, 0, 512), 0);
}

TEST_F(VhostUserDiskTest, ADrainWithoutABackEndEndsWithErrors) {
    ASSERT_TRUE(open(/*drain_timeout_ms=*/1).ok());
    open_queue();
    backend_.stop();
    refuse_connects_ = true;
    EXPECT_EQ(run(DiskOperation::Read, 0, 512), -EIO);
}

TEST_F(VhostUserDiskTest, ADrainWithAHangingBackEndEndsWithErrors) {
    ASSERT_TRUE(open(/*drain_timeout_ms=*/1).ok());
    open_queue();
    backend_.swallow = true;
    EXPECT_EQ(run(DiskOperation::Read, 0, 512), -EIO);
}

TEST_F(VhostUserDiskTest, ASuccessorWithASmallerDiskIsRefused) {
    ASSERT_TRUE(open(/*drain_timeout_ms=*/1).ok());
    open_queue();
    backend_.stop();
    config(8);
    EXPECT_EQ(run(DiskOperation::Read, 0, 512), -EIO);
    EXPECT_EQ(disk_->size(), kDiskSize);
}

// --- Back ends that lie ---

TEST_F(VhostUserDiskTest, ALyingBackEndIsDroppedAndItsSuccessorServes) {
    ASSERT_TRUE(open().ok());
    open_queue();
    backend_.lie_about_head = 99;
    submit(DiskOperation::Read, 0, 512, 0, 1);
    queue_->kick();
    while (connects_ < 2) {
        clock_.advance(kNanosPerSecond);
        loop_.run_ready();
        if (connects_ == 1 && backend_.served > 0) {
            backend_.lie_about_head = -1;
        }
    }
    queue_->drain();
    EXPECT_EQ(client_.results.at(1), 0);
}

TEST_F(VhostUserDiskTest, RefusesDisksThatCannotBe) {
    config(0);
    EXPECT_EQ(open().error().code, ErrorCode::Corrupt);
    config(1ull << 55);
    EXPECT_EQ(open().error().code, ErrorCode::Corrupt);
    config(8);
    backend_.config[20] = std::byte{3};  // the block size
    backend_.features |= 1ull << 6 | 1ull << 28;
    EXPECT_EQ(open().error().code, ErrorCode::Unsupported);
}

TEST_F(VhostUserDiskTest, RefusesBackEndsWithoutWhatWeNeed) {
    backend_.features = 1ull << 30 | 1ull << 32;  // no indirect descriptors
    EXPECT_EQ(open().error().code, ErrorCode::Unsupported);
    backend_.features |= 1ull << 28;
    backend_.protocol_features = 0;
    EXPECT_EQ(open().error().code, ErrorCode::Unsupported);
}

TEST_F(VhostUserDiskTest, AResizeOfTheBackEndIsSeen) {
    ASSERT_TRUE(open().ok());
    open_queue();
    bool told = false;
    disk_->on_resize([&told] { told = true; });
    backend_.set_capacity_sectors(kDiskSize / 512 * 2);
    backend_.send_config_change();
    while (!told) {
        loop_.run_ready();
    }
    EXPECT_EQ(disk_->size(), kDiskSize * 2);
}

}  // namespace
}  // namespace kumoi::hypervisor
