#include "hypervisor/firmware/smbios.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "base/uuid.h"
#include "hypervisor/memory/guest_memory.h"

namespace kumoi::hypervisor {

namespace {

constexpr size_t kEntryPointSize = 31;  // §5.2.1
constexpr size_t kIntermediateStart = 16;
constexpr size_t kAddressOffset = 0x18;
constexpr size_t kStringMax = 255;
constexpr uint16_t kChassisHandle = 0x300;
constexpr uint16_t kMemoryArrayHandle = 0x1000;
constexpr uint16_t kNoHandle = 0xfffe;  // error information: not provided

// One structure: a formatted area, then its strings, which fields name by number (§6.1.3).
class Structure {
public:
    Structure(uint8_t type, uint16_t handle) { byte(type).byte(0).word(handle); }
    Structure& byte(uint8_t value) { return put(value); }
    Structure& word(uint16_t value) { return put(value); }
    Structure& dword(uint32_t value) { return put(value); }
    Structure& qword(uint64_t value) { return put(value); }
    Structure& bytes(std::string_view raw) {
        area_ += raw;
        return *this;
    }
    Structure& text(std::string_view value) {
        if (value.empty()) {
            return byte(0);
        }
        strings_ += std::string(value.substr(0, kStringMax)) + '\0';
        return byte(++string_count_);
    }
    std::string finish() {
        area_[1] = static_cast<char>(area_.size());
        return area_ + (strings_.empty() ? std::string(2, '\0') : strings_ + '\0');
    }

private:
    template <class T>
    Structure& put(T value) {
        area_.append(reinterpret_cast<const char*>(&value), sizeof value);
        return *this;
    }
    std::string area_;
    std::string strings_;
    uint8_t string_count_ = 0;
};

// §7.2.1: the first three fields of a UUID are little endian.
std::string uuid_bytes(const std::string& text) {
    std::string bytes;
    for (size_t i = 0; i + 1 < text.size(); i += 2) {
        i += text[i] == '-' ? 1 : 0;
        bytes += static_cast<char>(std::stoul(text.substr(i, 2), nullptr, 16));
    }
    if (bytes.size() != 16) {
        return std::string(16, '\0');
    }
    std::reverse(bytes.begin(), bytes.begin() + 4);
    std::reverse(bytes.begin() + 4, bytes.begin() + 6);
    std::reverse(bytes.begin() + 6, bytes.begin() + 8);
    return bytes;
}

std::string bios_information() {
    constexpr uint64_t kCharacteristicsNotSupported = 1u << 3;
    return Structure(0, 0)
        .text("kumoi")
        .text("kumoi-1")
        .word(0xe800)  // starts at 0xe8000
        .text("01/01/2026")
        .byte(0)
        .qword(kCharacteristicsNotSupported)
        .byte(0)
        .byte(0x14)  // a virtual machine; targeted content distribution
        .byte(0)
        .byte(0)
        .byte(0xff)
        .byte(0xff)
        .finish();
}

std::string system_information(const SmbiosConfig& config) {
    constexpr uint8_t kPowerSwitch = 6;
    return Structure(1, 0x100)
        .text(config.manufacturer)
        .text(config.product)
        .text(config.version)
        .text(config.serial)
        .bytes(uuid_bytes(config.uuid))
        .byte(kPowerSwitch)
        .text(config.sku)
        .text(config.family)
        .finish();
}

std::string chassis(const SmbiosConfig& config) {
    constexpr uint8_t kOther = 1;
    constexpr uint8_t kSafe = 3;
    constexpr uint8_t kSecurityUnknown = 2;
    Structure structure(3, kChassisHandle);
    structure.text(config.manufacturer).byte(kOther).text(config.version).text(config.serial);
    structure.text("").byte(kSafe).byte(kSafe).byte(kSafe).byte(kSecurityUnknown).dword(0);
    return structure.byte(0).byte(0).byte(0).byte(0).text(config.sku).finish();
}

std::string processor(const SmbiosConfig& config) {
    constexpr uint8_t kCentralProcessor = 3;
    constexpr uint8_t kFamilyOther = 1;
    constexpr uint8_t kUpgradeOther = 1;
    constexpr uint8_t kEnabledPopulated = 0x41;
    constexpr uint16_t kNoCache = 0xffff;
    constexpr uint16_t k64BitCapable = 1u << 2;
    const auto cores = static_cast<uint16_t>(std::min<uint32_t>(config.vcpus, 0xfffe));
    const auto few = static_cast<uint8_t>(std::min<uint16_t>(cores, 0xff));
    Structure structure(4, 0x400);
    structure.text("CPU 0").byte(kCentralProcessor).byte(kFamilyOther).text(config.manufacturer);
    structure.qword(0).text("kumoi-1").byte(0).word(0).word(0).word(0);
    structure.byte(kEnabledPopulated).byte(kUpgradeOther);
    structure.word(kNoCache).word(kNoCache).word(kNoCache).text("").text("").text("");
    structure.byte(few).byte(few).byte(few).word(k64BitCapable).word(kFamilyOther);
    return structure.word(cores).word(cores).word(cores).finish();
}

std::string memory_array(const SmbiosConfig& config, uint16_t device_count) {
    constexpr uint8_t kOther = 1;
    constexpr uint8_t kSystemMemory = 3;
    constexpr uint8_t kMultiBitEcc = 6;
    constexpr uint32_t kExtended = 0x8000'0000;
    return Structure(16, kMemoryArrayHandle)
        .byte(kOther)
        .byte(kSystemMemory)
        .byte(kMultiBitEcc)
        .dword(kExtended)
        .word(kNoHandle)
        .word(device_count)
        .qword(config.memory_bytes)
        .finish();
}

std::string memory_device(uint16_t index, uint64_t size) {
    constexpr uint8_t kFormDimm = 9;
    constexpr uint8_t kTypeRam = 7;
    constexpr uint16_t kDetailOther = 2;
    constexpr uint16_t kExtendedSize = 0x7fff;
    const uint64_t mib = size >> 20;
    Structure structure(17, static_cast<uint16_t>(0x1100 + index));
    structure.word(kMemoryArrayHandle).word(kNoHandle).word(0xffff).word(0xffff);
    structure.word(mib < kExtendedSize ? static_cast<uint16_t>(mib) : kExtendedSize);
    structure.byte(kFormDimm).byte(0).text(fmt::format("DIMM {}", index)).text("");
    structure.byte(kTypeRam).word(kDetailOther).word(0).text("kumoi").text("").text("").text("");
    structure.byte(0).dword(static_cast<uint32_t>(mib)).word(0);
    return structure.word(0).word(0).word(0).finish();
}

std::string mapped_range(uint16_t index, uint64_t start, uint64_t size) {
    constexpr uint32_t kUseExtended = 0xffff'ffff;
    return Structure(19, static_cast<uint16_t>(0x1300 + index))
        .dword(kUseExtended)
        .dword(kUseExtended)
        .word(kMemoryArrayHandle)
        .byte(1)
        .qword(start)
        .qword(start + size - 1)
        .finish();
}

uint8_t checksum_of(std::string_view bytes) {
    const unsigned sum =
        std::accumulate(bytes.begin(), bytes.end(), 0u,
                        [](unsigned total, char c) { return total + static_cast<uint8_t>(c); });
    return static_cast<uint8_t>(0u - sum);
}

// §5.2.1. Both checksums are right for an address of 0; who places the tables makes them again.
std::string entry_point(const std::string& structures, uint16_t count, uint16_t largest) {
    std::string bytes("_SM_\0\x1f\x02\x08", 8);
    const auto word = [&bytes](uint16_t value) {
        bytes.append(reinterpret_cast<const char*>(&value), 2);
    };
    word(largest);
    bytes += std::string(6, '\0');
    bytes += std::string("_DMI_\0", 6);
    word(static_cast<uint16_t>(structures.size()));
    bytes += std::string(4, '\0');
    word(count);
    bytes += '\x28';
    return bytes;
}

void make_checksums(std::string& entry) {
    entry[kIntermediateStart + 5] = 0;
    entry[4] = 0;
    entry[kIntermediateStart + 5] =
        static_cast<char>(checksum_of(std::string_view(entry).substr(kIntermediateStart)));
    entry[4] = static_cast<char>(checksum_of(entry));
}

}  // namespace

SmbiosTables build_smbios(const SmbiosConfig& config) {
    const uint64_t high = config.memory_bytes - config.low_memory_bytes;
    std::vector<std::string> list = {bios_information(), system_information(config),
                                     chassis(config), processor(config)};
    if (!config.oem_strings.empty()) {
        Structure oem(11, 0xb00);
        oem.byte(static_cast<uint8_t>(std::min<size_t>(config.oem_strings.size(), 255)));
        std::string strings;
        for (const std::string& text : config.oem_strings) {
            strings += text.substr(0, kStringMax) + '\0';
        }
        std::string bytes = oem.finish();
        bytes.resize(bytes.size() - 2);
        list.push_back(bytes + strings + '\0');
    }
    list.push_back(memory_array(config, 1));
    list.push_back(memory_device(0, config.memory_bytes));
    list.push_back(mapped_range(0, 0, config.low_memory_bytes));
    if (high > 0) {
        list.push_back(mapped_range(1, kHighMemoryStart, high));
    }
    list.push_back(Structure(32, 0x2000).bytes(std::string(7, '\0')).finish());  // no boot errors
    list.push_back(Structure(127, 0x7f00).finish());
    SmbiosTables tables;
    size_t largest = 0;
    for (const std::string& structure : list) {
        tables.structures += structure;
        largest = std::max(largest, structure.size());
    }
    tables.entry_point = entry_point(tables.structures, static_cast<uint16_t>(list.size()),
                                     static_cast<uint16_t>(largest));
    make_checksums(tables.entry_point);
    return tables;
}

Result<std::string> place_smbios(const SmbiosTables& tables, uint32_t address, size_t size_max) {
    constexpr size_t kStructuresOffset = (kEntryPointSize + 15) / 16 * 16;
    std::string bytes = tables.entry_point;
    const uint32_t at = address + static_cast<uint32_t>(kStructuresOffset);
    std::memcpy(&bytes[kAddressOffset], &at, sizeof at);
    make_checksums(bytes);
    bytes.resize(kStructuresOffset, '\0');
    bytes += tables.structures;
    if (bytes.size() > size_max || tables.structures.size() > 0xffff) {
        return Error::too_large("SMBIOS tables take {} bytes; the board has room for {}",
                                bytes.size(), size_max)
            .with_hint("shorten the texts under smbios");
    }
    return bytes;
}

}  // namespace kumoi::hypervisor
