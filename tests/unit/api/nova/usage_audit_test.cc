#include "api/nova/usage_audit.h"

#include <gtest/gtest.h>

#include "tests/support/golden_messages.h"
#include "tests/support/quiet_rpc.h"

namespace kumoi::nova {
namespace {

constexpr int64_t kNow = 1'795'426'723'000'000'000;  // 2026-11-23T09:38:43Z

std::string period(const std::string& unit, int64_t now = kNow) {
    const auto found = last_audit_period(unit, now);
    return found.ok() ? iso8601(found->begin_ns) + " " + iso8601(found->end_ns)
                      : found.error().fault + "-";
}

TEST(AuditPeriod, IsTheLastWholeOne) {
    EXPECT_EQ(period("month"), "2026-10-01T00:00:00Z 2026-11-01T00:00:00Z");
    EXPECT_EQ(period("month@15"), "2026-10-15T00:00:00Z 2026-11-15T00:00:00Z");
    EXPECT_EQ(period("month@24"), "2026-09-24T00:00:00Z 2026-10-24T00:00:00Z");
    EXPECT_EQ(period("year"), "2025-01-01T00:00:00Z 2026-01-01T00:00:00Z");
    EXPECT_EQ(period("year@12"), "2024-12-01T00:00:00Z 2025-12-01T00:00:00Z");
    EXPECT_EQ(period("day"), "2026-11-22T00:00:00Z 2026-11-23T00:00:00Z");
    EXPECT_EQ(period("day@10"), "2026-11-21T10:00:00Z 2026-11-22T10:00:00Z");
    EXPECT_EQ(period("hour"), "2026-11-23T08:00:00Z 2026-11-23T09:00:00Z");
    EXPECT_EQ(period("hour@45"), "2026-11-23T07:45:00Z 2026-11-23T08:45:00Z");
    for (const char* wrong : {"", "week", "month@0", "month@29", "hour@60", "day@x", "day@1x"}) {
        EXPECT_FALSE(last_audit_period(wrong, kNow).ok()) << wrong;
    }
}

class UsageAuditTest : public testing::TestWithParam<Release> {
protected:
    Json servers() {
        NovaObject list = NovaObject::make(objects.table(), "InstanceList");
        Json members = Json::array();
        members.push_back(*test::golden_message(GetParam(), "compute.stop_instance")
                               .find_path({"args", "instance"}));
        list.set("objects", std::move(members));
        return list.primitive();
    }
    ManualClock clock{kNow};
    SeededRandom random{1, "usage audit"};
    test::QuietRpc rpc;
    ObjectClient objects{rpc, ObjectTable::of(GetParam())};
    NodeRecords node{objects,
                     clock,
                     random,
                     {"cmp1", "cmp1", GetParam()},
                     [](const compute::ComputeNode&, bool) { return Result<void>(); }};
    std::vector<std::pair<std::string, Json>> told;
    InstanceNotifications notifications{
        {[](InstanceNotifications::Format) { return true; },
         [this](InstanceNotifications::Format, const std::string&, const std::string&,
                const std::string& event, const Json& payload,
                const Json&) { told.emplace_back(event, payload); }},
        GetParam(),
        "cmp1",
        "",
        clock};
    UsageAudit audit{{objects, node, &notifications, clock, random}, "month"};
};
INSTANTIATE_TEST_SUITE_P(Nova, UsageAuditTest, testing::Values(Release::Zed, Release::Gazpacho));

TEST_P(UsageAuditTest, TellsEachServerOnceInAPeriodAndNotesIt) {
    rpc.answers = {Json(), servers()};
    ASSERT_TRUE(audit.run().ok());
    EXPECT_EQ(rpc.calls(),
              (std::vector<std::string>{"TaskLog.get", "InstanceList._get_active_by_window_joined",
                                        "TaskLog.begin_task", "TaskLog.end_task"}));
    EXPECT_EQ(rpc.sent[0].args.find("args")->dump(),
              R"(["instance_usage_audit","2026-10-01T00:00:00.000000",)"
              R"("2026-11-01T00:00:00.000000","cmp1"])");
    ASSERT_EQ(told.size(), 2u);
    EXPECT_EQ(told[0].first, "compute.instance.exists");
    EXPECT_EQ(told[0].second.string_or("audit_period_beginning"), "2026-10-01 00:00:00");
    EXPECT_EQ(told[1].first, "instance.exists");
    const Json& log = *rpc.sent[3].args.find_path({"objinst", "nova_object.data"});
    EXPECT_EQ(log.integer_or("task_items"), 1);
    EXPECT_EQ(log.string_or("message"),
              "Instance usage audit ran for host cmp1, 1 instances in 0 seconds.");
    ASSERT_TRUE(audit.run().ok());
    EXPECT_EQ(rpc.sent.size(), 4u);
    clock.advance(10 * 86400 * kNanosPerSecond);  // December
    NovaObject done = NovaObject::make(objects.table(), "TaskLog");
    rpc.answers = {done.primitive()};  // told before a restart
    ASSERT_TRUE(audit.run().ok());
    EXPECT_EQ(rpc.sent.size(), 5u);
    EXPECT_EQ(told.size(), 2u);
}

}  // namespace
}  // namespace kumoi::nova
