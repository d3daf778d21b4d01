// Handovers with everything that can go wrong, many of them: never two runners, never lost by one
// failure. KUMOI_HANDOVER_RUNS says how many of each kind (`./check slow` makes 1,000,000 in all).
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "tests/unit/migration/handover/handover_world.h"

namespace kumoi::migration {
namespace {

uint64_t runs() {
    const char* text = std::getenv("KUMOI_HANDOVER_RUNS");
    return text == nullptr ? 5000 : std::strtoull(text, nullptr, 10);
}

struct Kind {
    const char* name;
    Faults faults;
};

class HandoverFaults : public testing::TestWithParam<Kind> {};

TEST_P(HandoverFaults, NeverTwoAndNeverLostByOne) {
    std::map<std::string, uint64_t> outcomes;
    for (uint64_t seed = 0; seed < runs(); ++seed) {
        HandoverWorld world(seed, GetParam().faults);
        ASSERT_TRUE(world.run()) << world.problem << ", seed " << seed << ":" << world.story;
        ++outcomes[world.outcome];
    }
    for (const auto& [outcome, count] : outcomes) {
        std::cout << "  " << GetParam().name << ": " << count << " " << outcome << "\n";
    }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, HandoverFaults,
    testing::Values(Kind{"nothing", {}}, Kind{"kill", {.kills = 1}}, Kind{"cuts", {.cuts = 3}},
                    Kind{"disk", {.disks = 1}}, Kind{"fence", {.fences = 1}},
                    Kind{"kill_cuts", {.kills = 1, .cuts = 2}},
                    Kind{"fence_cuts", {.cuts = 2, .fences = 1}},
                    Kind{"disk_cuts", {.cuts = 2, .disks = 1}},
                    Kind{"own_kill_cuts", {.kills = 1, .cuts = 2, .shared = false}},
                    Kind{"own_disk_cuts", {.cuts = 2, .disks = 1, .shared = false}},
                    Kind{"many", {.kills = 2, .cuts = 3, .disks = 2, .fences = 1}},
                    Kind{"own_many", {.kills = 2, .cuts = 3, .disks = 2, .shared = false}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace kumoi::migration
