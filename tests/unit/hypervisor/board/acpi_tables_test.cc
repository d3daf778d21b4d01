#include "hypervisor/board/acpi_tables.h"

#include <cstring>
#include <map>
#include <numeric>

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/subprocess.h"
#include "hypervisor/board/aml.h"
#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {
namespace {

using namespace std::string_literals;

uint8_t sum(std::string_view bytes) {
    return static_cast<uint8_t>(
        std::accumulate(bytes.begin(), bytes.end(), 0u,
                        [](unsigned t, char c) { return t + static_cast<uint8_t>(c); }));
}

template <class T>
T at(std::string_view bytes, size_t offset) {
    T value{};
    if (offset + sizeof value <= bytes.size()) {
        std::memcpy(&value, bytes.data() + offset, sizeof value);
    }
    return value;
}

std::string build(uint32_t vcpus) {
    auto image = build_acpi_tables({.vcpus = vcpus, .ram_end = 64u << 20}, board::kAcpiStart);
    EXPECT_TRUE(image.ok()) << image.error().text();
    return image.value();
}

// Follows RSDP and XSDT as an OS does, checking every checksum on the way.
std::map<std::string, std::string> tables_of(const std::string& image) {
    std::map<std::string, std::string> tables;
    EXPECT_EQ(image.substr(0, 8), "RSD PTR ");
    EXPECT_EQ(sum(image.substr(0, 20)), 0);
    EXPECT_EQ(sum(image.substr(0, 36)), 0);
    const auto table_at = [&](uint64_t address) {
        const uint64_t offset = address - board::kAcpiStart;
        EXPECT_LT(offset, image.size());
        const std::string table = image.substr(offset, at<uint32_t>(image, offset + 4));
        tables[table.substr(0, 4)] = table;
        return table;
    };
    const std::string xsdt = table_at(at<uint64_t>(image, 24));
    for (size_t offset = 36; offset < xsdt.size(); offset += 8) {
        table_at(at<uint64_t>(xsdt, offset));
    }
    table_at(at<uint64_t>(tables["FACP"], 140));  // X_DSDT
    for (const auto& [name, table] : tables) {
        EXPECT_EQ(sum(table), 0) << name;
    }
    return tables;
}

TEST(AcpiTables, LinkUpAndSumToZero) {
    const auto tables = tables_of(build(4));
    for (const char* name : {"XSDT", "FACP", "DSDT", "APIC", "MCFG"}) {
        EXPECT_TRUE(tables.contains(name)) << name;
    }
}

TEST(AcpiTables, FadtDescribesThePowerManagementBlock) {
    const auto tables = tables_of(build(1));
    const std::string& fadt = tables.at("FACP");
    EXPECT_EQ(fadt.size(), 276u);
    EXPECT_EQ(at<uint16_t>(fadt, 46), board::kSciIrq);
    EXPECT_EQ(at<uint32_t>(fadt, 56), board::kPm1Event);
    EXPECT_EQ(at<uint32_t>(fadt, 64), board::kPm1Control);
    EXPECT_EQ(at<uint32_t>(fadt, 76), board::kPmTimer);
    const uint32_t flags = at<uint32_t>(fadt, 112);
    EXPECT_EQ(flags & (1u << 4), 0u);   // the power button is a fixed event
    EXPECT_EQ(flags & (1u << 20), 0u);  // not hardware-reduced
    EXPECT_NE(flags & (1u << 10), 0u);  // reset register
    EXPECT_EQ(at<uint64_t>(fadt, 120), board::kPmReset);
    EXPECT_EQ(static_cast<uint8_t>(fadt[128]), board::kPmResetValue);
    const uint32_t facs = at<uint32_t>(fadt, 36);
    EXPECT_EQ(facs % 64, 0u);
}

TEST(AcpiTables, MadtListsEveryProcessorAndTheScisPolarity) {
    const auto tables = tables_of(build(300));
    const std::string& madt = tables.at("APIC");
    int apics = 0;
    int x2apics = 0;
    bool sci = false;
    for (size_t offset = 44; offset < madt.size();
         offset += static_cast<uint8_t>(madt[offset + 1])) {
        ASSERT_GT(madt[offset + 1], 1);
        apics += madt[offset] == 0;
        x2apics += madt[offset] == 9;
        sci = sci ||
              (madt[offset] == 2 && madt[offset + 3] == 9 && at<uint16_t>(madt, offset + 8) == 0xd);
    }
    EXPECT_EQ(apics, 255);
    EXPECT_EQ(x2apics, 45);
    EXPECT_TRUE(sci);
}

TEST(AcpiTables, RefusesMoreProcessorsThanFit) {
    EXPECT_FALSE(
        build_acpi_tables({.vcpus = 100'000, .ram_end = 64u << 20}, board::kAcpiStart).ok());
}

TEST(AcpiTables, DisassembleWithoutComplaint) {
    if (!find_program("iasl").ok()) {
        GTEST_SKIP() << "iasl (package acpica-tools) is not installed";
    }
    auto directory = TemporaryDirectory::create("acpi-test");
    ASSERT_TRUE(directory.ok());
    for (const auto& [name, table] : tables_of(build(2))) {
        const std::string path = directory->path() + "/" + name + ".aml";
        ASSERT_TRUE(write_file_atomic(path, table).ok());
        auto output = run_command({"iasl", "-d", path});
        ASSERT_TRUE(output.ok()) << output.error().text();
        EXPECT_EQ(output->exit_code, 0) << name << output->err;
        EXPECT_EQ(output->err.find("rror"), std::string::npos) << name << output->err;
        if (name == "DSDT") {
            auto recompiled = run_command({"iasl", "-tc", directory->path() + "/DSDT.dsl"});
            ASSERT_TRUE(recompiled.ok());
            EXPECT_EQ(recompiled->exit_code, 0) << recompiled->out << recompiled->err;
        }
    }
}

TEST(Aml, EncodesLengthsOnEachSide) {
    EXPECT_EQ(aml::integer(0), "\0"s);
    EXPECT_EQ(aml::integer(0x12), "\x0a\x12");
    EXPECT_EQ(aml::integer(0x1234), "\x0b\x34\x12");
    EXPECT_EQ(aml::integer(0x1'0000'0000).size(), 9u);
    const auto length_bytes = [](size_t body) {  // scope "A___" takes 4 of the body
        return aml::scope("A", std::string(body - 4, 'x')).size() - 1 - body;
    };
    EXPECT_EQ(length_bytes(62), 1u);
    EXPECT_EQ(length_bytes(63), 2u);
    EXPECT_EQ(length_bytes(4093), 2u);
    EXPECT_EQ(length_bytes(4094), 3u);
}

TEST(Aml, CompressesIdsAndPaths) {
    EXPECT_EQ(aml::eisa_id("PNP0A03"), "\x0c\x41\xd0\x0a\x03");
    EXPECT_EQ(aml::path("\\_SB.PCI0"), "\\\x2e_SB_PCI0");
    EXPECT_EQ(aml::path("A.B.C"), "\x2f\x03"s + "A___B___C___");
}

}  // namespace
}  // namespace kumoi::hypervisor
