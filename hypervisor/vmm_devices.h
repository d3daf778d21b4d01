// MachineDevices: every chip and device of one machine, made from its configuration and put on the
// buses. Places of PCI functions are fixed by the board (board/pci_layout.h), never by discovery:
// they are part of what a guest and a migration peer rely on.
//
// Made, paused, resumed and reset on the loop's thread, with all vCPUs parked.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/json.h"
#include "hypervisor/board/acpi_pm.h"
#include "hypervisor/board/cmos_rtc.h"
#include "hypervisor/board/fw_cfg.h"
#include "hypervisor/board/legacy_ports.h"
#include "hypervisor/board/lpc_bridge.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/board/serial_16550.h"
#include "hypervisor/console/serial_console.h"
#include "hypervisor/pci/i6300esb.h"
#include "hypervisor/pci/pci_root.h"
#include "hypervisor/pci/pvpanic.h"
#include "hypervisor/virtio/balloon.h"
#include "hypervisor/virtio/device_factory.h"
#include "hypervisor/vm_config.h"

namespace kumoi::hypervisor {

class MachineDevices {
public:
    struct Events {
        // From any thread: a device stopped because its driver broke the rules.
        std::function<void(const std::string& device, const std::string& reason)> device_broken;
        // From a vCPU thread, as often as the guest likes.
        std::function<void()> guest_panicked;
        std::function<void()> guest_crash_loaded;  // it panicked and its crash kernel takes over
        std::function<void()> watchdog_expired;    // on the loop's thread
    };

    static Result<std::unique_ptr<MachineDevices>> create(const VmConfig& config,
                                                          Platform& platform,
                                                          SerialConsole& console, FileSource& files,
                                                          EventLoop& loop, const Clock& clock,
                                                          Events events);

    void pause();
    void resume();
    Result<void> reset();
    bool press_power_button() { return pm_->press_power_button(); }
    size_t receive_serial(std::string_view bytes) { return serial_->receive(bytes); }
    Json statistics() const;
    Result<VirtioBlock*> disk(const std::string& id);
    FwCfg& fw_cfg() { return *fw_cfg_; }
    PciRoot& pci() { return *pci_; }
    // The chips of the board outside of PCI that have state of their own.
    std::vector<Snapshottable*> chips() const;
    VirtioBalloon* balloon() { return balloon_; }  // null: not configured
    void announce_network();  // each card's guest driver is asked to tell where it is now

private:
    MachineDevices() = default;
    Result<void> create_board(const VmConfig& config, Platform& platform, SerialConsole& console,
                              const Clock& clock);
    Result<void> create_pci(const VmConfig& config, Platform& platform, FileSource& files,
                            const Events& events);
    // In vmm_single_devices.cc: what exists at most once and is configured by its own member.
    Result<void> create_single_devices(const VmConfig& config, Platform& platform,
                                       FileSource& files, EventLoop& loop, const Clock& clock,
                                       const Events& events);
    Result<void> create_network_and_disks(const VmConfig& config, Platform& platform,
                                          FileSource& files, const Events& events);
    static VirtioPciConfig pci_config(PciAddress at, const Events& events);
    Result<void> add_pci(PciAddress at, Result<std::unique_ptr<VirtioPciDevice>> device);

    std::unique_ptr<Serial16550> serial_;
    std::unique_ptr<CmosRtc> rtc_;
    std::unique_ptr<I8042> keyboard_;
    std::unique_ptr<Port92> port92_;
    std::unique_ptr<DebugPort> debugcon_;
    std::unique_ptr<DebugPort> port_e9_;
    std::unique_ptr<PostPort> post_;
    std::unique_ptr<AcpiPm> pm_;
    std::unique_ptr<FwCfg> fw_cfg_;
    std::unique_ptr<LpcBridge> lpc_;
    SmiRegisters smi_;
    std::unique_ptr<PvPanic> pvpanic_;
    std::unique_ptr<I6300Esb> watchdog_;  // null: not configured
    VirtioBalloon* balloon_ = nullptr;    // in virtio_
    std::vector<VirtioNet*> cards_;       // in virtio_
    // The root unmaps the devices' BARs when it goes, so it goes first.
    std::vector<std::unique_ptr<VirtioPciDevice>> virtio_;
    std::unique_ptr<PciRoot> pci_;
};

}  // namespace kumoi::hypervisor
