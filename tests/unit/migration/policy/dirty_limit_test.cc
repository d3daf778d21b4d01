#include "migration/policy/dirty_limit.h"

#include <gtest/gtest.h>

#include <vector>

namespace kumoi::migration {
namespace {

constexpr uint64_t kMiB = 1u << 20;

uint64_t limit(std::vector<uint64_t> mib, uint64_t total) {
    for (uint64_t& rate : mib) {
        rate *= kMiB;
    }
    return dirty_limit(mib, total * kMiB) / kMiB;
}

TEST(DirtyLimit, OnlyTheWriterIsHeld) {
    EXPECT_EQ(limit({400, 0, 0, 0}, 100), 100u);
    EXPECT_EQ(limit({0, 10, 400, 0}, 100), 90u);  // what the small one writes stays his
}

TEST(DirtyLimit, WritersShareEvenly) {
    EXPECT_EQ(limit({400, 400}, 100), 50u);
    EXPECT_EQ(limit({400, 300, 20, 0}, 100), 40u);
    EXPECT_EQ(limit({60, 30, 30}, 100), 40u);
}

TEST(DirtyLimit, WhereItAllFitsNobodyIsHeld) {
    EXPECT_EQ(limit({10, 20, 30}, 100), 100u);
    EXPECT_EQ(limit({}, 100), 100u);
    EXPECT_EQ(limit({100}, 100), 100u);
}

TEST(DirtyLimit, AGuestIsNeverStoppedByIt) {
    EXPECT_EQ(dirty_limit(std::vector<uint64_t>{kMiB, kMiB}, 10), kDirtyLimitMin);
    EXPECT_EQ(dirty_limit({}, 0), kDirtyLimitMin);
}

TEST(DirtyLimit, EachStepLeavesLess) {
    EXPECT_EQ(dirty_allowance(20, 1000 * kMiB) / kMiB, 800u);
    EXPECT_EQ(dirty_allowance(99, 1000), 10u);
    EXPECT_EQ(dirty_allowance(120, 1000), 0u);
}

}  // namespace
}  // namespace kumoi::migration
