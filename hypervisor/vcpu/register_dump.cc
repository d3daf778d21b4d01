#include "hypervisor/vcpu/register_dump.h"

#include <algorithm>
#include <array>

namespace kumoi::hypervisor {

namespace {

constexpr size_t kInstructionBytes = 16;  // the longest has 15

Json hex(uint64_t value) {
    return fmt::format("{:#x}", value);
}

Json segment(const kvm_segment& s) {
    return Json::object({{"selector", hex(s.selector)},
                         {"base", hex(s.base)},
                         {"limit", hex(s.limit)},
                         {"type", uint32_t{s.type}},
                         {"dpl", uint32_t{s.dpl}},
                         {"long", s.l != 0},
                         {"default_32", s.db != 0}});
}

Json general(const kvm_regs& r) {
    return Json::object({{"rip", hex(r.rip)},
                         {"rflags", hex(r.rflags)},
                         {"rax", hex(r.rax)},
                         {"rbx", hex(r.rbx)},
                         {"rcx", hex(r.rcx)},
                         {"rdx", hex(r.rdx)},
                         {"rsi", hex(r.rsi)},
                         {"rdi", hex(r.rdi)},
                         {"rsp", hex(r.rsp)},
                         {"rbp", hex(r.rbp)},
                         {"r8", hex(r.r8)},
                         {"r9", hex(r.r9)},
                         {"r10", hex(r.r10)},
                         {"r11", hex(r.r11)},
                         {"r12", hex(r.r12)},
                         {"r13", hex(r.r13)},
                         {"r14", hex(r.r14)},
                         {"r15", hex(r.r15)}});
}

// Bytes at CS:RIP through the guest's page tables, stopping at the first unmapped page.
std::string instruction_bytes(const VcpuFd& vcpu, const GuestMemory& memory, uint64_t linear) {
    std::array<uint8_t, kInstructionBytes> bytes{};
    size_t count = 0;
    while (count < bytes.size()) {
        const auto physical = vcpu.translate(linear + count);
        if (!physical ||
            !memory.read(*physical, std::as_writable_bytes(std::span(&bytes[count], 1)))) {
            break;
        }
        ++count;
    }
    return hex_bytes(std::span(bytes).first(count));
}

}  // namespace

std::string hex_bytes(std::span<const uint8_t> bytes) {
    std::string text;
    for (const uint8_t byte : bytes) {
        text += fmt::format("{}{:02x}", text.empty() ? "" : " ", byte);
    }
    return text;
}

Json register_dump(const VcpuFd& vcpu, const GuestMemory& memory) {
    Json dump = Json::object();
    const auto regs = vcpu.regs();
    const auto sregs = vcpu.sregs();
    if (regs) {
        dump.set("registers", general(*regs));
    }
    if (sregs) {
        dump.set("cr0", hex(sregs->cr0));
        dump.set("cr2", hex(sregs->cr2));
        dump.set("cr3", hex(sregs->cr3));
        dump.set("cr4", hex(sregs->cr4));
        dump.set("efer", hex(sregs->efer));
        dump.set("apic_base", hex(sregs->apic_base));
        dump.set("cs", segment(sregs->cs));
        dump.set("ss", segment(sregs->ss));
        dump.set("ds", segment(sregs->ds));
        dump.set("gs_base", hex(sregs->gs.base));
        dump.set("fs_base", hex(sregs->fs.base));
        dump.set("idt", hex(sregs->idt.base));
        dump.set("gdt", hex(sregs->gdt.base));
    }
    if (regs && sregs) {
        const bool long_mode = (sregs->efer & (1u << 10)) != 0 && sregs->cs.l != 0;
        const uint64_t linear = long_mode ? regs->rip : sregs->cs.base + regs->rip;
        dump.set("instruction_bytes", instruction_bytes(vcpu, memory, linear));
    }
    if (const auto state = vcpu.mp_state()) {
        dump.set("mp_state", uint32_t{state->mp_state});
    }
    return dump;
}

}  // namespace kumoi::hypervisor
