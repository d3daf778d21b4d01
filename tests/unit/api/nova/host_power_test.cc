#include "api/nova/host_power.h"

#include <gtest/gtest.h>

#include "base/file.h"

namespace kumoi::nova {
namespace {

TEST(HostPower, IsRefusedByDefaultAndSaysWhichOptionAllowsIt) {
    const HostPower power({});
    const auto refused = power.act("reboot");
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().fault, "NotImplementedError");
    EXPECT_NE(refused.error().message.find("[kumoi] host_power_command"), std::string::npos);
}

TEST(HostPower, RunsTheOperatorsCommandWithTheVerbAsItsLastWord) {
    const auto directory = TemporaryDirectory::create("power").value();
    const std::string told = directory.path() + "/told";
    const HostPower power({"sh", "-c", R"(echo "$0 $1" >> ")" + told + R"(")", "as-asked"});
    EXPECT_EQ(power.act("reboot").value(), "reboot");
    EXPECT_EQ(power.act("shutdown").value(), "shutdown");
    EXPECT_EQ(read_file(told).value(), "as-asked reboot\nas-asked poweroff\n");
}

TEST(HostPower, KnowsNoOtherActions) {
    std::vector<std::string> argv;
    const HostPower power({"systemctl", "--no-block"}, [&](const auto& given) {
        argv = given;
        return Result<void>(Error::unavailable("no bus"));
    });
    EXPECT_EQ(power.act("startup").error().fault, "NotImplementedError");
    EXPECT_EQ(power.act("reboot; rm -rf /").error().fault, "InvalidInput");
    EXPECT_TRUE(argv.empty());
    EXPECT_FALSE(power.act("shutdown").ok());
    EXPECT_EQ(argv, (std::vector<std::string>{"systemctl", "--no-block", "poweroff"}));
}

}  // namespace
}  // namespace kumoi::nova
