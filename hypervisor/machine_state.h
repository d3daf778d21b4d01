// MachineState: the whole state of one machine but its memory, as sections: "machine" (what must be
// equal), "kvm-chips" (interrupt controllers, timer, clock), a section for each chip of the board,
// "pci" with every function, and "vcpu0" and on.
//
// save() and load() act on a machine whose vCPUs are parked and whose devices are paused. load() is
// for a freshly made one that has not run; check() finds all reasons against it, changes nothing.
// Loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/kvm/kvm.h"
#include "hypervisor/snapshot/section.h"
#include "hypervisor/vcpu/vcpu.h"
#include "hypervisor/vm_config.h"
#include "hypervisor/vmm_devices.h"

namespace kumoi::hypervisor {

// Where sections are read from: a snapshot file, later a peer.
using SectionSource = std::function<Result<SectionReader>(const std::string& name)>;

class MachineState {
public:
    struct Parts {
        const VmConfig& config;
        const Kvm& kvm;
        KvmVm& vm;
        MachineDevices& devices;
        const std::vector<std::unique_ptr<Vcpu>>& vcpus;
        Snapshottable* nvram = nullptr;  // of UEFI firmware
    };
    explicit MachineState(const Parts& parts) : parts_(parts) {}

    // `clock_ns`: kvmclock, as it stood when the vCPUs had parked.
    // `wall_ns`: when that was.
    Result<std::vector<SectionWriter>> save(uint64_t clock_ns, int64_t wall_ns = 0) const;
    // One error that lists every reason.
    Result<void> check(const SectionSource& sections) const;
    // The saved kvmclock, to be set just before the vCPUs run.
    Result<uint64_t> load(const SectionSource& sections);
    // The same for a guest that moved: its TSC goes on where it would stand now, by both hosts'
    // wall clocks. Afterwards saved_wall_ns() tells when its kvmclock stood as load() says.
    Result<uint64_t> load_moved(const SectionSource& sections, int64_t wall_ns);
    std::optional<int64_t> saved_wall_ns() const { return saved_wall_ns_; }
    // From `then`, told by another host, to `now`: 0 when their clocks contradict each other.
    static int64_t time_of_move(int64_t then_ns, int64_t now_ns);

    // Equal for machines whose states fit each other.
    std::string shape_digest() const;

private:
    std::vector<Snapshottable*> chips() const;
    Result<void> check_machine(SectionReader& in, std::vector<std::string>& reasons) const;
    Result<uint64_t> load_chips(SectionReader& in);
    Result<uint64_t> load_after(const SectionSource& sections, const std::optional<int64_t>& now);

    Parts parts_;
    std::optional<int64_t> saved_wall_ns_;
};

}  // namespace kumoi::hypervisor
