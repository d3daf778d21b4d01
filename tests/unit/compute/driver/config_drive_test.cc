#include "compute/driver/config_drive.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::compute {
namespace {

class ConfigDriveTest : public testing::Test {
protected:
    std::string iso() const { return directory_.path() + "/disk.config"; }
    TemporaryDirectory directory_ = TemporaryDirectory::create("iso").value();
};

TEST_F(ConfigDriveTest, RefusesPathsThatLeaveTheDrive) {
    EXPECT_FALSE(make_config_drive({{"../etc/passwd", "x"}}, iso()).ok());
    EXPECT_FALSE(make_config_drive({{"/etc/passwd", "x"}}, iso()).ok());
    EXPECT_TRUE(list_directory(directory_.path())->empty());
}

TEST_F(ConfigDriveTest, FailsWithoutItsFolder) {
    EXPECT_FALSE(make_config_drive({{"a", "b"}}, directory_.path() + "/no/such/disk").ok());
}

TEST_F(ConfigDriveTest, HoldsTheFilesUnderTheLabelCloudInitLooksFor) {
    ASSERT_TRUE(make_config_drive({{"openstack/latest/meta_data.json", "{\"uuid\":\"u\"}"},
                                   {"openstack/content/0000", std::string(5000, 'x')}},
                                  iso())
                    .ok());
    const std::string bytes = read_file(iso()).value();
    constexpr size_t kVolumeId = 16 * 2048 + 40;  // ECMA-119 §8.4.7, primary volume descriptor
    EXPECT_EQ(bytes.substr(16 * 2048 + 1, 5), "CD001");
    EXPECT_EQ(bytes.substr(kVolumeId, 9), "config-2 ");
    const std::string out = directory_.path() + "/out";
    ASSERT_TRUE(
        run_checked({"xorriso", "-osirrox", "on", "-indev", iso(), "-extract", "/openstack", out})
            .ok());
    EXPECT_EQ(*read_file(out + "/latest/meta_data.json"), "{\"uuid\":\"u\"}");
    EXPECT_EQ(read_file(out + "/content/0000")->size(), 5000u);
}

}  // namespace
}  // namespace kumoi::compute
