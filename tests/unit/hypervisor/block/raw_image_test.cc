#include "hypervisor/block/raw_image.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "base/file.h"
#include "hypervisor/block/raw_queue.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kDiskSize = 1u << 20;

class RawImageFiles : public testing::Test {
protected:
    std::string make_disk(uint64_t size, const std::string& name = "disk.raw") {
        const std::string path = directory_.path() + "/" + name;
        const UniqueFd fd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
        EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
        return path;
    }
    TemporaryDirectory directory_ = TemporaryDirectory::create("raw_image").value();
};

TEST_F(RawImageFiles, RefusesWhatIsNotADisk) {
    EXPECT_EQ(RawImage::open(direct_files(), {.path = directory_.path() + "/absent"}).error().code,
              ErrorCode::NotFound);
    EXPECT_FALSE(
        RawImage::open(direct_files(), {.path = directory_.path(), .read_only = true}).ok());
    EXPECT_FALSE(RawImage::open(direct_files(), {.path = "/dev/null"}).ok());
}

TEST_F(RawImageFiles, RefusesSizesThatAreNoSectors) {
    for (const uint64_t size : {0u, 511u, 1000u}) {
        auto opened =
            RawImage::open(direct_files(), {.path = make_disk(size, std::to_string(size))});
        ASSERT_FALSE(opened.ok());
        EXPECT_NE(opened.error().message.find(std::to_string(size)), std::string::npos);
        EXPECT_FALSE(opened.error().hint.empty());
    }
}

TEST_F(RawImageFiles, OneWriterExcludesEverybody) {
    const std::string path = make_disk(kDiskSize);
    auto writer = RawImage::open(direct_files(), {.path = path});
    ASSERT_TRUE(writer.ok());
    for (const bool read_only : {false, true}) {
        auto second = RawImage::open(direct_files(), {.path = path, .read_only = read_only});
        ASSERT_FALSE(second.ok());
        EXPECT_EQ(second.error().code, ErrorCode::Conflict);
        EXPECT_NE(second.error().message.find(path), std::string::npos);
    }
    writer.value().reset();
    EXPECT_TRUE(
        RawImage::open(direct_files(), {.path = path}).ok());  // the lock went with its owner
}

TEST_F(RawImageFiles, ManyReadersShareButNoWriterJoins) {
    const std::string path = make_disk(kDiskSize);
    auto one = RawImage::open(direct_files(), {.path = path, .read_only = true});
    auto two = RawImage::open(direct_files(), {.path = path, .read_only = true});
    EXPECT_TRUE(one.ok());
    EXPECT_TRUE(two.ok());
    EXPECT_FALSE(RawImage::open(direct_files(), {.path = path}).ok());
}

struct Mode {
    DiskEngine engine;
    CacheMode cache;
};

class RawImageEngines : public RawImageFiles,
                        public testing::WithParamInterface<Mode>,
                        public DiskClient {
protected:
    void SetUp() override {
        path_ = make_disk(kDiskSize);
        auto image =
            RawImage::open(direct_files(),
                           {.path = path_, .cache = GetParam().cache, .engine = GetParam().engine});
        if (!image.ok() && GetParam().cache == CacheMode::None) {
            GTEST_SKIP() << "no O_DIRECT here: " << image.error().text();
        }
        image_ = std::move(image).value();
        auto queue = image_->open_queue(loop_, *this);
        if (!queue.ok() && GetParam().engine == DiskEngine::Uring) {
            GTEST_SKIP() << "no io_uring here: " << queue.error().text();
        }
        queue_ = std::move(queue).value();
    }
    void disk_completed(uint32_t token, int result) override { results_[token] = result; }
    void disk_batch_done() override { ++batches_; }

    int run(DiskOperation operation, uint64_t offset, std::vector<std::span<std::byte>> buffers,
            uint64_t size = 0, bool may_unmap = false) {
        DiskRequest request;
        request.operation = operation;
        request.may_unmap = may_unmap;
        request.offset = offset;
        request.size = size;
        request.token = ++token_;
        for (const auto& buffer : buffers) {
            request.vectors.push_back({buffer.data(), buffer.size()});
            request.size += buffer.size();
        }
        EXPECT_TRUE(queue_->submit(request));
        queue_->kick();
        queue_->drain();
        EXPECT_TRUE(results_.contains(token_));
        return results_[token_];
    }
    std::vector<std::byte> file_bytes(uint64_t offset, size_t size) {
        const UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
        std::vector<std::byte> bytes(size);
        EXPECT_EQ(pread_some(fd.get(), bytes, offset).value(), size);
        return bytes;
    }

    SystemClock clock_;
    EventLoop loop_{clock_};
    std::string path_;
    std::unique_ptr<DiskImage> image_;
    std::unique_ptr<DiskQueue> queue_;
    std::map<uint32_t, int> results_;
    uint32_t token_ = 0;
    int batches_ = 0;
};

TEST_P(RawImageEngines, ReadsBackWhatWasWrittenThroughScatteredBuffers) {
    std::vector<std::byte> out(8192);
    for (size_t i = 0; i < out.size(); ++i) {
        out[i] = static_cast<std::byte>(i * 7);
    }
    const std::span all(out);
    EXPECT_EQ(
        run(DiskOperation::Write, 4096, {all.first(512), all.subspan(512, 3584), all.last(4096)}),
        0);
    EXPECT_EQ(run(DiskOperation::Flush, 0, {}), 0);
    EXPECT_EQ(file_bytes(4096, 8192), out);
    std::vector<std::byte> in(8192);
    const std::span target(in);
    EXPECT_EQ(run(DiskOperation::Read, 4096, {target.first(4096), target.last(4096)}), 0);
    EXPECT_EQ(in, out);
    EXPECT_GT(batches_, 0);
}

TEST_P(RawImageEngines, UnalignedBuffersWork) {
    std::vector<std::byte> memory(4096 + 3, std::byte{0x5a});
    EXPECT_EQ(run(DiskOperation::Write, 0, {std::span(memory).subspan(3, 4096)}), 0);
    std::vector<std::byte> in(4096 + 1);
    EXPECT_EQ(run(DiskOperation::Read, 0, {std::span(in).subspan(1, 4096)}), 0);
    EXPECT_EQ(in[4096], std::byte{0x5a});
}

TEST_P(RawImageEngines, WriteZeroesAndDiscardReadAsZero) {
    std::vector<std::byte> ones(128u << 10, std::byte{0xff});
    for (const bool may_unmap : {false, true}) {
        EXPECT_EQ(run(DiskOperation::Write, 0, {ones}), 0);
        EXPECT_EQ(run(DiskOperation::WriteZeroes, 4096, {}, 100u << 10, may_unmap), 0);
        const auto bytes = file_bytes(0, ones.size());
        EXPECT_EQ(bytes[4095], std::byte{0xff});
        EXPECT_EQ(bytes[4096], std::byte{0});
        EXPECT_EQ(bytes[4095 + (100u << 10)], std::byte{0});
        EXPECT_EQ(bytes[4096 + (100u << 10)], std::byte{0xff});
    }
    EXPECT_EQ(run(DiskOperation::Discard, 0, {}, 4096), 0);
    struct stat status {};
    ASSERT_EQ(::stat(path_.c_str(), &status), 0);
    EXPECT_EQ(static_cast<uint64_t>(status.st_size), kDiskSize);
}

TEST_P(RawImageEngines, AFileThatBecameShorterIsAnIoError) {
    ASSERT_EQ(::truncate(path_.c_str(), 8192), 0);
    std::vector<std::byte> in(8192);
    EXPECT_EQ(run(DiskOperation::Read, 4096, {in}), -EIO);
}

TEST_P(RawImageEngines, AFullQueueSaysSoAndTakesMoreAfterCompletions) {
    std::vector<std::byte> buffers(1001 * 512);  // one for each: they are filled in parallel
    uint32_t taken = 0;
    DiskRequest request;
    do {
        request.operation = DiskOperation::Read;
        request.offset = 0;
        request.size = 512;
        request.vectors.assign(1, {buffers.data() + taken * 512, 512});
        request.token = 1000 + taken;
    } while (taken < 1000 && queue_->submit(request) && ++taken > 0);
    EXPECT_LE(taken, RawQueue::kDepth);
    EXPECT_GT(taken, 8u);
    queue_->kick();
    queue_->drain();
    EXPECT_EQ(results_.size(), taken);
    EXPECT_TRUE(queue_->submit(request));
    queue_->drain();
}

TEST_P(RawImageEngines, CompletionsArriveThroughTheLoop) {
    std::vector<std::byte> in(4096);
    DiskRequest request;
    request.operation = DiskOperation::Read;
    request.size = in.size();
    request.vectors.assign(1, {in.data(), in.size()});
    request.token = 5;
    loop_.post([&] {
        ASSERT_TRUE(queue_->submit(request));
        queue_->kick();
    });
    bool timed_out = false;
    const auto guard = loop_.call_after(10 * kNanosPerSecond, [&] {
        timed_out = true;
        loop_.stop();
    });
    while (!results_.contains(5) && !timed_out) {
        loop_.run_ready();
    }
    loop_.cancel(guard);
    EXPECT_EQ(results_[5], 0);
    EXPECT_FALSE(timed_out);
}

INSTANTIATE_TEST_SUITE_P(Engines, RawImageEngines,
                         testing::Values(Mode{DiskEngine::Uring, CacheMode::Writeback},
                                         Mode{DiskEngine::Uring, CacheMode::Writethrough},
                                         Mode{DiskEngine::Uring, CacheMode::None},
                                         Mode{DiskEngine::Threads, CacheMode::Writeback},
                                         Mode{DiskEngine::Threads, CacheMode::None}),
                         [](const testing::TestParamInfo<Mode>& mode) {
                             const std::string engine =
                                 mode.param.engine == DiskEngine::Uring ? "Uring" : "Threads";
                             switch (mode.param.cache) {
                                 case CacheMode::Writeback: return engine + "Writeback";
                                 case CacheMode::Writethrough: return engine + "Writethrough";
                                 default: return engine + "Direct";
                             }
                         });

// The step machine alone: what no real file system does on demand.
class RawOperationTest : public testing::Test {
protected:
    RawOperation begin(DiskOperation operation, uint64_t size, bool may_unmap = false) {
        memory_.resize(size);
        DiskRequest request;
        request.operation = operation;
        request.may_unmap = may_unmap;
        request.offset = 1000;
        request.size = size;
        if (operation == DiskOperation::Read || operation == DiskOperation::Write) {
            request.vectors = {{memory_.data(), size / 2}, {memory_.data() + size / 2, size / 2}};
        }
        RawOperation made;
        made.begin(request, RawFile{});
        return made;
    }
    std::vector<std::byte> memory_;
};

TEST_F(RawOperationTest, GoesOnAfterShortTransfers) {
    RawOperation read = begin(DiskOperation::Read, 4096);
    EXPECT_FALSE(read.advance(100));
    EXPECT_EQ(read.step().offset, 1100u);
    EXPECT_EQ(read.step().vectors[0].iov_len, 1948u);
    EXPECT_FALSE(read.advance(1948 + 48));
    ASSERT_EQ(read.step().vectors.size(), 1u);
    EXPECT_EQ(read.step().vectors[0].iov_len, 2000u);
    EXPECT_FALSE(read.advance(-EINTR));
    EXPECT_FALSE(read.advance(-EAGAIN));
    EXPECT_TRUE(read.advance(2000));
    EXPECT_EQ(read.result(), 0);
}

TEST_F(RawOperationTest, EndOfFileAndErrorsEndIt) {
    RawOperation read = begin(DiskOperation::Read, 4096);
    EXPECT_TRUE(read.advance(0));
    EXPECT_EQ(read.result(), -EIO);
    RawOperation write = begin(DiskOperation::Write, 4096);
    EXPECT_TRUE(write.advance(-ENOSPC));
    EXPECT_EQ(write.result(), -ENOSPC);
}

TEST_F(RawOperationTest, WriteZeroesFallsBackToPlainWrites) {
    RawOperation zero = begin(DiskOperation::WriteZeroes, 100u << 10, true);
    EXPECT_EQ(zero.step().mode, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
    EXPECT_FALSE(zero.advance(-EOPNOTSUPP));
    EXPECT_EQ(zero.step().mode, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
    EXPECT_FALSE(zero.advance(-EOPNOTSUPP));
    EXPECT_EQ(zero.step().call, RawOperation::Call::Write);
    EXPECT_EQ(zero.step().vectors[0].iov_len, 64u << 10);
    EXPECT_FALSE(zero.advance(64 << 10));
    EXPECT_EQ(zero.step().offset, 1000u + (64u << 10));
    EXPECT_EQ(zero.step().vectors[0].iov_len, 36u << 10);
    EXPECT_TRUE(zero.advance(36 << 10));
    EXPECT_EQ(zero.result(), 0);
}

TEST_F(RawOperationTest, DiscardIsOnlyAHint) {
    RawOperation discard = begin(DiskOperation::Discard, 4096);
    EXPECT_TRUE(discard.advance(-EOPNOTSUPP));
    EXPECT_EQ(discard.result(), 0);
    RawOperation failing = begin(DiskOperation::Discard, 4096);
    EXPECT_TRUE(failing.advance(-EIO));
    EXPECT_EQ(failing.result(), -EIO);
}

}  // namespace
}  // namespace kumoi::hypervisor
