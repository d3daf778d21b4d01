// A small writer for ACPI Machine Language (ACPI 6.4 §20): just the terms our DSDT needs. Each
// function returns encoded bytes; containers take the concatenation of their children.
//
//     Aml body = aml::name_decl("_HID", aml::eisa_id("PNP0501")) + ...;
//     Aml device = aml::device("COM1", body);
//
// Pure functions over strings; names and ids are our own constants, so wrong ones are asserted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kumoi::hypervisor::aml {

using Aml = std::string;  // raw bytes

Aml integer(uint64_t value);  // the shortest encoding
Aml text(std::string_view value);
Aml eisa_id(std::string_view id);  // "PNP0A08" as a compressed integer
Aml path(std::string_view name);   // "\\_SB_.PCI0", "_HID"; segments padded to four characters
Aml package(const std::vector<Aml>& elements);
Aml name_decl(std::string_view name, const Aml& value);
Aml scope(std::string_view name, const Aml& body);
Aml device(std::string_view name, const Aml& body);
Aml buffer(std::string_view bytes);
// A ResourceTemplate buffer of these descriptors, with its end tag and checksum.
Aml resources(const std::vector<std::string>& descriptors);

// Resource descriptors (§6.4).
std::string io_ports(uint16_t base, uint8_t size);
std::string irq(uint32_t number);
std::string fixed_memory(uint32_t base, uint32_t size);
std::string bus_range(uint16_t first, uint16_t last);
std::string port_window(uint16_t base, uint32_t size);
std::string memory_window32(uint32_t base, uint32_t size);
std::string memory_window64(uint64_t base, uint64_t size);

// Registers in I/O space and the names of their parts; an empty name skips bits.
struct FieldUnit {
    std::string_view name;
    uint32_t bits;
};
enum class FieldAccess : uint8_t { Byte = 1, Word = 2, Dword = 3 };
Aml io_region(std::string_view name, uint16_t base, uint16_t size);
Aml field(std::string_view region, FieldAccess access, const std::vector<FieldUnit>& units);

// Control methods (§20.2.5). Expressions nest: store(op_and(arg(0), integer(4)), local(0)).
Aml method(std::string_view name, uint8_t argument_count, const Aml& body);  // serialized
Aml arg(uint8_t index);                                                      // 0 to 6
Aml local(uint8_t index);                                                    // 0 to 7
Aml call(std::string_view name, const std::vector<Aml>& arguments);
Aml store(const Aml& value, const Aml& target);
Aml op_and(const Aml& left, const Aml& right);
Aml less(const Aml& left, const Aml& right);
Aml equal(const Aml& left, const Aml& right);
Aml increment(const Aml& target);
Aml op_if(const Aml& condition, const Aml& body);
Aml op_while(const Aml& condition, const Aml& body);
Aml op_return(const Aml& value);
Aml notify(std::string_view object, const Aml& value);
Aml mutex(std::string_view name);
Aml acquire(std::string_view name);  // waits as long as it takes
Aml release(std::string_view name);

}  // namespace kumoi::hypervisor::aml
