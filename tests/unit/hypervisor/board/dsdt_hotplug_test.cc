#include "hypervisor/board/dsdt_hotplug.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/file.h"
#include "base/subprocess.h"
#include "hypervisor/board/acpi_tables.h"
#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {
namespace {

// A table by its signature, out of the image at board::kAcpiStart.
std::string table_of(const std::string& image, const std::string& signature) {
    for (size_t at = 0; (at = image.find(signature, at)) != std::string::npos; ++at) {
        uint32_t length = 0;
        if (at % 64 == 0 && at + 8 <= image.size()) {
            std::memcpy(&length, image.data() + at + 4, sizeof length);
            return image.substr(at, length);
        }
    }
    return {};
}

AcpiConfig machine() {
    AcpiConfig config;
    config.vcpus = 2;
    config.vcpus_max = 6;
    config.ram_end = 6ull << 30;
    return config;
}

class IaslTest : public testing::Test {
protected:
    void SetUp() override {
        if (!find_program("iasl")) {
            GTEST_SKIP() << "iasl is not installed (Debian package acpica-tools)";
        }
        auto made = TemporaryDirectory::create("iasl");
        ASSERT_TRUE(made.ok());
        folder_.emplace(std::move(made).value());
        auto image = build_acpi_tables(machine(), board::kAcpiStart);
        ASSERT_TRUE(image.ok()) << image.error().text();
        image_ = *image;
    }
    // The table's source as iasl reads it.
    std::string disassemble(const std::string& signature) {
        const std::string base = folder_->path() + "/" + signature;
        EXPECT_TRUE(write_file_atomic(base + ".aml", table_of(image_, signature)).ok());
        const auto run = run_command({"iasl", "-d", base + ".aml"}, {.directory = folder_->path()});
        EXPECT_TRUE(run.ok() && run->exit_code == 0) << (run.ok() ? run->err : "");
        auto text = read_file(base + ".dsl");
        return text ? *text : "";
    }
    // And back: our AML is what a compiler makes of its own disassembly.
    void compile(const std::string& signature) {
        const auto run = run_command({"iasl", "-p", "again", signature + ".dsl"},
                                     {.directory = folder_->path()});
        ASSERT_TRUE(run.ok());
        EXPECT_EQ(run->exit_code, 0) << run->out << run->err;
        EXPECT_NE((run->out + run->err).find(" 0 Errors"), std::string::npos) << run->out;
    }
    std::optional<TemporaryDirectory> folder_;
    std::string image_;
};

TEST_F(IaslTest, TheDsdtSurvivesDisassemblyAndCompilation) {
    const std::string source = disassemble("DSDT");
    for (const char* part :
         {"Device (S03)", "Device (S1E)", "Name (_SUN, 0x0B)", "Notify (S0B, Arg1)", "Method (_E01",
          "Method (_E02", "Device (C005)", "\"ACPI0007\"", "_EJ0",
          "OperationRegion (HPRG, SystemIO, 0x0640, 0x10)",
          "OperationRegion (CREG, SystemIO, 0x0660, 0x10)", "Notify (C005, Arg1)"}) {
        EXPECT_NE(source.find(part), std::string::npos) << part << "\n" << source;
    }
    EXPECT_EQ(source.find("Device (S02)"), std::string::npos);
    EXPECT_EQ(source.find("Device (C006)"), std::string::npos);
    compile("DSDT");
}

TEST_F(IaslTest, ProcessorsThatMayComeAreListed) {
    const std::string madt = disassemble("APIC");
    EXPECT_NE(madt.find("Processor Enabled : 0"), std::string::npos);
    for (const char* signature : {"APIC", "FACP"}) {
        disassemble(signature);
        compile(signature);
    }
}

TEST(DsdtHotplug, AMachineThatCannotGrowDescribesNoProcessors) {
    EXPECT_EQ(dsdt_hotplug_events(4, 4).find("CPUS"), std::string::npos);
    EXPECT_NE(dsdt_hotplug_events(4, 5).find("CPUS"), std::string::npos);
}

TEST(DsdtHotplug, ManyProcessorsFitOrAreRefused) {
    auto fits =
        build_acpi_tables({.vcpus = 1, .ram_end = 1u << 30, .vcpus_max = 255}, board::kAcpiStart);
    EXPECT_TRUE(fits.ok()) << fits.error().text();
    auto refused =
        build_acpi_tables({.vcpus = 1, .ram_end = 1u << 30, .vcpus_max = 1024}, board::kAcpiStart);
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().hint.find("fewer"), std::string::npos);
}

}  // namespace
}  // namespace kumoi::hypervisor
