#include "compute/images/image_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "base/fd.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "tests/support/compute_fakes.h"
#include "tests/support/programs.h"

namespace kumoi::compute {
namespace {

class ImageCacheTest : public testing::Test {
protected:
    ImageCache make(int64_t unused_age_s = 86400) {
        ImageCacheOptions options;
        options.directory = cache_path();
        options.unused_age_s = unused_age_s;
        options.img_path = kumoi_img();
        options.img_memory_max = int64_t{1} << 50;  // sanitizers take it all
        return {options, images_, clock_};
    }
    void SetUp() override { ASSERT_TRUE(cache_.clean_up().ok()); }
    std::string cache_path() const { return directory_.path() + "/_base"; }
    ImageMeta add(const std::string& format, std::string bytes) {
        ImageMeta meta;
        meta.id = "image-1";
        meta.disk_format = format;
        meta.container_format = "bare";
        return images_.add(meta, std::move(bytes));
    }
    // An image file made by qemu-img; `extra` goes before its name.
    std::string qcow2(std::vector<std::string> extra = {}) {
        const std::string path = directory_.path() + "/made.qcow2";
        std::vector<std::string> argv = {"qemu-img", "create", "-q", "-f", "qcow2"};
        argv.insert(argv.end(), extra.begin(), extra.end());
        argv.insert(argv.end(), {path, "4M"});
        EXPECT_TRUE(run_checked(argv).ok());
        return read_file(path).value();
    }
    void expect_refused(const ImageMeta& meta, const std::string& fault, const std::string& why) {
        const auto refused = cache_.fetch(context_, meta);
        ASSERT_FALSE(refused.ok());
        EXPECT_EQ(refused.error().fault, fault) << refused.error().text();
        EXPECT_NE(refused.error().message.find(why), std::string::npos) << refused.error().text();
        EXPECT_TRUE(list_directory(cache_path())->empty());
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("cache").value();
    ManualClock clock_;
    CallLog log_;
    FakeImages images_{log_};
    RequestContext context_;
    ImageCache cache_ = make();
};

TEST_F(ImageCacheTest, RefusesImagesThatAreNotActive) {
    ImageMeta meta = add("raw", "data");
    meta.status = "queued";
    expect_refused(meta, "ImageNotActive", "queued");
}

TEST_F(ImageCacheTest, RefusesFormatsItCannotRead) {
    expect_refused(add("vmdk", "data"), "InvalidDiskFormat", "vmdk");
}

TEST_F(ImageCacheTest, RefusesDataWithAnotherChecksum) {
    ImageMeta meta = add("raw", "data");
    meta.os_hash_value = std::string(128, '0');
    expect_refused(meta, "ImageUnacceptable", "checksum");
}

TEST_F(ImageCacheTest, RefusesMoreAndLessDataThanTheRecordSays) {
    ImageMeta meta = add("raw", "data");
    meta.size = 3;
    expect_refused(meta, "", "more than the 3 bytes");
    meta.size = 5;
    expect_refused(meta, "", "4 of 5 bytes");
}

TEST_F(ImageCacheTest, RefusesAQcow2WithABackingFile) {
    const std::string base = directory_.path() + "/secret";
    ASSERT_TRUE(write_file_atomic(base, std::string(4096, 's')).ok());
    expect_refused(add("qcow2", qcow2({"-F", "raw", "-b", base})), "ImageUnacceptable",
                   "backing file");
}

TEST_F(ImageCacheTest, RefusesAQcow2WithADataFile) {
    expect_refused(add("qcow2", qcow2({"-o", "data_file=" + directory_.path() + "/secret.raw"})),
                   "ImageUnacceptable", "data file");
}

TEST_F(ImageCacheTest, RefusesWhatCallsItselfQcow2AndIsNot) {
    expect_refused(add("qcow2", std::string(4096, 'x')), "ImageUnacceptable", "qcow2");
}

// The guest owns every byte of a raw image: were the format probed, it could name a backing file.
TEST_F(ImageCacheTest, ARawImageThatLooksLikeQcow2StaysRaw) {
    const std::string bytes = qcow2();
    const auto cached = cache_.fetch(context_, add("raw", bytes));
    ASSERT_TRUE(cached.ok());
    EXPECT_EQ(cached->size, bytes.size());
    EXPECT_EQ(*read_file(cached->path), bytes);
}

TEST_F(ImageCacheTest, ConvertsQcow2ToRaw) {
    const auto cached = cache_.fetch(context_, add("qcow2", qcow2()));
    ASSERT_TRUE(cached.ok()) << cached.error().text();
    EXPECT_EQ(cached->size, 4u << 20);
    EXPECT_EQ(list_directory(cache_path())->size(), 1u);
}

TEST_F(ImageCacheTest, KeepsQcow2ForThoseWhoTakeIt) {
    const ImageMeta meta = add("qcow2", qcow2());
    const auto kept = cache_.fetch(context_, meta, CacheForm::AsStored);
    ASSERT_TRUE(kept.ok()) << kept.error().text();
    EXPECT_EQ(kept->format, "qcow2");
    EXPECT_EQ(kept->size, 4u << 20);
    EXPECT_EQ(*read_file(kept->path), qcow2());
    const auto raw = cache_.fetch(context_, meta);  // another file, for who needs raw
    ASSERT_TRUE(raw.ok()) << raw.error().text();
    EXPECT_EQ(raw->format, "raw");
    EXPECT_NE(raw->path, kept->path);
    EXPECT_EQ(*file_size(raw->path), 4u << 20);
}

TEST_F(ImageCacheTest, DownloadsOnceForManyAtOnce) {
    const ImageMeta meta = add("raw", std::string(1 << 20, 'x'));
    std::vector<std::thread> threads;
    std::atomic<int> good{0};
    for (int thread = 0; thread < 8; ++thread) {
        threads.emplace_back([&] { good += cache_.fetch(context_, meta).ok() ? 1 : 0; });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(good, 8);
    EXPECT_EQ(log_.count("images.download"), 1u);
}

TEST_F(ImageCacheTest, AFailedDownloadIsTriedAgain) {
    const ImageMeta meta = add("raw", "data");
    log_.fail = [](const std::string& call) -> Result<void> {
        return call == "images.download" ? Result<void>(Error::unavailable("gone"))
                                         : Result<void>();
    };
    EXPECT_FALSE(cache_.fetch(context_, meta).ok());
    log_.fail = {};
    EXPECT_TRUE(cache_.fetch(context_, meta).ok());
}

TEST_F(ImageCacheTest, RemovesWhatACrashCutShort) {
    ASSERT_TRUE(write_file_atomic(cache_path() + "/abc.part", "x").ok());
    ASSERT_TRUE(write_file_atomic(cache_path() + "/abc.converting", "x").ok());
    ASSERT_TRUE(write_file_atomic(cache_path() + "/abc", "whole").ok());
    ASSERT_TRUE(make().clean_up().ok());
    EXPECT_EQ(*list_directory(cache_path()), std::vector<std::string>{"abc"});
}

TEST_F(ImageCacheTest, RemovesWhatNobodyWantedForLong) {
    const ImageMeta meta = add("raw", "data");
    ASSERT_TRUE(cache_.fetch(context_, meta).ok());
    clock_.advance(86399 * kNanosPerSecond);
    EXPECT_EQ(*cache_.remove_unused(), 0u);
    ASSERT_TRUE(cache_.fetch(context_, meta).ok());  // wanted again
    clock_.advance(86399 * kNanosPerSecond);
    EXPECT_EQ(*cache_.remove_unused(), 0u);
    clock_.advance(kNanosPerSecond);
    EXPECT_EQ(*cache_.remove_unused(), 1u);
    EXPECT_TRUE(list_directory(cache_path())->empty());
}

// A linked clone has a second name for its image (driver/root_disk.h).
TEST_F(ImageCacheTest, KeepsWhatALinkedCloneReads) {
    const auto image = cache_.fetch(context_, add("raw", "data"));
    ASSERT_TRUE(image.ok());
    const std::string base = directory_.path() + "/disk.base";
    ASSERT_EQ(::link(image->path.c_str(), base.c_str()), 0);
    clock_.advance(90000 * kNanosPerSecond);
    EXPECT_EQ(*cache_.remove_unused(), 0u);
    ASSERT_EQ(::unlink(base.c_str()), 0);
    clock_.advance(86399 * kNanosPerSecond);  // since it was last seen in use
    EXPECT_EQ(*cache_.remove_unused(), 0u);
    clock_.advance(kNanosPerSecond);
    EXPECT_EQ(*cache_.remove_unused(), 1u);
}

}  // namespace
}  // namespace kumoi::compute
