#include "compute/driver/resize_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "compute/driver/resize_rules.h"

namespace kumoi::compute {
namespace {

const std::string kUuid = "11111111-2222-4333-8444-555555555555";

class ResizeFolder : public testing::Test {
protected:
    ResizeFolder() {
        EXPECT_TRUE(make_directories(folder_.path()).ok());
        EXPECT_TRUE(write_file_atomic(folder_.disk(), "old").ok());
        EXPECT_TRUE(write_file_atomic(folder_.lock(), "").ok());
    }
    std::string disk() const { return read_file(folder_.disk()).value_or("gone"); }
    void expect_alone() {
        EXPECT_EQ(*list_directory(directory_.path()), std::vector<std::string>{kUuid});
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("resize").value();
    InstanceFolder folder_{directory_.path(), kUuid};
};

TEST_F(ResizeFolder, BringsBackWhatWasThere) {
    ASSERT_TRUE(resize_folder::keep_aside(folder_).ok());
    EXPECT_EQ(disk(), "old");
    EXPECT_FALSE(path_exists(folder_.lock()));  // belongs to a process that is gone
    ASSERT_TRUE(write_file_atomic(folder_.disk(), "new").ok());
    ASSERT_TRUE(resize_folder::restore(folder_).ok());
    EXPECT_EQ(disk(), "old");
    expect_alone();
}

TEST_F(ResizeFolder, DiscardsWhatWasThere) {
    ASSERT_TRUE(resize_folder::keep_aside(folder_).ok());
    ASSERT_TRUE(write_file_atomic(folder_.disk(), "new").ok());
    ASSERT_TRUE(resize_folder::discard(folder_).ok());
    EXPECT_EQ(disk(), "new");
    expect_alone();
}

TEST_F(ResizeFolder, IsRestoredAfterACrashAtAnyStep) {
    // Before anything: a copy that was begun.
    ASSERT_TRUE(make_directories(folder_.resize_work()).ok());
    ASSERT_TRUE(write_file_atomic(folder_.resize_work() + "/disk", "half").ok());
    ASSERT_TRUE(resize_folder::restore(folder_).ok());
    EXPECT_EQ(disk(), "old");
    expect_alone();
    // Between the two renames: the server's own folder is not there.
    ASSERT_TRUE(make_directories(folder_.resize_work()).ok());
    ASSERT_EQ(::rename(folder_.path().c_str(), folder_.resize_kept().c_str()), 0);
    ASSERT_TRUE(resize_folder::restore(folder_).ok());
    EXPECT_EQ(disk(), "old");
    expect_alone();
    // With nothing to do.
    ASSERT_TRUE(resize_folder::restore(folder_).ok());
    EXPECT_EQ(disk(), "old");
}

TEST_F(ResizeFolder, KeepingTwiceKeepsTheFirst) {
    ASSERT_TRUE(resize_folder::keep_aside(folder_).ok());
    ASSERT_TRUE(write_file_atomic(folder_.disk(), "new").ok());
    ASSERT_TRUE(resize_folder::keep_aside(folder_).ok());
    ASSERT_TRUE(resize_folder::restore(folder_).ok());
    EXPECT_EQ(disk(), "old");
}

TEST(ResizeRules, DisksNeverShrink) {
    Flavor small;
    small.root_gb = 1;
    Flavor large = small;
    large.root_gb = 2;
    large.ephemeral_gb = 1;
    EXPECT_TRUE(check_resize(small, large).ok());
    EXPECT_TRUE(check_resize(small, small).ok());
    const auto refused = check_resize(large, small);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().fault, "ResizeError");
    small.root_gb = 2;
    EXPECT_FALSE(check_resize(large, small).ok());  // the ephemeral disk
}

}  // namespace
}  // namespace kumoi::compute
