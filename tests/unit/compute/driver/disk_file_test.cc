#include "compute/driver/disk_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <span>

#include "base/fd.h"
#include "base/file.h"

namespace kumoi::compute {
namespace {

class DiskFileTest : public testing::Test {
protected:
    std::string path(const char* name) const { return directory_.path() + "/" + name; }
    TemporaryDirectory directory_ = TemporaryDirectory::create("disk").value();
};

TEST_F(DiskFileTest, RefusesAnImageLargerThanTheFlavor) {
    ASSERT_TRUE(make_blank_disk(path("image"), (uint64_t{1} << 30) + 1).ok());
    const auto refused = make_root_disk(path("image"), (uint64_t{1} << 30) + 1, 1, path("disk"));
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().fault, "FlavorDiskSmallerThanImage");
    EXPECT_FALSE(path_exists(path("disk")));
}

TEST_F(DiskFileTest, NeverWritesOverAnExistingDisk) {
    ASSERT_TRUE(write_file_atomic(path("image"), "image").ok());
    ASSERT_TRUE(write_file_atomic(path("disk"), "precious").ok());
    EXPECT_FALSE(make_root_disk(path("image"), 5, 1, path("disk")).ok());
    EXPECT_EQ(*read_file(path("disk")), "precious");
}

TEST_F(DiskFileTest, CopiesDataAndLeavesHoles) {
    constexpr uint64_t kSize = 64u << 20;
    constexpr uint64_t kAt = 32u << 20;
    ASSERT_TRUE(make_blank_disk(path("image"), kSize).ok());
    const std::string data(8192, 'k');
    {
        const UniqueFd file = open_file(path("image"), O_WRONLY).value();
        ASSERT_TRUE(pwrite_all(file.get(), std::as_bytes(std::span(data)), kAt).ok());
    }
    ASSERT_TRUE(copy_sparse(path("image"), path("copy")).ok());
    EXPECT_EQ(*file_size(path("copy")), kSize);
    std::string back(data.size(), '\0');
    const UniqueFd copy = open_file(path("copy"), O_RDONLY).value();
    ASSERT_EQ(*pread_some(copy.get(), std::as_writable_bytes(std::span(back)), kAt), data.size());
    EXPECT_EQ(back, data);
    struct stat status {};
    ASSERT_EQ(::fstat(copy.get(), &status), 0);
    EXPECT_LT(status.st_blocks * 512, 1 << 20);
}

TEST_F(DiskFileTest, GrowsToTheFlavorOrKeepsTheImagesSize) {
    ASSERT_TRUE(write_file_atomic(path("image"), "image").ok());
    ASSERT_TRUE(make_root_disk(path("image"), 5, 2, path("grown")).ok());
    EXPECT_EQ(*file_size(path("grown")), uint64_t{2} << 30);
    ASSERT_TRUE(make_root_disk(path("image"), 5, 0, path("same")).ok());
    EXPECT_EQ(*read_file(path("same")), "image");
}

}  // namespace
}  // namespace kumoi::compute
