#include "hypervisor/board/acpi_tables.h"

#include <algorithm>
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
constexpr uint16_t kBoot8042 = 1u << 1;
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

// A table with its header; the checksum is made when the table's pointers are final.
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
    return bytes_of(header) + body;
}

GenericAddress io_register(uint16_t port, uint8_t bits) {
    const uint8_t access = bits == 8 ? 1 : bits == 16 ? 2 : 3;
    return {1, bits, 0, access, port};
}

std::string fadt(uint32_t facs, uint32_t dsdt, bool keyboard) {
    Fadt body{};
    body.firmware_ctrl = facs;
    body.dsdt = dsdt;
    body.preferred_pm_profile = kProfileServer;
    body.sci_int = board::kSciIrq;
    body.pm1a_evt_blk = board::kPm1Event;
    body.pm1a_cnt_blk = board::kPm1Control;
    body.pm_tmr_blk = board::kPmTimer;
    body.gpe0_blk = board::kGpe0Base;
    body.gpe0_blk_len = static_cast<uint8_t>(board::kGpe0Size);
    body.pm1_evt_len = 4;
    body.pm1_cnt_len = 2;
    body.pm_tmr_len = 4;
    body.p_lvl2_lat = 0xffff;  // no C2 or C3: HLT is the only idle state
    body.p_lvl3_lat = 0xffff;
    body.century = kCenturyIndex;
    // Without a keyboard no 8042 flag: a probe costs the guest half a second.
    body.iapc_boot_arch = kBootLegacyDevices | kBootNoVga;
    if (keyboard) {
        body.iapc_boot_arch |= kBoot8042;
    }
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

// A processor that may come later is not enabled, but can be (§5.2.12.2, table 5.48).
std::string madt(uint32_t vcpus, uint32_t vcpus_max) {
    constexpr uint32_t kEnabled = 1u << 0;
    constexpr uint32_t kOnlineCapable = 1u << 1;
    constexpr uint32_t kApicIdsMax = 255;
    constexpr uint32_t kPcatCompat = 1;  // 8259s are there
    constexpr uint16_t kLevelActiveHigh = 0x000d;
    const uint32_t local_apic = static_cast<uint32_t>(board::kLocalApicAddress);
    std::string body = bytes_of(local_apic) + bytes_of(kPcatCompat);
    for (uint32_t id = 0; id < std::max(vcpus, vcpus_max); ++id) {
        const uint32_t flags = id < vcpus ? kEnabled : kOnlineCapable;
        if (id < kApicIdsMax) {
            MadtLocalApic entry;
            entry.processor_uid = static_cast<uint8_t>(id);
            entry.apic_id = static_cast<uint8_t>(id);
            entry.flags = flags;
            body += bytes_of(entry);
        } else {
            MadtLocalX2Apic entry;
            entry.apic_id = id;
            entry.flags = flags;
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

std::string mcfg(uint64_t ecam_base) {
    struct [[gnu::packed]] {  // PCI Firmware Specification 3.3, table 4-3
        uint64_t reserved = 0;
        uint64_t base = 0;
        uint16_t segment = 0;
        uint8_t bus_first = 0;
        uint8_t bus_last = 0;
        uint32_t reserved2 = 0;
    } body;
    body.base = ecam_base;
    return table("MCFG", 1, bytes_of(body));
}

std::string facs() {
    Facs body{};
    std::memcpy(body.signature, "FACS", 4);
    body.length = sizeof body;
    return bytes_of(body);
}

// Collects tables into one image and remembers where pointers and checksums are.
class Assembly {
public:
    uint32_t place(const std::string& bytes) {
        constexpr size_t kAlignment = AcpiImage::kAlignment;
        image_.tables.resize((image_.tables.size() + kAlignment - 1) / kAlignment * kAlignment);
        const auto at = static_cast<uint32_t>(image_.tables.size());
        image_.tables += bytes;
        return at;
    }
    uint32_t place_table(const std::string& bytes) {
        const uint32_t at = place(bytes);
        image_.checksums.push_back({AcpiImage::Part::Tables,
                                    at + static_cast<uint32_t>(offsetof(TableHeader, checksum)), at,
                                    static_cast<uint32_t>(bytes.size())});
        return at;
    }
    void pointer(size_t offset, size_t size) {
        image_.pointers.push_back(
            {AcpiImage::Part::Tables, static_cast<uint32_t>(offset), static_cast<uint8_t>(size)});
    }
    // RSDT or XSDT: a table of pointers to the others.
    template <class Address>
    uint32_t place_root(const char (&signature)[5], const std::vector<uint32_t>& tables) {
        std::string body;
        for (const uint32_t at : tables) {
            body += bytes_of(Address{at});
        }
        const uint32_t root = place_table(table(signature, 1, body));
        for (size_t i = 0; i < tables.size(); ++i) {
            pointer(root + sizeof(TableHeader) + i * sizeof(Address), sizeof(Address));
        }
        return root;
    }
    void set_rsdp(uint32_t rsdt, uint32_t xsdt) {
        Rsdp body{};
        std::memcpy(body.signature, "RSD PTR ", 8);
        std::memcpy(body.oem_id, kOemId, 6);
        body.revision = 2;
        body.length = sizeof body;
        body.rsdt = rsdt;
        body.xsdt = xsdt;
        image_.rsdp = bytes_of(body);
        constexpr uint32_t kFirstPart = 20;  // what ACPI 1.0 knew
        constexpr auto kRsdp = AcpiImage::Part::Rsdp;
        image_.pointers.push_back({kRsdp, offsetof(Rsdp, rsdt), 4});
        image_.pointers.push_back({kRsdp, offsetof(Rsdp, xsdt), 8});
        image_.checksums.push_back({kRsdp, offsetof(Rsdp, checksum), 0, kFirstPart});
        image_.checksums.push_back({kRsdp, offsetof(Rsdp, extended_checksum), 0, sizeof(Rsdp)});
    }
    AcpiImage take() { return std::move(image_); }

private:
    AcpiImage image_;
};

}  // namespace

AcpiImage assemble_acpi(const AcpiConfig& config) {
    Assembly assembly;
    const uint32_t facs_at = assembly.place(facs());
    const uint32_t dsdt_at = assembly.place_table(table("DSDT", 2,
                                                        dsdt_body({.ram_end = config.ram_end,
                                                                   .ecam_base = config.ecam_base,
                                                                   .mmio64_end = config.mmio64_end,
                                                                   .vcpus = config.vcpus,
                                                                   .vcpus_max = config.vcpus_max,
                                                                   .keyboard = config.keyboard})));
    const uint32_t fadt_at = assembly.place_table(fadt(facs_at, dsdt_at, config.keyboard));
    constexpr size_t kBody = sizeof(TableHeader);
    assembly.pointer(fadt_at + kBody + offsetof(Fadt, firmware_ctrl), 4);
    assembly.pointer(fadt_at + kBody + offsetof(Fadt, dsdt), 4);
    assembly.pointer(fadt_at + kBody + offsetof(Fadt, x_dsdt), 8);
    const uint32_t madt_at = assembly.place_table(madt(config.vcpus, config.vcpus_max));
    std::vector<uint32_t> tables = {fadt_at, madt_at, assembly.place_table(mcfg(config.ecam_base))};
    if (config.numa.nodes != 0) {
        tables.push_back(assembly.place_table(table("SRAT", 3, srat_body(config.numa))));
    }
    if (!config.numa.distances.empty()) {
        tables.push_back(assembly.place_table(table("SLIT", 1, slit_body(config.numa))));
    }
    const uint32_t rsdt = assembly.place_root<uint32_t>("RSDT", tables);
    assembly.set_rsdp(rsdt, assembly.place_root<uint64_t>("XSDT", tables));
    return assembly.take();
}

namespace {

void add_address(std::string& bytes, const AcpiImage::Pointer& pointer, uint64_t address) {
    uint64_t value = 0;
    std::memcpy(&value, &bytes[pointer.offset], pointer.size);
    value += address;
    std::memcpy(&bytes[pointer.offset], &value, pointer.size);
}

}  // namespace

Result<std::string> build_acpi_tables(const AcpiConfig& config, uint64_t address) {
    AcpiImage image = assemble_acpi(config);
    const uint64_t tables_at = address + AcpiImage::kAlignment;
    const auto part_of = [&image](AcpiImage::Part part) -> std::string& {
        return part == AcpiImage::Part::Rsdp ? image.rsdp : image.tables;
    };
    for (const AcpiImage::Pointer& pointer : image.pointers) {
        add_address(part_of(pointer.part), pointer, tables_at);
    }
    for (const AcpiImage::Checksum& checksum : image.checksums) {
        std::string& bytes = part_of(checksum.part);
        bytes[checksum.at] = static_cast<char>(
            checksum_of(std::string_view(bytes).substr(checksum.start, checksum.length)));
    }
    std::string all = image.rsdp;
    all.resize(AcpiImage::kAlignment, '\0');
    all += image.tables;
    if (all.size() > board::kAcpiSize) {
        return Error::too_large("ACPI tables for {} vCPUs take {} bytes; the board has room for {}",
                                config.vcpus, all.size(), board::kAcpiSize)
            .with_hint("give the guest fewer vCPUs");
    }
    return all;
}

}  // namespace kumoi::hypervisor
