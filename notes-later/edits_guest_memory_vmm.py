exec(open('/tmp/slice2.py').read().split('# A. AcpiPm')[0])
# G. vcpu
p='hypervisor/vcpu/vcpu.h'
sub(p,'''    void resume();
''','''    void resume();  // nothing for a vCPU that is not plugged
    // Unplugged: stays parked, whatever the guest sends it. While parked, or before start().
    void set_plugged(bool plugged);
    // Host CPUs its thread may use; after start().
    Result<void> set_affinity(const CpuList& cpus);
''')
sub(p,'    bool stop_wanted_ = false;\n','    bool stop_wanted_ = false;\n    bool plugged_ = true;\n')
sub(p,'#include "hypervisor/memory/guest_memory.h"\n','#include "hypervisor/memory/guest_memory.h"\n#include "hypervisor/resources_config.h"\n')
p='hypervisor/vcpu/vcpu.cc'
sub(p,'''        const std::lock_guard lock(mutex_);
        pause_wanted_ = false;
''','''        const std::lock_guard lock(mutex_);
        if (!plugged_) {
            return;
        }
        pause_wanted_ = false;
''')
sub(p,'''void Vcpu::request_pause() {''','''void Vcpu::set_plugged(bool plugged) {
    const std::lock_guard lock(mutex_);
    plugged_ = plugged;
}

Result<void> Vcpu::set_affinity(const CpuList& cpus) {
    const std::lock_guard lock(mutex_);
    return set_thread_affinity(thread_.native_handle(), cpus);
}

void Vcpu::request_pause() {''')
sub(p,'#include "hypervisor/vcpu/register_dump.h"\n','#include "hypervisor/vcpu/affinity.h"\n#include "hypervisor/vcpu/register_dump.h"\n')
# H. control
p='hypervisor/control/control_server.h'
sub(p,'''    using Handler = std::function<Result<Json>(const ControlRequest& request)>;
''','''    using Handler = std::function<Result<Json>(const ControlRequest& request)>;
    // Takes methods whose answer comes later, by calling the function once; false: not one of them.
    using Answer = std::function<void(Result<Json>)>;
    using DeferredHandler =
        std::function<bool(const ControlRequest& request, const Answer& answer)>;
''')
sub(p,'''    void publish(const ControlEvent& event);
''','''    void set_deferred(DeferredHandler handler) { deferred_ = std::move(handler); }
    void publish(const ControlEvent& event);
''')
sub(p,'''    Handler handler_;
    std::map''','''    void answer(StreamServer::ClientId id, const Json& request_id, const Result<Json>& answer);

    Handler handler_;
    DeferredHandler deferred_;
    std::map''')
p='hypervisor/control/control_server.cc'
s=open(p).read()
i=s.index('    const Result<Json> answer = handler_(*request);'); j=s.index('void ControlServer::publish')
s=s[:i]+'''    const Answer later = [this, id, request_id = request->id](const Result<Json>& result) {
        answer(id, request_id, result);
    };
    if (!deferred_ || !deferred_(*request, later)) {
        answer(id, request->id, handler_(*request));
    }
}

// A client that has gone meanwhile gets nothing: ids are not used twice.
void ControlServer::answer(StreamServer::ClientId id, const Json& request_id,
                           const Result<Json>& answer) {
    server_->send(id, answer ? control_result_line(request_id, *answer)
                             : control_error_line(request_id, answer.error()));
}

'''+s[j:]
open(p,'w').write(s)
p='hypervisor/control/vmm_process.cc'
s=open(p).read()
i=s.index('    control_ = TRY(ControlServer::listen('); j=s.index('    return {};',i)
s=s[:j]+'''    control_->set_deferred([this](const ControlRequest& request, const ControlServer::Answer& answer) {
        return vmm_ && !finishing_ && vmm_->hotplug().handle(request, answer);
    });
'''+s[j:]
open(p,'w').write(s)
# J. io_thread
p='hypervisor/virtio/io_thread.cc'
sub(p,'    pthread_setname_np(pthread_self(), name_.c_str());','    use_io_affinity();  // a vCPU\'s thread may have made us, and we inherit its own\n    pthread_setname_np(pthread_self(), name_.c_str());')
sub(p,'#include <memory>\n','#include <memory>\n\n#include "hypervisor/vcpu/affinity.h"\n')
# I. memory
p='hypervisor/memory/guest_memory.h'
sub(p,'''    GuestMemory(GuestMemory&&) = default;''','''    struct Options {
        uint64_t size = 0;           // bytes at boot
        uint64_t huge_page_size = 0;  // 0: ordinary pages
        HotMemoryPlan hot;           // where memory may be plugged later
    };
    static Result<GuestMemory> create(const Options& options, MemoryHost& host);
    GuestMemory(GuestMemory&&) = default;''')
sub(p,'''    uint64_t size() const { return mapping_.size(); }
''','''    uint64_t size() const { return size_; }  // at boot
    std::span<std::byte> boot_bytes() const { return mapping_.bytes().first(size_); }
    // First address behind all memory there is or may be.
    uint64_t end() const;
    const HotMemoryPlan& hot() const { return hot_; }
    // A block becomes memory, all zero, or stops being any: then nothing reads or writes it, and
    // the host has its pages back. One thread at a time; others may access memory meanwhile.
    Result<void> plug_hot(uint32_t block);
    Result<void> unplug_hot(uint32_t block);
    // The block's bytes on the host, plugged or not: what the guest is to see there.
    std::span<std::byte> hot_bytes(uint32_t block) const;
    // What is plugged, as regions in the memory file, neighbours joined.
    std::vector<MemoryRegion> plugged_regions() const;
''')
sub(p,'''    Mapping mapping_;
    std::vector<MemoryRegion> regions_;
''','''    Mapping mapping_;
    std::vector<MemoryRegion> regions_;
    uint64_t size_ = 0;
    HotMemoryPlan hot_;
    std::unique_ptr<std::atomic<bool>[]> plugged_;  // by block
''')
s=open(p).read()
s=s.replace('#include <cstddef>\n','#include <atomic>\n#include <cstddef>\n',1)
if '#include <memory>' not in s: s=s.replace('#include <span>\n','#include <memory>\n#include <span>\n',1)
s=s.replace('#include "base/result.h"\n','#include "base/result.h"\n#include "hypervisor/memory/hot_memory.h"\n#include "hypervisor/memory/memory_host.h"\n',1)
open(p,'w').write(s)
p='hypervisor/memory/guest_memory.cc'
s=open(p).read()
i=s.index('Result<GuestMemory> GuestMemory::create(uint64_t size) {'); j=s.index('Result<std::span<std::byte>> GuestMemory::host_span')
s=s[:i]+'''Result<GuestMemory> GuestMemory::create(uint64_t size) {
    Options options;
    options.size = size;
    return create(options, system_memory_host());
}

Result<GuestMemory> GuestMemory::create(const Options& options, MemoryHost& host) {
    const uint64_t size = options.size;
    const uint64_t page = std::max(options.huge_page_size, kPageSize);
    if (size == 0 || size % page != 0) {
        return Error::invalid("guest memory of {} bytes is not a positive multiple of {} bytes",
                              size, page);
    }
    GuestMemory memory;
    memory.memfd_ = TRY(host.make_file(options.huge_page_size));
    const uint64_t all = size + options.hot.size;
    if (ftruncate(memory.memfd_.get(), static_cast<off_t>(all)) != 0) {
        return Error::from_errno(errno,
                                 fmt::format("sizing the guest's memory to {} MiB", all >> 20))
            .with_hint(
                "give the guest less memory, or raise the limit of this process (ulimit -f)");
    }
    // MAP_NORESERVE: pages come when touched; overcommit is the node's decision, made before us.
    // Huge pages are reserved at once: without one, a touch would kill this process.
    const int reserve = options.huge_page_size == 0 ? MAP_NORESERVE : 0;
    memory.mapping_ = TRY_CONTEXT(
        Mapping::map(memory.memfd_.get(), all, PROT_READ | PROT_WRITE, MAP_SHARED | reserve),
        "mapping {} MiB of guest memory", all >> 20);
    std::byte* mapped = memory.mapping_.data();
    const uint64_t low = std::min(size, kPciHoleStart);
    memory.regions_.push_back({0, low, 0, mapped});
    if (size > low) {
        memory.regions_.push_back({kHighMemoryStart, size - low, low, mapped + low});
    }
    memory.size_ = size;
    memory.hot_ = options.hot;
    if (options.hot.size != 0) {
        memory.plugged_ =
            std::make_unique<std::atomic<bool>[]>(options.hot.size / options.hot.block_size);
    }
    return memory;
}

uint64_t GuestMemory::end() const {
    const MemoryRegion& last = regions_.back();
    return hot_.size != 0 ? hot_.base + hot_.size : last.gpa + last.size;
}

std::span<std::byte> GuestMemory::hot_bytes(uint32_t block) const {
    return mapping_.bytes().subspan(size_ + block * hot_.block_size, hot_.block_size);
}

Result<void> GuestMemory::plug_hot(uint32_t block) {
    TRY(punch(size_ + block * hot_.block_size, hot_.block_size));  // what a late write left there
    plugged_[block].store(true, std::memory_order_release);
    return {};
}

Result<void> GuestMemory::unplug_hot(uint32_t block) {
    plugged_[block].store(false, std::memory_order_release);
    return punch(size_ + block * hot_.block_size, hot_.block_size);
}

std::vector<MemoryRegion> GuestMemory::plugged_regions() const {
    std::vector<MemoryRegion> regions;
    for (uint64_t block = 0; hot_.size != 0 && block < hot_.size / hot_.block_size; ++block) {
        if (!plugged_[block].load(std::memory_order_acquire)) {
            continue;
        }
        const uint64_t offset = block * hot_.block_size;
        if (!regions.empty() && regions.back().gpa + regions.back().size == hot_.base + offset) {
            regions.back().size += hot_.block_size;
            continue;
        }
        regions.push_back({hot_.base + offset, hot_.block_size, size_ + offset,
                           mapping_.data() + size_ + offset});
    }
    return regions;
}

Result<void> GuestMemory::punch(uint64_t offset, uint64_t size) {
    if (fallocate(memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(offset), static_cast<off_t>(size)) != 0) {
        return Error::from_errno(errno, "giving back a part of the guest's memory");
    }
    return {};
}

// A range in the hot region is memory where every block of it is plugged.
Result<std::span<std::byte>> GuestMemory::hot_span(uint64_t gpa, uint64_t size) const {
    const uint64_t offset = gpa - hot_.base;
    bool whole = size <= hot_.size - offset;
    for (uint64_t block = offset / hot_.block_size;
         whole && size != 0 && block <= (offset + size - 1) / hot_.block_size; ++block) {
        whole = plugged_[block].load(std::memory_order_acquire);
    }
    if (!whole) {
        return Error::invalid("guest address {:#x}+{:#x} is in memory that is not plugged", gpa,
                              size);
    }
    return mapping_.bytes().subspan(size_ + offset, size);
}

'''+s[j:]
s=s.replace('''    return Error::invalid("guest address {:#x}+{:#x} is not in the guest's memory", gpa, size);''','''    if (hot_.size != 0 && gpa >= hot_.base && gpa - hot_.base < hot_.size) {
        return hot_span(gpa, size);
    }
    return Error::invalid("guest address {:#x}+{:#x} is not in the guest's memory", gpa, size);''',1)
open(p,'w').write(s)
p='hypervisor/memory/guest_memory.h'
sub(p,'''    GuestMemory() = default;
    UniqueFd memfd_;''','''    GuestMemory() = default;
    Result<void> punch(uint64_t offset, uint64_t size);
    Result<std::span<std::byte>> hot_span(uint64_t gpa, uint64_t size) const;
    UniqueFd memfd_;''')
# F. vmm
p='hypervisor/vmm.h'
sub(p,'''    SerialConsole& serial() { return *serial_; }
''','''    SerialConsole& serial() { return *serial_; }
    HotplugControl& hotplug() { return *hotplug_; }
''')
sub(p,'''    void warn_of_unmasked_features(''','''    // vmm_hotplug.cc
    Result<void> create_memory();
    AcpiConfig acpi_config() const;
    void create_hotplug();
    void hotplug_events(MachineDevices::Events& events);
    Result<void> create_vcpu();
    Result<void> start_vcpu(Vcpu& vcpu);
    Result<void> plug_vcpu(uint32_t index);
    void set_vcpus(uint32_t count, int64_t timeout_ms, DeviceHotplug::Answer answer);
    void vcpu_change_timed_out();
    void vcpu_ejected(uint32_t cpu);
    Result<Json> set_memory(uint64_t memory_mib);
    Result<void> reset_hotplug();

    void warn_of_unmasked_features(''')
sub(p,'''    std::atomic<bool> crash_loaded_posted_{false};
''','''    std::atomic<bool> crash_loaded_posted_{false};
    std::atomic<bool> memory_posted_{false};
''')
sub(p,'''    std::vector<VcpuResetState> fresh_vcpus_;
''','''    std::unique_ptr<DeviceHotplug> device_hotplug_;
    std::unique_ptr<HotplugControl> hotplug_;
    struct {
        DeviceHotplug::Answer answer;  // empty: no vCPU is asked to go
        uint32_t target = 0;
        EventLoop::TimerId timer = 0;
    } vcpu_change_;
    CpuidTable cpuid_;  // before what differs between vCPUs
    std::vector<VcpuResetState> fresh_vcpus_;
''')
sub(p,'#include "hypervisor/console/console_socket.h"\n','#include "hypervisor/board/acpi_tables.h"\n#include "hypervisor/console/console_socket.h"\n')
sub(p,'#include "hypervisor/kvm/kvm.h"\n','#include "hypervisor/hotplug/device_hotplug.h"\n#include "hypervisor/hotplug/hotplug_control.h"\n#include "hypervisor/kvm/kvm.h"\n')
p='hypervisor/vmm.cc'
s=open(p).read()
s=s.replace('''    if (config_.vcpus > kvm_->vcpus_max()) {
        return Error::invalid("vcpus: {} were asked for; KVM on this host offers {}", config_.vcpus,
                              kvm_->vcpus_max());''','''    if (config_.resources.vcpus_max > kvm_->vcpus_max()) {
        return Error::invalid("vcpus: {} were asked for; KVM on this host offers {}",
                              config_.resources.vcpus_max, kvm_->vcpus_max());''',1)
s=s.replace('''    memory_ = TRY(GuestMemory::create(config_.memory_bytes()));
''','''    TRY(create_memory());
''',1)
i=s.index('    const CpuidTable table = TRY(build_cpuid('); j=s.index('    fresh_chips_ = TRY(vm_->chip_state());',i)
blk=s[i:j]
s=s[:i]+'''    cpuid_ = TRY(build_cpuid(TRY(kvm_->supported_cpuid()), config_.cpu,
                             {.hypercalls_work = Kvm::hypercalls_work()}));
    while (vcpus_.size() < config_.vcpus) {
        TRY(create_vcpu());
    }
    warn_of_unmasked_features(cpuid_for_vcpu(cpuid_, 0, config_.resources.vcpus_max));
'''+s[j:]
s=s.replace('''    const MemoryRegion& last = memory_->regions().back();
    const std::string tables = TRY(build_acpi_tables(
        {.vcpus = config_.vcpus, .ram_end = last.gpa + last.size}, board::kAcpiStart));''','''    const std::string tables = TRY(build_acpi_tables(acpi_config(), board::kAcpiStart));''',1)
s=s.replace('''        TRY(vcpu->start());
''','''        TRY(start_vcpu(*vcpu));
''',1)
s=s.replace('''    TRY(Vcpu::install_kick_handler());
''','''    TRY(Vcpu::install_kick_handler());
    TRY(set_io_affinity(config_.resources.io_affinity));
''',1)
s=s.replace('''    TRY(devices_->reset());
''','''    TRY(reset_hotplug());
    TRY(devices_->reset());
''',1)
s=s.replace('''    TRY(vmm->create_vcpus());
''','''    vmm->create_hotplug();
    TRY(vmm->create_vcpus());
''',1)
s=s.replace('''                              {"vcpus", config_.vcpus},
                              {"memory_mib", config_.memory_mib}});''','''                              {"vcpus", config_.vcpus},
                              {"vcpus_max", config_.resources.vcpus_max},
                              {"memory_mib", config_.memory_mib},
                              {"memory_max_mib", config_.resources.memory_max_mib}});''',1)
s=s.replace('''    MachineDevices::Events events;
''','''    MachineDevices::Events events;
    hotplug_events(events);
''',1)
s=s.replace('#include "hypervisor/vcpu/register_dump.h"\n','#include "hypervisor/vcpu/affinity.h"\n#include "hypervisor/vcpu/register_dump.h"\n',1)
open(p,'w').write(s)
p='hypervisor/vmm_devices.cc'
sub(p,'''    return pci_->reset();
''','''    TRY(pci_->reset());
    return virtio_mem_ == nullptr ? Result<void>{} : virtio_mem_->unplug_all();
''')
