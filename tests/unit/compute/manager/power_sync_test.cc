#include "compute/manager/power_sync.h"

#include <gtest/gtest.h>

#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

struct Case {
    const char* vm_state;
    std::optional<std::string> task_state;
    int recorded;
    int real;
    PowerSyncAction action;
};

TEST(PowerSync, FollowsNovasTable) {
    using Action = PowerSyncAction;
    constexpr int kRun = power_states::kRunning;
    constexpr int kDown = power_states::kShutdown;
    constexpr int kCrash = power_states::kCrashed;
    constexpr int kPause = power_states::kPaused;
    const Case cases[] = {
        {vm_states::kActive, {}, kRun, kRun, Action::Nothing},
        {vm_states::kActive, {}, kDown, kRun, Action::RecordPower},
        {vm_states::kActive, {}, kRun, kDown, Action::Stop},
        {vm_states::kActive, {}, kRun, kCrash, Action::Stop},
        {vm_states::kActive, {}, kRun, power_states::kNoState, Action::Stop},
        {vm_states::kActive, {}, kRun, kPause, Action::RecordPaused},
        {vm_states::kActive, task_states::kPoweringOff, kRun, kDown, Action::Nothing},
        {vm_states::kPaused, {}, kPause, kRun, Action::RecordActive},
        {vm_states::kPaused, {}, kPause, kDown, Action::Stop},
        {vm_states::kStopped, {}, kDown, kRun, Action::ForceStop},
        {vm_states::kStopped, {}, kDown, kPause, Action::ForceStop},
        {vm_states::kStopped, {}, kDown, kDown, Action::Nothing},
        {vm_states::kStopped, {}, kRun, kDown, Action::RecordPower},
        {vm_states::kError, {}, kRun, kDown, Action::RecordPower},
        {vm_states::kBuilding, {}, kRun, kDown, Action::Nothing},
        {vm_states::kDeleted, {}, kDown, kRun, Action::Nothing},
    };
    for (const Case& one : cases) {
        Instance instance;
        instance.vm_state = one.vm_state;
        instance.task_state = one.task_state;
        instance.power_state = one.recorded;
        EXPECT_EQ(decide_power_sync(instance, one.real), one.action)
            << one.vm_state << " recorded " << one.recorded << " real " << one.real;
    }
}

}  // namespace
}  // namespace kumoi::compute
