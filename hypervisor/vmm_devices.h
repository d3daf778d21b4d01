// MachineDevices: every chip and device of one machine, made from its configuration and put on the
// buses. Places of PCI functions are fixed by the board (board/pci_layout.h), never by discovery:
// they are part of what a guest and a migration peer rely on.
//
// Made, paused, resumed and reset on the loop's thread, with all vCPUs parked. PCI devices come on
// the same thread while vCPUs run, and go while they are parked for a moment.
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
#include "hypervisor/board/cpu_hotplug.h"
#include "hypervisor/board/fw_cfg.h"
#include "hypervisor/board/gpe_block.h"
#include "hypervisor/board/legacy_ports.h"
#include "hypervisor/board/lpc_bridge.h"
#include "hypervisor/board/pci_hotplug.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/board/serial_16550.h"
#include "hypervisor/console/serial_console.h"
#include "hypervisor/display/machine_display.h"
#include "hypervisor/hotplug/memory_watchers.h"
#include "hypervisor/pci/pci_devices.h"
#include "hypervisor/virtio/balloon.h"
#include "hypervisor/virtio/device_factory.h"
#include "hypervisor/virtio/mem.h"
#include "hypervisor/vm_config.h"

namespace kumoi::hypervisor {

class GuestDisk;
class LateDisk;
class VirtioScsi;
struct ScsiUnitConfig;

class MachineDevices {
public:
    struct Events {
        // From any thread: a device stopped because its driver broke the rules.
        std::function<void(const std::string& device, const std::string& reason)> device_broken;
        // From a vCPU thread, as often as the guest likes.
        std::function<void()> guest_panicked;
        std::function<void()> guest_crash_loaded;  // it panicked and its crash kernel takes over
        std::function<void()> watchdog_expired;    // on the loop's thread
        // From a vCPU thread: the guest has let go of these slots, of this processor.
        std::function<void(uint32_t slots)> pci_ejected;
        std::function<void(uint32_t cpu)> cpu_ejected;
        // From an I/O thread, as often as the guest likes: memory was plugged or unplugged.
        std::function<void()> memory_changed;
    };
    enum class DisksOpen { Now, Later };  // Later: by DiskOwnership

    static Result<std::unique_ptr<MachineDevices>> create(
        const VmConfig& config, Platform& platform, SerialConsole& console, FileSource& files,
        EventLoop& loop, const Clock& clock, Events events, DisksOpen disks = DisksOpen::Now);

    void pause();
    void resume();
    Result<void> reset();
    bool press_power_button() { return pm_->press_power_button(); }
    size_t receive_serial(std::string_view bytes) { return serial_->receive(bytes); }
    Json statistics() const;
    Result<GuestDisk*> disk(const std::string& id);
    PciDevice* device_of_disk(const std::string& id);  // what stops when it stands; null: none
    // Every disk that can come and go, by id.
    std::vector<std::pair<std::string, LateDisk*>> late_disks(const VmConfig& config);
    void disks_are_open() { disks_open_ = DisksOpen::Now; }  // those that come from now on
    Result<VirtioNet*> nic(const std::string& id);
    FwCfg& fw_cfg() { return *fw_cfg_; }
    // The chips of the board outside of PCI that have state of their own.
    std::vector<Snapshottable*> chips() const;
    VirtioBalloon* balloon() { return balloon_; }  // null: not configured
    void announce_network();                       // each card tells where it is now, once
    void drop_waiting_frames();                    // of every card, while paused
    PciRoot& pci() { return pci_->root(); }
    PciDevices& pci_devices() { return *pci_; }
    PciHotplug& pci_hotplug() { return *pci_hotplug_; }
    CpuHotplug& cpu_hotplug() { return *cpu_hotplug_; }
    VirtioMem* virtio_mem() { return virtio_mem_; }  // null: memory cannot grow
    Result<void> unplug_memory();

    // A device for the table: opened, not yet in it.
    Result<std::unique_ptr<VirtioPciDevice>> make_disk(const DiskConfig& disk, PciAddress at);
    Result<std::unique_ptr<VirtioPciDevice>> make_nic(const NicConfig& nic, PciAddress at);
    // On the SCSI bus (vmm_scsi.cc). All vCPUs are parked.
    Result<void> attach_scsi_disk(const DiskConfig& disk);
    Result<void> detach_scsi_disk(const std::string& id);

private:
    MachineDevices(Platform& platform, FileSource& files, Events events)
        : platform_(platform), files_(files), events_(std::move(events)) {}
    Result<void> create_hotplug(const VmConfig& config);
    Result<void> create_board(const VmConfig& config, Platform& platform, SerialConsole& console,
                              const Clock& clock);
    Result<void> create_pci(const VmConfig& config, Platform& platform, FileSource& files,
                            const Events& events);
    // In vmm_single_devices.cc: what exists at most once and is configured by its own member.
    Result<void> create_single_devices(const VmConfig& config, Platform& platform,
                                       FileSource& files, EventLoop& loop, const Clock& clock,
                                       const Events& events);
    // In vmm_scsi.cc
    Result<void> create_scsi(const VmConfig& config, const Events& events);
    Result<ScsiUnitConfig> open_scsi_disk(const DiskConfig& disk);
    void add_scsi_statistics(Json& all) const;
    // In vmm_memory.cc
    Result<void> create_virtio_mem(Platform& platform, const Events& events);
    Result<void> create_network_and_disks(const VmConfig& config);
    void for_each_nic(const std::function<void(VirtioNet&)>& visit);
    static VirtioPciConfig pci_config(PciAddress at, const Events& events);

    Platform& platform_;
    FileSource& files_;
    const Events events_;
    DisksOpen disks_open_ = DisksOpen::Now;
    std::unique_ptr<Serial16550> serial_;
    std::unique_ptr<CmosRtc> rtc_;
    std::unique_ptr<I8042> keyboard_;
    std::unique_ptr<Port92> port92_;
    std::unique_ptr<DebugPort> debugcon_;
    std::unique_ptr<DebugPort> port_e9_;
    std::unique_ptr<PostPort> post_;
    std::unique_ptr<AcpiPm> pm_;
    std::unique_ptr<FwCfg> fw_cfg_;
    SmiRegisters smi_;
    VirtioBalloon* balloon_ = nullptr;  // in the table
    std::unique_ptr<GpeBlock> gpe_;
    std::unique_ptr<PciHotplug> pci_hotplug_;
    std::unique_ptr<CpuHotplug> cpu_hotplug_;
    MemoryWatchers memory_watchers_;
    std::unique_ptr<HotMemory> hot_memory_;  // null: memory cannot grow
    VirtioMem* virtio_mem_ = nullptr;        // in the table
    VirtioScsi* scsi_ = nullptr;             // in the table; null: neither CD-ROMs nor SCSI disks
    std::unique_ptr<PciDevices> pci_;
    std::unique_ptr<MachineDisplay> display_;  // null: none
};

}  // namespace kumoi::hypervisor
