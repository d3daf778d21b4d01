#include "hypervisor/kvm/kvm.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>

#include <cpuid.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "hypervisor/kvm/dirty_ring.h"
#include "hypervisor/kvm/memory_slots.h"
#include "hypervisor/kvm/vcpu_fd.h"

namespace kumoi::hypervisor {

namespace {

constexpr int kApiVersion = 12;  // fixed since Linux 2.6.22, api.rst §4.1
// Three pages for Intel's real-mode task state and one for its identity map, between the local
// APICs and the firmware flash (api.rst §4.37, §4.64).
constexpr uint64_t kTssAddress = 0xfeff'd000;
constexpr uint64_t kIdentityMapAddress = 0xfeff'c000;
constexpr size_t kCpuidEntriesMax = 256;

struct RequiredCapability {
    int number;
    const char* name;
};
constexpr RequiredCapability kRequired[] = {
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_PIT2, "KVM_CAP_PIT2"},
    {KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
    {KVM_CAP_IOEVENTFD_NO_LENGTH, "KVM_CAP_IOEVENTFD_NO_LENGTH"},
    {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

}  // namespace

Result<int> kvm_ioctl(int fd, unsigned long request, uintptr_t argument, std::string_view name) {
    for (;;) {
        const int answer = ioctl(fd, request, argument);
        if (answer >= 0) {
            return answer;
        }
        if (errno != EINTR) {
            return Error::from_errno(errno, std::string(name) + " failed");
        }
    }
}

Result<Kvm> Kvm::open(FileSource& files, const std::string& path) {
    auto fd = files.open(path, O_RDWR);
    if (!fd) {
        const bool absent = fd.error().code == ErrorCode::NotFound;
        return std::move(fd).error().with_hint(
            absent ? "load kvm_intel or kvm_amd, and turn virtualization on in the firmware setup"
                   : "run as root or as a member of the group kvm");
    }
    Kvm kvm;
    kvm.fd_ = std::move(fd).value();
    const int version = TRY(kvm_ioctl(kvm.fd(), KVM_GET_API_VERSION, 0, "KVM_GET_API_VERSION"));
    if (version != kApiVersion) {
        return Error::unsupported("{} speaks KVM API version {}, not {}", path, version,
                                  kApiVersion);
    }
    for (const auto& [number, name] : kRequired) {
        if (kvm.capability(number) <= 0) {
            return Error::unsupported("{} lacks {}", path, name)
                .with_hint("run Linux 5.10 or newer on the host");
        }
    }
    kvm.vcpu_mapping_size_ = static_cast<size_t>(
        TRY(kvm_ioctl(kvm.fd(), KVM_GET_VCPU_MMAP_SIZE, 0, "KVM_GET_VCPU_MMAP_SIZE")));
    return kvm;
}

int Kvm::capability(int number) const {
    const int answer = ioctl(fd_.get(), KVM_CHECK_EXTENSION, number);
    return answer < 0 ? 0 : answer;
}

uint32_t Kvm::vcpus_max() const {
    const int most = capability(KVM_CAP_MAX_VCPUS);
    return most > 0 ? static_cast<uint32_t>(most) : 4;  // api.rst §4.7: 4 when not reported
}

// Takes KVM 0.6 ms, and the host answers the same as long as this process lives: asked once.
Result<std::vector<kvm_cpuid_entry2>> Kvm::supported_cpuid() const {
    static std::mutex mutex;
    static std::vector<kvm_cpuid_entry2> known;
    const std::lock_guard lock(mutex);
    if (!known.empty()) {
        return known;
    }
    // struct kvm_cpuid2 ends in a flexible array: header and entries live in one block.
    const size_t size = sizeof(kvm_cpuid2) + kCpuidEntriesMax * sizeof(kvm_cpuid_entry2);
    const auto block = std::make_unique<std::byte[]>(size);
    auto* list = reinterpret_cast<kvm_cpuid2*>(block.get());
    list->nent = kCpuidEntriesMax;
    TRY(kvm_ioctl(fd(), KVM_GET_SUPPORTED_CPUID, reinterpret_cast<uintptr_t>(list),
                  "KVM_GET_SUPPORTED_CPUID"));
    if (list->nent > kCpuidEntriesMax) {
        return Error::internal("KVM_GET_SUPPORTED_CPUID returned {} entries", uint32_t{list->nent});
    }
    known.assign(list->entries, list->entries + list->nent);
    return known;
}

Result<std::vector<uint32_t>> Kvm::msr_indices() const {
    constexpr uint32_t kIndicesMax = 4096;
    // struct kvm_msr_list ends in a flexible array of indices.
    std::vector<uint32_t> list(1 + kIndicesMax);
    list[0] = kIndicesMax;
    TRY(kvm_ioctl(fd(), KVM_GET_MSR_INDEX_LIST, reinterpret_cast<uintptr_t>(list.data()),
                  "KVM_GET_MSR_INDEX_LIST"));
    const uint32_t count = std::min(list[0], kIndicesMax);
    return std::vector<uint32_t>(list.begin() + 1, list.begin() + 1 + count);
}

size_t Kvm::xsave_size() const {
    const int size = capability(KVM_CAP_XSAVE2);
    return std::max(sizeof(kvm_xsave), static_cast<size_t>(std::max(size, 0)));
}

bool Kvm::hypercalls_work() {
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    constexpr unsigned kVmx = 1u << 5;  // leaf 1 ECX
    constexpr unsigned kSvm = 1u << 2;  // leaf 0x80000001 ECX
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kVmx) != 0) {
        return true;
    }
    return __get_cpuid(0x8000'0001, &eax, &ebx, &ecx, &edx) != 0 && (ecx & kSvm) != 0;
}

namespace {

Result<void> set_memory_region(int fd, uint32_t number, const MemorySlots::Slot& slot) {
    kvm_userspace_memory_region argument{};
    argument.slot = number;
    argument.flags =
        (slot.read_only ? KVM_MEM_READONLY : 0u) | (slot.logged ? KVM_MEM_LOG_DIRTY_PAGES : 0u);
    argument.guest_phys_addr = slot.region.gpa;
    argument.memory_size = slot.region.size;
    argument.userspace_addr = reinterpret_cast<uint64_t>(slot.region.host);
    TRY(kvm_ioctl(fd, KVM_SET_USER_MEMORY_REGION, reinterpret_cast<uintptr_t>(&argument),
                  "KVM_SET_USER_MEMORY_REGION"));
    return {};
}

}  // namespace

KvmVm::KvmVm() = default;
KvmVm::KvmVm(KvmVm&&) noexcept = default;
KvmVm& KvmVm::operator=(KvmVm&&) noexcept = default;
KvmVm::~KvmVm() = default;

Result<KvmVm> KvmVm::create(const Kvm& kvm) {
    KvmVm vm;
    vm.kvm_ = &kvm;
    vm.fd_ = UniqueFd(TRY(kvm_ioctl(kvm.fd(), KVM_CREATE_VM, 0, "KVM_CREATE_VM")));
    const int fd = vm.fd_.get();
    vm.slots_ = std::make_unique<MemorySlots>([fd](uint32_t number, const MemorySlots::Slot& slot) {
        return set_memory_region(fd, number, slot);
    });
    TRY(kvm_ioctl(fd, KVM_SET_TSS_ADDR, kTssAddress, "KVM_SET_TSS_ADDR"));
    uint64_t identity_map = kIdentityMapAddress;
    TRY(kvm_ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, reinterpret_cast<uintptr_t>(&identity_map),
                  "KVM_SET_IDENTITY_MAP_ADDR"));
    TRY(kvm_ioctl(fd, KVM_CREATE_IRQCHIP, 0, "KVM_CREATE_IRQCHIP"));
    kvm_pit_config pit{};
    pit.flags = KVM_PIT_SPEAKER_DUMMY;  // port 0x61: kernels calibrate against channel 2
    TRY(kvm_ioctl(fd, KVM_CREATE_PIT2, reinterpret_cast<uintptr_t>(&pit), "KVM_CREATE_PIT2"));
#ifdef KVM_X86_QUIRK_FIX_HYPERCALL_INSN
    // KVM would rewrite the guest's code when it uses the other vendor's hypercall; a KVM without
    // VT-x or AMD-V hangs doing so. Without the quirk the guest gets #UD, as the manuals say.
    const int quirks = kvm.capability(KVM_CAP_DISABLE_QUIRKS2);
    if ((quirks & KVM_X86_QUIRK_FIX_HYPERCALL_INSN) != 0) {
        kvm_enable_cap enable{};
        enable.cap = KVM_CAP_DISABLE_QUIRKS2;
        enable.args[0] = KVM_X86_QUIRK_FIX_HYPERCALL_INSN;
        TRY(kvm_ioctl(fd, KVM_ENABLE_CAP, reinterpret_cast<uintptr_t>(&enable),
                      "KVM_ENABLE_CAP(DISABLE_QUIRKS2)"));
    }
#endif
    return vm;
}

Result<void> KvmVm::add_memory(uint32_t slot, const MemoryRegion& region, bool read_only) {
    TRY_CONTEXT(slots_->add(slot, region, read_only), "memory slot {} at {:#x}+{:#x}", slot,
                region.gpa, region.size);
    return {};
}

Result<void> KvmVm::remove_memory(uint32_t slot) {
    TRY_CONTEXT(slots_->remove(slot), "removing memory slot {}", slot);
    return {};
}

Result<VcpuFd> KvmVm::create_vcpu(uint32_t index) {
    UniqueFd fd(TRY_CONTEXT(kvm_ioctl(fd_.get(), KVM_CREATE_VCPU, index, "KVM_CREATE_VCPU"),
                            "vCPU {}", index));
    if (rings_) {
        TRY(rings_->add(fd.get()));
    }
    return VcpuFd::adopt(std::move(fd), kvm_->vcpu_mapping_size());
}

Result<void> KvmVm::set_gsi_routing(std::span<const kvm_irq_routing_entry> entries) {
    const size_t size = sizeof(kvm_irq_routing) + entries.size_bytes();
    const auto block = std::make_unique<std::byte[]>(size);
    auto* table = reinterpret_cast<kvm_irq_routing*>(block.get());
    table->nr = static_cast<uint32_t>(entries.size());
    std::memcpy(table->entries, entries.data(), entries.size_bytes());
    TRY(kvm_ioctl(fd_.get(), KVM_SET_GSI_ROUTING, reinterpret_cast<uintptr_t>(table),
                  "KVM_SET_GSI_ROUTING"));
    return {};
}

Result<void> KvmVm::set_irq_line(uint32_t gsi, bool asserted) {
    kvm_irq_level argument{};
    argument.irq = gsi;
    argument.level = asserted ? 1 : 0;
    TRY(kvm_ioctl(fd_.get(), KVM_IRQ_LINE, reinterpret_cast<uintptr_t>(&argument), "KVM_IRQ_LINE"));
    return {};
}

namespace {

Result<void> irqfd(int fd, int eventfd, uint32_t gsi, uint32_t flags) {
    kvm_irqfd argument{};
    argument.fd = static_cast<uint32_t>(eventfd);
    argument.gsi = gsi;
    argument.flags = flags;
    TRY_CONTEXT(kvm_ioctl(fd, KVM_IRQFD, reinterpret_cast<uintptr_t>(&argument), "KVM_IRQFD"),
                "interrupt {}", gsi);
    return {};
}

Result<void> ioeventfd(int fd, uint64_t gpa, int eventfd, uint32_t flags) {
    kvm_ioeventfd argument{};
    argument.addr = gpa;
    argument.len = 0;
    argument.fd = eventfd;
    argument.flags = flags;
    TRY_CONTEXT(
        kvm_ioctl(fd, KVM_IOEVENTFD, reinterpret_cast<uintptr_t>(&argument), "KVM_IOEVENTFD"),
        "doorbell at {:#x}", gpa);
    return {};
}

}  // namespace

Result<void> KvmVm::add_irqfd(int eventfd, uint32_t gsi) {
    return irqfd(fd_.get(), eventfd, gsi, 0);
}

Result<void> KvmVm::remove_irqfd(int eventfd, uint32_t gsi) {
    return irqfd(fd_.get(), eventfd, gsi, KVM_IRQFD_FLAG_DEASSIGN);
}

Result<void> KvmVm::add_ioeventfd(uint64_t gpa, int eventfd) {
    return ioeventfd(fd_.get(), gpa, eventfd, 0);
}

Result<void> KvmVm::remove_ioeventfd(uint64_t gpa, int eventfd) {
    return ioeventfd(fd_.get(), gpa, eventfd, KVM_IOEVENTFD_FLAG_DEASSIGN);
}

Result<KvmChipState> KvmVm::chip_state() const {
    KvmChipState state{};
    for (uint32_t id = 0; id < 3; ++id) {  // PIC master, PIC slave, IOAPIC
        state.chips[id].chip_id = id;
        TRY(kvm_ioctl(fd_.get(), KVM_GET_IRQCHIP, reinterpret_cast<uintptr_t>(&state.chips[id]),
                      "KVM_GET_IRQCHIP"));
    }
    TRY(kvm_ioctl(fd_.get(), KVM_GET_PIT2, reinterpret_cast<uintptr_t>(&state.pit),
                  "KVM_GET_PIT2"));
    return state;
}

Result<void> KvmVm::set_chip_state(const KvmChipState& state) {
    KvmChipState copy = state;
    for (kvm_irqchip& chip : copy.chips) {
        TRY(kvm_ioctl(fd_.get(), KVM_SET_IRQCHIP, reinterpret_cast<uintptr_t>(&chip),
                      "KVM_SET_IRQCHIP"));
    }
    TRY(kvm_ioctl(fd_.get(), KVM_SET_PIT2, reinterpret_cast<uintptr_t>(&copy.pit), "KVM_SET_PIT2"));
    return {};
}

Result<uint64_t> KvmVm::clock() const {
    kvm_clock_data data{};
    TRY(kvm_ioctl(fd_.get(), KVM_GET_CLOCK, reinterpret_cast<uintptr_t>(&data), "KVM_GET_CLOCK"));
    return uint64_t{data.clock};
}

Result<void> KvmVm::set_clock(uint64_t nanoseconds) {
    kvm_clock_data data{};
    data.clock = nanoseconds;
    TRY(kvm_ioctl(fd_.get(), KVM_SET_CLOCK, reinterpret_cast<uintptr_t>(&data), "KVM_SET_CLOCK"));
    return {};
}

}  // namespace kumoi::hypervisor
