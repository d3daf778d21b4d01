// HotplugControl: the control methods that change a running machine's parts: parameters checked,
// the configuration kept in step, answers given when the guest has done its share.
//
//     add_disk {disk}   remove_disk {id, timeout_ms, force}
//     add_nic {nic}     remove_nic {id, timeout_ms, force}
//     set_vcpus {vcpus, timeout_ms}
//
// Loop thread only. docs/reference/vmm-control.md describes parameters and answers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/json.h"
#include "hypervisor/control/protocol.h"
#include "hypervisor/hotplug/device_hotplug.h"
#include "hypervisor/vm_config.h"

namespace kumoi::hypervisor {

class MachineDevices;

class HotplugControl {
public:
    using Answer = DeviceHotplug::Answer;
    struct Machine {
        std::function<bool()> stopped;  // no vCPU runs
        // Runs it with all vCPUs parked.
        std::function<Result<void>(const std::function<Result<void>()>&)> standstill;
        std::function<void(const ControlEvent&)> event;
        std::function<void(uint32_t vcpus, int64_t timeout_ms, Answer)> set_vcpus;
    };
    static constexpr int64_t kTimeoutMsDefault = 30'000;

    HotplugControl(VmConfig& config, MachineDevices& devices, DeviceHotplug& hotplug,
                   Machine machine);

    // False when the method is not one of ours; else it is answered, now or later.
    bool handle(const ControlRequest& request, const Answer& answer);
    // A device has left the machine: out of the configuration, too.
    void forget(const std::string& id);

private:
    Result<Json> add_disk(const Json& params);
    Result<Json> add_scsi_disk(DiskConfig disk, Json source);
    Result<void> remove_scsi_disk(const std::string& id, const Answer& answer);
    Result<Json> add_nic(const Json& params);
    Result<void> remove(const Json& params, bool disk, const Answer& answer);
    Result<void> set_vcpus(const Json& params, const Answer& answer);
    bool has_device(const std::string& id) const;
    void name_slots();
    void name_targets();

    VmConfig& config_;
    MachineDevices& devices_;
    DeviceHotplug& hotplug_;
    Machine machine_;
};

}  // namespace kumoi::hypervisor
