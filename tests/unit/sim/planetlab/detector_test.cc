#include "sim/planetlab/detector.h"

#include <gtest/gtest.h>

namespace kumoi::sim {
namespace {

HostHistory filled(size_t count, double newest, double step) {
    HostHistory history{};
    for (size_t i = 0; i < count; ++i) {
        history[i] = newest - static_cast<double>(i) * step;
    }
    return history;
}

bool overloaded(Detector kind, double requested, const HostHistory& history) {
    return is_overloaded({kind, default_parameter(kind), false}, {requested, 100, 870, history});
}

TEST(DetectorTest, ThresholdLooksAtTheRequestAlone) {
    const HostHistory none{};
    EXPECT_FALSE(overloaded(Detector::Threshold, 80, none));
    EXPECT_TRUE(overloaded(Detector::Threshold, 80.001, none));
}

TEST(DetectorTest, WithoutEnoughHistoryTheFallbackIs70Percent) {
    for (const Detector kind :
         {Detector::MedianDeviation, Detector::QuartileRange, Detector::Regression}) {
        const HostHistory few = filled(9, 0.5, 0);
        EXPECT_FALSE(overloaded(kind, 70, few));
        EXPECT_TRUE(overloaded(kind, 71, few));
    }
    EXPECT_TRUE(overloaded(Detector::MedianDeviation, 71, filled(11, 0.5, 0)));
    EXPECT_FALSE(overloaded(Detector::MedianDeviation, 99, filled(12, 0.5, 0)));
}

TEST(DetectorTest, SpreadLowersTheThreshold) {
    // 0.13, 0.12, ... 0.02: median 0.075, deviations 0.005 to 0.055 twice each, their median 0.03;
    // sorted places round(0.25 * 13) - 1 = 2 and round(0.75 * 13) - 1 = 9: 0.11 - 0.04 = 0.07.
    const HostHistory history = filled(12, 0.13, 0.01);
    EXPECT_FALSE(overloaded(Detector::MedianDeviation, 92.4, history));
    EXPECT_TRUE(overloaded(Detector::MedianDeviation, 92.6, history));
    EXPECT_FALSE(overloaded(Detector::QuartileRange, 89.4, history));
    EXPECT_TRUE(overloaded(Detector::QuartileRange, 89.6, history));
}

TEST(DetectorTest, RegressionLooksOneStepAhead) {
    // A line that grows by 0.02 a sample: next is newest + 0.02, times 1.2.
    EXPECT_TRUE(overloaded(Detector::Regression, 0, filled(10, 0.8134, 0.02)));
    EXPECT_FALSE(overloaded(Detector::Regression, 0, filled(10, 0.8132, 0.02)));
    EXPECT_FALSE(overloaded(Detector::Regression, 100, filled(10, 0.5, 0)));
}

TEST(DetectorTest, WeightsAndRobustnessDifferWhereAnOutlierIs) {
    HostHistory history = filled(10, 0.80, 0);
    history[8] = 0;  // long ago, far off: plain least squares sees a rise
    const HostLoad load{0, 100, 870, history};
    EXPECT_TRUE(is_overloaded({Detector::Regression, 1.2, false}, load));
    EXPECT_TRUE(is_overloaded({Detector::RobustRegression, 1.2, false}, load));
    EXPECT_FALSE(is_overloaded({Detector::RobustRegression, 1.2, true}, load));
}

TEST(DetectorTest, LineThroughPointsIsFound) {
    const double y[] = {3, 5, 7, 9};
    const double weights[] = {1, 0.2, 5, 1};
    const Line line = fit_line(y, weights, 4);
    EXPECT_NEAR(line.intercept, 1, 1e-12);
    EXPECT_NEAR(line.slope, 2, 1e-12);
}

TEST(DetectorTest, MedianOfFewAndMany) {
    double one[] = {4};
    double even[] = {4, 1, 3, 2};
    double odd[] = {9, 1, 5};
    EXPECT_EQ(median(one, 1), 4);
    EXPECT_EQ(median(even, 4), 2.5);
    EXPECT_EQ(median(odd, 3), 5);
}

}  // namespace
}  // namespace kumoi::sim
