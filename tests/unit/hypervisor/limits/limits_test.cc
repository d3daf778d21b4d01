#include "hypervisor/limits/limits.h"

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

Result<DiskLimits> parse(const std::string& text) {
    const Json json = Json::parse(text).value();
    return parse_disk_limits(JsonView(json, "limits"));
}

TEST(DiskLimits, ReadsAndWritesEveryName) {
    const std::string text = R"({"total_bytes_sec": 100, "total_bytes_sec_max": 200,
        "total_bytes_sec_max_length": 30, "read_iops_sec": 5, "write_iops_sec": 6,
        "write_iops_sec_max": 60, "size_iops_sec": 4096})";
    const auto limits = parse(text);
    ASSERT_TRUE(limits.ok()) << limits.error().text();
    EXPECT_EQ(limits->total_bytes, (RateLimit{.average = 100, .maximum = 200, .length = 30}));
    EXPECT_EQ(limits->read_iops.average, 5u);
    EXPECT_EQ(limits->write_iops, (RateLimit{.average = 6, .maximum = 60}));
    EXPECT_EQ(limits->iops_size, 4096u);
    const Json written = disk_limits_json(*limits);
    EXPECT_EQ(parse_disk_limits(JsonView(written)).value(), *limits);
}

TEST(DiskLimits, NothingIsNoLimit) {
    EXPECT_EQ(parse("{}").value(), DiskLimits{});
    EXPECT_EQ(disk_limits_json({}), Json::object());
}

TEST(DiskLimits, RefusesWhatMakesNoSense) {
    for (const char* text :
         {R"({"total_bytes_sec": -1})", R"({"total_bytes_sec": "5"})",
          R"({"total_bytes_sec": 10, "total_bytes_sec_max": 5})", R"({"total_bytes_sec_max": 5})",
          R"({"total_bytes_sec": 1, "read_bytes_sec": 1})",
          R"({"total_bytes_sec": 1, "total_bytes_sec_max": 2, "total_bytes_sec_max_length": 0})",
          R"({"total_bytes_sec": 9999999999999999})", "[]", "7"}) {
        EXPECT_FALSE(parse(text).ok()) << text;
    }
    const auto misspelt = parse(R"({"total_byte_sec": 1})");
    ASSERT_FALSE(misspelt.ok());
    EXPECT_NE(misspelt.error().message.find("total_bytes_sec"), std::string::npos);
}

TEST(NicLimits, ReadsBothDirections) {
    const Json json = Json::parse(R"({"inbound_bytes_sec": 10, "inbound_burst_bytes": 30,
        "outbound_bytes_sec": 5, "outbound_bytes_sec_max": 7})")
                          .value();
    const auto limits = parse_nic_limits(JsonView(json));
    ASSERT_TRUE(limits.ok()) << limits.error().text();
    EXPECT_EQ(limits->inbound, (RateLimit{.average = 10, .burst = 30}));
    EXPECT_EQ(limits->outbound, (RateLimit{.average = 5, .maximum = 7}));
    EXPECT_EQ(nic_limits_json(*limits), json);
    EXPECT_EQ(nic_limits_json({}), Json::object());
}

}  // namespace
}  // namespace kumoi::hypervisor
