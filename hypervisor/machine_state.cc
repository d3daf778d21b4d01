#include "hypervisor/machine_state.h"

#include <fmt/ranges.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "base/small_digest.h"
#include "hypervisor/vcpu/vcpu_snapshot.h"

namespace kumoi::hypervisor {

namespace {

// Fields of the sections; never reused.
enum MachineField : uint16_t { kFieldBoard = 1, kFieldVcpus = 2, kFieldMemory = 3 };
enum ChipsField : uint16_t {
    kFieldPicMaster = 1,
    kFieldPicSlave = 2,
    kFieldIoApic = 3,
    kFieldPit = 4,
    kFieldClockNs = 5,
    kFieldWallNs = 6,  // the saving host's wall clock then; absent: not told
};

// More than that is no move: the two hosts have different times.
constexpr int64_t kMoveMaxNs = 60 * kNanosPerSecond;

std::string vcpu_section(size_t index) {
    return fmt::format("vcpu{}", index);
}

SectionWriter writer_for(const Snapshottable& part) {
    return {part.section_name(), part.section_version()};
}

}  // namespace

std::string MachineState::shape_digest() const {
    const VmConfig& config = parts_.config;
    std::string shape =
        fmt::format("{} vcpus={} memory={}\n", config.board, config.vcpus, config.memory_bytes());
    for (const std::string& function : parts_.devices.pci().function_names()) {
        shape += function + "\n";
    }
    return to_hex(sha256_of(shape));
}

std::vector<Snapshottable*> MachineState::chips() const {
    std::vector<Snapshottable*> all = parts_.devices.chips();
    if (parts_.nvram != nullptr) {
        all.push_back(parts_.nvram);
    }
    return all;
}

Result<std::vector<SectionWriter>> MachineState::save(uint64_t clock_ns, int64_t wall_ns) const {
    std::vector<SectionWriter> sections;
    SectionWriter machine("machine", 1);
    machine.text(kFieldBoard, parts_.config.board).u64(kFieldVcpus, parts_.config.vcpus);
    machine.u64(kFieldMemory, parts_.config.memory_bytes());
    sections.push_back(std::move(machine));
    for (const Snapshottable* chip : chips()) {
        SectionWriter section = writer_for(*chip);
        chip->save(section);
        sections.push_back(std::move(section));
    }
    SectionWriter pci = writer_for(parts_.devices.pci());
    parts_.devices.pci().save(pci);
    sections.push_back(std::move(pci));
    const KvmChipState controllers = TRY(parts_.vm.chip_state());
    SectionWriter kvm("kvm-chips", 1);
    kvm.object(kFieldPicMaster, controllers.chips[0]).object(kFieldPicSlave, controllers.chips[1]);
    kvm.object(kFieldIoApic, controllers.chips[2]).object(kFieldPit, controllers.pit);
    kvm.u64(kFieldClockNs, clock_ns);
    if (wall_ns > 0) {
        kvm.u64(kFieldWallNs, static_cast<uint64_t>(wall_ns));
    }
    sections.push_back(std::move(kvm));
    const VcpuHost host = TRY(VcpuHost::ask(parts_.kvm));
    const uint64_t host_tsc = read_host_tsc();
    for (size_t index = 0; index < parts_.vcpus.size(); ++index) {
        SectionWriter vcpu(vcpu_section(index), 1);
        TRY_CONTEXT(save_vcpu(parts_.vcpus[index]->fd(), host, host_tsc, vcpu), "vCPU {}", index);
        sections.push_back(std::move(vcpu));
    }
    return sections;
}

Result<void> MachineState::check_machine(SectionReader& in,
                                         std::vector<std::string>& reasons) const {
    const VmConfig& config = parts_.config;
    if (const std::string board = TRY(in.text(kFieldBoard)); board != config.board) {
        reasons.push_back(
            fmt::format("the guest has board {}, this machine {}", board, config.board));
    }
    if (const uint64_t vcpus = TRY(in.u64(kFieldVcpus)); vcpus != config.vcpus) {
        reasons.push_back(
            fmt::format("the guest has {} vCPUs, this machine {}", vcpus, config.vcpus));
    }
    if (const uint64_t memory = TRY(in.u64(kFieldMemory)); memory != config.memory_bytes()) {
        reasons.push_back(fmt::format("the guest has {} MiB of memory, this machine {}",
                                      memory >> 20, config.memory_mib));
    }
    return in.finish();
}

Result<void> MachineState::check(const SectionSource& sections) const {
    std::vector<std::string> reasons;
    SectionReader machine = TRY(sections("machine"));
    TRY(check_machine(machine, reasons));
    SectionReader pci = TRY(sections("pci"));
    for (std::string& reason : TRY(parts_.devices.pci().check(pci))) {
        reasons.push_back(std::move(reason));
    }
    for (const Snapshottable* chip : chips()) {
        if (auto section = sections(chip->section_name()); !section) {
            reasons.push_back(section.error().message);
        }
    }
    const VcpuHost host = TRY(VcpuHost::ask(parts_.kvm));
    // All reasons, but not the same ones for each vCPU.
    for (size_t index = 0; index < parts_.vcpus.size(); ++index) {
        if (index != 0 && !reasons.empty()) {
            break;
        }
        SectionReader vcpu = TRY(sections(vcpu_section(index)));
        for (std::string& reason : TRY(check_vcpu(parts_.vcpus[index]->fd(), host, vcpu))) {
            reasons.push_back(fmt::format("vCPU {}: {}", index, reason));
        }
    }
    if (reasons.empty()) {
        return {};
    }
    return Error::unsupported("this machine cannot take the guest's state: {}",
                              fmt::join(reasons, "; "));
}

Result<uint64_t> MachineState::load(const SectionSource& sections) {
    return load_after(sections, std::nullopt);
}

Result<uint64_t> MachineState::load_moved(const SectionSource& sections, int64_t wall_ns) {
    return load_after(sections, wall_ns);
}

int64_t MachineState::time_of_move(int64_t then_ns, int64_t now_ns) {
    const bool plausible = then_ns > 0 && now_ns > then_ns && now_ns - then_ns <= kMoveMaxNs;
    return plausible ? now_ns - then_ns : 0;
}

// Devices drive interrupt lines while they load, so the controllers come after them, and the local
// APICs (in the vCPUs) after the controllers, which may deliver into them.
Result<uint64_t> MachineState::load_after(const SectionSource& sections,
                                          const std::optional<int64_t>& now) {
    for (Snapshottable* chip : chips()) {
        SectionReader section = TRY(sections(chip->section_name()));
        TRY(chip->load(section));
        TRY(section.finish());
    }
    SectionReader pci = TRY(sections("pci"));
    TRY(parts_.devices.pci().load(pci));
    TRY(pci.finish());
    SectionReader kvm = TRY(sections("kvm-chips"));
    const uint64_t clock_ns = TRY(load_chips(kvm));
    TRY(kvm.finish());
    const VcpuHost host = TRY(VcpuHost::ask(parts_.kvm));
    const uint64_t host_tsc = read_host_tsc();
    for (size_t index = 0; index < parts_.vcpus.size(); ++index) {
        SectionReader vcpu = TRY(sections(vcpu_section(index)));
        const int64_t moved_ns = now && saved_wall_ns_ ? time_of_move(*saved_wall_ns_, *now) : 0;
        TRY_CONTEXT(load_vcpu(parts_.vcpus[index]->fd(), host, host_tsc, vcpu, moved_ns), "vCPU {}",
                    index);
    }
    return clock_ns;
}

Result<uint64_t> MachineState::load_chips(SectionReader& in) {
    KvmChipState controllers{};
    controllers.chips[0] = TRY(in.object<kvm_irqchip>(kFieldPicMaster));
    controllers.chips[1] = TRY(in.object<kvm_irqchip>(kFieldPicSlave));
    controllers.chips[2] = TRY(in.object<kvm_irqchip>(kFieldIoApic));
    controllers.pit = TRY(in.object<kvm_pit_state2>(kFieldPit));
    for (uint32_t id = 0; id < 3; ++id) {
        controllers.chips[id].chip_id = id;  // never what the file says: it selects the chip
    }
    TRY(parts_.vm.set_chip_state(controllers));
    if (in.has(kFieldWallNs)) {
        saved_wall_ns_ = static_cast<int64_t>(TRY(in.u64_max(kFieldWallNs, INT64_MAX)));
    }
    return in.u64_max(kFieldClockNs, INT64_MAX);
}

}  // namespace kumoi::hypervisor
