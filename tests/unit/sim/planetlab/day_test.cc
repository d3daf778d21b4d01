#include "sim/planetlab/day.h"

#include <gtest/gtest.h>

#include "sim/planetlab/policy.h"

namespace kumoi::sim {
namespace {

TraceDay noisy_day(unsigned machines) {
    TraceDay day{"d", {}};
    SeededRandom random(7, "day_test");
    for (unsigned i = 0; i < machines; ++i) {
        UtilizationTrace trace{std::to_string(1000 + i), {}};
        for (uint8_t& sample : trace.percent) {
            sample = static_cast<uint8_t>(1 + random.below(60));
        }
        day.traces.push_back(trace);
    }
    return day;
}

DayOptions options_of(const char* name, size_t hosts) {
    DayOptions options = policy_options(name).value();
    options.host_count = hosts;
    return options;
}

TEST(DayTest, HostsThatNeverRestDrawTheirMaximum) {
    const DayResult result = simulate_day(noisy_day(8), options_of("npa", 10));
    // 5 hosts of 117 W and 5 of 135 W from 0 to 86,100.1 s.
    EXPECT_NEAR(result.energy_kwh, 5 * (117 + 135) * 86100.1 / 3.6e6, 1e-9);
    EXPECT_EQ(result.migrations, 0u);
    EXPECT_EQ(result.machines, 8u);
}

TEST(DayTest, AConstantLoadDrawsWhatTheTableSays) {
    TraceDay day{"d", {}};
    for (int i = 0; i < 4; ++i) {
        UtilizationTrace trace{"t", {}};
        trace.percent.fill(i == 3 ? 100 : 0);
        day.traces.push_back(trace);
    }
    DayOptions options = options_of("dvfs", 2);
    options.mode = ConsolidationMode::Fixed;
    // The machine of 500 MIPS alone works, on host 0 or 1; the other, without work, draws nothing.
    const DayResult result = simulate_day(day, options);
    const double g4 = kProLiantMl110G4.at(500.0 / 3720) * 86400 / 3.6e6;
    const double g5 = kProLiantMl110G5.at(500.0 / 5320) * 86400 / 3.6e6;
    EXPECT_TRUE(std::abs(result.energy_kwh - g4) < 1e-9 || std::abs(result.energy_kwh - g5) < 1e-9)
        << result.energy_kwh << " " << g4 << " " << g5;
}

TEST(DayTest, ConsolidationSavesEnergyAndRepeatsToTheLastBit) {
    const TraceDay day = noisy_day(60);
    const DayResult spread = simulate_day(day, options_of("dvfs", 80));
    for (const std::string& name : policy_names()) {
        if (name == "dvfs" || name == "npa") {
            continue;
        }
        const DayResult once = simulate_day(day, options_of(name.c_str(), 80));
        const DayResult again = simulate_day(day, options_of(name.c_str(), 80));
        EXPECT_LT(once.energy_kwh, spread.energy_kwh) << name;
        EXPECT_GT(once.migrations, 0u) << name;
        EXPECT_EQ(once.energy_kwh, again.energy_kwh) << name;
        EXPECT_EQ(once.migrations, again.migrations) << name;
        EXPECT_GE(once.pdm, 0) << name;
        EXPECT_LE(once.slatah, 1) << name;
    }
}

TEST(DayTest, MachinesBeyondTheHostsAreCounted) {
    const DayResult result = simulate_day(noisy_day(40), options_of("thr-mmt", 4));
    EXPECT_GT(result.not_placed, 0u);
    EXPECT_LT(result.not_placed, 40u);
}

TEST(PolicyTest, NamesAreKnownAndNearOnesSuggested) {
    EXPECT_EQ(policy_names().size(), 22u);
    for (const std::string& name : policy_names()) {
        EXPECT_TRUE(policy_options(name).ok()) << name;
    }
    EXPECT_EQ(policy_options("mad-mc").value().detector.parameter, 2.5);
    EXPECT_NE(policy_options("iqr-mmtt").error().hint.find("iqr-mmt"), std::string::npos);
}

}  // namespace
}  // namespace kumoi::sim
