#include "hypervisor/vmm_devices.h"

#include "base/log.h"
#include "hypervisor/board/board_layout.h"
#include "hypervisor/board/pci_layout.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t k1Gib = 1u << 30;
constexpr uint64_t kFirmwareMmio64End = 1ull << 46;
constexpr uint8_t kDebugconSignature = 0xe9;  // SeaBIOS prints only if it reads this back
constexpr size_t kDebugLinesMax = 1000;       // then the guest's debug output is only counted

CacheMode cache_mode(DiskCache cache) {
    switch (cache) {
        case DiskCache::None: return CacheMode::None;
        case DiskCache::Writethrough: return CacheMode::Writethrough;
        default: return CacheMode::Writeback;
    }
}

VirtioBlockConfig block_config(const DiskConfig& disk) {
    VirtioBlockConfig block;
    block.name = disk.id;
    block.path = disk.path;
    block.read_only = disk.read_only;
    block.cache = cache_mode(disk.cache);
    block.serial = disk.serial;
    block.queue_count = disk.queues;
    block.vhost_user = disk.vhost_user;
    block.limits = disk.limits;
    block.format = disk.format;
    block.chain_depth_max = disk.chain_depth_max;
    block.lock = disk.lock;
    return block;
}

// A guest could fill the host's log: after some lines it has said enough.
std::function<void(std::string_view)> debug_sink(std::string port) {
    return [port, lines = size_t{0}](std::string_view line) mutable {
        if (lines++ < kDebugLinesMax) {
            log_info("guest", line, {{"port", port}});
        }
    };
}

VirtioPciConfig pci_config(PciAddress at, const MachineDevices::Events& events) {
    VirtioPciConfig config;
    config.intx_gsi = static_cast<int32_t>(board::pci_interrupt_gsi(at));
    config.intx_pin = board::pci_interrupt_pin(at);
    config.on_broken = events.device_broken;
    return config;
}

uint64_t ram_end(const GuestMemory& memory) {
    const MemoryRegion& last = memory.regions().back();
    return last.gpa + last.size;
}

}  // namespace

Result<std::unique_ptr<MachineDevices>> MachineDevices::create(const VmConfig& config,
                                                               Platform& platform,
                                                               SerialConsole& console,
                                                               FileSource& files,
                                                               const Clock& clock, Events events) {
    std::unique_ptr<MachineDevices> devices(new MachineDevices());
    TRY(devices->create_board(config, platform, console, clock));
    TRY(devices->create_pci(config, platform, files, events));
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
    debugcon_ = std::make_unique<DebugPort>("debugcon", kDebugconSignature, debug_sink("0x402"));
    port_e9_ = std::make_unique<DebugPort>("port-e9", kDebugconSignature, debug_sink("0xe9"));
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
    root.mmio64_base = board::pci_mmio64_start(ram_end(platform.memory()));
    root.mmio64_size = board::kPciMmio64Size;
    if (config.firmware) {  // which chooses its own window above RAM
        root.mmio64_base = (ram_end(platform.memory()) + k1Gib - 1) / k1Gib * k1Gib;
        root.mmio64_size = kFirmwareMmio64End - root.mmio64_base;
    }
    root.ecam_base = board::kEcamStart;
    pci_ = std::make_unique<PciRoot>(platform, root);
    lpc_ = std::make_unique<LpcBridge>(
        [&platform](uint32_t pirq, uint32_t irq) { platform.route_pirq(pirq, irq); });
    TRY(pci_->add(board::kPciLpcBridge, *lpc_));
    pvpanic_ = std::make_unique<PvPanic>(
        PvPanic::Events{events.guest_panicked, events.guest_crash_loaded});
    TRY(pci_->add(board::kPciPvPanic, *pvpanic_));
    if (config.rng) {
        TRY(add_pci(board::kPciRng,
                    make_virtio_rng(platform, "rng", pci_config(board::kPciRng, events))));
    }
    if (config.console.enabled) {
        VirtioConsoleConfig console;
        console.name = "console";
        console.socket_path = config.console.socket;
        TRY(add_pci(
            board::kPciConsole,
            make_virtio_console(platform, files, console, pci_config(board::kPciConsole, events))));
    }
    if (!config.cdroms.empty()) {
        std::vector<ScsiDriveConfig> drives;
        for (const CdromConfig& cdrom : config.cdroms) {
            drives.push_back({cdrom.id, cdrom.path});
        }
        TRY(add_pci(board::kPciScsi, make_virtio_scsi(platform, files, drives,
                                                      pci_config(board::kPciScsi, events))));
    }
    TRY(create_network_and_disks(config, platform, files, events));
    if (!config.firmware) {  // firmware places BARs itself
        TRY(pci_->assign_bars());
    }
    return pci_->attach();
}

Result<void> MachineDevices::create_network_and_disks(const VmConfig& config, Platform& platform,
                                                      FileSource& files, const Events& events) {
    PciAddress at{board::kPciNicSlotFirst};
    for (const NicConfig& nic : config.nics) {
        VirtioNetConfig net;
        net.name = nic.id;
        net.tap = nic.tap;
        net.mac = nic.mac;
        net.mtu = nic.mtu;
        TRY_CONTEXT(add_pci(at, make_virtio_net(platform, files, net, pci_config(at, events))),
                    "nic {}", nic.id);
        ++at.slot;
    }
    at = {board::kPciDiskSlotFirst};
    for (const DiskConfig& disk : config.disks) {
        TRY_CONTEXT(add_pci(at, make_virtio_block(platform, files, block_config(disk),
                                                  pci_config(at, events))),
                    "disk {}", disk.id);
        ++at.slot;
    }
    return {};
}

Result<void> MachineDevices::add_pci(PciAddress at,
                                     Result<std::unique_ptr<VirtioPciDevice>> device) {
    virtio_.push_back(TRY(std::move(device)));
    return pci_->add(at, *virtio_.back());
}

void MachineDevices::pause() {
    for (const auto& device : virtio_) {
        device->pause();
    }
}

void MachineDevices::resume() {
    for (const auto& device : virtio_) {
        device->resume();
    }
}

Result<void> MachineDevices::reset() {
    serial_->reset();
    rtc_->reset();
    keyboard_->reset();
    port92_->reset();
    pm_->reset();
    fw_cfg_->reset();
    return pci_->reset();
}

Json MachineDevices::statistics() const {
    Json all = Json::object();
    const auto& serial = serial_->counters();
    all.set("serial", Json::object({{"transmitted_bytes", serial.transmitted.value()},
                                    {"received_bytes", serial.received.value()},
                                    {"receive_dropped_bytes", serial.receive_dropped.value()}}));
    all.set("pvpanic", Json::object({{"panics", pvpanic_->panic_count()},
                                     {"crash_loads", pvpanic_->crash_loaded_count()}}));
    for (const auto& device : virtio_) {
        Json one = Json::object();
        for (const Statistic& statistic : device->statistics()) {
            one.set(statistic.name, statistic.value);
        }
        all.set(device->name(), std::move(one));
    }
    return all;
}

}  // namespace kumoi::hypervisor
