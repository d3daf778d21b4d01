#include "hypervisor/vmm_devices.h"

#include "base/log.h"
#include "hypervisor/block/late_disk.h"
#include "hypervisor/board/board_layout.h"
#include "hypervisor/board/hotplug_layout.h"
#include "hypervisor/board/pci_layout.h"
#include "hypervisor/disk_places.h"
#include "hypervisor/limits/report_limit.h"
#include "hypervisor/pci/i6300esb.h"
#include "hypervisor/pci/pvpanic.h"
#include "hypervisor/virtio/guest_disk.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t k1Gib = 1u << 30;
constexpr uint64_t kFirmwareMmio64End = 1ull << 46;
constexpr uint8_t kDebugconSignature = 0xe9;      // SeaBIOS prints only if it reads this back
constexpr ReportRate kDebugLines{.burst = 1000};  // firmware prints about 100 at each boot

// A guest could fill the host's log: after some lines it has said enough.
std::function<void(std::string_view)> debug_sink(std::string port, const Clock& clock) {
    // Shared because a std::function must be copyable.
    const auto limit = std::make_shared<ReportLimit>(clock, kDebugLines);
    return [port, limit](std::string_view line) {
        const auto unreported = limit->admit();
        if (unreported && *unreported == 0) {
            log_info("guest", line, {{"port", port}});
        } else if (unreported) {
            log_info("guest", line, {{"port", port}, {"unreported", *unreported}});
        }
    };
}

}  // namespace

Result<std::unique_ptr<MachineDevices>> MachineDevices::create(
    const VmConfig& config, Platform& platform, SerialConsole& console, FileSource& files,
    EventLoop& loop, const Clock& clock, Events events, DisksOpen disks) {
    std::unique_ptr<MachineDevices> devices(new MachineDevices(platform, files, std::move(events)));
    devices->disks_open_ = disks;
    TRY(devices->create_board(config, platform, console, clock));
    TRY(devices->create_hotplug(config));
    const Events& kept = devices->events_;
    TRY(devices->create_pci(config, platform, files, kept));
    TRY(devices->create_single_devices(config, platform, files, loop, clock, kept));
    TRY(devices->create_virtio_mem(platform, kept));
    TRY(devices->create_network_and_disks(config));
    TRY(devices->pci_->start(config.firmware ? PciDevices::Bars::Leave : PciDevices::Bars::Place));
    return devices;
}

Result<void> MachineDevices::create_board(const VmConfig& config, Platform& platform,
                                          SerialConsole& console, const Clock& clock) {
    const auto reset = [&platform] { platform.request_reset(); };
    const auto shutdown = [&platform] { platform.request_shutdown(); };
    serial_ = std::make_unique<Serial16550>(
        TRY(platform.irq_line(board::kSerialIrq)),
        [&console](std::string_view bytes) { console.output(bytes); });
    rtc_ = std::make_unique<CmosRtc>(clock, config.memory_bytes(), config.vcpus);
    fw_cfg_ = std::make_unique<FwCfg>(platform.memory());
    keyboard_ = std::make_unique<I8042>(reset);
    port92_ = std::make_unique<Port92>(reset);
    debugcon_ =
        std::make_unique<DebugPort>("debugcon", kDebugconSignature, debug_sink("0x402", clock));
    port_e9_ =
        std::make_unique<DebugPort>("port-e9", kDebugconSignature, debug_sink("0xe9", clock));
    post_ = std::make_unique<PostPort>();
    pm_ = std::make_unique<AcpiPm>(clock, TRY(platform.irq_line(board::kSciIrq)),
                                   AcpiPm::Requests{reset, shutdown});
    IoBus& ports = platform.port_bus();
    TRY(ports.add(board::kSerialPort, Serial16550::kPortCount, *serial_));
    TRY(ports.add(board::kCmosPort, CmosRtc::kPortCount, *rtc_));
    TRY(ports.add(board::kI8042DataPort, I8042::kPortSpan, *keyboard_));
    TRY(ports.add(board::kPort92, 1, *port92_));
    TRY(ports.add(board::kDebugconPort, 1, *debugcon_));
    TRY(ports.add(board::kE9Port, 1, *port_e9_));
    TRY(ports.add(board::kPort80, 1, *post_));
    TRY(ports.add(board::kSmiBase, board::kSmiSize, smi_));
    TRY(ports.add(board::kFwCfgPort, board::kFwCfgSize, *fw_cfg_));
    return ports.add(board::kPmBase, board::kPmSize, *pm_);
}

Result<void> MachineDevices::create_pci(const VmConfig& config, Platform& platform,
                                        FileSource& files, const Events& events) {
    PciRootConfig root;
    root.mmio32_base = board::kPciMmio32Start;
    root.mmio32_size = board::kPciMmio32Size;
    root.mmio64_base = board::pci_mmio64_start(platform.memory().end());
    root.mmio64_size = board::kPciMmio64Size;
    if (config.firmware) {  // which chooses its own window above RAM
        root.mmio64_base = (platform.memory().end() + k1Gib - 1) / k1Gib * k1Gib;
        root.mmio64_size = kFirmwareMmio64End - root.mmio64_base;
    }
    root.ecam_base = board::kEcamStart;
    pci_ = std::make_unique<PciDevices>(platform, root);
    const auto route = [&platform](uint32_t pirq, uint32_t irq) { platform.route_pirq(pirq, irq); };
    TRY(pci_->add(board::kPciLpcBridge, std::make_unique<LpcBridge>(route)));
    TRY(pci_->add(board::kPciPvPanic, std::make_unique<PvPanic>(PvPanic::Events{
                                          events.guest_panicked, events.guest_crash_loaded})));
    if (config.rng) {
        TRY(pci_->add(board::kPciRng,
                      make_virtio_rng(platform, "rng", pci_config(board::kPciRng, events))));
    }
    if (config.console.enabled) {
        VirtioConsoleConfig console;
        console.name = "console";
        console.socket_path = config.console.socket;
        TRY(pci_->add(
            board::kPciConsole,
            make_virtio_console(platform, files, console, pci_config(board::kPciConsole, events))));
    }
    return create_scsi(config, events);
}

Result<void> MachineDevices::create_hotplug(const VmConfig& config) {
    gpe_ = std::make_unique<GpeBlock>([this](bool wanted) { pm_->set_gpe(wanted); });
    uint32_t slots = 0;
    for (unsigned slot = board::kPciNicSlotFirst; slot <= board::kPciDiskSlotLast; ++slot) {
        slots |= uint32_t{1} << slot;
    }
    pci_hotplug_ = std::make_unique<PciHotplug>(
        slots, PciHotplug::Events{.changed = [this] { gpe_->raise(board::kGpePci); },
                                  .ejected = events_.pci_ejected});
    cpu_hotplug_ = std::make_unique<CpuHotplug>(
        config.vcpus, config.resources.vcpus_max,
        CpuHotplug::Events{.changed = [this] { gpe_->raise(board::kGpeCpu); },
                           .ejected = events_.cpu_ejected});
    IoBus& ports = platform_.port_bus();
    TRY(ports.add(board::kGpe0Base, board::kGpe0Size, *gpe_));
    TRY(ports.add(board::kPciHotplugBase, board::kPciHotplugSize, *pci_hotplug_));
    return ports.add(board::kCpuHotplugBase, board::kCpuHotplugSize, *cpu_hotplug_);
}

// Devices that name no slot take the first free one.
Result<void> MachineDevices::create_network_and_disks(const VmConfig& config) {
    const auto place = [this](unsigned wanted, unsigned first) {
        PciAddress at{wanted != 0 ? wanted : first};
        while (wanted == 0 && pci_->at(at) != nullptr) {
            ++at.slot;
        }
        pci_hotplug_->set_present(at.slot, true);
        return at;
    };
    for (const NicConfig& nic : config.nics) {
        const PciAddress at = place(nic.slot, board::kPciNicSlotFirst);
        TRY_CONTEXT(pci_->add(at, make_nic(nic, at)), "nic {}", nic.id);
    }
    for (const DiskConfig& disk : config.disks) {
        if (disk.bus != DiskBus::Virtio) {
            continue;
        }
        const PciAddress at = place(disk.slot, board::kPciDiskSlotFirst);
        TRY_CONTEXT(pci_->add(at, make_disk(disk, at)), "disk {}", disk.id);
    }
    return {};
}

VirtioPciConfig MachineDevices::pci_config(PciAddress at, const Events& events) {
    VirtioPciConfig config;
    config.intx_gsi = static_cast<int32_t>(board::pci_interrupt_gsi(at));
    config.intx_pin = board::pci_interrupt_pin(at);
    config.on_broken = events.device_broken;
    return config;
}

Result<std::unique_ptr<VirtioPciDevice>> MachineDevices::make_nic(const NicConfig& nic,
                                                                  PciAddress at) {
    VirtioNetConfig net;
    net.name = nic.id;
    net.tap = nic.tap;
    net.vhost_user = nic.vhost_user;
    net.mac = nic.mac;
    net.mtu = nic.mtu;
    net.queue_pairs = nic.queue_pairs;
    net.limits = nic.limits;
    net.vhost = nic.tap.empty() ? VhostMode::Off : nic.vhost;
    auto device = TRY(make_virtio_net(platform_, files_, net, pci_config(at, events_)));
    memory_watchers_.add(static_cast<VirtioNet&>(device->device()).vhost());
    return device;
}

Result<std::unique_ptr<VirtioPciDevice>> MachineDevices::make_disk(const DiskConfig& disk,
                                                                   PciAddress at) {
    VirtioBlockConfig config = virtio_block_config(disk);
    config.late = disks_open_ == DisksOpen::Later;
    return make_virtio_block(platform_, files_, config, pci_config(at, events_));
}

std::vector<std::pair<std::string, LateDisk*>> MachineDevices::late_disks(const VmConfig& config) {
    std::vector<std::pair<std::string, LateDisk*>> all;
    for (const DiskConfig& disk : config.disks) {
        if (auto found = this->disk(disk.id); found.ok()) {
            if (auto* late = dynamic_cast<LateDisk*>(&(*found)->image())) {
                all.emplace_back(disk.id, late);
            }
        }
    }
    return all;
}

void MachineDevices::for_each_nic(const std::function<void(VirtioNet&)>& visit) {
    pci_->for_each([&visit](PciAddress, PciDevice& function) {
        auto* device = dynamic_cast<VirtioPciDevice*>(&function);
        if (device != nullptr && device->device().type() == virtio::kTypeNet) {
            visit(static_cast<VirtioNet&>(device->device()));
        }
    });
}

void MachineDevices::announce_network() {
    for_each_nic([](VirtioNet& nic) { nic.announce(); });
}

void MachineDevices::drop_waiting_frames() {
    for_each_nic([](VirtioNet& nic) {
        if (const size_t count = nic.drop_waiting_frames(); count != 0) {
            log_debug("vmm", "frames from before the guest came",
                      {{"nic", nic.name()}, {"count", static_cast<uint64_t>(count)}});
        }
    });
}

void MachineDevices::pause() {
    pci_->pause();
}

void MachineDevices::resume() {
    pci_->resume();
}

Result<void> MachineDevices::reset() {
    serial_->reset();
    rtc_->reset();
    keyboard_->reset();
    port92_->reset();
    pm_->reset();
    gpe_->reset();
    pci_hotplug_->reset();
    cpu_hotplug_->reset();
    fw_cfg_->reset();
    return pci_->reset();
}

std::vector<Snapshottable*> MachineDevices::chips() const {
    std::vector<Snapshottable*> chips = {serial_.get(), rtc_.get(),         keyboard_.get(),
                                         port92_.get(), debugcon_.get(),    port_e9_.get(),
                                         post_.get(),   pm_.get(),          fw_cfg_.get(),
                                         gpe_.get(),    pci_hotplug_.get(), cpu_hotplug_.get()};
    if (auto* watchdog = dynamic_cast<I6300Esb*>(pci_->at(board::kPciWatchdog))) {
        chips.push_back(watchdog);
    }
    return chips;
}

Json MachineDevices::statistics() const {
    Json all = pci_->statistics();
    add_scsi_statistics(all);
    const auto& serial = serial_->counters();
    all.set("serial", Json::object({{"transmitted_bytes", serial.transmitted.value()},
                                    {"received_bytes", serial.received.value()},
                                    {"receive_dropped_bytes", serial.receive_dropped.value()}}));
    if (display_) {
        all.set("vnc", display_->statistics());
    }
    return all;
}

}  // namespace kumoi::hypervisor
