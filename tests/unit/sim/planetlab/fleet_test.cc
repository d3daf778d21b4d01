#include "sim/planetlab/fleet.h"

#include <gtest/gtest.h>

namespace kumoi::sim {
namespace {

TraceDay constant_day(const std::vector<unsigned>& percents) {
    TraceDay day{"d", {}};
    for (const unsigned percent : percents) {
        UtilizationTrace trace{"t", {}};
        trace.percent.fill(static_cast<uint8_t>(percent));
        day.traces.push_back(trace);
    }
    return day;
}

TEST(PowerTableTest, LinesBetweenThePoints) {
    EXPECT_EQ(kProLiantMl110G4.at(0), 86);
    EXPECT_NEAR(kProLiantMl110G4.at(0.05), 87.7, 1e-9);
    EXPECT_NEAR(kProLiantMl110G5.at(0.25), 103, 1e-9);
    EXPECT_EQ(kProLiantMl110G5.at(1), 135);
    EXPECT_EQ(kProLiantMl110G5.at(1.5), 135);
}

TEST(FleetTest, TypesComeInFourBlocksAndHostsAlternate) {
    const Fleet fleet(constant_day({1, 1, 1, 1, 1}), 3);  // blocks of two: 2, 2, 1
    EXPECT_EQ(fleet.machines()[0].mips, 2500);
    EXPECT_EQ(fleet.machines()[2].mips, 2000);
    EXPECT_EQ(fleet.machines()[4].mips, 1000);
    EXPECT_EQ(fleet.hosts()[0].type->total_mips, 3720);
    EXPECT_EQ(fleet.hosts()[1].type->total_mips, 5320);
    EXPECT_EQ(fleet.hosts()[2].type->total_mips, 3720);
}

TEST(FleetTest, DemandIsAStraightLineBetweenSamples) {
    TraceDay day = constant_day({0, 0, 0, 0});
    day.traces[0].percent[1] = 40;
    day.traces[0].percent[2] = 60;
    Fleet fleet(day, 1);
    fleet.request_at(450);
    EXPECT_NEAR(fleet.utilization(0), 0.5, 1e-12);
    EXPECT_NEAR(fleet.machines()[0].requested, 1250, 1e-9);
    fleet.request_at(600);
    EXPECT_NEAR(fleet.utilization(0), 0.6, 1e-12);
}

class FleetShareTest : public ::testing::Test {
protected:
    // One machine of 2500, 2000, 1000 and 500 MIPS each, all at 100 %; host 1 has 5320.
    FleetShareTest() : fleet_(constant_day({100, 100, 100, 100}), 2) {
        fleet_.request_at(300);
        for (int i = 0; i < 4; ++i) {
            fleet_.machines()[static_cast<size_t>(i)].host = 1;
        }
    }
    Host& host() { return fleet_.hosts()[1]; }
    double allocated(size_t machine) { return fleet_.machines()[machine].allocated; }
    Fleet fleet_;
};

TEST_F(FleetShareTest, EverybodyGetsItsRequestWhileItFits) {
    host().machines = {0, 1, 3};
    fleet_.share(1);
    EXPECT_EQ(allocated(0) + allocated(1) + allocated(3), 5000);
    EXPECT_EQ(host().free_mips, 320);
    EXPECT_EQ(host().used_mips, 5000);
}

TEST_F(FleetShareTest, BeyondTheCapacityAllAreScaledAndRoundedDown) {
    host().machines = {0, 1, 2, 3};
    fleet_.share(1);
    EXPECT_EQ(allocated(0), 2216);  // 2500 * 5320 / 6000 = 2216.67
    EXPECT_EQ(allocated(3), 443);
    EXPECT_EQ(host().free_mips, 0);
    EXPECT_EQ(host().requested_mips, 6000);
    EXPECT_LE(host().load(), 1);
}

TEST_F(FleetShareTest, MigrationCostsTheMachineATenthAndTheTargetATenth) {
    fleet_.machines()[1].migrating = true;
    host().machines = {0, 1};
    fleet_.share(1);
    EXPECT_EQ(allocated(1), 1800);
    EXPECT_NEAR(host().used_mips, 4500, 1e-9);  // the lost tenth is work of the host
    Host& target = fleet_.hosts()[0];
    target.machines = {1};
    target.arriving = {1};
    fleet_.share(0);
    EXPECT_NEAR(target.used_mips, 186, 1e-9);  // a tenth of the 1860 a processor of it has
    EXPECT_EQ(allocated(1), 1800);
}

TEST_F(FleetShareTest, SumsInMapOrderAreTheSameNumber) {
    host().machines = {3, 0, 1};
    fleet_.share(1);
    EXPECT_NEAR(fleet_.free_in_map_order(host()), host().free_mips, 1e-9);
    host().note_size(13);
    EXPECT_EQ(host().map_buckets, 32u);
    host().note_size(2);
    EXPECT_EQ(host().map_buckets, 32u);
}

}  // namespace
}  // namespace kumoi::sim
