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

}  // namespace
}  // namespace kumoi::compute
