// DeviceHotplug: PCI devices that come and go while the guest runs: the board's registers on one
// side, the table of devices on the other.
//
// add() puts a device into a slot and tells the guest. remove() asks the guest to let go and
// answers when it has, or when the time is up; a late ejection is honoured all the same. A slot the
// guest ejects by itself is emptied, too: the device is the guest's to give back. A machine reset
// carries out what was asked for. Loop thread only: the registers' ejections come by loop.post().
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/event_loop.h"
#include "base/json.h"
#include "hypervisor/board/pci_hotplug.h"
#include "hypervisor/control/protocol.h"
#include "hypervisor/pci/pci_devices.h"

namespace kumoi::hypervisor {

class DeviceHotplug {
public:
    using Answer = std::function<void(const Result<Json>&)>;
    struct Hooks {
        std::function<void(const ControlEvent&)> event;
        std::function<void(const std::string& name)> removed;  // it has left the table
        // Runs it with all vCPUs parked.
        std::function<Result<void>(const std::function<Result<void>()>&)> standstill;
    };

    DeviceHotplug(EventLoop& loop, PciDevices& devices, PciHotplug& registers, Hooks hooks)
        : loop_(loop), devices_(devices), registers_(registers), hooks_(std::move(hooks)) {}
    ~DeviceHotplug();
    DeviceHotplug(const DeviceHotplug&) = delete;
    DeviceHotplug& operator=(const DeviceHotplug&) = delete;

    // The lowest free slot from `first` to `last`; Exhausted when there is none.
    Result<PciAddress> free_slot(unsigned first, unsigned last) const;
    Result<void> add(PciAddress address, std::unique_ptr<PciDevice> device);
    void remove(const std::string& name, int64_t timeout_ms, Answer answer);
    // With the machine stopped: nobody could let go.
    Result<void> remove_now(const std::string& name);
    void ejected(uint32_t slots);
    // As the machine is reset: what was to go is gone afterwards.
    void reset();
    bool is_removing(const std::string& name) const;

private:
    struct Pending {
        Answer answer;  // empty once it has been given
        EventLoop::TimerId timer = 0;
    };
    Result<PciAddress> find_removable(const std::string& name) const;
    void take_out(unsigned slot);
    void timed_out(unsigned slot);

    EventLoop& loop_;
    PciDevices& devices_;
    PciHotplug& registers_;
    Hooks hooks_;
    std::map<unsigned, Pending> pending_;  // by slot
};

}  // namespace kumoi::hypervisor
