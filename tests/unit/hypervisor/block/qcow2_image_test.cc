// Qcow2Image on real files: queues on io_uring and threads, several at once, resize while running,
// overlays, bitmaps, locks; QEMU as the oracle where it is installed.
#include "hypervisor/block/qcow2/qcow2_image.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>

#include "base/file.h"
#include "base/random.h"
#include "hypervisor/block/leased_image.h"
#include "hypervisor/block/live/overlay.h"
#include "hypervisor/block/qcow2/chain.h"
#include "hypervisor/block/qcow2/check.h"
#include "hypervisor/block/qcow2/offline.h"
#include "hypervisor/block/raw_image.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kSize = 8u << 20;

class Client final : public DiskClient {
public:
    void open(DiskImage& image) {
        auto queue = image.open_queue(loop_, *this);
        ASSERT_TRUE(queue.ok()) << queue.error().text();
        queue_ = std::move(queue).value();
    }
    int run(DiskOperation operation, uint64_t offset, std::span<std::byte> bytes,
            uint64_t size = 0) {
        DiskRequest request;
        request.operation = operation;
        request.offset = offset;
        request.size = bytes.empty() ? size : bytes.size();
        request.token = ++token_;
        request.may_unmap = true;
        if (!bytes.empty()) {
            const size_t half = bytes.size() / 1024 * 512;
            request.vectors = {{bytes.data(), half}, {bytes.data() + half, bytes.size() - half}};
        }
        EXPECT_TRUE(queue_->submit(request));
        queue_->kick();
        queue_->drain();
        return results_.at(token_);
    }
    int write(uint64_t offset, uint64_t size, uint8_t value) {
        std::vector<std::byte> bytes(size, std::byte{value});
        return run(DiskOperation::Write, offset, bytes);
    }
    // The value the range is filled with, or -1 when it is mixed.
    int read(uint64_t offset, uint64_t size) {
        std::vector<std::byte> bytes(size);
        const int status = run(DiskOperation::Read, offset, bytes);
        for (const std::byte byte : bytes) {
            if (byte != bytes[0]) {
                return -1;
            }
        }
        return status < 0 ? status : static_cast<int>(bytes[0]);
    }
    void close() { queue_.reset(); }

private:
    void disk_completed(uint32_t token, int result) override { results_[token] = result; }
    void disk_batch_done() override {}

    SystemClock clock_;
    EventLoop loop_{clock_};
    std::unique_ptr<DiskQueue> queue_;
    std::map<uint32_t, int> results_;
    uint32_t token_ = 0;
};

class Qcow2ImageFiles : public testing::Test {
protected:
    std::string path(const std::string& name) { return directory_.path() + "/" + name; }
    std::string make(const std::string& name, qcow2::CreateOptions options = {.size = kSize}) {
        const auto made = qcow2::create_image_file(direct_files(), path(name), options);
        EXPECT_TRUE(made.ok()) << made.error().text();
        return path(name);
    }
    std::unique_ptr<Qcow2Image> open(const std::string& file, Qcow2ImageOptions options = {}) {
        options.path = file;
        auto image = Qcow2Image::open(direct_files(), options);
        EXPECT_TRUE(image.ok()) << image.error().text();
        return image.ok() ? std::move(image).value() : nullptr;
    }
    void expect_sound(const std::string& file) {
        qcow2::BlockingPort port;
        auto opened = qcow2::open_host_file(direct_files(), file, false, false, false);
        ASSERT_TRUE(opened.ok());
        qcow2::StoreOptions options;
        options.writable = false;
        options.for_check = true;
        auto store = qcow2::Store::open(port, std::move(opened).value(), options, nullptr);
        ASSERT_TRUE(store.ok()) << store.error().text();
        const auto report = qcow2::check_image(**store, port, qcow2::Repair::Nothing);
        ASSERT_TRUE(report.ok());
        EXPECT_EQ(report->corruptions + report->leaks, 0u)
            << (report->messages.empty() ? "" : report->messages[0]);
        if (::access("/usr/bin/qemu-img", X_OK) == 0) {
            EXPECT_EQ(std::system(("qemu-img check -q -f qcow2 " + file).c_str()), 0);
        }
    }
    TemporaryDirectory directory_ = TemporaryDirectory::create("qcow2_image").value();
};

struct Mode {
    DiskEngine engine;
    CacheMode cache;
};
class Qcow2ImageEngines : public Qcow2ImageFiles, public testing::WithParamInterface<Mode> {};

TEST_P(Qcow2ImageEngines, RandomWorkKeepsItsContents) {
    const std::string file =
        make("disk.qcow2", {.size = kSize, .cluster_bits = 12, .backing_file = ""});
    SeededRandom random(3);
    std::vector<uint8_t> model(kSize / 4096);
    {
        auto image = open(file, {.cache = GetParam().cache, .engine = GetParam().engine});
        ASSERT_NE(image, nullptr);
        Client client;
        client.open(*image);
        for (int i = 0; i < 400; ++i) {
            const uint64_t first = random.below(model.size() - 40);
            const uint64_t count = 1 + random.below(40);
            const auto value = static_cast<uint8_t>(random.below(4) == 0 ? 0 : random.below(255));
            const int status =
                value == 0 ? client.run(DiskOperation::WriteZeroes, first * 4096, {}, count * 4096)
                           : client.write(first * 4096, count * 4096, value);
            ASSERT_EQ(status, 0);
            std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(first), count, value);
            if (i % 50 == 0) {
                ASSERT_EQ(client.run(DiskOperation::Flush, 0, {}), 0);
            }
        }
        for (uint64_t i = 0; i < model.size(); ++i) {
            ASSERT_EQ(client.read(i * 4096, 4096), model[i]) << "block " << i;
        }
        client.close();
    }
    expect_sound(file);
    auto image = open(file, {.read_only = true});
    Client client;
    client.open(*image);
    for (uint64_t i = 0; i < model.size(); ++i) {
        ASSERT_EQ(client.read(i * 4096, 4096), model[i]) << "block " << i;
    }
    client.close();
}

INSTANTIATE_TEST_SUITE_P(Engines, Qcow2ImageEngines,
                         testing::Values(Mode{DiskEngine::Automatic, CacheMode::Writeback},
                                         Mode{DiskEngine::Threads, CacheMode::Writeback},
                                         Mode{DiskEngine::Automatic, CacheMode::None}));

// Queues on threads of their own write neighbouring blocks of the same clusters.
TEST_F(Qcow2ImageFiles, ManyQueuesAtOnce) {
    std::ofstream(path("base.raw"), std::ios::binary) << std::string(kSize, 'b');
    const std::string file =
        make("disk.qcow2", {.size = 0, .backing_file = "base.raw", .backing_format = "raw"});
    auto image = open(file);
    ASSERT_NE(image, nullptr);
    constexpr int kThreads = 4;
    std::atomic<int> failures{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
            Client client;
            client.open(*image);
            for (uint64_t i = static_cast<uint64_t>(thread); i < kSize / 4096; i += kThreads) {
                failures += client.write(i * 4096, 4096, static_cast<uint8_t>(1 + i % 250)) != 0;
                if (i % 64 == 0) {
                    failures += client.run(DiskOperation::Flush, 0, {}) != 0;
                }
            }
            client.close();
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(failures, 0);
    Client client;
    client.open(*image);
    for (uint64_t i = 0; i < kSize / 4096; ++i) {
        ASSERT_EQ(client.read(i * 4096, 4096), static_cast<int>(1 + i % 250)) << "block " << i;
    }
    client.close();
    image.reset();
    expect_sound(file);
}

TEST_F(Qcow2ImageFiles, GrowsWhileAQueueIsOpen) {
    const std::string file = make("disk.qcow2", {.size = 1u << 20, .cluster_bits = 9});
    auto image = open(file);
    int told = 0;
    image->on_resize([&] { ++told; });
    Client client;
    client.open(*image);
    EXPECT_EQ(client.write((1u << 20) - 4096, 4096, 7), 0);
    EXPECT_FALSE(image->resize(512).ok());
    const auto resized = image->resize(kSize);
    ASSERT_TRUE(resized.ok()) << resized.error().text();
    EXPECT_EQ(told, 1);
    EXPECT_EQ(image->size(), kSize);
    EXPECT_EQ(client.write(kSize - 4096, 4096, 9), 0);
    EXPECT_EQ(client.read((1u << 20) - 4096, 4096), 7);
    EXPECT_EQ(client.read(kSize - 4096, 4096), 9);
    client.close();
    image.reset();
    expect_sound(file);
}

TEST_F(Qcow2ImageFiles, GoesOnInAnOverlay) {
    const std::string file = make("disk.qcow2");
    auto image = open(file);
    Client client;
    client.open(*image);
    EXPECT_EQ(client.write(0, 65536, 1), 0);
    auto overlay = open_overlay(direct_files(), *image, path("overlay.qcow2"), "disk.qcow2");
    ASSERT_TRUE(overlay.ok()) << overlay.error().text();
    const auto switched = image->switch_to_overlay(std::move(overlay).value());
    ASSERT_TRUE(switched.ok()) << switched.error().text();
    EXPECT_EQ(client.write(4096, 4096, 2), 0);
    EXPECT_EQ(client.read(0, 4096), 1);
    EXPECT_EQ(client.read(4096, 4096), 2);
    client.close();
    image.reset();
    expect_sound(file);
    expect_sound(path("overlay.qcow2"));
    image = open(file, {.read_only = true});
    client.open(*image);
    EXPECT_EQ(client.read(0, 65536), 1);  // as it was
    client.close();
}

TEST_F(Qcow2ImageFiles, OneWriterExcludesEverybody) {
    const std::string file = make("disk.qcow2");
    auto writer = open(file);
    for (const bool read_only : {false, true}) {
        auto second = Qcow2Image::open(direct_files(), {.path = file, .read_only = read_only});
        ASSERT_FALSE(second.ok());
        EXPECT_EQ(second.error().code, ErrorCode::Conflict);
    }
}

TEST_F(Qcow2ImageFiles, BitmapsSurviveAndADeadOnesBitmapIsInconsistent) {
    const std::string file = make("disk.qcow2");
    {
        auto image = open(file);
        ASSERT_TRUE(image->bitmaps().add("nightly", 65536, true).ok());
        EXPECT_FALSE(image->bitmaps().add("nightly", 65536, true).ok());
        EXPECT_FALSE(image->bitmaps().add("odd", 1000, true).ok());
        Client client;
        client.open(*image);
        EXPECT_EQ(client.write(100 * 4096, 8192, 3), 0);
        client.close();
    }
    expect_sound(file);
    auto image = open(file);
    ASSERT_EQ(image->bitmaps().list().size(), 1u);
    EXPECT_EQ(image->bitmaps().list()[0].dirty_bytes, 65536u);
    std::vector<std::pair<uint64_t, uint64_t>> extents;
    ASSERT_TRUE(image->bitmaps()
                    .for_each_dirty("nightly",
                                    [&](uint64_t offset, uint64_t size) {
                                        extents.emplace_back(offset, size);
                                        return true;
                                    })
                    .ok());
    EXPECT_EQ(extents, (decltype(extents){{6 * 65536, 65536}}));
    image->abandon();  // as if the process had died
    image.reset();
    image = open(file);
    ASSERT_EQ(image->bitmaps().list().size(), 1u);
    EXPECT_TRUE(image->bitmaps().list()[0].inconsistent);
    EXPECT_FALSE(image->bitmaps().clear("nightly").ok());
    EXPECT_TRUE(image->bitmaps().remove("nightly").ok());
    image.reset();
    expect_sound(file);
}

// A guest may write anything where its disk is; an entry that points at metadata must not let it.
TEST_F(Qcow2ImageFiles, AWriteOverMetadataIsRefusedAndTheImageMarked) {
    const std::string file = make("disk.qcow2");
    {
        auto image = open(file);
        Client client;
        client.open(*image);
        EXPECT_EQ(client.write(0, 4096, 1), 0);
        client.close();
    }
    const UniqueFd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC));
    std::array<std::byte, 8> word{};
    ASSERT_TRUE(pread_some(fd.get(), word, 40).ok());
    const uint64_t l1 = qcow2::load_be<uint64_t>(word.data());
    ASSERT_TRUE(pread_some(fd.get(), word, l1).ok());
    const uint64_t l2 = qcow2::load_be<uint64_t>(word.data()) & qcow2::kOffsetMask;
    qcow2::store_be<uint64_t>(word.data(), l1 | qcow2::kEntryCopied);
    ASSERT_TRUE(pwrite_all(fd.get(), word, l2).ok());
    qcow2::store_be<uint64_t>(word.data(), 0x8000000000012345);
    ASSERT_TRUE(pwrite_all(fd.get(), word, l2 + 8).ok());
    {
        auto image = open(file);
        Client client;
        client.open(*image);
        EXPECT_EQ(client.read(65536, 4096), -EIO);
        EXPECT_NE(image->store().last_error().find("L2 table 0 entry 1"), std::string::npos);
        EXPECT_EQ(client.write(0, 4096, 1), -EIO);
        EXPECT_EQ(client.write(1u << 20, 4096, 1), -EIO);  // nothing any more
        EXPECT_EQ(client.run(DiskOperation::Flush, 0, {}), 0);
        client.close();
    }
    auto again = Qcow2Image::open(direct_files(), {.path = file});
    ASSERT_FALSE(again.ok());
    EXPECT_EQ(again.error().code, ErrorCode::Corrupt);
    EXPECT_FALSE(again.error().hint.empty());
}

TEST_F(Qcow2ImageFiles, AnOwnerThatWasReplacedWritesNothing) {
    const std::string file = make("disk.qcow2");
    const std::string lease = path("disk.lease");
    ManualClock clock;
    auto held = DiskLease::acquire(direct_files(), lease, 3, "one");
    ASSERT_TRUE(held.ok()) << held.error().text();
    EXPECT_FALSE(DiskLease::acquire(direct_files(), lease, 2, "two").ok());
    EXPECT_FALSE(DiskLease::acquire(direct_files(), lease, 3, "two").ok());
    auto leased = std::make_unique<LeasedImage>(open(file), std::move(held).value(), clock);
    Client client;
    client.open(*leased);
    EXPECT_EQ(client.write(0, 4096, 1), 0);
    EXPECT_EQ(client.run(DiskOperation::Flush, 0, {}), 0);
    auto fencing = DiskLease::acquire(direct_files(), lease, 4, "two");
    ASSERT_TRUE(fencing.ok());
    clock.advance(kNanosPerSecond);
    EXPECT_EQ(client.write(0, 4096, 2), -EROFS);
    EXPECT_EQ(client.run(DiskOperation::Flush, 0, {}), -EROFS);
    EXPECT_EQ(client.read(0, 4096), 1);
    client.close();
    leased.reset();
    const LeaseRecord record = DiskLease::read(direct_files(), lease).value();
    EXPECT_EQ(record.epoch, 4u);
    EXPECT_EQ(record.owner, "two");
    EXPECT_TRUE((*fencing)->release().ok());
    EXPECT_TRUE(DiskLease::acquire(direct_files(), lease, 4, "three").ok());
}

TEST_F(Qcow2ImageFiles, ATornLeaseFallsBackToTheOtherSlot) {
    const std::string lease = path("disk.lease");
    ASSERT_TRUE(DiskLease::acquire(direct_files(), lease, 1, "one").ok());
    ASSERT_TRUE(DiskLease::acquire(direct_files(), lease, 2, "two").ok());
    const UniqueFd fd(::open(lease.c_str(), O_RDWR | O_CLOEXEC));
    const std::array<std::byte, 4> junk{std::byte{1}};
    ASSERT_TRUE(pwrite_all(fd.get(), junk, 100).ok());  // slot 0 has the newer record
    EXPECT_EQ(DiskLease::read(direct_files(), lease).value().epoch, 1u);
    ASSERT_TRUE(pwrite_all(fd.get(), junk, 2048 + 100).ok());
    EXPECT_EQ(DiskLease::read(direct_files(), lease).error().code, ErrorCode::Corrupt);
}

TEST_F(Qcow2ImageFiles, ARawDiskGrowsToo) {
    std::ofstream(path("disk.raw"), std::ios::binary) << std::string(1u << 20, 'r');
    auto image = RawImage::open(direct_files(), {.path = path("disk.raw")});
    ASSERT_TRUE(image.ok());
    int told = 0;
    (*image)->on_resize([&] { ++told; });
    EXPECT_FALSE((*image)->resize(4096).ok());
    EXPECT_TRUE((*image)->resize(kSize).ok());
    EXPECT_EQ((*image)->size(), kSize);
    EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace kumoi::hypervisor
