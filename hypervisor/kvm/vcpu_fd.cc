#include "hypervisor/kvm/vcpu_fd.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include <sys/ioctl.h>
#include <sys/mman.h>

#include "hypervisor/kvm/kvm.h"

namespace kumoi::hypervisor {

namespace {

constexpr size_t kCpuidEntriesMax = 256;
constexpr size_t kMsrsMax = 256;

template <class T>
uintptr_t address_of(T& object) {
    return reinterpret_cast<uintptr_t>(&object);
}

template <class T>
Result<T> get(int fd, unsigned long request, std::string_view name) {
    T state{};
    TRY(kvm_ioctl(fd, request, address_of(state), name));
    return state;
}

template <class T>
Result<void> set(int fd, unsigned long request, const T& state, std::string_view name) {
    T copy = state;
    TRY(kvm_ioctl(fd, request, address_of(copy), name));
    return {};
}

// kvm_cpuid2 and kvm_msrs end in a flexible array: header and entries share one block.
template <class Header, class Entry>
std::unique_ptr<std::byte[]> header_with(std::span<const Entry> entries) {
    auto block = std::make_unique<std::byte[]>(sizeof(Header) + entries.size_bytes());
    std::memcpy(block.get() + sizeof(Header), entries.data(), entries.size_bytes());
    return block;
}

}  // namespace

Result<VcpuFd> VcpuFd::adopt(UniqueFd fd, size_t mapping_size) {
    if (mapping_size < sizeof(kvm_run)) {
        return Error::internal("the vCPU run area has {} bytes, fewer than {}", mapping_size,
                               sizeof(kvm_run));
    }
    VcpuFd vcpu;
    vcpu.mapping_ = TRY(Mapping::map(fd.get(), mapping_size, PROT_READ | PROT_WRITE, MAP_SHARED));
    vcpu.fd_ = std::move(fd);
    return vcpu;
}

int VcpuFd::run() {
    return ioctl(fd_.get(), KVM_RUN, 0) < 0 ? errno : 0;
}

std::span<uint8_t> VcpuFd::io_data() {
    const auto& io = shared().io;
    const uint64_t size = uint64_t{io.size} * io.count;
    if (io.data_offset > mapping_.size() || size > mapping_.size() - io.data_offset) {
        return {};
    }
    return {reinterpret_cast<uint8_t*>(mapping_.data()) + io.data_offset, size};
}

void VcpuFd::set_immediate_exit(bool on) {
    __atomic_store_n(&shared().immediate_exit, on ? uint8_t{1} : uint8_t{0}, __ATOMIC_SEQ_CST);
}

Result<kvm_regs> VcpuFd::regs() const {
    return get<kvm_regs>(fd_.get(), KVM_GET_REGS, "KVM_GET_REGS");
}
Result<void> VcpuFd::set_regs(const kvm_regs& regs) {
    return set(fd_.get(), KVM_SET_REGS, regs, "KVM_SET_REGS");
}
Result<kvm_sregs> VcpuFd::sregs() const {
    return get<kvm_sregs>(fd_.get(), KVM_GET_SREGS, "KVM_GET_SREGS");
}
Result<void> VcpuFd::set_sregs(const kvm_sregs& sregs) {
    return set(fd_.get(), KVM_SET_SREGS, sregs, "KVM_SET_SREGS");
}
Result<kvm_mp_state> VcpuFd::mp_state() const {
    return get<kvm_mp_state>(fd_.get(), KVM_GET_MP_STATE, "KVM_GET_MP_STATE");
}
Result<void> VcpuFd::set_mp_state(uint32_t state) {
    return set(fd_.get(), KVM_SET_MP_STATE, kvm_mp_state{state}, "KVM_SET_MP_STATE");
}
Result<kvm_lapic_state> VcpuFd::lapic() const {
    return get<kvm_lapic_state>(fd_.get(), KVM_GET_LAPIC, "KVM_GET_LAPIC");
}
Result<void> VcpuFd::set_lapic(const kvm_lapic_state& lapic) {
    return set(fd_.get(), KVM_SET_LAPIC, lapic, "KVM_SET_LAPIC");
}
Result<kvm_vcpu_events> VcpuFd::events() const {
    return get<kvm_vcpu_events>(fd_.get(), KVM_GET_VCPU_EVENTS, "KVM_GET_VCPU_EVENTS");
}
Result<void> VcpuFd::set_events(const kvm_vcpu_events& events) {
    return set(fd_.get(), KVM_SET_VCPU_EVENTS, events, "KVM_SET_VCPU_EVENTS");
}
Result<kvm_fpu> VcpuFd::fpu() const {
    return get<kvm_fpu>(fd_.get(), KVM_GET_FPU, "KVM_GET_FPU");
}
Result<void> VcpuFd::set_fpu(const kvm_fpu& fpu) {
    return set(fd_.get(), KVM_SET_FPU, fpu, "KVM_SET_FPU");
}
Result<kvm_debugregs> VcpuFd::debug_registers() const {
    return get<kvm_debugregs>(fd_.get(), KVM_GET_DEBUGREGS, "KVM_GET_DEBUGREGS");
}
Result<void> VcpuFd::set_debug_registers(const kvm_debugregs& registers) {
    return set(fd_.get(), KVM_SET_DEBUGREGS, registers, "KVM_SET_DEBUGREGS");
}

Result<void> VcpuFd::set_cpuid(std::span<const kvm_cpuid_entry2> entries) {
    const auto block = header_with<kvm_cpuid2>(entries);
    auto* list = reinterpret_cast<kvm_cpuid2*>(block.get());
    list->nent = static_cast<uint32_t>(entries.size());
    TRY(kvm_ioctl(fd_.get(), KVM_SET_CPUID2, reinterpret_cast<uintptr_t>(list), "KVM_SET_CPUID2"));
    return {};
}

Result<std::vector<kvm_cpuid_entry2>> VcpuFd::cpuid() const {
    const std::vector<kvm_cpuid_entry2> empty(kCpuidEntriesMax);
    const auto block = header_with<kvm_cpuid2>(std::span<const kvm_cpuid_entry2>(empty));
    auto* list = reinterpret_cast<kvm_cpuid2*>(block.get());
    list->nent = kCpuidEntriesMax;
    TRY(kvm_ioctl(fd_.get(), KVM_GET_CPUID2, reinterpret_cast<uintptr_t>(list), "KVM_GET_CPUID2"));
    if (list->nent > kCpuidEntriesMax) {
        return Error::internal("KVM_GET_CPUID2 returned {} entries", uint32_t{list->nent});
    }
    return std::vector<kvm_cpuid_entry2>(list->entries, list->entries + list->nent);
}

Result<size_t> VcpuFd::set_msrs(std::span<const kvm_msr_entry> msrs) {
    const auto block = header_with<kvm_msrs>(msrs);
    auto* list = reinterpret_cast<kvm_msrs*>(block.get());
    list->nmsrs = static_cast<uint32_t>(msrs.size());
    const int taken =
        TRY(kvm_ioctl(fd_.get(), KVM_SET_MSRS, reinterpret_cast<uintptr_t>(list), "KVM_SET_MSRS"));
    return static_cast<size_t>(taken);
}

Result<size_t> VcpuFd::get_msrs(std::span<kvm_msr_entry> msrs) const {
    if (msrs.size() > kMsrsMax) {
        return Error::internal("{} MSRs asked for at once, at most {}", msrs.size(), kMsrsMax);
    }
    const auto block = header_with<kvm_msrs>(std::span<const kvm_msr_entry>(msrs));
    auto* list = reinterpret_cast<kvm_msrs*>(block.get());
    list->nmsrs = static_cast<uint32_t>(msrs.size());
    const int read =
        TRY(kvm_ioctl(fd_.get(), KVM_GET_MSRS, reinterpret_cast<uintptr_t>(list), "KVM_GET_MSRS"));
    std::memcpy(msrs.data(), list->entries, static_cast<size_t>(read) * sizeof(kvm_msr_entry));
    return static_cast<size_t>(read);
}

Result<kvm_sregs2> VcpuFd::sregs2() const {
    return get<kvm_sregs2>(fd_.get(), KVM_GET_SREGS2, "KVM_GET_SREGS2");
}
Result<void> VcpuFd::set_sregs2(const kvm_sregs2& sregs) {
    return set(fd_.get(), KVM_SET_SREGS2, sregs, "KVM_SET_SREGS2");
}
Result<kvm_xcrs> VcpuFd::xcrs() const {
    return get<kvm_xcrs>(fd_.get(), KVM_GET_XCRS, "KVM_GET_XCRS");
}
Result<void> VcpuFd::set_xcrs(const kvm_xcrs& xcrs) {
    return set(fd_.get(), KVM_SET_XCRS, xcrs, "KVM_SET_XCRS");
}

// The kernel writes as many bytes as KVM_CAP_XSAVE2 says; the caller asked it.
Result<std::vector<std::byte>> VcpuFd::xsave(size_t size) const {
    std::vector<std::byte> area(std::max(size, sizeof(kvm_xsave)));
    const bool extended = size > sizeof(kvm_xsave);
    TRY(kvm_ioctl(fd_.get(), extended ? KVM_GET_XSAVE2 : KVM_GET_XSAVE,
                  reinterpret_cast<uintptr_t>(area.data()), "KVM_GET_XSAVE2"));
    return area;
}

Result<void> VcpuFd::set_xsave(std::span<const std::byte> area) {
    std::vector<std::byte> copy(area.begin(), area.end());
    copy.resize(std::max(copy.size(), sizeof(kvm_xsave)));
    TRY(kvm_ioctl(fd_.get(), KVM_SET_XSAVE, reinterpret_cast<uintptr_t>(copy.data()),
                  "KVM_SET_XSAVE"));
    return {};
}

Result<uint32_t> VcpuFd::tsc_khz() const {
    return static_cast<uint32_t>(TRY(kvm_ioctl(fd_.get(), KVM_GET_TSC_KHZ, 0, "KVM_GET_TSC_KHZ")));
}

Result<void> VcpuFd::set_tsc_khz(uint32_t khz) {
    TRY(kvm_ioctl(fd_.get(), KVM_SET_TSC_KHZ, khz, "KVM_SET_TSC_KHZ"));
    return {};
}

namespace {

kvm_device_attr tsc_offset_attribute(uint64_t& value) {
    kvm_device_attr attribute{};
    attribute.group = KVM_VCPU_TSC_CTRL;
    attribute.attr = KVM_VCPU_TSC_OFFSET;
    attribute.addr = address_of(value);
    return attribute;
}

}  // namespace

Result<uint64_t> VcpuFd::tsc_offset() const {
    uint64_t offset = 0;
    kvm_device_attr attribute = tsc_offset_attribute(offset);
    if (ioctl(fd_.get(), KVM_HAS_DEVICE_ATTR, &attribute) != 0) {
        return Error::unsupported("this KVM does not show a vCPU's TSC offset");
    }
    TRY(kvm_ioctl(fd_.get(), KVM_GET_DEVICE_ATTR, address_of(attribute),
                  "KVM_GET_DEVICE_ATTR(TSC_OFFSET)"));
    return offset;
}

Result<void> VcpuFd::set_tsc_offset(uint64_t offset) {
    kvm_device_attr attribute = tsc_offset_attribute(offset);
    TRY(kvm_ioctl(fd_.get(), KVM_SET_DEVICE_ATTR, address_of(attribute),
                  "KVM_SET_DEVICE_ATTR(TSC_OFFSET)"));
    return {};
}

Result<void> VcpuFd::kvmclock_paused() {
    TRY(kvm_ioctl(fd_.get(), KVM_KVMCLOCK_CTRL, 0, "KVM_KVMCLOCK_CTRL"));
    return {};
}

Result<void> VcpuFd::inject_nmi() {
    TRY(kvm_ioctl(fd_.get(), KVM_NMI, 0, "KVM_NMI"));
    return {};
}

Result<uint64_t> VcpuFd::translate(uint64_t virtual_address) const {
    kvm_translation translation{};
    translation.linear_address = virtual_address;
    TRY(kvm_ioctl(fd_.get(), KVM_TRANSLATE, address_of(translation), "KVM_TRANSLATE"));
    if (translation.valid == 0) {
        return Error::not_found("guest address {:#x} is not mapped", virtual_address);
    }
    return uint64_t{translation.physical_address};
}

}  // namespace kumoi::hypervisor
