#include "migration/source/slowdown_meter.h"

#include <gtest/gtest.h>

namespace kumoi::migration {
namespace {

TEST(SlowdownMeter, CountsRestsAndStopsAfterWhichTheGuestWentOn) {
    SlowdownMeter meter;
    meter.begin(1000, 500);  // it had rested before
    meter.stopped(1000);
    meter.goes_on(1010, 2);
    auto figures = meter.figures(2000, 500 + 80, 2);
    EXPECT_EQ(figures.lost_ns, 100);
    EXPECT_DOUBLE_EQ(figures.percent, 5);
    meter.stopped(2000);
    figures = meter.figures(9000, 500 + 80, 2);  // this stop may be the downtime
    EXPECT_EQ(figures.lost_ns, 100);
    EXPECT_DOUBLE_EQ(figures.percent, 5);
    meter.goes_on(2050, 2);
    EXPECT_EQ(meter.figures(3000, 580, 2).lost_ns, 200);
}

TEST(SlowdownMeter, TheFiguresStayAtTheEnd) {
    SlowdownMeter meter;
    meter.begin(0, 0);
    meter.end(100, 10, 1);
    EXPECT_EQ(meter.figures(200, 50, 1).lost_ns, 10);
    meter.end(300, 90, 1);
    EXPECT_DOUBLE_EQ(meter.figures(400, 90, 1).percent, 10);
    meter.begin(500, 90);  // the next migration
    EXPECT_EQ(meter.figures(600, 90, 1).lost_ns, 0);
}

TEST(SlowdownMeter, NothingYetIsNothing) {
    const SlowdownMeter meter;
    EXPECT_EQ(meter.figures(0, 0, 0).percent, 0);
}

}  // namespace
}  // namespace kumoi::migration
