// What firmware and kernels are told in tables: SMBIOS, and the ACPI table loader's commands.
#include <cstring>
#include <map>
#include <numeric>

#include <gtest/gtest.h>

#include "hypervisor/firmware/smbios.h"
#include "hypervisor/firmware/table_loader.h"

namespace kumoi::hypervisor {
namespace {

uint8_t sum(std::string_view bytes) {
    return static_cast<uint8_t>(
        std::accumulate(bytes.begin(), bytes.end(), 0u,
                        [](unsigned t, char c) { return t + static_cast<uint8_t>(c); }));
}

template <class T>
T at(std::string_view bytes, size_t offset) {
    T value{};
    EXPECT_LE(offset + sizeof value, bytes.size());
    std::memcpy(&value, bytes.data() + offset, std::min(sizeof value, bytes.size() - offset));
    return value;
}

// type -> structure with its strings; walks as a kernel does (DSP0134 §6.1).
std::multimap<int, std::string> walk(const std::string& structures) {
    std::multimap<int, std::string> found;
    size_t offset = 0;
    while (offset + 4 <= structures.size()) {
        const size_t area = static_cast<uint8_t>(structures[offset + 1]);
        const size_t end = structures.find(std::string(2, '\0'), offset + area);
        EXPECT_NE(end, std::string::npos);
        found.emplace(static_cast<uint8_t>(structures[offset]),
                      structures.substr(offset, end + 2 - offset));
        offset = end + 2;
    }
    EXPECT_EQ(offset, structures.size());
    return found;
}

SmbiosConfig config() {
    SmbiosConfig smbios;
    smbios.manufacturer = "OpenStack Foundation";
    smbios.product = "OpenStack Nova";
    smbios.serial = "serial-1";
    smbios.uuid = "00112233-4455-6677-8899-aabbccddeeff";
    smbios.memory_bytes = 3ull << 30;
    smbios.low_memory_bytes = 2ull << 30;
    smbios.vcpus = 3;
    return smbios;
}

TEST(Smbios, EveryStructureIsWellFormedAndTheListEnds) {
    const SmbiosTables tables = build_smbios(config());
    const auto found = walk(tables.structures);
    for (const int type : {0, 1, 3, 4, 16, 17, 19, 32, 127}) {
        EXPECT_TRUE(found.contains(type)) << type;
    }
    EXPECT_EQ(found.count(19), 2u);  // below and above the hole
    EXPECT_EQ(at<uint16_t>(tables.entry_point, 0x1c), found.size());
    EXPECT_EQ(at<uint16_t>(tables.entry_point, 0x16), tables.structures.size());
}

TEST(Smbios, SystemTellsNameAndUuidInItsByteOrder) {
    const auto found = walk(build_smbios(config()).structures);
    const std::string& system = found.find(1)->second;
    EXPECT_NE(system.find(std::string("OpenStack Nova\0", 15)), std::string::npos);
    EXPECT_EQ(system.substr(8, 16),
              std::string("\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 16));
}

TEST(Smbios, PlacedTablesAreFoundAndSumToZero) {
    const auto bytes = place_smbios(build_smbios(config()), 0xf0000, 0x10000).value();
    EXPECT_EQ(bytes.substr(0, 4), "_SM_");
    EXPECT_EQ(sum(bytes.substr(0, 31)), 0);
    EXPECT_EQ(bytes.substr(16, 5), "_DMI_");
    EXPECT_EQ(sum(bytes.substr(16, 15)), 0);
    const uint32_t address = at<uint32_t>(bytes, 0x18);
    EXPECT_EQ(address, 0xf0020u);
    walk(bytes.substr(address - 0xf0000));
}

TEST(Smbios, LongTextsAreCutAndTooManyRefused) {
    SmbiosConfig long_text = config();
    long_text.serial = std::string(1000, 'x');
    walk(build_smbios(long_text).structures);
    long_text.oem_strings.assign(300, std::string(255, 'y'));
    EXPECT_FALSE(place_smbios(build_smbios(long_text), 0xf0000, 0x10000).ok());
}

// Runs the commands as SeaBIOS does and checks what comes out against the image for direct boot.
TEST(TableLoader, CommandsGiveTheSameTablesAsDirectBoot) {
    const AcpiConfig acpi{.vcpus = 4, .ram_end = 64u << 20, .ecam_base = 0xe000'0000};
    const AcpiImage image = assemble_acpi(acpi);
    std::map<std::string, std::string> files = {{kAcpiTablesFile, image.tables},
                                                {kAcpiRsdpFile, image.rsdp}};
    std::map<std::string, uint64_t> addresses;
    const std::string commands = table_loader(image);
    ASSERT_EQ(commands.size() % 128, 0u);
    for (size_t offset = 0; offset < commands.size(); offset += 128) {
        const std::string entry = commands.substr(offset, 128);
        const std::string file = entry.c_str() + 4;
        ASSERT_TRUE(files.contains(file)) << file;
        std::string& bytes = files[file];
        switch (at<uint32_t>(entry, 0)) {
            case 1:
                addresses[file] = file == kAcpiRsdpFile ? 0xe0000 : 0xe0040;
                EXPECT_EQ(at<uint8_t>(entry, 64), file == kAcpiRsdpFile ? 2 : 1);
                break;
            case 2: {
                const auto where = at<uint32_t>(entry, 116);
                const auto size = at<uint8_t>(entry, 120);
                uint64_t value = 0;
                std::memcpy(&value, &bytes[where], size);
                value += addresses.at(entry.c_str() + 60);
                std::memcpy(&bytes[where], &value, size);
                break;
            }
            default: {
                ASSERT_EQ(at<uint32_t>(entry, 0), 3u);
                const auto where = at<uint32_t>(entry, 60);
                const auto start = at<uint32_t>(entry, 64);
                bytes[where] = static_cast<char>(
                    -sum(std::string_view(bytes).substr(start, at<uint32_t>(entry, 68))));
            }
        }
    }
    std::string all = files[kAcpiRsdpFile];
    all.resize(64, '\0');
    EXPECT_EQ(all + files[kAcpiTablesFile], build_acpi_tables(acpi, 0xe0000).value());
}

TEST(TableLoader, ImageKeepsItsSizeWhereverEcamAndBarsAre) {
    const AcpiImage one = assemble_acpi({.vcpus = 2, .ram_end = 64u << 20});
    const AcpiImage two = assemble_acpi(
        {.vcpus = 2, .ram_end = 64u << 20, .ecam_base = 0xe000'0000, .mmio64_end = 1ull << 45});
    EXPECT_EQ(one.tables.size(), two.tables.size());
    EXPECT_EQ(table_loader(one), table_loader(two));
}

}  // namespace
}  // namespace kumoi::hypervisor
