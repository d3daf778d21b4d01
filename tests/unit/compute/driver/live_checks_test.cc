#include "compute/driver/live_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

LiveFacts host(const std::string& name) {
    LiveFacts facts;
    facts.host = name;
    facts.version = "1.0";
    facts.boards = {"kumoi-1"};
    facts.cpu_model = "host";
    facts.cpu_info = Json::parse(R"({"vendor":"GenuineIntel","features":["avx","sse2"]})").value();
    facts.probe = "_probe-x";
    facts.disk_available_mb = 1000;
    return facts;
}

LiveSubject subject() {
    LiveSubject one;
    one.running = true;
    one.has_local_disks = true;
    one.disk_needed_mb = 500;
    one.disk_virtual_mb = 2000;
    return one;
}

TEST(LiveChecks, FactsComeBackAsTheyWereTold) {
    const LiveFacts facts = host("two");
    const auto again = LiveFacts::parse(facts.text());
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->text(), facts.text());
    EXPECT_EQ(LiveFacts::parse("from libvirt").error().fault, "MigrationPreCheckError");
}

TEST(LiveChecks, EqualHostsHaveNoObstacles) {
    EXPECT_THAT(live_obstacles(host("one"), host("two"), subject()), IsEmpty());
}

TEST(LiveChecks, EveryReasonIsNamed) {
    LiveFacts there = host("two");
    there.boards = {"kumoi-2"};
    there.cpu_model = "x86-64-v2";
    there.cpu_info = Json::parse(R"({"vendor":"GenuineIntel","features":["sse2"]})").value();
    LiveSubject still = subject();
    still.running = false;
    still.rescued = true;
    const auto reasons = live_obstacles(host("one"), there, still);
    ASSERT_EQ(reasons.size(), 5u);
    EXPECT_THAT(reasons[0], HasSubstr("does not run"));
    EXPECT_THAT(reasons[1], HasSubstr("rescued"));
    EXPECT_THAT(reasons[2], HasSubstr("kumoi-1"));
    EXPECT_THAT(reasons[3], HasSubstr("x86-64-v2"));
    EXPECT_THAT(reasons[4], HasSubstr("avx"));
}

TEST(LiveChecks, MaskedFeaturesAreNotMissed) {
    LiveFacts here = host("one");
    LiveFacts there = host("two");
    there.cpu_info = Json::parse(R"({"vendor":"GenuineIntel","features":["sse2"]})").value();
    here.cpu_masked = there.cpu_masked = {"avx"};
    EXPECT_THAT(live_obstacles(here, there, subject()), IsEmpty());
    there.cpu_info = Json::parse(R"({"vendor":"AuthenticAMD","features":[]})").value();
    EXPECT_EQ(live_obstacles(here, there, subject()).size(), 1u);
}

struct Case {
    std::optional<bool> asked;
    bool sees_probe;
    bool volume_backed;
    bool local_disks;
    std::string result;  // block, shared, volumes, or a fault
};

TEST(LiveChecks, DecidesAsNovaDoes) {
    for (const Case& one :
         {Case{{}, false, false, true, "block"}, Case{{}, true, false, true, "shared"},
          Case{{}, false, true, false, "volumes"}, Case{{}, false, true, true, "block"},
          Case{true, false, false, true, "block"},
          Case{true, true, false, true, "InvalidLocalStorage"},
          Case{true, false, true, false, "InvalidLocalStorage"},
          Case{false, false, false, true, "InvalidSharedStorage"},
          Case{false, true, false, true, "shared"}, Case{false, false, true, false, "volumes"},
          Case{false, false, true, true, "InvalidSharedStorage"}}) {
        LiveMigrationQuestion question;
        question.block_migration = one.asked;
        question.is_volume_backed = one.volume_backed;
        LiveSubject about = subject();
        about.sees_probe = one.sees_probe;
        about.has_local_disks = one.local_disks;
        const auto plan = plan_live_migration(question, about);
        const std::string result = !plan.ok()                   ? plan.error().fault
                                   : plan->block_migration      ? "block"
                                   : plan->shared_instance_path ? "shared"
                                                                : "volumes";
        EXPECT_EQ(result, one.result);
    }
}

TEST(LiveChecks, DisksMustFitAsTheyMayBecomeUnlessOvercommitted) {
    LiveMigrationQuestion question;
    const LiveMigrationPlan block{true, false};
    EXPECT_EQ(live_disk_obstacles(question, block, host("two"), subject()).size(), 1u);
    EXPECT_THAT(live_disk_obstacles(question, {false, true}, host("two"), subject()), IsEmpty());
    question.disk_over_commit = true;
    EXPECT_THAT(live_disk_obstacles(question, block, host("two"), subject()), IsEmpty());
}

}  // namespace
}  // namespace kumoi::compute
