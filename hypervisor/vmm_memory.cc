// Guest RAM of a machine: made as its configuration says, and grown and shrunk while it runs.
#include <algorithm>

#include "hypervisor/board/pci_layout.h"
#include "hypervisor/hotplug/platform_hot_memory.h"
#include "hypervisor/kvm/kvm_dirty_log.h"
#include "hypervisor/memory/memory_plan.h"
#include "hypervisor/upgrade/heir_memory.h"
#include "hypervisor/vcpu/vcpu_throttle.h"
#include "hypervisor/vmm.h"

namespace kumoi::hypervisor {

Result<void> Vmm::create_memory() {
    const MemoryConfig& memory = config_.memory;
    HeirMemoryHost host(system_memory_host(), seams_.files.heritage());
    memory_ = TRY(
        GuestMemory::create({.size = config_.memory_bytes(),
                             .page_size = memory.page_size,
                             .hot = plan_hot_memory(config_.memory_bytes(), memory.max_mib << 20)},
                            host));
    host.remember(memory_->fd());
    TRY(place_memory(memory, memory_->boot_bytes(), host));
    return populate_memory(memory, memory_->boot_bytes(), memory.prealloc_threads, host);
}

Result<void> Vmm::create_dirty_log() {
    const KvmDirtyLog::Machine machine{std::max(config_.vcpus, config_.resources.vcpus_max),
                                       memory_->size()};
    const auto kind = TRY(
        KvmDirtyLog::choose(KvmDirtyLog::offer_of(*kvm_), config_.memory.dirty_tracking, machine));
    dirty_log_ = TRY(KvmDirtyLog::create(*kvm_, *vm_, *memory_, kind));
    const auto by_kernel = [](const NicConfig& nic) { return nic.vhost != VhostMode::Off; };
    if (std::ranges::any_of(config_.nics, by_kernel)) {
        dirty_log_->set_others([this] { return choose_data_paths(); });
    }
    return {};
}

// Cards decide who serves them when they resume: the kernel, or we while writes are logged.
Result<void> Vmm::choose_data_paths() {
    if (state_ != VmState::Running) {
        return {};  // they will resume anyway
    }
    return with_vcpus_parked([this]() -> Result<void> {
        devices_->pause();
        devices_->resume();
        return {};
    });
}

void Vmm::create_throttle() {
    VcpuThrottle::Machine machine;
    machine.vcpus = [this] { return static_cast<uint32_t>(vcpus_.size()); };
    machine.rest = [this](uint32_t vcpu, int64_t rest_ns) { vcpus_[vcpu]->rest(rest_ns); };
    if (dirty_log_->kind() == "ring") {
        machine.dirtied = [this](uint32_t vcpu) { return dirty_log_->dirtied_by(vcpu); };
    }
    throttle_ = std::make_unique<VcpuThrottle>(seams_.loop, seams_.clock, std::move(machine));
}

DirtyLog& Vmm::dirty_log() {
    return *dirty_log_;
}

// After a reset: every page reads as zero again.
Result<void> Vmm::clear_memory() {
    TRY(devices_->unplug_memory());
    TRY(memory_->clear());
    return populate_memory(config_.memory, memory_->boot_bytes(), 1, system_memory_host());
}

Result<void> MachineDevices::create_virtio_mem(Platform& platform, const Events& events) {
    if (platform.memory().hot().size == 0) {
        return {};
    }
    hot_memory_ = std::make_unique<PlatformHotMemory>(
        platform, [this](const auto& regions) { return memory_watchers_.tell(regions); });
    auto device = std::make_unique<VirtioMem>("memory", *hot_memory_, uint16_t{0},
                                              [changed = events.memory_changed](VirtioMem::Sizes) {
                                                  if (changed) {
                                                      changed();
                                                  }
                                              });
    virtio_mem_ = device.get();
    return pci_->add(board::kPciVirtioMem,
                     VirtioPciDevice::create(platform, std::move(device),
                                             pci_config(board::kPciVirtioMem, events)));
}

Result<void> MachineDevices::unplug_memory() {
    return virtio_mem_ == nullptr ? Result<void>() : virtio_mem_->unplug_all();
}

Json Vmm::memory_sizes_json() const {
    const auto sizes =
        devices_->virtio_mem() == nullptr ? VirtioMem::Sizes{} : devices_->virtio_mem()->sizes();
    return Json::object({{"memory_mib", config_.memory_mib + (sizes.requested >> 20)},
                         {"memory_now_mib", config_.memory_mib + (sizes.plugged >> 20)},
                         {"memory_max_mib", std::max(config_.memory_mib, config_.memory.max_mib)}});
}

// The guest's driver follows when it likes; events tell how far it is.
Result<Json> Vmm::set_memory(const Json& params) {
    const JsonView view(params, "params");
    TRY(view.only({"memory_mib"}));
    VirtioMem* device = devices_->virtio_mem();
    if (device == nullptr) {
        return Error::unsupported("this machine's memory cannot change")
            .with_hint("start it with memory_max_mib above memory_mib");
    }
    const auto mib = static_cast<uint64_t>(
        TRY(view.integer("memory_mib", {static_cast<int64_t>(config_.memory_mib),
                                        static_cast<int64_t>(config_.memory.max_mib)})));
    const uint64_t block = memory_->hot().block_size;
    const uint64_t wanted = (mib - config_.memory_mib) << 20;
    if (wanted % block != 0) {
        return Error::invalid(
            "memory_mib: {} MiB above the {} at boot are not whole blocks of {} MiB", wanted >> 20,
            config_.memory_mib, block >> 20);
    }
    TRY(device->set_requested_size(wanted));
    return memory_sizes_json();
}

}  // namespace kumoi::hypervisor
