// The part of Vmm that changes a machine while it runs: vCPUs that come and go, and what the ACPI
// tables say of them. PCI devices: hypervisor/hotplug.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "hypervisor/board/hotplug_layout.h"
#include "hypervisor/memory/memory_plan.h"
#include "hypervisor/upgrade/heritage.h"
#include "hypervisor/vcpu/affinity.h"
#include "hypervisor/vcpu/cpu_topology.h"
#include "hypervisor/vmm.h"

namespace kumoi::hypervisor {

namespace {
constexpr int64_t kEjectParkNs = 5 * kNanosPerSecond;
}  // namespace

AcpiConfig Vmm::acpi_config() const {
    AcpiConfig acpi;
    acpi.vcpus = config_.vcpus;
    acpi.vcpus_max = config_.resources.vcpus_max;
    acpi.keyboard = config_.display.enabled;
    acpi.ram_end = memory_->end();
    acpi.numa = numa_layout(config_.memory, memory_->boot_size(), acpi.vcpus_max, memory_->hot());
    return acpi;
}

void Vmm::create_hotplug() {
    device_hotplug_ = std::make_unique<DeviceHotplug>(
        seams_.loop, devices_->pci_devices(), devices_->pci_hotplug(),
        DeviceHotplug::Hooks{
            .event = hooks_.event,
            .removed =
                [this](const std::string& name) {
                    forget_tap(name);
                    hotplug_->forget(name);
                },
            .standstill = [this](const auto& run) { return with_vcpus_parked(run); }});
    HotplugControl::Machine machine;
    machine.stopped = [this] { return state_ != VmState::Running; };
    machine.standstill = [this](const auto& run) { return with_vcpus_parked(run); };
    machine.event = hooks_.event;
    machine.set_vcpus = [this](uint32_t count, int64_t timeout_ms, const auto& answer) {
        set_vcpus(count, timeout_ms, answer);
    };
    hotplug_ =
        std::make_unique<HotplugControl>(config_, *devices_, *device_hotplug_, std::move(machine));
}

// It is nobody's any more: a newer process of this machine will not need it.
void Vmm::forget_tap(const std::string& device) {
    Heritage* heritage = seams_.files.heritage();
    for (const NicConfig& nic : config_.nics) {
        if (nic.id == device && heritage != nullptr) {
            heritage->forget("tap:" + nic.tap);
        }
    }
}

void Vmm::hotplug_events(MachineDevices::Events& events) {
    events.pci_ejected = [this](uint32_t slots) {
        seams_.loop.post([this, slots] { device_hotplug_->ejected(slots); });
    };
    events.memory_changed = [this] {
        post_once(memory_posted_, [this] {
            guest_events_.tell("memory_changed", {"memory_changed", memory_sizes_json()},
                               {.burst = 10, .apart_ns = kNanosPerSecond});
        });
    };
    events.cpu_ejected = [this](uint32_t cpu) {
        seams_.loop.post([this, cpu] { vcpu_ejected(cpu); });
    };
}

Result<void> Vmm::with_vcpus_parked(const std::function<Result<void>()>& run) {
    TRY(pause_vcpus());
    auto done = run();
    if (state_ == VmState::Running) {
        resume_vcpus();
    }
    return done;
}

// vCPUs are made in the order of their numbers, so that a number is a place in vcpus_.
Result<void> Vmm::create_vcpu() {
    const auto index = static_cast<uint32_t>(vcpus_.size());
    VcpuFd fd = TRY(vm_->create_vcpu(index));
    CpuidTable mine = cpuid_for_vcpu(cpuid_, index, config_.resources.vcpus_max);
    apply_topology(mine, config_.resources.topology, index);
    TRY_CONTEXT(fd.set_cpuid(mine), "vCPU {}", index);
    fresh_vcpus_.push_back(TRY(capture_reset_state(fd)));
    vcpus_.push_back(std::make_unique<Vcpu>(index, std::move(fd), platform_->port_bus(),
                                            platform_->mmio_bus(), *memory_, vcpu_events()));
    return {};
}

Result<void> Vmm::start_vcpu(Vcpu& vcpu) {
    TRY(vcpu.start());
    const CpuList cpus = affinity_of_vcpu(config_.resources, vcpu.index());
    if (!cpus.empty()) {
        TRY_CONTEXT(vcpu.set_affinity(cpus), "vCPU {}", vcpu.index());
    }
    return {};
}

// From nothing, or from one that was unplugged before and is parked in its reset state.
Result<void> Vmm::plug_vcpu(uint32_t index) {
    if (index == vcpus_.size()) {
        TRY(create_vcpu());
        TRY(apply_reset_state(vcpus_[index]->fd(), fresh_vcpus_[index], false));
        TRY(start_vcpu(*vcpus_[index]));
    }
    vcpus_[index]->set_plugged(true);
    vcpus_[index]->resume();
    devices_->cpu_hotplug().insert(index);
    ++config_.vcpus;
    config_.source.set("vcpus", config_.vcpus);
    return {};
}

void Vmm::set_vcpus(uint32_t count, int64_t timeout_ms, DeviceHotplug::Answer answer) {
    if (state_ != VmState::Running) {
        answer(Error::conflict("the machine is {}; only a running one can change its vCPUs",
                               to_string(state_)));
        return;
    }
    if (vcpu_change_.answer) {
        answer(Error::conflict("vCPUs are being removed already"));
        return;
    }
    CpuHotplug& registers = devices_->cpu_hotplug();
    const uint32_t before = config_.vcpus;
    for (uint32_t index = 0; config_.vcpus < count; ++index) {
        if (index < vcpus_.size() && vcpus_[index]->plugged()) {
            continue;
        }
        if (auto plugged = plug_vcpu(index); !plugged) {
            answer(plugged.error());
            return;
        }
    }
    if (config_.vcpus == count) {
        if (before != count) {
            hooks_.event({"vcpus_changed", Json::object({{"vcpus", config_.vcpus}})});
        }
        answer(Json::object({{"vcpus", config_.vcpus}}));
        return;
    }
    vcpu_change_.answer = std::move(answer);
    vcpu_change_.target = count;
    vcpu_change_.timer =
        seams_.loop.call_after(timeout_ms * kNanosPerMilli, [this] { vcpu_change_timed_out(); });
    uint32_t left = config_.vcpus - count;
    for (auto index = static_cast<uint32_t>(vcpus_.size() - 1); left != 0 && index > 0; --index) {
        if (vcpus_[index]->plugged()) {
            registers.request_removal(index);
            --left;
        }
    }
}

void Vmm::vcpu_change_timed_out() {
    const auto answer = std::exchange(vcpu_change_.answer, nullptr);
    for (uint32_t index = 1; index < vcpus_.size(); ++index) {
        devices_->cpu_hotplug().withdraw_removal(index);
    }
    answer(Error::timeout("guest did not release {} of its {} vCPUs",
                          config_.vcpus - vcpu_change_.target, config_.vcpus)
               .with_hint("its processors must be able to go offline (Linux: ACPI_HOTPLUG_CPU)"));
}

// The guest has let go of it, or says so: it does not run any more, whatever it was doing.
void Vmm::vcpu_ejected(uint32_t cpu) {
    if (cpu == 0 || cpu >= vcpus_.size()) {
        return;
    }
    Vcpu& vcpu = *vcpus_[cpu];
    vcpu.request_pause();
    if (!vcpu.wait_parked(kEjectParkNs)) {
        log_error("vmm", "an ejected vCPU does not stop", {{"vcpu", cpu}});
        return;
    }
    vcpu.set_plugged(false);
    if (auto reset = apply_reset_state(vcpu.fd(), fresh_vcpus_[cpu], false); !reset) {
        log_error("vmm", "resetting an ejected vCPU", {{"error", reset.error().text()}});
    }
    --config_.vcpus;
    config_.source.set("vcpus", config_.vcpus);
    hooks_.event({"vcpus_changed", Json::object({{"vcpus", config_.vcpus}})});
    if (vcpu_change_.answer && config_.vcpus <= vcpu_change_.target) {
        seams_.loop.cancel(vcpu_change_.timer);
        const auto answer = std::exchange(vcpu_change_.answer, nullptr);
        answer(Json::object({{"vcpus", config_.vcpus}}));
    }
}

// With vCPUs parked: what was asked to go is gone, and the vCPUs that are left are the first ones.
Result<void> Vmm::reset_hotplug() {
    const VmState state = std::exchange(state_, VmState::Paused);  // taking out resumes nobody
    device_hotplug_->reset();
    state_ = state;
    if (vcpu_change_.answer) {
        seams_.loop.cancel(vcpu_change_.timer);
        config_.vcpus = std::min(config_.vcpus, vcpu_change_.target);
        config_.source.set("vcpus", config_.vcpus);
        const auto answer = std::exchange(vcpu_change_.answer, nullptr);
        answer(Json::object({{"vcpus", config_.vcpus}}));
    }
    std::vector<uint8_t> present(config_.resources.vcpus_max);
    std::fill_n(present.begin(), config_.vcpus, board::kCpuPresent);
    for (uint32_t index = 0; index < vcpus_.size(); ++index) {
        vcpus_[index]->set_plugged(index < config_.vcpus);
    }
    return devices_->cpu_hotplug().set_state(present);
}

}  // namespace kumoi::hypervisor
