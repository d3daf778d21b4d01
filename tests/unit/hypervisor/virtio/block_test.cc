#include "hypervisor/virtio/block.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>

#include "tests/support/platform_fake.h"
#include "tests/support/queue_fake.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kDiskSize = 1u << 20;
constexpr uint8_t kOk = 0;
constexpr uint8_t kIoError = 1;
constexpr uint8_t kUnsupported = 2;
constexpr uint8_t kUntouched = 0xee;

// A disk in memory that completes when asked, fails when told, and can be full.
class DiskFake final : public DiskImage {
public:
    struct Shared {
        std::vector<std::byte> content = std::vector<std::byte>(kDiskSize);
        std::vector<DiskRequest> seen;
        int fail_with = 0;
        size_t depth = 64;
        bool read_only = false;
        bool write_cache = true;
        int fail_flush_with = 0;
        uint16_t queue_count_max = 1;
        int queues_open = 0;
        std::function<void()> resized;
        std::function<void()> complete;
    };
    explicit DiskFake(Shared& shared) : shared_(shared) {}
    std::string name() const override { return "disk in memory"; }
    uint64_t size() const override { return shared_.content.size(); }
    bool read_only() const override { return shared_.read_only; }
    uint32_t block_size() const override { return 512; }
    bool write_cache() const override { return shared_.write_cache; }
    bool can_discard() const override { return !shared_.read_only; }
    uint16_t queue_count_max() const override { return shared_.queue_count_max; }
    void on_resize(std::function<void()> function) override {
        shared_.resized = std::move(function);
    }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& /*loop*/,
                                                  DiskClient& client) override {
        return Result<std::unique_ptr<DiskQueue>>(std::make_unique<QueueInMemory>(shared_, client));
    }

private:
    class QueueInMemory final : public DiskQueue {
    public:
        QueueInMemory(Shared& shared, DiskClient& client) : shared_(shared), client_(client) {
            ++shared_.queues_open;
            shared_.complete = [this] { drain(); };
        }
        ~QueueInMemory() override { --shared_.queues_open; }
        bool submit(DiskRequest& request) override {
            if (waiting_.size() >= shared_.depth) {
                return false;
            }
            shared_.seen.push_back(request);
            waiting_.push_back(request);
            return true;
        }
        void kick() override {}
        void drain() override {
            while (!waiting_.empty()) {
                const DiskRequest request = waiting_.front();
                waiting_.pop_front();
                client_.disk_completed(
                    request.token, shared_.fail_with != 0 ? shared_.fail_with : perform(request));
            }
            client_.disk_batch_done();
        }

    private:
        int perform(const DiskRequest& request) {
            if (request.operation == DiskOperation::Flush) {
                return shared_.fail_flush_with;
            }
            std::byte* at = shared_.content.data() + request.offset;
            for (const iovec& vector : request.vectors) {
                if (request.operation == DiskOperation::Read) {
                    std::memcpy(vector.iov_base, at, vector.iov_len);
                } else {
                    std::memcpy(at, vector.iov_base, vector.iov_len);
                }
                at += vector.iov_len;
            }
            if (request.operation == DiskOperation::WriteZeroes) {
                std::memset(at, 0, request.size);
            }
            return 0;
        }
        Shared& shared_;
        DiskClient& client_;
        std::deque<DiskRequest> waiting_;
    };
    Shared& shared_;
};

class BlockTest : public testing::Test {
protected:
    void start(uint64_t features = ~uint64_t{0} & ~virtio::kFeatureEventIndex) {
        block_ = std::make_unique<VirtioBlock>("disk0", std::make_unique<DiskFake>(disk_),
                                               "serial-of-disk-0", 64);
        device_ = std::make_unique<DeviceFake>(*block_, platform_.memory());
        queue_ = &device_->add_queue(0, 64);
        ASSERT_TRUE(device_->start(features).ok());
    }
    uint64_t header(uint32_t type, uint64_t sector) {
        const uint64_t gpa = queue_->allocate(16);
        queue_->store(gpa, type);
        queue_->store<uint32_t>(gpa + 4, 0);
        queue_->store(gpa + 8, sector);
        return gpa;
    }
    // Adds header, data and status; returns where the status will be.
    uint64_t add(uint32_t type, uint64_t sector, std::vector<QueueFake::Buffer> data) {
        const uint64_t status = queue_->allocate(1);
        queue_->store<uint8_t>(status, kUntouched);
        std::vector<QueueFake::Buffer> buffers{{header(type, sector), 16, false}};
        buffers.insert(buffers.end(), data.begin(), data.end());
        buffers.push_back({status, 1, true});
        queue_->add(buffers);
        return status;
    }
    uint8_t run(uint32_t type, uint64_t sector, std::vector<QueueFake::Buffer> data) {
        const uint64_t status = add(type, sector, std::move(data));
        device_->kick(0);
        device_->settle();
        return queue_->load<uint8_t>(status);
    }
    uint8_t run_range(uint32_t type, uint64_t sector, uint32_t count, uint32_t flags,
                      uint32_t size = 16) {
        const uint64_t gpa = queue_->allocate(32);
        queue_->store(gpa, sector);
        queue_->store(gpa + 8, count);
        queue_->store(gpa + 12, flags);
        return run(type, 0, {{gpa, size, false}});
    }

    PlatformFake platform_;
    DiskFake::Shared disk_;
    std::unique_ptr<VirtioBlock> block_;
    std::unique_ptr<DeviceFake> device_;
    QueueFake* queue_ = nullptr;
};

TEST_F(BlockTest, RequestsOutsideTheDiskAreIoErrors) {
    start();
    const uint64_t end = kDiskSize / 512;
    const uint64_t gpa = queue_->allocate(4096);
    for (const uint64_t sector :
         {end, end - 7, ~uint64_t{0}, ~uint64_t{0} - 7, uint64_t{1} << 55}) {
        EXPECT_EQ(run(0, sector, {{gpa, 4096, true}}), kIoError) << sector;
        EXPECT_EQ(run(1, sector, {{gpa, 4096, false}}), kIoError) << sector;
    }
    EXPECT_EQ(run(0, end - 8, {{gpa, 4096, true}}), kOk);
    EXPECT_EQ(disk_.seen.size(), 1u);
    EXPECT_EQ(device_->statistic("errors"), 10u);
}

TEST_F(BlockTest, SizesThatAreNoSectorsAreIoErrors) {
    start();
    const uint64_t gpa = queue_->allocate(4096);
    EXPECT_EQ(run(0, 0, {{gpa, 513, true}}), kIoError);
    EXPECT_EQ(run(1, 0, {{gpa, 100, false}}), kIoError);
    EXPECT_EQ(run(1, 0, {}), kIoError);
    EXPECT_TRUE(disk_.seen.empty());
}

TEST_F(BlockTest, TooLargeRequestsAreIoErrors) {
    start();
    EXPECT_EQ(run(0, 0, {{0x400000, 9u << 20, true}}), kIoError);
    EXPECT_TRUE(disk_.seen.empty());
}

TEST_F(BlockTest, UnknownTypesAreUnsupported) {
    start();
    EXPECT_EQ(run(99, 0, {{queue_->allocate(512), 512, true}}), kUnsupported);
    EXPECT_EQ(run(0xffff'ffff, 0, {}), kUnsupported);
}

TEST_F(BlockTest, WrongDirectionsAreIoErrors) {
    start();
    const uint64_t gpa = queue_->allocate(512);
    EXPECT_EQ(run(0, 0, {{gpa, 512, false}}), kIoError);  // read into a readable buffer
    EXPECT_EQ(run(1, 0, {{gpa, 512, true}}), kIoError);   // write from a writable one
    EXPECT_TRUE(disk_.seen.empty());
}

TEST_F(BlockTest, ChainsWithoutHeaderOrStatusAreMalformed) {
    start();
    queue_->add({{queue_->allocate(8), 8, false}, {queue_->allocate(1), 1, true}});
    queue_->add({{header(0, 0), 16, false}});
    queue_->add({{queue_->allocate(512), 512, true}});
    device_->kick(0);
    EXPECT_EQ(queue_->used_index(), 3u);
    for (uint16_t i = 0; i < 3; ++i) {
        EXPECT_EQ(queue_->used(i).length, 0u);
    }
    EXPECT_EQ(device_->statistic("malformed_chains"), 3u);
    EXPECT_TRUE(device_->broken_reasons.empty());
}

TEST_F(BlockTest, AFailingDiskIsAnIoError) {
    start();
    disk_.fail_with = -EIO;
    EXPECT_EQ(run(0, 0, {{queue_->allocate(512), 512, true}}), kIoError);
    EXPECT_EQ(run(4, 0, {}), kIoError);
    EXPECT_EQ(device_->statistic("errors"), 2u);
}

TEST_F(BlockTest, AReadOnlyDiskRefusesWritesAndSaysSo) {
    disk_.read_only = true;
    start();
    const uint64_t gpa = queue_->allocate(512);
    EXPECT_NE(block_->features() & 1u << 5, 0u);
    EXPECT_EQ(block_->features() & (1u << 13 | 1u << 14), 0u);
    EXPECT_EQ(run(1, 0, {{gpa, 512, false}}), kIoError);
    EXPECT_EQ(run_range(11, 0, 1, 0), kUnsupported);
    EXPECT_EQ(run(0, 0, {{gpa, 512, true}}), kOk);
}

TEST_F(BlockTest, WritesAndReadsThroughScatteredBuffers) {
    start();
    const uint64_t gpa = queue_->allocate(2048);
    std::vector<std::byte> data(2048);
    for (size_t i = 0; i < data.size(); ++i) {
        data[i] = static_cast<std::byte>(i ^ i >> 8);
    }
    queue_->put(gpa, data);
    EXPECT_EQ(run(1, 5, {{gpa, 100, false}, {gpa + 100, 924, false}, {gpa + 1024, 1024, false}}),
              kOk);
    EXPECT_EQ(std::memcmp(disk_.content.data() + 5 * 512, data.data(), 2048), 0);
    const uint64_t target = queue_->allocate(2048);
    EXPECT_EQ(run(0, 5, {{target, 700, true}, {target + 700, 1348, true}}), kOk);
    EXPECT_EQ(queue_->get(target, 2048), data);
    EXPECT_EQ(queue_->used(1).length, 2049u);
    EXPECT_EQ(queue_->used(0).length, 1u);
    EXPECT_EQ(device_->statistic("write_bytes"), 2048u);
    EXPECT_EQ(device_->statistic("read_bytes"), 2048u);
}

TEST_F(BlockTest, HeaderAndStatusMayShareBuffersWithData) {
    start();  // §2.7.4.1: no assumption about framing
    const uint64_t request = queue_->allocate(16 + 512);
    queue_->store<uint32_t>(request, 1);
    queue_->store<uint64_t>(request + 8, 2);
    queue_->store<uint8_t>(request + 16, 0x77);
    const uint64_t status = queue_->allocate(1);
    queue_->add({{request, 10, false}, {request + 10, 518, false}, {status, 1, true}});
    const uint64_t answer = queue_->allocate(513);
    queue_->store<uint8_t>(answer + 512, kUntouched);
    queue_->add({{header(0, 2), 16, false}, {answer, 513, true}});
    device_->kick(0);
    device_->settle();
    EXPECT_EQ(queue_->load<uint8_t>(answer), 0x77);
    EXPECT_EQ(queue_->load<uint8_t>(answer + 512), kOk);
}

TEST_F(BlockTest, IndirectRequestsWork) {
    start();
    const uint64_t status = queue_->allocate(1);
    queue_->store<uint8_t>(status, kUntouched);
    queue_->add_indirect(
        {{header(0, 0), 16, false}, {queue_->allocate(512), 512, true}, {status, 1, true}});
    device_->kick(0);
    device_->settle();
    EXPECT_EQ(queue_->load<uint8_t>(status), kOk);
}

TEST_F(BlockTest, FlushReachesTheDisk) {
    start();
    EXPECT_EQ(run(4, 0, {}), kOk);
    ASSERT_EQ(disk_.seen.size(), 1u);
    EXPECT_EQ(disk_.seen[0].operation, DiskOperation::Flush);
    EXPECT_EQ(device_->statistic("flushes"), 1u);
}

// --- The write cache ---

TEST_F(BlockTest, WithTheWriteCacheOffAWriteWaitsForAFlush) {
    disk_.write_cache = false;
    start();
    uint8_t enabled = 0xff;
    block_->read_config(32, {&enabled, 1});
    EXPECT_EQ(enabled, 0);
    const uint64_t gpa = queue_->allocate(512);
    EXPECT_EQ(run(1, 0, {{gpa, 512, false}}), kOk);
    ASSERT_EQ(disk_.seen.size(), 2u);
    EXPECT_EQ(disk_.seen[0].operation, DiskOperation::Write);
    EXPECT_EQ(disk_.seen[1].operation, DiskOperation::Flush);
    EXPECT_EQ(run(0, 0, {{gpa, 512, true}}), kOk);
    EXPECT_EQ(disk_.seen.size(), 3u);  // reads do not
    EXPECT_EQ(run_range(13, 8, 8, 0), kOk);
    EXPECT_EQ(disk_.seen.back().operation, DiskOperation::Flush);
    EXPECT_EQ(device_->statistic("flushes"), 0u);  // the driver's own are counted
}

TEST_F(BlockTest, WritesThatEndTogetherShareAFlush) {
    disk_.write_cache = false;
    start();
    for (int i = 0; i < 8; ++i) {
        add(1, 0, {{queue_->allocate(512), 512, false}});
    }
    device_->kick(0);
    device_->settle();
    EXPECT_EQ(queue_->used_index(), 8u);
    EXPECT_EQ(disk_.seen.size(), 9u);
}

TEST_F(BlockTest, AFailedFlushFailsTheWritesThatWaitForIt) {
    disk_.write_cache = false;
    disk_.fail_flush_with = -EIO;
    start();
    EXPECT_EQ(run(1, 0, {{queue_->allocate(512), 512, false}}), kIoError);
    EXPECT_EQ(device_->statistic("writes"), 0u);
}

TEST_F(BlockTest, TheDriverTurnsTheWriteCacheOffAndOn) {
    start();
    EXPECT_NE(block_->features() & 1u << 11, 0u);
    const auto set = [this](uint8_t value) { block_->write_config(32, {&value, 1}); };
    const uint64_t gpa = queue_->allocate(512);
    EXPECT_EQ(run(1, 0, {{gpa, 512, false}}), kOk);
    EXPECT_EQ(disk_.seen.size(), 1u);
    set(0);
    EXPECT_EQ(run(1, 0, {{gpa, 512, false}}), kOk);
    EXPECT_EQ(disk_.seen.size(), 3u);
    set(1);
    EXPECT_EQ(run(1, 0, {{gpa, 512, false}}), kOk);
    EXPECT_EQ(disk_.seen.size(), 4u);
    set(0);
    device_->stop();
    EXPECT_TRUE(block_->write_cache());  // a reset brings the operator's choice back
}

TEST_F(BlockTest, WithoutTheFeatureTheDriverCannotTouchTheWriteCache) {
    start(virtio::kFeatureVersion1 | 1ull << 9);
    const uint8_t off = 0;
    block_->write_config(32, {&off, 1});
    EXPECT_TRUE(block_->write_cache());
}

TEST_F(BlockTest, ADriverThatCannotFlushGetsDurableWrites) {
    start(virtio::kFeatureVersion1);
    EXPECT_EQ(run(1, 0, {{queue_->allocate(512), 512, false}}), kOk);
    EXPECT_EQ(disk_.seen.back().operation, DiskOperation::Flush);
}

TEST_F(BlockTest, ASnapshotKeepsTheWriteCacheAsTheDriverSetIt) {
    start();
    const uint8_t off = 0;
    block_->write_config(32, {&off, 1});
    device_->quiesce();
    SectionWriter saved("disk0", 1);
    block_->save(saved);
    DiskFake::Shared disk;
    VirtioBlock restored("disk0", std::make_unique<DiskFake>(disk), "", 64);
    auto reader = SectionReader::parse(saved).value();
    ASSERT_TRUE(restored.load(reader).ok());
    ASSERT_TRUE(reader.finish().ok());
    EXPECT_FALSE(restored.write_cache());
    DeviceFake device(restored, platform_.memory());
    device.add_queue(0, 64);
    ASSERT_TRUE(device.start().ok());
    EXPECT_FALSE(restored.write_cache());
}

// --- Limits ---

class LimitedBlockTest : public BlockTest {
protected:
    void start_limited(const DiskLimits& limits) {
        start();
        ASSERT_TRUE(block_->set_limits(limits, 0).ok());
    }
    // Completes what the disk has, as its own thread would.
    uint16_t used() {
        device_->run_loop();
        disk_.complete();
        return queue_->used_index();
    }
    void add_many(int count, uint32_t type = 0) {
        for (int i = 0; i < count; ++i) {
            add(type, 0, {{queue_->allocate(512), 512, type == 0}});
        }
        device_->kick(0);
    }
};

TEST_F(LimitedBlockTest, RequestsWaitForTheirTokens) {
    start_limited({.total_iops = {.average = 100}});
    add_many(5);
    EXPECT_EQ(used(), 1u);
    EXPECT_EQ(used(), 1u);
    for (uint16_t expected = 2; expected <= 5; ++expected) {
        device_->advance(10 * kNanosPerMilli);
        EXPECT_EQ(used(), expected);
    }
    EXPECT_EQ(device_->statistic("throttled"), 4u);
}

TEST_F(LimitedBlockTest, WritesThatWaitDoNotHoldReadsBack) {
    start_limited({.write_iops = {.average = 1}});
    add_many(3, 1);
    EXPECT_EQ(used(), 1u);
    add_many(10, 0);
    EXPECT_EQ(used(), 11u);
    device_->advance(kNanosPerSecond);
    EXPECT_EQ(used(), 12u);
}

TEST_F(LimitedBlockTest, FlushesAreNotLimited) {
    start_limited({.total_iops = {.average = 1}});
    add_many(2, 1);
    add(4, 0, {});
    device_->kick(0);
    EXPECT_EQ(used(), 2u);
}

TEST_F(LimitedBlockTest, NewLimitsFreeWhatWaits) {
    start_limited({.total_bytes = {.average = 1}});
    add_many(3);
    EXPECT_EQ(used(), 1u);
    device_->advance(kNanosPerSecond);
    EXPECT_EQ(used(), 1u);
    ASSERT_TRUE(block_->set_limits({}, 0).ok());
    device_->advance(100 * kNanosPerMilli);
    EXPECT_EQ(used(), 3u);
    EXPECT_FALSE(block_->set_limits({.total_iops = {.maximum = 1}}, 0).ok());
}

TEST_F(LimitedBlockTest, NothingWaitsOverAPauseAndTheTokensAreOwed) {
    start_limited({.total_iops = {.average = 10}});
    add_many(6);
    device_->quiesce();
    EXPECT_EQ(device_->in_flight(), 0u);
    EXPECT_EQ(queue_->used_index(), 6u);
    add_many(1);
    device_->advance(500 * kNanosPerMilli);
    EXPECT_EQ(used(), 6u);
    device_->advance(100 * kNanosPerMilli);
    EXPECT_EQ(used(), 7u);
}

// --- Several queues ---

TEST_F(BlockTest, EveryQueueHasADiskQueueOfItsOwn) {
    disk_.queue_count_max = 4;
    block_ = std::make_unique<VirtioBlock>("disk0", std::make_unique<DiskFake>(disk_), "", 64, 8);
    EXPECT_EQ(block_->queue_sizes().size(), 4u);  // what the image can serve
    EXPECT_NE(block_->features() & 1u << 12, 0u);
    EXPECT_EQ(block_->thread_count(), 4u);
    EXPECT_EQ(block_->thread_of(3), 3u);
    uint16_t count = 0;
    block_->read_config(34, {reinterpret_cast<uint8_t*>(&count), 2});
    EXPECT_EQ(count, 4u);
    device_ = std::make_unique<DeviceFake>(*block_, platform_.memory());
    std::vector<QueueFake*> queues;
    for (uint16_t index = 0; index < 3; ++index) {  // the driver may enable fewer
        queues.push_back(&device_->add_queue(index, 64));
    }
    ASSERT_TRUE(device_->start().ok());
    EXPECT_EQ(disk_.queues_open, 3);
    for (uint16_t index = 0; index < 3; ++index) {
        queue_ = queues[index];
        const uint64_t status = add(0, 0, {{queue_->allocate(512), 512, true}});
        device_->kick(index);
        device_->settle();
        EXPECT_EQ(queue_->load<uint8_t>(status), kOk);
        EXPECT_EQ(queue_->used_index(), 1u);
    }
    EXPECT_EQ(device_->statistic("reads"), 3u);
    device_->stop();
    EXPECT_EQ(disk_.queues_open, 0);
}

TEST_F(BlockTest, OneQueueIsNoMultiQueue) {
    start();
    EXPECT_EQ(block_->features() & 1u << 12, 0u);
    EXPECT_EQ(block_->thread_count(), 1u);
}

TEST_F(BlockTest, AResizeIsToldToTheDriver) {
    start();
    disk_.content.resize(2 * kDiskSize);
    disk_.resized();
    EXPECT_EQ(device_->config_changes, 1);
    uint64_t capacity = 0;
    block_->read_config(0, {reinterpret_cast<uint8_t*>(&capacity), 8});
    EXPECT_EQ(capacity, 2 * kDiskSize / 512);
    device_->stop();
    EXPECT_FALSE(disk_.resized);
}

TEST_F(BlockTest, GetIdAnswersTwentyBytes) {
    start();
    const uint64_t gpa = queue_->allocate(20);
    EXPECT_EQ(run(8, 0, {{gpa, 20, true}}), kOk);
    const auto id = queue_->get(gpa, 20);
    EXPECT_STREQ(reinterpret_cast<const char*>(id.data()), "serial-of-disk-0");
    EXPECT_EQ(run(8, 0, {{gpa, 19, true}}), kIoError);
}

TEST_F(BlockTest, WriteZeroesAndDiscardCheckTheirRange) {
    start();
    const uint32_t end = kDiskSize / 512;
    EXPECT_EQ(run_range(13, 8, 8, 0), kOk);
    EXPECT_EQ(run_range(13, 8, 8, 1), kOk);
    EXPECT_TRUE(disk_.seen.back().may_unmap);
    EXPECT_EQ(run_range(11, 8, 8, 0), kOk);
    EXPECT_EQ(disk_.seen.back().operation, DiskOperation::Discard);
    EXPECT_EQ(run_range(11, 8, 8, 1), kUnsupported);  // unmap on a discard
    EXPECT_EQ(run_range(13, 8, 8, 2), kUnsupported);  // unknown flag
    EXPECT_EQ(run_range(11, end, 1, 0), kIoError);
    EXPECT_EQ(run_range(11, end - 1, 2, 0), kIoError);
    EXPECT_EQ(run_range(13, ~uint64_t{0}, 8, 0), kIoError);
    EXPECT_EQ(run_range(13, 0, 0, 0), kIoError);
    EXPECT_EQ(run_range(13, 0, ~0u, 0), kIoError);
    EXPECT_EQ(run_range(11, 0, 8, 0, 15), kIoError);
    EXPECT_EQ(run_range(11, 0, 8, 0, 32), kIoError);  // two segments: one was offered
    EXPECT_EQ(disk_.seen.size(), 3u);
}

TEST_F(BlockTest, RangesNeedTheirFeature) {
    start(virtio::kFeatureVersion1);
    EXPECT_EQ(run_range(11, 0, 8, 0), kUnsupported);
    EXPECT_EQ(run_range(13, 0, 8, 0), kUnsupported);
}

TEST_F(BlockTest, AFullDiskQueueDelaysButLosesNothing) {
    disk_.depth = 2;
    start();
    std::vector<uint64_t> statuses;
    for (int i = 0; i < 10; ++i) {
        statuses.push_back(add(0, 0, {{queue_->allocate(512), 512, true}}));
    }
    device_->kick(0);
    EXPECT_EQ(queue_->used_index(), 0u);
    device_->settle();
    EXPECT_EQ(queue_->used_index(), 10u);
    for (const uint64_t status : statuses) {
        EXPECT_EQ(queue_->load<uint8_t>(status), kOk);
    }
}

TEST_F(BlockTest, QuiesceLeavesNothingInFlight) {
    disk_.depth = 3;
    start();
    for (int i = 0; i < 6; ++i) {
        add(0, 0, {{queue_->allocate(512), 512, true}});
    }
    device_->kick(0);
    EXPECT_GT(device_->in_flight(), 0u);
    device_->quiesce();
    EXPECT_EQ(device_->in_flight(), 0u);
    device_->kick(0);
    device_->settle();
    EXPECT_EQ(queue_->used_index(), 6u);
}

TEST_F(BlockTest, ABrokenRingIsReportedOnceAndStopsTheDevice) {
    start();
    queue_->set_available_index(1000);
    device_->kick(0);
    device_->kick(0);
    EXPECT_EQ(device_->broken_reasons.size(), 1u);
}

TEST_F(BlockTest, ConfigurationDescribesTheDisk) {
    start();
    std::vector<uint8_t> config(64);
    block_->read_config(0, config);
    const auto u32 = [&config](size_t at) {
        uint32_t value = 0;
        std::memcpy(&value, config.data() + at, 4);
        return value;
    };
    EXPECT_EQ(u32(0), kDiskSize / 512);
    EXPECT_EQ(u32(8), VirtioBlock::kSegmentSizeMax);
    EXPECT_EQ(u32(12), 62u);  // queue of 64, less header and status
    EXPECT_EQ(u32(20), 512u);
    EXPECT_EQ(u32(36), VirtioBlock::kRangeSectorsMax);
    EXPECT_EQ(u32(40), 1u);
    EXPECT_EQ(config[56], 1u);
    block_->read_config(62, config);  // past the end: zeros
    EXPECT_EQ(config, std::vector<uint8_t>(64, 0));
}

}  // namespace
}  // namespace kumoi::hypervisor
