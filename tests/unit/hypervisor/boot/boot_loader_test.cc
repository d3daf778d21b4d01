#include "hypervisor/boot/boot_loader.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include <elf.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "hypervisor/board/board_layout.h"
#include "hypervisor/boot/bzimage.h"

namespace kumoi::hypervisor {
namespace {

constexpr uint64_t kMib = 1u << 20;

template <class T>
void put(std::string& bytes, size_t offset, T value) {
    if (bytes.size() < offset + sizeof value) {
        bytes.resize(offset + sizeof value);
    }
    std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// A bzImage with one setup sector and 4 KiB of "kernel".
std::string bzimage() {
    std::string file(1024, '\0');
    put<uint8_t>(file, 0x1f1, 1);
    put<uint16_t>(file, 0x1fe, 0xaa55);
    put<uint32_t>(file, 0x202, 0x53726448);
    put<uint16_t>(file, 0x206, 0x020f);
    put<uint8_t>(file, 0x211, 1);
    put<uint32_t>(file, 0x22c, 0x7fff'ffff);
    put<uint8_t>(file, 0x234, 1);
    put<uint16_t>(file, 0x236, 1);
    put<uint32_t>(file, 0x238, 2047);
    put<uint64_t>(file, 0x258, 2 * kMib);
    put<uint32_t>(file, 0x260, 4 * kMib);
    return file + std::string(4096, 'K');
}

// A 64-bit ELF with one loadable segment at 1 MiB and the PVH note.
std::string pvh_elf() {
    std::string file(0x300, '\0');
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_machine = EM_X86_64;
    header.e_phoff = sizeof header;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 2;
    put(file, 0, header);
    Elf64_Phdr load{};
    load.p_type = PT_LOAD;
    load.p_offset = 0x200;
    load.p_paddr = kMib;
    load.p_filesz = 0x100;
    load.p_memsz = 0x2000;
    put(file, sizeof header, load);
    Elf64_Phdr note{};
    note.p_type = PT_NOTE;
    note.p_offset = 0x180;
    note.p_filesz = 20;
    note.p_align = 4;
    put(file, sizeof header + sizeof load, note);
    put(file, 0x180, Elf64_Nhdr{4, 4, 18});
    file.replace(0x18c, 4, "Xen\0", 4);
    put<uint32_t>(file, 0x190, 0x100040);
    file.replace(0x200, 4, "CODE");
    return file;
}

class BootLoaderTest : public ::testing::Test {
protected:
    std::string write(const std::string& name, const std::string& content) {
        const std::string path = directory.path() + "/" + name;
        EXPECT_TRUE(write_file_atomic(path, content).ok());
        return path;
    }
    Result<EntryPoint> load(const std::string& kernel, const std::string& initrd = {},
                            const std::string& cmdline = "console=ttyS0") {
        TRY(memory.clear());
        BootSource source{write("kernel", kernel), {}, cmdline};
        if (!initrd.empty()) {
            source.initrd_path = write("initrd", initrd);
        }
        return load_boot(source, memory, random, direct_files());
    }
    std::string text_at(uint64_t gpa, size_t size) {
        std::string text(size, '\0');
        EXPECT_TRUE(memory.read(gpa, std::as_writable_bytes(std::span(text))).ok());
        return text;
    }
    void expect_refused(const std::string& kernel, std::string_view part) {
        const auto entry = load(kernel);
        ASSERT_FALSE(entry.ok());
        EXPECT_NE(entry.error().message.find(part), std::string::npos) << entry.error().text();
    }
    TemporaryDirectory directory = TemporaryDirectory::create("boot-test").value();
    GuestMemory memory = GuestMemory::create(32 * kMib).value();
    SeededRandom random{1, "boot"};
};

TEST_F(BootLoaderTest, RefusesWhatIsNoKernel) {
    expect_refused("#!/bin/sh\n", "neither");
    EXPECT_FALSE(load_boot({"/nonexistent/kernel", "", ""}, memory, random, direct_files()).ok());
    EXPECT_FALSE(load_boot({"/dev/null", "", ""}, memory, random, direct_files()).ok());
    expect_refused("", "empty");
}

TEST_F(BootLoaderTest, LoadsABzImageWhereItPrefersToBe) {
    const auto entry = load(bzimage(), "initrd!");
    ASSERT_TRUE(entry.ok()) << entry.error().text();
    EXPECT_EQ(entry->mode, EntryMode::Long64);
    EXPECT_EQ(entry->address, 2 * kMib + 0x200);
    EXPECT_EQ(entry->argument, boot_layout::kZeroPage);
    EXPECT_EQ(text_at(2 * kMib, 3), "KKK");
    EXPECT_EQ(text_at(boot_layout::kCmdline, 14), std::string("console=ttyS0\0", 14));
    const auto page = [&](uint64_t offset) {
        return memory.load<uint32_t>(boot_layout::kZeroPage + offset).value();
    };
    EXPECT_EQ(page(0x228), boot_layout::kCmdline);
    EXPECT_EQ(page(0x21c), 7u);  // initrd size
    EXPECT_EQ(text_at(page(0x218), 7), "initrd!");
    EXPECT_EQ(page(0x218) % 4096, 0u);
    EXPECT_EQ(page(0x070), board::kAcpiStart);
    EXPECT_EQ(page(0x250), boot_layout::kRngSeed);
    EXPECT_EQ(memory.load<uint32_t>(boot_layout::kRngSeed + 8).value(), 9u);
    EXPECT_NE(memory.load<uint64_t>(boot_layout::kRngSeed + 16).value(), 0u);
    EXPECT_EQ(page(0x1e8) & 0xff, board_memory_map(memory).size());
}

TEST_F(BootLoaderTest, FallsBackToOneMebibyteWhenRelocatable) {
    std::string kernel = bzimage();
    put<uint64_t>(kernel, 0x258, 31 * kMib);
    const auto entry = load(kernel);
    ASSERT_TRUE(entry.ok()) << entry.error().text();
    EXPECT_EQ(entry->address, kMib + 0x200);
    put<uint8_t>(kernel, 0x234, 0);
    expect_refused(kernel, "needs");
}

TEST_F(BootLoaderTest, RefusesHostileBzImageHeaders) {
    std::string kernel = bzimage();
    put<uint16_t>(kernel, 0x206, 0x0204);
    expect_refused(kernel, "boot protocol 2.04");
    kernel = bzimage();
    put<uint16_t>(kernel, 0x236, 0);
    expect_refused(kernel, "64-bit entry");
    kernel = bzimage();
    put<uint8_t>(kernel, 0x1f1, 255);
    expect_refused(kernel, "setup sectors");
    kernel = bzimage();
    put<uint32_t>(kernel, 0x260, 0xffff'ffff);
    expect_refused(kernel, "needs");
    kernel = bzimage();
    put<uint64_t>(kernel, 0x258, UINT64_MAX - 5);
    put<uint8_t>(kernel, 0x234, 0);
    expect_refused(kernel, "needs");
    expect_refused(bzimage().substr(0, 0x210), "neither");
}

TEST_F(BootLoaderTest, RefusesAnInitrdThatDoesNotFitAndALongCommandLine) {
    const auto large = load(bzimage(), std::string(27 * kMib, 'i'));
    ASSERT_FALSE(large.ok());
    EXPECT_NE(large.error().message.find("initrd"), std::string::npos);
    EXPECT_FALSE(load(bzimage(), {}, std::string(2048, 'c')).ok());
    EXPECT_FALSE(load(bzimage(), {}, std::string("a\0b", 3)).ok());
}

TEST_F(BootLoaderTest, LoadsAPvhElfWithItsStartInfo) {
    const auto entry = load(pvh_elf(), "initrd!");
    ASSERT_TRUE(entry.ok()) << entry.error().text();
    EXPECT_EQ(entry->mode, EntryMode::Protected32);
    EXPECT_EQ(entry->address, 0x100040u);
    EXPECT_EQ(entry->argument, boot_layout::kPvhStartInfo);
    EXPECT_EQ(text_at(kMib, 4), "CODE");
    const auto info = [&](uint64_t offset) {
        return memory.load<uint64_t>(boot_layout::kPvhStartInfo + offset).value();
    };
    EXPECT_EQ(info(0) & 0xffff'ffff, 0x336ec578u);
    EXPECT_EQ(info(12) & 0xffff'ffff, 1u);  // one module
    const uint64_t module = info(16);
    EXPECT_EQ(text_at(memory.load<uint64_t>(module).value(), 7), "initrd!");
    EXPECT_EQ(text_at(info(24), 13), "console=ttyS0");
    EXPECT_EQ(info(32), board::kAcpiStart);
    EXPECT_EQ(memory.load<uint64_t>(info(40) + 8).value(), board::kEbdaStart);
}

TEST_F(BootLoaderTest, RefusesHostileElfFiles) {
    const size_t load_at = sizeof(Elf64_Ehdr);
    const size_t note_at = load_at + sizeof(Elf64_Phdr);
    std::string kernel = pvh_elf();
    put<uint64_t>(kernel, load_at + offsetof(Elf64_Phdr, p_paddr), 0x1000);
    expect_refused(kernel, "wants");
    kernel = pvh_elf();
    put<uint64_t>(kernel, load_at + offsetof(Elf64_Phdr, p_memsz), UINT64_MAX);
    expect_refused(kernel, "wants");
    kernel = pvh_elf();
    put<uint64_t>(kernel, load_at + offsetof(Elf64_Phdr, p_filesz), 0x3000);
    expect_refused(kernel, "segment");
    kernel = pvh_elf();
    put<uint64_t>(kernel, load_at + offsetof(Elf64_Phdr, p_offset), UINT64_MAX - 4);
    expect_refused(kernel, "points to");
    kernel = pvh_elf();
    put<uint64_t>(kernel, note_at + offsetof(Elf64_Phdr, p_filesz), uint64_t{1} << 40);
    expect_refused(kernel, "notes");
    kernel = pvh_elf();
    put<uint32_t>(kernel, 0x180, 0xffff'fff0);  // name size
    expect_refused(kernel, "PVH entry");
    kernel = pvh_elf();
    put<uint32_t>(kernel, 0x190, 0xffff'fff0);  // entry
    expect_refused(kernel, "entry point");
    kernel = pvh_elf();
    put<uint16_t>(kernel, offsetof(Elf64_Ehdr, e_phnum), 0xffff);
    expect_refused(kernel, "program headers");
    kernel = pvh_elf();
    put<uint64_t>(kernel, offsetof(Elf64_Ehdr, e_phoff), UINT64_MAX);
    expect_refused(kernel, "behind its end");
    for (size_t size = 4; size < 0x200; size += 7) {
        EXPECT_FALSE(load(pvh_elf().substr(0, size)).ok()) << size;
    }
}

TEST_F(BootLoaderTest, MapsFourGibibytesForLongMode) {
    ASSERT_TRUE(store_boot_tables(memory, EntryMode::Long64).ok());
    // Walk the tables for 3 GiB + 2 MiB.
    const uint64_t address = 3 * 1024 * kMib + 2 * kMib;
    const auto entry = [&](uint64_t table, uint64_t index) {
        return memory.load<uint64_t>((table & ~uint64_t{0xfff}) + index * 8).value();
    };
    const uint64_t pointers = entry(boot_layout::kPageTables, 0);
    const uint64_t directory_entry = entry(pointers, address >> 30);
    EXPECT_EQ(entry(directory_entry, address >> 21 & 511), address | 0x83);
}

TEST(MemoryMap, CoversRamAroundTheHoleAndReservesEcam) {
    const auto memory = GuestMemory::create(kPciHoleStart + 2 * kMib).value();
    const auto map = board_memory_map(memory);
    const MemoryMapEntry high{kHighMemoryStart, 2 * kMib, MemoryKind::Ram};
    const MemoryMapEntry ecam{board::kEcamStart, board::kEcamSize, MemoryKind::Reserved};
    EXPECT_NE(std::ranges::find(map, high), map.end());
    EXPECT_NE(std::ranges::find(map, ecam), map.end());
    for (size_t i = 1; i < map.size(); ++i) {
        EXPECT_LE(map[i - 1].base + map[i - 1].size, map[i].base);
    }
}

}  // namespace
}  // namespace kumoi::hypervisor
