#include "hypervisor/board/numa_tables.h"

#include <cstring>

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/subprocess.h"
#include "hypervisor/board/acpi_tables.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kGib = 1ull << 30;
constexpr size_t kHeader = 36;

template <class T>
T at(const std::string& bytes, size_t offset) {
    T value{};
    EXPECT_LE(offset + sizeof value, bytes.size());
    if (offset + sizeof value <= bytes.size()) {
        std::memcpy(&value, bytes.data() + offset, sizeof value);
    }
    return value;
}

NumaLayout two_nodes() {
    NumaLayout layout;
    layout.nodes = 2;
    layout.memory = {
        {0, kGib, 0, false}, {4 * kGib, 2 * kGib, 1, false}, {8 * kGib, kGib, 0, true}};
    layout.node_of_cpu = {0, 1, 0x0102'0304};
    layout.distances = {{10, 21}, {22, 10}};
    return layout;
}

// The bytes of ACPI 6.4 §5.2.16, counted by hand.
TEST(NumaTables, SratNamesProcessorsAndRanges) {
    const std::string body = srat_body(two_nodes());
    ASSERT_EQ(body.size(), 12u + 3 * 16 + 3 * 40);
    EXPECT_EQ(at<uint32_t>(body, 0), 1u);
    const size_t third = 12 + 2 * 16;
    EXPECT_EQ(at<uint16_t>(body, third), 0x1000u);  // type 0 of 16 bytes
    EXPECT_EQ(at<uint8_t>(body, third + 2), 0x04u);
    EXPECT_EQ(at<uint8_t>(body, third + 3), 2u);
    EXPECT_EQ(at<uint32_t>(body, third + 4), 1u);
    EXPECT_EQ(body.substr(third + 9, 3), std::string("\3\2\1"));
    const size_t range = 12 + 3 * 16 + 40;
    EXPECT_EQ(at<uint16_t>(body, range), 0x2801u);  // type 1 of 40 bytes
    EXPECT_EQ(at<uint32_t>(body, range + 2), 1u);
    EXPECT_EQ(at<uint64_t>(body, range + 8), 4 * kGib);
    EXPECT_EQ(at<uint64_t>(body, range + 16), 2 * kGib);
    EXPECT_EQ(at<uint32_t>(body, range + 28), 1u);
    EXPECT_EQ(at<uint32_t>(body, range + 40 + 28), 3u);  // hot-pluggable, too
}

TEST(NumaTables, LargeApicIdsTakeTheX2apicForm) {
    NumaLayout layout;
    layout.nodes = 1;
    layout.node_of_cpu.assign(257, 0);
    layout.node_of_cpu[256] = 3;
    const std::string body = srat_body(layout);
    ASSERT_EQ(body.size(), 12u + 255 * 16 + 2 * 24);
    const size_t last = body.size() - 24;
    EXPECT_EQ(at<uint16_t>(body, last), 0x1802u);
    EXPECT_EQ(at<uint32_t>(body, last + 4), 3u);
    EXPECT_EQ(at<uint32_t>(body, last + 8), 256u);
}

TEST(NumaTables, SlitIsASquare) {
    const std::string body = slit_body(two_nodes());
    ASSERT_EQ(body.size(), 8u + 4);
    EXPECT_EQ(at<uint64_t>(body, 0), 2u);
    EXPECT_EQ(body.substr(8), std::string("\x0a\x15\x16\x0a"));
}

std::string table_of(const AcpiImage& image, const std::string& signature) {
    const size_t found = image.tables.find(signature);
    return found == std::string::npos
               ? ""
               : image.tables.substr(found, at<uint32_t>(image.tables, found + 4));
}

TEST(NumaTables, AreThereOnlyWhenThereAreNodes) {
    AcpiConfig config{.vcpus = 3, .ram_end = 9 * kGib};
    EXPECT_EQ(table_of(assemble_acpi(config), "SRAT"), "");
    config.numa = two_nodes();
    EXPECT_EQ(table_of(assemble_acpi(config), "SRAT").substr(kHeader), srat_body(config.numa));
    EXPECT_EQ(table_of(assemble_acpi(config), "SLIT").substr(kHeader), slit_body(config.numa));
    config.numa.distances.clear();
    EXPECT_EQ(table_of(assemble_acpi(config), "SLIT"), "");
    EXPECT_TRUE(build_acpi_tables(config, board::kAcpiStart).ok());
}

// What Intel's compiler reads out of them.
TEST(NumaTables, DisassembleWithoutComplaint) {
    if (!find_program("iasl").ok()) {
        GTEST_SKIP() << "iasl (package acpica-tools) is not installed";
    }
    AcpiConfig config{.vcpus = 3, .ram_end = 9 * kGib};
    config.numa = two_nodes();
    const std::string image = build_acpi_tables(config, board::kAcpiStart).value();
    auto directory = TemporaryDirectory::create("numa");
    ASSERT_TRUE(directory.ok());
    for (const auto& [name, wanted] :
         {std::pair<std::string, std::string>{"SRAT", "Hot Pluggable : 1"},
          {"SLIT", "Locality   1 : 16 0A"}}) {
        const size_t found = image.find(name);
        ASSERT_NE(found, std::string::npos);
        const std::string path = directory->path() + "/" + name;
        ASSERT_TRUE(
            write_file_atomic(path + ".dat", image.substr(found, at<uint32_t>(image, found + 4)))
                .ok());
        const auto output = run_command({"iasl", "-d", path + ".dat"});
        ASSERT_TRUE(output.ok());
        EXPECT_EQ(output->exit_code, 0) << output->err;
        for (const char* word : {"Invalid", "Incorrect checksum", "Unknown"}) {
            EXPECT_EQ((output->out + output->err).find(word), std::string::npos) << output->err;
        }
        const std::string text = read_file(path + ".dsl").value();
        EXPECT_NE(text.find(wanted), std::string::npos) << text;
    }
}

}  // namespace
}  // namespace kumoi::hypervisor
