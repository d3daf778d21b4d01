#include "hypervisor/machine_state.h"

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

// A guest's time goes on by what the move took, never back, and never by the difference of two
// hosts that have not the same time.
TEST(MachineState, ATimeOfAMoveIsBelievedWhenItCanBeOne) {
    constexpr int64_t kNow = 1'700'000'000 * kNanosPerSecond;
    EXPECT_EQ(MachineState::time_of_move(kNow, kNow + 7), 7);
    EXPECT_EQ(MachineState::time_of_move(kNow, kNow), 0);
    EXPECT_EQ(MachineState::time_of_move(kNow, kNow - kNanosPerSecond), 0);
    EXPECT_EQ(MachineState::time_of_move(kNow, kNow + 59 * kNanosPerSecond), 59 * kNanosPerSecond);
    EXPECT_EQ(MachineState::time_of_move(kNow, kNow + 3600 * kNanosPerSecond), 0);
    EXPECT_EQ(MachineState::time_of_move(0, kNow), 0);
    EXPECT_EQ(MachineState::time_of_move(INT64_MIN, INT64_MAX), 0);
}

}  // namespace
}  // namespace kumoi::hypervisor
