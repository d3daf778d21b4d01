#include "compute/driver/live_disks.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "base/subprocess.h"
#include "compute/driver/disk_file.h"
#include "tests/support/programs.h"

namespace kumoi::compute {
namespace {

constexpr uint64_t kMib = 1 << 20;

class LiveDisksTest : public testing::Test {
protected:
    void SetUp() override {
        options_.img_path = kumoi_img();
        ASSERT_NE(options_.img_path, "") << "kumoi-img is not built beside the tests";
        ASSERT_TRUE(make_directories(here_.path()).ok());
        ASSERT_TRUE(make_directories(there_.path()).ok());
        ASSERT_TRUE(write_file_atomic(base_of(here_.disk()), std::string(kMib, 'i')).ok());
        CommandOptions in_folder;
        in_folder.directory = here_.path();
        ASSERT_TRUE(run_checked({options_.img_path, "create", "-b", "disk.base", "-F", "raw",
                                 "disk", std::to_string(8 * kMib)},
                                in_folder)
                        .ok());
        ASSERT_TRUE(record_root_disk(here_, "qcow2").ok());
        ASSERT_TRUE(make_blank_disk(here_.swap(), 2 * kMib).ok());
        for (const char* name : {"/config.json", "/guest.json", "/lock", "/departure.json",
                                 "/disk.config", "/kernel", "/console.log"}) {
            ASSERT_TRUE(write_file_atomic(here_.path() + name, "x").ok());
        }
    }
    TemporaryDirectory directory_ = TemporaryDirectory::create("live-disks").value();
    InstanceFolder here_{directory_.path(), "here"};
    InstanceFolder there_{directory_.path(), "there"};
    RootDiskOptions options_;
};

TEST_F(LiveDisksTest, DisksTravelAndTheRestIsFetched) {
    const auto disks = live_disks_of(here_, options_);
    ASSERT_TRUE(disks.ok()) << disks.error().text();
    ASSERT_EQ(disks->size(), 2u);
    EXPECT_EQ((*disks)[0].id, "root");
    EXPECT_EQ((*disks)[0].backing, "disk.base");
    EXPECT_EQ((*disks)[0].backing_format, "raw");
    EXPECT_EQ((*disks)[0].size, 8 * kMib);
    EXPECT_EQ((*disks)[1].id, "swap");
    const auto still = still_files_of(here_, *disks);
    ASSERT_TRUE(still.ok());
    EXPECT_EQ(*still,
              (std::vector<std::string>{"disk.base", "disk.config", "disk.info", "kernel"}));
}

TEST_F(LiveDisksTest, TheSameDisksAreMadeEmptyOverThere) {
    const LiveDisks told{live_disks_of(here_, options_).value(), "ticket"};
    const auto heard = LiveDisks::parse(told.text());
    ASSERT_TRUE(heard.ok()) << heard.error().text();
    EXPECT_EQ(heard->files, "ticket");
    EXPECT_EQ(heard->ids(), (std::vector<std::string>{"root", "swap"}));
    ASSERT_TRUE(copy_sparse(base_of(here_.disk()), base_of(there_.disk())).ok());
    ASSERT_TRUE(copy_sparse(here_.disk_info(), there_.disk_info()).ok());
    const auto made = make_empty_disks(there_, heard->disks, options_);
    ASSERT_TRUE(made.ok()) << made.error().text();
    const auto again = live_disks_of(there_, options_);
    ASSERT_TRUE(again.ok()) << again.error().text();
    EXPECT_EQ((*again)[0].size, 8 * kMib);
    EXPECT_EQ((*again)[0].backing, "disk.base");
    EXPECT_EQ((*again)[1].size, 2 * kMib);
}

TEST_F(LiveDisksTest, APeerNamesNoFileElsewhere) {
    for (const char* bad :
         {R"({"id":"root","file":"../disk","format":"raw","size":1})",
          R"({"id":"root","file":"disk","format":"qcow2","backing":"/etc/passwd","size":1})",
          R"({"id":"root","file":"disk","format":"vmdk","size":1})",
          R"({"id":"root","file":"disk","format":"raw","size":-1})",
          R"({"id":"root","file":"disk","format":"raw","size":0})", R"("text")"}) {
        const std::string text =
            std::string(R"({"format":"kumoi-live-disks-1","disks":[)") + bad + "]}";
        EXPECT_FALSE(LiveDisks::parse(text).ok()) << bad;
    }
    EXPECT_FALSE(LiveDisks::parse("{}").ok());
}

}  // namespace
}  // namespace kumoi::compute
