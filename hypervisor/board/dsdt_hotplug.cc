#include "hypervisor/board/dsdt_hotplug.h"

#include <fmt/core.h>

#include "hypervisor/board/aml.h"
#include "hypervisor/board/hotplug_layout.h"
#include "hypervisor/board/pci_layout.h"

namespace kumoi::hypervisor {

namespace {

using aml::Aml;

constexpr uint64_t kDeviceCheck = 1;  // §5.6.6: something came
constexpr uint64_t kEjectRequest = 3;

std::string slot_name(unsigned slot) {
    return fmt::format("S{:02X}", slot);
}

// Slot objects carry the slot alone; their functions are found by the OS itself.
Aml slot_device(unsigned slot) {
    const Aml eject = aml::store(aml::integer(uint64_t{1} << slot), aml::path("HPEJ"));
    return aml::device(slot_name(slot), aml::name_decl("_ADR", aml::integer(uint64_t{slot} << 16)) +
                                            aml::name_decl("_SUN", aml::integer(slot)) +
                                            aml::method("_EJ0", 1, eject));
}

// HPNT(slots, event): tells each slot.
Aml notify_slots() {
    Aml body;
    for (unsigned slot = board::kPciNicSlotFirst; slot <= board::kPciDiskSlotLast; ++slot) {
        body += aml::op_if(aml::op_and(aml::arg(0), aml::integer(uint64_t{1} << slot)),
                           aml::notify(slot_name(slot), aml::arg(1)));
    }
    return aml::method("HPNT", 2, body);
}

// Read, acknowledge, tell: an event that comes in between is announced again.
Aml take_slots(std::string_view event_register, uint64_t event) {
    const std::string full = fmt::format("\\_SB_.PCI0.{}", event_register);
    return aml::store(aml::path(full), aml::local(0)) + aml::store(aml::local(0), aml::path(full)) +
           aml::call("\\_SB_.PCI0.HPNT", {aml::local(0), aml::integer(event)});
}

std::string cpu_name(uint32_t cpu) {
    return fmt::format("C{:03X}", cpu);
}

// §5.2.12.2 and §5.2.12.12: the MADT entry of a processor that is there.
std::string madt_entry(uint32_t cpu) {
    constexpr uint32_t kApicIdsMax = 255;
    const auto low = static_cast<char>(cpu);
    const auto high = static_cast<char>(cpu >> 8);
    if (cpu < kApicIdsMax) {
        return {0, 8, low, low, 1, 0, 0, 0};
    }
    return {9, 16, 0, 0, low, high, 0, 0, 1, 0, 0, 0, low, high, 0, 0};
}

Aml cpu_device(uint32_t cpu) {
    const Aml number = aml::integer(cpu);
    Aml body = aml::name_decl("_HID", aml::text("ACPI0007")) + aml::name_decl("_UID", number) +
               aml::name_decl("_MAT", aml::buffer(madt_entry(cpu))) +
               aml::method("_STA", 0, aml::op_return(aml::call("CSTA", {number})));
    if (cpu != 0) {
        body += aml::method("_EJ0", 1, aml::call("CEJ0", {number}));
    }
    return aml::device(cpu_name(cpu), body);
}

// CSTA(cpu): §6.3.7, all of present, enabled, shown, functioning, or nothing.
Aml cpu_status_method() {
    constexpr uint64_t kAll = 0x0f;
    const Aml is_present = aml::op_and(aml::path("CSTS"), aml::integer(board::kCpuPresent));
    return aml::method("CSTA", 1,
                       aml::acquire("CLCK") + aml::store(aml::arg(0), aml::path("CSEL")) +
                           aml::store(aml::integer(0), aml::local(0)) +
                           aml::op_if(is_present, aml::store(aml::integer(kAll), aml::local(0))) +
                           aml::release("CLCK") + aml::op_return(aml::local(0)));
}

Aml cpu_eject_method() {
    return aml::method("CEJ0", 1,
                       aml::acquire("CLCK") + aml::store(aml::arg(0), aml::path("CSEL")) +
                           aml::store(aml::integer(board::kCpuEject), aml::path("CSTS")) +
                           aml::release("CLCK"));
}

// CNTF(cpu, event)
Aml cpu_notify_method(uint32_t vcpus_max) {
    Aml body;
    for (uint32_t cpu = 0; cpu < vcpus_max; ++cpu) {
        body += aml::op_if(aml::equal(aml::arg(0), aml::integer(cpu)),
                           aml::notify(cpu_name(cpu), aml::arg(1)));
    }
    return aml::method("CNTF", 2, body);
}

// Takes one event after the other until there is none: CNXT is then past all processors. Events of
// one processor are cleared before they are told. The count bounds a device that lies.
Aml cpu_scan_method(uint32_t vcpus_max) {
    const auto tell = [](uint8_t event, uint64_t value) {
        return aml::op_if(aml::op_and(aml::local(1), aml::integer(event)),
                          aml::store(aml::integer(event), aml::path("CSTS")) +
                              aml::call("CNTF", {aml::local(0), aml::integer(value)}));
    };
    const Aml limit = aml::integer(uint64_t{2} * vcpus_max);
    const Aml step = aml::store(aml::path("CNXT"), aml::local(0)) +
                     aml::op_if(aml::less(aml::integer(vcpus_max - 1), aml::local(0)),
                                aml::store(limit, aml::local(2))) +
                     aml::op_if(aml::less(aml::local(0), aml::integer(vcpus_max)),
                                aml::store(aml::local(0), aml::path("CSEL")) +
                                    aml::store(aml::path("CSTS"), aml::local(1)) +
                                    tell(board::kCpuInserted, kDeviceCheck) +
                                    tell(board::kCpuRemoving, kEjectRequest)) +
                     aml::increment(aml::local(2));
    const Aml more = aml::less(aml::local(2), limit);
    return aml::method("CSCN", 0,
                       aml::acquire("CLCK") + aml::store(aml::integer(0), aml::local(2)) +
                           aml::store(aml::integer(0), aml::local(0)) + aml::op_while(more, step) +
                           aml::release("CLCK"));
}

Aml cpu_container(uint32_t vcpus_max) {
    Aml body = aml::name_decl("_HID", aml::text("ACPI0010")) +
               aml::name_decl("_CID", aml::eisa_id("PNP0A05")) +
               aml::io_region("CREG", board::kCpuHotplugBase, board::kCpuHotplugSize) +
               aml::field("CREG", aml::FieldAccess::Dword, {{"CSEL", 32}, {"", 32}, {"CNXT", 32}}) +
               aml::field("CREG", aml::FieldAccess::Byte, {{"", 32}, {"CSTS", 8}}) +
               aml::mutex("CLCK") + cpu_status_method() + cpu_eject_method();
    for (uint32_t cpu = 0; cpu < vcpus_max; ++cpu) {
        body += cpu_device(cpu);
    }
    body += cpu_notify_method(vcpus_max) + cpu_scan_method(vcpus_max);
    return aml::scope("\\_SB_", aml::device("CPUS", body));
}

}  // namespace

std::string dsdt_pci_slots() {
    Aml body =
        aml::io_region("HPRG", board::kPciHotplugBase, board::kPciHotplugSize) +
        aml::field("HPRG", aml::FieldAccess::Dword, {{"HPIN", 32}, {"HPRM", 32}, {"HPEJ", 32}});
    for (unsigned slot = board::kPciNicSlotFirst; slot <= board::kPciDiskSlotLast; ++slot) {
        body += slot_device(slot);
    }
    return body + notify_slots();
}

std::string dsdt_hotplug_events(uint32_t vcpus, uint32_t vcpus_max) {
    Aml events = aml::method("_E01", 0,
                             take_slots("HPIN", kDeviceCheck) + take_slots("HPRM", kEjectRequest));
    if (vcpus_max <= vcpus) {
        return aml::scope("\\_GPE", events);
    }
    events += aml::method("_E02", 0, aml::call("\\_SB_.CPUS.CSCN", {}));
    return cpu_container(vcpus_max) + aml::scope("\\_GPE", events);
}

}  // namespace kumoi::hypervisor
