import re
def sub(p, a, b, n=1):
    s=open(p).read()
    assert a in s, (p,a)
    s=s.replace(a,b,n); open(p,'w').write(s)

# A. AcpiPm
p='hypervisor/board/acpi_pm.h'
sub(p,'''    void reset();

private:''','''    // The GPE block asks for the SCI, or no longer does; any thread.
    void set_gpe(bool wanted);
    void reset();

private:''')
sub(p,'    bool sci_asserted_ = false;','    bool gpe_wanted_ = false;\n    bool sci_asserted_ = false;')
p='hypervisor/board/acpi_pm.cc'
sub(p,'    const bool wanted = (status_ & enable_) != 0;','    const bool wanted = (status_ & enable_) != 0 || gpe_wanted_;')
sub(p,'''bool AcpiPm::press_power_button() {''','''void AcpiPm::set_gpe(bool wanted) {
    const std::lock_guard lock(mutex_);
    gpe_wanted_ = wanted;
    update_sci();
}

bool AcpiPm::press_power_button() {''')
# B. tables
p='hypervisor/board/acpi_tables.h'
sub(p,'''    uint64_t mmio64_end = 0;  // where''','''    uint32_t vcpus_max = 0;   // how many there may ever be; less than vcpus: no more than those
    NumaLayout numa;
    uint64_t mmio64_end = 0;  // where''')
sub(p,'#include "hypervisor/board/board_layout.h"\n','#include "hypervisor/board/board_layout.h"\n#include "hypervisor/board/numa_tables.h"\n')
p='hypervisor/board/acpi_tables.cc'
sub(p,'''    body.pm1_evt_len = 4;''','''    body.gpe0_blk = board::kGpe0Base;
    body.gpe0_blk_len = static_cast<uint8_t>(board::kGpe0Size);
    body.pm1_evt_len = 4;''')
sub(p,'std::string madt(uint32_t vcpus) {','''// A processor that may come later is not enabled, but can be (§5.2.12.2, table 5.48).
std::string madt(uint32_t vcpus, uint32_t vcpus_max) {
    constexpr uint32_t kEnabled = 1u << 0;
    constexpr uint32_t kOnlineCapable = 1u << 1;''')
sub(p,'    for (uint32_t id = 0; id < vcpus; ++id) {\n','    for (uint32_t id = 0; id < std::max(vcpus, vcpus_max); ++id) {\n        const uint32_t flags = id < vcpus ? kEnabled : kOnlineCapable;\n')
sub(p,'''            entry.apic_id = static_cast<uint8_t>(id);
''','''            entry.apic_id = static_cast<uint8_t>(id);
            entry.flags = flags;
''')
sub(p,'''            entry.apic_id = id;
            entry.processor_uid = id;''','''            entry.apic_id = id;
            entry.flags = flags;
            entry.processor_uid = id;''')
sub(p,'''dsdt_body(config.ram_end, config.ecam_base, config.mmio64_end)''','''dsdt_body({.ram_end = config.ram_end,
                                        .ecam_base = config.ecam_base,
                                        .mmio64_end = config.mmio64_end,
                                        .vcpus = config.vcpus,
                                        .vcpus_max = config.vcpus_max})''')
sub(p,'''    const std::vector<uint32_t> tables = {fadt_at, assembly.place_table(madt(config.vcpus)),
                                          assembly.place_table(mcfg(config.ecam_base))};
''','''    std::vector<uint32_t> tables = {fadt_at,
                                    assembly.place_table(madt(config.vcpus, config.vcpus_max)),
                                    assembly.place_table(mcfg(config.ecam_base))};
    if (config.numa.nodes != 0) {
        tables.push_back(assembly.place_table(table("SRAT", 3, srat_body(config.numa))));
    }
    if (!config.numa.distances.empty()) {
        tables.push_back(assembly.place_table(table("SLIT", 1, slit_body(config.numa))));
    }
''')
s=open(p).read()
if '#include <algorithm>' not in s:
    s=s.replace('#include <cstddef>','#include <algorithm>\n#include <cstddef>',1); open(p,'w').write(s)
# C. dsdt
p='hypervisor/board/dsdt.h'
s=open(p).read()
i=s.index('// The definition block'); j=s.index('}  // namespace')
s=s[:i]+'''struct DsdtConfig {
    uint64_t ram_end = 0;  // first address behind memory, plugged later or not
    uint64_t ecam_base = 0;
    uint64_t mmio64_end = 0;  // where firmware put BARs beyond the board's 64-bit PCI window, or 0
    uint32_t vcpus = 1;
    uint32_t vcpus_max = 0;
};

// The definition block's body, without the table header.
std::string dsdt_body(const DsdtConfig& config);

'''+s[j:]
open(p,'w').write(s)
p='hypervisor/board/dsdt.cc'
sub(p,'aml::name_decl("_PRT", interrupt_routes());','aml::name_decl("_PRT", interrupt_routes()) + dsdt_pci_slots();')
sub(p,'#include "hypervisor/board/board_layout.h"\n','#include "hypervisor/board/board_layout.h"\n#include "hypervisor/board/dsdt_hotplug.h"\n#include "hypervisor/board/hotplug_layout.h"\n')
sub(p,'''        aml::io_ports(board::kSmiBase, static_cast<uint8_t>(board::kSmiSize)),
''','''        aml::io_ports(board::kSmiBase, static_cast<uint8_t>(board::kSmiSize)),
        aml::io_ports(board::kPciHotplugBase, static_cast<uint8_t>(board::kPciHotplugSize)),
        aml::io_ports(board::kCpuHotplugBase, static_cast<uint8_t>(board::kCpuHotplugSize)),
''')
sub(p,'std::string dsdt_body(uint64_t ram_end, uint64_t ecam_base, uint64_t mmio64_end) {','std::string dsdt_body(const DsdtConfig& config) {')
s=open(p).read()
i=s.index('           aml::scope("\\\\_SB_", pci_root(')
s=s[:i]+s[i:].replace('pci_root(ram_end, mmio64_end)','pci_root(config.ram_end, config.mmio64_end)').replace('reserved_ranges(ecam_base));','reserved_ranges(config.ecam_base)) +\n           dsdt_hotplug_events(config.vcpus, config.vcpus_max);')
open(p,'w').write(s)
# D. devices
p='hypervisor/vmm_devices.h'
sub(p,'''        std::function<void()> guest_crash_loaded;  // it panicked and its crash kernel takes over
''','''        std::function<void()> guest_crash_loaded;  // it panicked and its crash kernel takes over
        // From a vCPU thread: the guest has let go of these slots, of this processor.
        std::function<void(uint32_t slots)> pci_ejected;
        std::function<void(uint32_t cpu)> cpu_ejected;
        // From an I/O thread: memory was plugged or unplugged.
        std::function<void(VirtioMem::Sizes)> memory_changed;
''')
sub(p,'''    PciDevices& pci_devices() { return *pci_; }
''','''    PciDevices& pci_devices() { return *pci_; }
    PciHotplug& pci_hotplug() { return *pci_hotplug_; }
    CpuHotplug& cpu_hotplug() { return *cpu_hotplug_; }
    VirtioMem* virtio_mem() { return virtio_mem_; }  // null: memory cannot grow

    // A device for add(): opened, not yet in the table.
    Result<std::unique_ptr<VirtioPciDevice>> make_disk(const DiskConfig& disk, PciAddress at);
    Result<std::unique_ptr<VirtioPciDevice>> make_nic(const NicConfig& nic, PciAddress at);
''')
sub(p,'''    MachineDevices() = default;
    Result<void> create_board(''','''    MachineDevices(Platform& platform, FileSource& files, Events events)
        : platform_(platform), files_(files), events_(std::move(events)) {}
    Result<void> create_hotplug(const VmConfig& config);
    Result<void> create_memory(const VmConfig& config);
    Result<void> create_board(''')
sub(p,'''    Result<void> create_network_and_disks(const VmConfig& config, Platform& platform,
                                          FileSource& files, const Events& events);

''','''    Result<void> create_network_and_disks(const VmConfig& config);

    Platform& platform_;
    FileSource& files_;
    const Events events_;
''')
sub(p,'''    SmiRegisters smi_;
''','''    SmiRegisters smi_;
    std::unique_ptr<GpeBlock> gpe_;
    std::unique_ptr<PciHotplug> pci_hotplug_;
    std::unique_ptr<CpuHotplug> cpu_hotplug_;
    std::unique_ptr<HotMemory> hot_memory_;
    VirtioMem* virtio_mem_ = nullptr;  // in the table
''')
sub(p,'#include "hypervisor/board/fw_cfg.h"\n','#include "hypervisor/board/cpu_hotplug.h"\n#include "hypervisor/board/fw_cfg.h"\n#include "hypervisor/board/gpe_block.h"\n')
sub(p,'#include "hypervisor/board/platform.h"\n','#include "hypervisor/board/pci_hotplug.h"\n#include "hypervisor/board/platform.h"\n')
sub(p,'#include "hypervisor/virtio/device_factory.h"\n','#include "hypervisor/virtio/device_factory.h"\n#include "hypervisor/virtio/mem.h"\n')
p='hypervisor/vmm_devices.cc'
sub(p,'''uint64_t ram_end(const GuestMemory& memory) {
    const MemoryRegion& last = memory.regions().back();
    return last.gpa + last.size;
}

''','')
sub(p,'board::pci_mmio64_start(ram_end(platform.memory()))','board::pci_mmio64_start(platform.memory().end())')
sub(p,'devices(new MachineDevices());','devices(\n        new MachineDevices(platform, files, events));')
sub(p,'''    TRY(devices->create_pci(config, platform, files, events));
''','''    TRY(devices->create_hotplug(config));
    TRY(devices->create_pci(config, platform, files, events));
''')
sub(p,'''    TRY(create_network_and_disks(config, platform, files, events));
    return pci_->start();
}
''','''    TRY(create_memory(config));
    TRY(create_network_and_disks(config));
    return pci_->start();
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

Result<void> MachineDevices::create_memory(const VmConfig& /*config*/) {
    if (platform_.memory().hot().size == 0) {
        return {};
    }
    hot_memory_ = std::make_unique<PlatformHotMemory>(platform_);
    auto device = std::make_unique<VirtioMem>("memory", *hot_memory_, 0, events_.memory_changed);
    virtio_mem_ = device.get();
    return pci_->add(board::kPciVirtioMem,
                     VirtioPciDevice::create(platform_, std::move(device),
                                             pci_config(board::kPciVirtioMem, events_)));
}
''')
s=open(p).read()
i=s.index('Result<void> MachineDevices::create_network_and_disks('); j=s.index('void MachineDevices::pause()')
s=s[:i]+'''// Devices that name no slot take the first free one.
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
        const PciAddress at = place(disk.slot, board::kPciDiskSlotFirst);
        TRY_CONTEXT(pci_->add(at, make_disk(disk, at)), "disk {}", disk.id);
    }
    return {};
}

Result<std::unique_ptr<VirtioPciDevice>> MachineDevices::make_nic(const NicConfig& nic,
                                                                  PciAddress at) {
    VirtioNetConfig net;
    net.name = nic.id;
    net.tap = nic.tap;
    net.mac = nic.mac;
    net.mtu = nic.mtu;
    return make_virtio_net(platform_, files_, net, pci_config(at, events_));
}

Result<std::unique_ptr<VirtioPciDevice>> MachineDevices::make_disk(const DiskConfig& disk,
                                                                   PciAddress at) {
    return make_virtio_block(platform_, files_, block_config(disk), pci_config(at, events_));
}

'''+s[j:]
s=s.replace('''    pm_->reset();
    fw_cfg_->reset();
''','''    pm_->reset();
    gpe_->reset();
    pci_hotplug_->reset();
    cpu_hotplug_->reset();
    fw_cfg_->reset();
''')
s=s.replace('#include "hypervisor/board/lpc_bridge.h"\n','#include "hypervisor/board/hotplug_layout.h"\n#include "hypervisor/board/lpc_bridge.h"\n',1)
s=s.replace('#include "hypervisor/pci/pvpanic.h"\n','#include "hypervisor/hotplug/platform_hot_memory.h"\n#include "hypervisor/pci/pvpanic.h"\n',1)
open(p,'w').write(s)
# E. config
p='hypervisor/vm_config.h'
sub(p,'''    DiskCache cache = DiskCache::Writeback;
};''','''    DiskCache cache = DiskCache::Writeback;
    unsigned slot = 0;  // of PCI bus 0; 0: the first free one
};''')
sub(p,'''    uint16_t mtu = 1500;
};''','''    uint16_t mtu = 1500;
    unsigned slot = 0;
};''')
sub(p,'    CpuSelection cpu;\n','    CpuSelection cpu;\n    ResourcesConfig resources;\n')
sub(p,'#include "hypervisor/vcpu/cpu_model.h"\n','#include "hypervisor/resources_config.h"\n#include "hypervisor/vcpu/cpu_model.h"\n')
sub(p,'''Result<VmConfig> load_vm_config(const std::string& path);
''','''Result<VmConfig> load_vm_config(const std::string& path);
// One member of "disks" or "nics": what add_disk and add_nic take.
Result<DiskConfig> parse_disk_config(const JsonView& view, const std::string& base_directory);
Result<NicConfig> parse_nic_config(const JsonView& view, const std::string& base_directory);
''')
p='hypervisor/vm_config.cc'
s=open(p).read()
s=s.replace('"serial", "cache"','"serial", "cache", "slot"',1)
s=s.replace('''    disk.cache = TRY(choice<DiskCache>(''','''    disk.slot = static_cast<unsigned>(
        TRY(view.integer_or("slot", 0, {board::kPciDiskSlotFirst, board::kPciDiskSlotLast})));
    disk.cache = TRY(choice<DiskCache>(''',1)
s=s.replace('{"id", "tap", "mac", "mtu"}','{"id", "tap", "mac", "mtu", "slot"}',1)
s=s.replace('''    nic.mac = TRY(parse_mac(''','''    nic.slot = static_cast<unsigned>(
        TRY(view.integer_or("slot", 0, {board::kPciNicSlotFirst, board::kPciNicSlotLast})));
    nic.mac = TRY(parse_mac(''',1)
s=s.replace('cpu.only({"model", "mask", "add"})','cpu.only({"model", "mask", "add", "topology"})',1)
s=s.replace('''"on_shutdown", "on_crash"''','''"on_shutdown", "on_crash", "vcpus_max", "memory_max_mib", "memory", "numa", "vcpu",
                   "io_affinity"''',1)
s=s.replace('''    TRY(parse_machine(view, config));
''','''    TRY(parse_machine(view, config));
    config.resources = TRY(parse_resources(view, config.memory_mib, config.vcpus));
    TRY_CONTEXT(check_topology(config.resources.topology), "cpu.topology");
''',1)
s=s.replace('''Result<VmConfig> load_vm_config(''','''Result<DiskConfig> parse_disk_config(const JsonView& view, const std::string& base_directory) {
    std::set<std::string> ids;
    return parse_disk(view, base_directory, ids);
}

Result<NicConfig> parse_nic_config(const JsonView& view, const std::string& /*base_directory*/) {
    std::set<std::string> ids;
    return parse_nic(view, ids);
}

Result<VmConfig> load_vm_config(''',1)
s=s.replace('#include "hypervisor/board/board_layout.h"\n','#include "hypervisor/board/board_layout.h"\n#include "hypervisor/board/pci_layout.h"\n#include "hypervisor/vcpu/cpu_topology.h"\n',1)
s=s.replace('''    if (config.disks.size() > kDisksMax''','''    TRY(check_slots(view, config));
    if (config.disks.size() > kDisksMax''',1)
s=s.replace('''Result<void> parse_devices(''','''// Slots that are named are taken by one device each, and are named before others find a free one.
Result<void> check_slots(const JsonView& view, const VmConfig& config) {
    std::set<unsigned> taken;
    const auto check = [&](const auto& parts) -> Result<void> {
        bool automatic = false;
        for (const auto& part : parts) {
            automatic = automatic || part.slot == 0;
            if (part.slot != 0 && (automatic || !taken.insert(part.slot).second)) {
                return view.error(fmt::format(
                    "slot {} of \\"{}\\" is taken, or named behind a device without one", part.slot,
                    part.id));
            }
        }
        return {};
    };
    TRY(check(config.nics));
    return check(config.disks);
}

Result<void> parse_devices(''',1)
open(p,'w').write(s)
