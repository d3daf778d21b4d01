#include "compute/driver/quota_specs.h"

#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

TEST(QuotaSpecs, NothingIsNoLimit) {
    EXPECT_TRUE(check_quota_specs({}).ok());
    EXPECT_EQ(disk_limits({{"hw:cpu_policy", "shared"}}), Json::object());
    EXPECT_EQ(nic_limits({}), Json::object());
}

TEST(QuotaSpecs, EveryDiskSpecReachesTheGuest) {
    Properties specs;
    Json expected = Json::object();
    int64_t value = 100;
    for (const char* unit : {"bytes", "iops"}) {
        for (const char* direction : {"read", "write"}) {
            const std::string member = fmt::format("{}_{}_sec", direction, unit);
            for (const char* end : {"", "_max", "_max_length"}) {
                specs["quota:disk_" + member + end] = std::to_string(value);
                expected.set(member + end, value++);
            }
        }
    }
    specs["quota:disk_size_iops_sec"] = "4096";
    expected.set("size_iops_sec", int64_t{4096});
    ASSERT_TRUE(check_quota_specs(specs).ok());
    EXPECT_EQ(disk_limits(specs), expected);
    const Properties total{{"quota:disk_total_bytes_sec", "7"}, {"quota:disk_total_iops_sec", "8"}};
    ASSERT_TRUE(check_quota_specs(total).ok());
    EXPECT_EQ(disk_limits(total),
              Json::object({{"total_bytes_sec", int64_t{7}}, {"total_iops_sec", int64_t{8}}}));
}

TEST(QuotaSpecs, NetworkKilobytesBecomeBytes) {
    const Properties specs{{"quota:vif_inbound_average", "10"},
                           {"quota:vif_inbound_peak", "20"},
                           {"quota:vif_inbound_burst", "30"},
                           {"quota:vif_outbound_average", "40"}};
    ASSERT_TRUE(check_quota_specs(specs).ok());
    EXPECT_EQ(nic_limits(specs), Json::object({{"inbound_bytes_sec", int64_t{10240}},
                                               {"inbound_bytes_sec_max", int64_t{20480}},
                                               {"inbound_burst_bytes", int64_t{30720}},
                                               {"outbound_bytes_sec", int64_t{40960}}}));
}

TEST(QuotaSpecs, RefusesWhatContradictsItself) {
    for (const Properties& specs : std::vector<Properties>{
             {{"quota:disk_read_bytes_sec", "much"}},
             {{"quota:disk_read_bytes_sec", "-1"}},
             {{"quota:disk_read_bytes_sec", "1.5"}},
             {{"quota:vif_inbound_average", "99999999999999999"}},
             {{"quota:disk_read_iops_sec", "10"}, {"quota:disk_read_iops_sec_max", "5"}},
             {{"quota:disk_read_iops_sec_max", "5"}},
             {{"quota:disk_total_iops_sec", "10"}, {"quota:disk_read_iops_sec", "5"}},
             {{"quota:vif_outbound_peak", "5"}},
             {{"quota:vif_outbound_burst", "5"}}}) {
        const auto checked = check_quota_specs(specs);
        ASSERT_FALSE(checked.ok()) << specs.begin()->first;
        EXPECT_EQ(checked.error().fault, "InvalidInput");
        EXPECT_NE(checked.error().message.find("quota:"), std::string::npos);
    }
}

}  // namespace
}  // namespace kumoi::compute
