#include "sim/planetlab/selector.h"

#include <gtest/gtest.h>

namespace kumoi::sim {
namespace {

TEST(SelectorTest, CorrelationsOfTwoRowsAreTheirSquaredPearson) {
    const std::vector<std::vector<double>> rows = {{1, 2, 3, 4}, {1, 3, 2, 5}};
    const auto found = multiple_correlations(rows);
    ASSERT_EQ(found.size(), 2u);
    // Sxx 5, Syy 8.75, Sxy 5.5: 5.5^2 / (5 * 8.75).
    EXPECT_NEAR(found[0], 0.691428571428571, 1e-12);
    EXPECT_NEAR(found[1], 0.691428571428571, 1e-12);
}

TEST(SelectorTest, ARowMadeOfOthersOrTooFewSamplesCannotBeTold) {
    EXPECT_TRUE(multiple_correlations({{1, 2, 4, 8}, {2, 4, 8, 16}}).empty());
    EXPECT_TRUE(multiple_correlations({{1, 1, 1, 1}, {2, 4, 8, 16}}).empty());
    EXPECT_TRUE(multiple_correlations({{1, 2}, {3, 1}, {2, 2}}).empty());
    EXPECT_TRUE(multiple_correlations({{1, 2, 3}}).empty());
}

class SelectorChoiceTest : public ::testing::Test {
protected:
    static TraceDay day() {
        TraceDay day{"d", {}};
        for (unsigned i = 0; i < 8; ++i) {  // two machines of each type
            UtilizationTrace trace{std::to_string(i), {}};
            for (size_t k = 0; k < kSamplesPerDay; ++k) {
                trace.percent[k] = static_cast<uint8_t>((k * (i + 3) * 7 + i * 13) % 90 + 1);
            }
            day.traces.push_back(trace);
        }
        return day;
    }

    SelectorChoiceTest() : fleet_(day(), 2), history_(8, kSamplesPerDay), random_(1) {
        for (int k = 1; k <= 12; ++k) {
            fleet_.request_at(300.0 * k);
            history_.record(fleet_);
        }
    }
    size_t choose(Selector selector, const std::vector<int>& candidates) {
        return select_machine(selector, candidates, fleet_, history_, random_);
    }

    Fleet fleet_;
    LoadHistory history_;
    SeededRandom random_;
};

TEST_F(SelectorChoiceTest, MinimumMigrationTimeTakesTheFirstOfTheSmallest) {
    EXPECT_EQ(choose(Selector::MinimumMigrationTime, {2, 0, 1}), 1u);  // 1740, 870, 870 MiB
    EXPECT_EQ(choose(Selector::MinimumMigrationTime, {0, 7, 6}), 1u);  // 613 MiB
}

TEST_F(SelectorChoiceTest, MinimumUtilizationComparesSharesNotMips) {
    size_t least = 0;
    for (size_t i = 1; i < 8; ++i) {
        least = fleet_.utilization(i) < fleet_.utilization(least) ? i : least;
    }
    EXPECT_EQ(choose(Selector::MinimumUtilization, {0, 1, 2, 3, 4, 5, 6, 7}), least);
}

TEST_F(SelectorChoiceTest, RandomSelectionReachesAll) {
    std::array<bool, 3> seen{};
    for (int i = 0; i < 100; ++i) {
        seen.at(choose(Selector::RandomSelection, {0, 1, 2})) = true;
    }
    EXPECT_TRUE(seen[0] && seen[1] && seen[2]);
}

TEST_F(SelectorChoiceTest, MaximumCorrelationFallsBackToMigrationTime) {
    EXPECT_EQ(choose(Selector::MaximumCorrelation, {2}), 0u);
    std::vector<std::vector<double>> rows;
    for (const size_t machine : {0u, 3u, 5u}) {
        std::vector<double>& row = rows.emplace_back();
        for (size_t age = 0; age < history_.size(); ++age) {
            row.push_back(history_.machine(machine, age));
        }
    }
    const auto expected = multiple_correlations(rows);
    ASSERT_EQ(expected.size(), 3u);
    const auto best = std::max_element(expected.begin(), expected.end()) - expected.begin();
    EXPECT_EQ(choose(Selector::MaximumCorrelation, {0, 3, 5}), static_cast<size_t>(best));
}

}  // namespace
}  // namespace kumoi::sim
