#include "hypervisor/board/acpi_tables.h"

#include <cstddef>
#include <cstring>
#include <numeric>
#include <vector>

#include "hypervisor/board/board_layout.h"
#include "hypervisor/board/dsdt.h"

namespace kumoi::hypervisor {

namespace {

struct [[gnu::packed]] TableHeader {
    char signature[4];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
};
static_assert(sizeof(TableHeader) == 36);

struct [[gnu::packed]] GenericAddress {  // §5.2.3.2
    uint8_t space = 0;                   // 0 memory, 1 I/O
    uint8_t bit_width = 0;
    uint8_t bit_offset = 0;
    uint8_t access_size = 0;
    uint64_t address = 0;
};

struct [[gnu::packed]] Fadt {  // §5.2.9, revision 6.4, from behind the header
    uint32_t firmware_ctrl;
    uint32_t dsdt;
    uint8_t reserved;
    uint8_t preferred_pm_profile;
    uint16_t sci_int;
    uint32_t smi_cmd;
    uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
    uint32_t pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk, pm2_cnt_blk, pm_tmr_blk;
    uint32_t gpe0_blk, gpe1_blk;
    uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len;
    uint8_t gpe0_blk_len, gpe1_blk_len, gpe1_base, cst_cnt;
    uint16_t p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alrm, mon_alrm, century;
    uint16_t iapc_boot_arch;
    uint8_t reserved2;
    uint32_t flags;
    GenericAddress reset_reg;
    uint8_t reset_value;
    uint16_t arm_boot_arch;
    uint8_t minor_version;
    uint64_t x_firmware_ctrl;
    uint64_t x_dsdt;
    GenericAddress x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk, x_pm2_cnt_blk;
    GenericAddress x_pm_tmr_blk, x_gpe0_blk, x_gpe1_blk;
    GenericAddress sleep_control_reg, sleep_status_reg;
    uint64_t hypervisor_vendor;
};
static_assert(sizeof(Fadt) + sizeof(TableHeader) == 276);

struct [[gnu::packed]] Facs {  // §5.2.10
    char signature[4];
    uint32_t length;
    uint8_t zero[55];
    uint8_t pad;
};
static_assert(sizeof(Facs) == 64);

struct [[gnu::packed]] Rsdp {  // §5.2.5.3
    char signature[8];
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
};
static_assert(sizeof(Rsdp) == 36);

constexpr char kOemId[] = "KUMOI ";
constexpr uint32_t kFlagWbinvd = 1u << 0;
constexpr uint32_t kFlagC1 = 1u << 2;
constexpr uint32_t kFlagSleepButtonAbsent = 1u << 5;  // SLP_BUTTON set: not a fixed button
constexpr uint32_t kFlagRtcNotFixed = 1u << 6;        // no RTC wake-up
constexpr uint32_t kFlagTimer32 = 1u << 8;
constexpr uint32_t kFlagResetRegister = 1u << 10;
constexpr uint16_t kBootLegacyDevices = 1u << 0;
constexpr uint16_t kBootNoVga = 1u << 2;
constexpr uint8_t kProfileServer = 4;
constexpr uint8_t kCenturyIndex = 0x32;

template <class T>
std::string bytes_of(const T& object) {
    return {reinterpret_cast<const char*>(&object), sizeof object};
}

uint8_t checksum_of(std::string_view bytes) {
    const unsigned sum =
        std::accumulate(bytes.begin(), bytes.end(), 0u,
                        [](unsigned total, char c) { return total + static_cast<uint8_t>(c); });
    return static_cast<uint8_t>(0u - sum);
}

std::string table(const char (&signature)[5], uint8_t revision, const std::string& body) {
    TableHeader header{};
    std::memcpy(header.signature, signature, 4);
    header.length = static_cast<uint32_t>(sizeof header + body.size());
    header.revision = revision;
    std::memcpy(header.oem_id, kOemId, 6);
    std::memcpy(header.oem_table_id, "KUMOI-1 ", 8);
    header.oem_revision = 1;
    std::memcpy(header.creator_id, "KUMO", 4);
    header.creator_revision = 1;
    std::string bytes = bytes_of(header) + body;
    bytes[offsetof(TableHeader, checksum)] = static_cast<char>(checksum_of(bytes));
    return bytes;
}

GenericAddress io_register(uint16_t port, uint8_t bits) {
    const uint8_t access = bits == 8 ? 1 : bits == 16 ? 2 : 3;
    return {1, bits, 0, access, port};
}

std::string fadt(uint64_t facs, uint64_t dsdt) {
    Fadt body{};
    body.firmware_ctrl = static_cast<uint32_t>(facs);
    body.dsdt = static_cast<uint32_t>(dsdt);
    body.preferred_pm_profile = kProfileServer;
    body.sci_int = board::kSciIrq;
    body.pm1a_evt_blk = board::kPm1Event;
    body.pm1a_cnt_blk = board::kPm1Control;
    body.pm_tmr_blk = board::kPmTimer;
    body.pm1_evt_len = 4;
    body.pm1_cnt_len = 2;
    body.pm_tmr_len = 4;
    body.p_lvl2_lat = 0xffff;  // no C2 or C3: HLT is the only idle state
    body.p_lvl3_lat = 0xffff;
    body.century = kCenturyIndex;
    // No 8042 flag: there is no keyboard to probe for, and a probe costs the guest half a second.
    body.iapc_boot_arch = kBootLegacyDevices | kBootNoVga;
    body.flags = kFlagWbinvd | kFlagC1 | kFlagSleepButtonAbsent | kFlagRtcNotFixed | kFlagTimer32 |
                 kFlagResetRegister;
    body.reset_reg = io_register(board::kPmReset, 8);
    body.reset_value = board::kPmResetValue;
    body.minor_version = 4;
    body.x_dsdt = dsdt;
    body.x_pm1a_evt_blk = io_register(board::kPm1Event, 32);
    body.x_pm1a_cnt_blk = io_register(board::kPm1Control, 16);
    body.x_pm_tmr_blk = io_register(board::kPmTimer, 32);
    std::memcpy(&body.hypervisor_vendor, "KUMOI\0\0\0", 8);
    return table("FACP", 6, bytes_of(body));
}

struct [[gnu::packed]] MadtLocalApic {  // §5.2.12.2
    uint8_t type = 0, length = 8, processor_uid = 0, apic_id = 0;
    uint32_t flags = 1;  // enabled
};
struct [[gnu::packed]] MadtLocalX2Apic {  // §5.2.12.12: for ids from 255 on
    uint8_t type = 9, length = 16;
    uint16_t reserved = 0;
    uint32_t apic_id = 0;
    uint32_t flags = 1;
    uint32_t processor_uid = 0;
};
struct [[gnu::packed]] MadtIoApic {  // §5.2.12.3
    uint8_t type = 1, length = 12, id = 0, reserved = 0;
    uint32_t address = static_cast<uint32_t>(board::kIoApicAddress);
    uint32_t gsi_base = 0;
};
struct [[gnu::packed]] MadtOverride {  // §5.2.12.5
    uint8_t type = 2, length = 10, bus = 0, source = 0;
    uint32_t gsi = 0;
    uint16_t flags = 0;
};
struct [[gnu::packed]] MadtLocalNmi {  // §5.2.12.7
    uint8_t type = 4, length = 6, processor_uid = 0xff;
    uint16_t flags = 0;
    uint8_t lint = 1;
};

std::string madt(uint32_t vcpus) {
    constexpr uint32_t kApicIdsMax = 255;
    constexpr uint32_t kPcatCompat = 1;  // 8259s are there
    constexpr uint16_t kLevelActiveHigh = 0x000d;
    const uint32_t local_apic = static_cast<uint32_t>(board::kLocalApicAddress);
    std::string body = bytes_of(local_apic) + bytes_of(kPcatCompat);
    for (uint32_t id = 0; id < vcpus; ++id) {
        if (id < kApicIdsMax) {
            MadtLocalApic entry;
            entry.processor_uid = static_cast<uint8_t>(id);
            entry.apic_id = static_cast<uint8_t>(id);
            body += bytes_of(entry);
        } else {
            MadtLocalX2Apic entry;
            entry.apic_id = id;
            entry.processor_uid = id;
            body += bytes_of(entry);
        }
    }
    body += bytes_of(MadtIoApic{});
    MadtOverride timer;
    timer.gsi = 2;
    body += bytes_of(timer);
    MadtOverride sci;
    sci.source = board::kSciIrq;
    sci.gsi = board::kSciIrq;
    sci.flags = kLevelActiveHigh;
    body += bytes_of(sci);
    body += bytes_of(MadtLocalNmi{});
    return table("APIC", 5, body);
}

std::string mcfg() {
    struct [[gnu::packed]] {  // PCI Firmware Specification 3.3, table 4-3
        uint64_t reserved = 0;
        uint64_t base = board::kEcamStart;
        uint16_t segment = 0;
        uint8_t bus_first = 0;
        uint8_t bus_last = 0;
        uint32_t reserved2 = 0;
    } body;
    return table("MCFG", 1, bytes_of(body));
}

std::string facs() {
    Facs body{};
    std::memcpy(body.signature, "FACS", 4);
    body.length = sizeof body;
    return bytes_of(body);
}

std::string rsdp(uint64_t xsdt) {
    Rsdp body{};
    std::memcpy(body.signature, "RSD PTR ", 8);
    std::memcpy(body.oem_id, kOemId, 6);
    body.revision = 2;
    body.length = sizeof body;
    body.xsdt = xsdt;
    constexpr size_t kFirstPart = 20;  // what ACPI 1.0 knew
    body.checksum = checksum_of(bytes_of(body).substr(0, kFirstPart));
    body.extended_checksum = checksum_of(bytes_of(body));
    return bytes_of(body);
}

}  // namespace

Result<std::string> build_acpi_tables(const AcpiConfig& config, uint64_t address) {
    constexpr size_t kAlignment = 64;  // FACS must be 64-byte aligned, §5.2.10
    std::string image(sizeof(Rsdp), '\0');
    const auto place = [&](const std::string& bytes) {
        image.resize((image.size() + kAlignment - 1) / kAlignment * kAlignment, '\0');
        const uint64_t at = address + image.size();
        image += bytes;
        return at;
    };
    const uint64_t facs_at = place(facs());
    const uint64_t dsdt_at = place(table("DSDT", 2, dsdt_body(config.ram_end)));
    std::string pointers;
    for (const std::string& bytes : {fadt(facs_at, dsdt_at), madt(config.vcpus), mcfg()}) {
        pointers += bytes_of(place(bytes));
    }
    const std::string root = rsdp(place(table("XSDT", 1, pointers)));
    image.replace(0, root.size(), root);
    if (image.size() > board::kAcpiSize) {
        return Error::too_large("ACPI tables for {} vCPUs take {} bytes; the board has room for {}",
                                config.vcpus, image.size(), board::kAcpiSize)
            .with_hint("give the guest fewer vCPUs");
    }
    return image;
}

}  // namespace kumoi::hypervisor
