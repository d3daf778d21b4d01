// A host that survives its node daemon, and a way to kill that daemon (by an exception that no code
// of ours catches) at every border it crosses and every record it writes.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "base/file.h"
#include "compute/manager/compute_manager.h"
#include "compute/manager/host_recovery.h"
#include "compute/vm_states.h"
#include "tests/support/compute_fakes.h"
#include "tests/support/fake_cloud_records.h"
#include "tests/support/volume_fakes.h"

namespace kumoi::compute::crash {

constexpr int kBordersMax = 200;  // far beyond any verb: the loops end by themselves
inline const std::string kUuid = "11111111-2222-4333-8444-555555555555";
inline const std::string kOther = "22222222-2222-4333-8444-555555555555";

struct Crash {};

// One host that survives its node daemon: records, network, guests and the state folder stay.
class World {
public:
    World() {
        log.on_border = [this] { at_border(); };
    }
    void start_node() {
        manager.reset();
        ManagerOptions options;
        options.host = "cn-1";
        options.state_path = directory.path();
        JournalOptions journal;
        journal.sync = false;  // this process lives on: what is written is there
        journal.on_write = [this] { at_border(); };
        auto created = ComputeManager::create(
            {conductor, network, vifs, driver, clock, images, nullptr, std::nullopt,
             with_volumes ? &volumes : nullptr, nullptr, nullptr, &cloud},
            options, journal, [](std::function<void()> function) {
                function();
                return Result<void>();
            });
        ASSERT_TRUE(created.ok());
        manager = std::move(*created);
        ASSERT_TRUE(manager->init_host().ok());
    }
    // True when the crash came before `act` had ended.
    bool crashes(int border, const std::function<void()>& act) {
        borders_left = border;
        bool crashed = false;
        try {
            act();
        } catch (const Crash&) {
            crashed = true;
        }
        borders_left = -1;
        return crashed;
    }
    void build(const std::string& uuid = kUuid) {
        Instance instance;
        instance.uuid = uuid;
        instance.vm_state = vm_states::kBuilding;
        instance.task_state = task_states::kScheduling;
        instance.flavor.vcpus = 1;
        instance.flavor.memory_mb = 512;
        conductor.add(instance);
        (void)manager->build_and_run_instance({context, instance, {}, {}});
    }
    void set_task(const char* task_state) {
        Instance instance = conductor.get(kUuid);
        instance.task_state = task_state;
        conductor.add(instance);
    }
    size_t open_operations() const {
        return (*Journal::open(directory.path() + "/journal", clock))->open_operations().size();
    }

    TemporaryDirectory directory = TemporaryDirectory::create("crash").value();
    ManualClock clock;
    CallLog log;
    FakeConductor conductor{log};
    FakeNetwork network{log};
    FakeVifs vifs{log};
    FakeDriver driver{log};
    FakeImages images{log};
    FakeBlockDevices devices{log};
    FakeCinder cinder{log};
    FakeVolumeHost volume_host{log};
    VolumeServices volumes{devices, cinder, volume_host};
    FakeCloudRecords cloud{log};
    bool with_volumes = false;
    RequestContext context{"req-1", "user", "project", false};
    std::unique_ptr<ComputeManager> manager;

private:
    void at_border() {
        if (borders_left > 0 && --borders_left == 0) {
            throw Crash();
        }
    }
    int borders_left = -1;
};

}  // namespace kumoi::compute::crash
