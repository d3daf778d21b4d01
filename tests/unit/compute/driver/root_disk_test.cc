#include "compute/driver/root_disk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <span>

#include "base/fd.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "compute/driver/resize_folder.h"
#include "tests/support/programs.h"

namespace kumoi::compute {
namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;
const std::string kUuid = "11111111-2222-4333-8444-555555555555";

class RootDiskTest : public testing::Test {
protected:
    void SetUp() override {
        options_.img_path = kumoi_img();
        ASSERT_NE(options_.img_path, "") << "kumoi-img is not built beside the tests";
        ASSERT_TRUE(make_directories(folder_.path()).ok());
        ASSERT_TRUE(write_file_atomic(image_, std::string(1 << 20, 'i')).ok());
    }
    CachedImage image() { return {image_, 1 << 20, "raw"}; }
    std::string make(int64_t root_gb) {
        const auto format = make_root_disk(image(), root_gb, folder_.disk(), options_);
        EXPECT_TRUE(format.ok()) << format.error().text();
        const std::string made = format.ok() ? *format : "";
        EXPECT_TRUE(record_root_disk(folder_, made).ok());
        return made;
    }
    // The disk's first bytes, without its backing files.
    std::string content() {
        const std::string flat = directory_.path() + "/flat";
        EXPECT_TRUE(remove_file(flat).ok());
        const auto disk = root_disk(folder_);
        EXPECT_TRUE(disk.ok());
        const auto copied = flatten_root_disk(*disk, flat, "raw", options_);
        EXPECT_TRUE(copied.ok()) << copied.error().text();
        EXPECT_EQ(*file_size(flat), *virtual_size(*disk));
        std::string begin(1 << 20, '\0');
        const auto file = open_file(flat, O_RDONLY);
        EXPECT_TRUE(file.ok() &&
                    pread_some(file->get(), std::as_writable_bytes(std::span(begin)), 0).ok());
        return begin;
    }
    static nlink_t links(const std::string& path) {
        struct stat status {};
        return ::stat(path.c_str(), &status) == 0 ? status.st_nlink : 0;
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("root_disk").value();
    std::string image_ = directory_.path() + "/image";
    InstanceFolder folder_{directory_.path(), kUuid};
    RootDiskOptions options_;
};

TEST_F(RootDiskTest, ALinkedCloneHoldsNothingAndReadsAsItsImage) {
    EXPECT_EQ(make(1), "qcow2");
    EXPECT_EQ(*virtual_size(*root_disk(folder_)), kGib);
    EXPECT_LT(*file_size(folder_.disk()), 512u << 10);
    EXPECT_EQ(content(), std::string(1 << 20, 'i'));
}

TEST_F(RootDiskTest, OutlivesTheCachedImage) {
    make(0);
    EXPECT_EQ(links(image_), 2u);
    ASSERT_TRUE(remove_file(image_).ok());
    EXPECT_EQ(content(), std::string(1 << 20, 'i'));
}

TEST_F(RootDiskTest, TheCopiedFolderIsABackup) {
    make(0);
    ASSERT_TRUE(run_checked({"cp", "-r", folder_.path(), directory_.path() + "/backup"}).ok());
    ASSERT_TRUE(remove_tree(folder_.path()).ok());
    ASSERT_TRUE(remove_file(image_).ok());
    ASSERT_TRUE(run_checked({"mv", directory_.path() + "/backup", folder_.path()}).ok());
    EXPECT_EQ(content(), std::string(1 << 20, 'i'));
}

TEST_F(RootDiskTest, Grows) {
    make(1);
    ASSERT_TRUE(grow_root_disk(*root_disk(folder_), 2 * kGib, options_).ok());
    EXPECT_EQ(*virtual_size(*root_disk(folder_)), 2 * kGib);
    ASSERT_TRUE(grow_root_disk(*root_disk(folder_), kGib, options_).ok());  // never smaller
    EXPECT_EQ(*virtual_size(*root_disk(folder_)), 2 * kGib);
}

TEST_F(RootDiskTest, AResizeKeepsOneImageForBoth) {
    make(1);
    ASSERT_TRUE(resize_folder::keep_aside(folder_).ok());
    EXPECT_EQ(links(image_), 3u);
    EXPECT_EQ(content(), std::string(1 << 20, 'i'));
    ASSERT_TRUE(resize_folder::restore(folder_).ok());
    EXPECT_EQ(links(image_), 2u);
    EXPECT_EQ(content(), std::string(1 << 20, 'i'));
}

TEST_F(RootDiskTest, WithoutCowItIsAFlatCopy) {
    options_.use_cow_images = false;
    EXPECT_EQ(make(1), "raw");
    EXPECT_EQ(*file_size(folder_.disk()), kGib);
    EXPECT_EQ(links(image_), 1u);
    EXPECT_EQ(content(), std::string(1 << 20, 'i'));
}

TEST_F(RootDiskTest, AQcow2ImageIsABaseToo) {
    const std::string packed = directory_.path() + "/packed";
    ASSERT_TRUE(
        run_checked({options_.img_path, "convert", "-O", "qcow2", "-c", image_, packed}).ok());
    const auto format = make_root_disk({packed, 1 << 20, "qcow2"}, 0, folder_.disk(), options_);
    ASSERT_TRUE(format.ok()) << format.error().text();
    ASSERT_TRUE(record_root_disk(folder_, *format).ok());
    EXPECT_EQ(content(), std::string(1 << 20, 'i'));
}

TEST_F(RootDiskTest, RefusesAnImageLargerThanTheFlavor) {
    const CachedImage large{image_, kGib + 512, "raw"};
    const auto refused = make_root_disk(large, 1, folder_.disk(), options_);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().fault, "FlavorDiskSmallerThanImage");
    EXPECT_EQ(links(image_), 1u);
}

TEST_F(RootDiskTest, NeverWritesOverAnExistingDisk) {
    for (const bool cow : {true, false}) {
        options_.use_cow_images = cow;
        ASSERT_TRUE(write_file_atomic(folder_.disk(), "precious").ok());
        EXPECT_FALSE(make_root_disk(image(), 1, folder_.disk(), options_).ok());
        EXPECT_FALSE(flatten_root_disk({image_, "raw"}, folder_.disk(), "qcow2", options_).ok());
        EXPECT_EQ(*read_file(folder_.disk()), "precious");
    }
}

// A guest can write a qcow2 header to a raw disk: the record says what it is, not the disk.
TEST_F(RootDiskTest, TheFormatIsNeverGuessed) {
    ASSERT_TRUE(write_file_atomic(folder_.disk(), "QFI\xfb").ok());
    EXPECT_EQ(root_disk(folder_)->format, "raw");
    ASSERT_TRUE(write_file_atomic(folder_.disk_info(), R"({"disk": "vmdk"})").ok());
    EXPECT_FALSE(root_disk(folder_).ok());
}

}  // namespace
}  // namespace kumoi::compute
