#include "hypervisor/boot/bzimage.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kHeaderOffset = 0x1f1;
constexpr uint32_t kMagicHdrS = 0x5372'6448;
constexpr uint16_t kBootFlag = 0xaa55;
constexpr uint16_t kVersionMin = 0x020c;  // 2.12: xloadflags, 64-bit entry (Linux 3.8)
constexpr uint16_t kXlfKernel64 = 1u << 0;
constexpr uint16_t kXlfAbove4G = 1u << 1;
constexpr uint8_t kLoadedHigh = 1u << 0;
constexpr uint8_t kLoaderUndefined = 0xff;
constexpr uint64_t kEntry64Offset = 0x200;  // boot.rst, "64-bit boot protocol"
constexpr uint64_t kSectorSize = 512;
constexpr uint32_t kSetupRngSeed = 9;
constexpr size_t kSeedSize = 32;
constexpr size_t kE820Max = 128;

// The setup header, boot.rst "The real-mode kernel header", from 0x1f1.
struct [[gnu::packed]] SetupHeader {
    uint8_t setup_sects;
    uint16_t root_flags;
    uint32_t syssize;
    uint16_t ram_size;
    uint16_t vid_mode;
    uint16_t root_dev;
    uint16_t boot_flag;
    uint16_t jump;
    uint32_t header;
    uint16_t version;
    uint32_t realmode_switch;
    uint16_t start_sys_seg;
    uint16_t kernel_version;
    uint8_t type_of_loader;
    uint8_t loadflags;
    uint16_t setup_move_size;
    uint32_t code32_start;
    uint32_t ramdisk_image;
    uint32_t ramdisk_size;
    uint32_t bootsect_kludge;
    uint16_t heap_end_ptr;
    uint8_t ext_loader_ver;
    uint8_t ext_loader_type;
    uint32_t cmd_line_ptr;
    uint32_t initrd_addr_max;
    uint32_t kernel_alignment;
    uint8_t relocatable_kernel;
    uint8_t min_alignment;
    uint16_t xloadflags;
    uint32_t cmdline_size;
    uint32_t hardware_subarch;
    uint64_t hardware_subarch_data;
    uint32_t payload_offset;
    uint32_t payload_length;
    uint64_t setup_data;
    uint64_t pref_address;
    uint32_t init_size;
    uint32_t handover_offset;
    uint32_t kernel_info_offset;
};
static_assert(offsetof(SetupHeader, setup_data) == 0x250 - kHeaderOffset);
static_assert(sizeof(SetupHeader) == 0x26c - kHeaderOffset);

struct [[gnu::packed]] E820Entry {
    uint64_t address;
    uint64_t size;
    uint32_t type;
};

// The fields of struct boot_params that a loader fills in (Linux
// Documentation/arch/x86/zero-page.rst).
struct [[gnu::packed]] ZeroPage {
    uint8_t pad0[0x70];
    uint64_t acpi_rsdp_addr;
    uint8_t pad1[0x1e8 - 0x78];
    uint8_t e820_entries;
    uint8_t pad2[kHeaderOffset - 0x1e9];
    SetupHeader header;
    uint8_t pad3[0x2d0 - kHeaderOffset - sizeof(SetupHeader)];
    E820Entry e820_table[kE820Max];
    uint8_t pad4[4096 - 0x2d0 - kE820Max * sizeof(E820Entry)];
};
static_assert(sizeof(ZeroPage) == 4096);

struct [[gnu::packed]] SetupData {
    uint64_t next;
    uint32_t type;
    uint32_t length;
    std::array<std::byte, kSeedSize> data;
};

Result<SetupHeader> checked_header(const BootFile& kernel) {
    const auto header = TRY(kernel.load<SetupHeader>(kHeaderOffset));
    const uint16_t version = header.version;
    if (header.boot_flag != kBootFlag || header.header != kMagicHdrS) {
        return Error::invalid("{} is not a Linux bzImage", kernel.path());
    }
    if (version < kVersionMin) {
        return Error::unsupported("{} speaks boot protocol {}.{:02}; at least 2.12 is needed",
                                  kernel.path(), version >> 8, version & 0xff)
            .with_hint("use a kernel of Linux 3.8 or later");
    }
    if ((header.xloadflags & kXlfKernel64) == 0 || (header.loadflags & kLoadedHigh) == 0) {
        return Error::unsupported("{} has no 64-bit entry point", kernel.path())
            .with_hint("use a kernel built for x86-64");
    }
    return header;
}

// boot.rst, pref_address/init_size: the room the kernel needs until it knows its memory map.
Result<uint64_t> load_address(const BootFile& kernel, const SetupHeader& header,
                              const GuestMemory& memory) {
    const uint64_t low_size = memory.regions().front().size;
    const uint64_t init_size = header.init_size;
    const uint64_t preferred = header.pref_address;
    const auto fits = [&](uint64_t address) {
        return address >= board::kHighLoadStart && address <= low_size &&
               init_size <= low_size - address;
    };
    if (fits(preferred)) {
        return preferred;
    }
    if (header.relocatable_kernel != 0 && fits(board::kHighLoadStart)) {
        // A relocatable kernel at 1 MiB moves itself to its own alignment.
        return board::kHighLoadStart;
    }
    return Error::invalid("{} needs {} MiB at {:#x}, and the guest has {} MiB of memory",
                          kernel.path(), (init_size >> 20) + 1, preferred, memory.size() >> 20)
        .with_hint("give the guest more memory");
}

Result<void> store_seed(GuestMemory& memory, Random& random) {
    SetupData seed{0, kSetupRngSeed, kSeedSize, {}};
    std::array<std::byte, kSeedSize> bytes;
    random.fill(bytes);
    seed.data = bytes;
    return memory.store(boot_layout::kRngSeed, seed);
}

void fill_memory_map(ZeroPage& page, const GuestMemory& memory) {
    uint8_t count = 0;
    for (const MemoryMapEntry& entry : board_memory_map(memory)) {
        page.e820_table[count++] = {entry.base, entry.size, static_cast<uint32_t>(entry.kind)};
    }
    page.e820_entries = count;
}

}  // namespace

bool is_bzimage(const BootFile& file) {
    const auto header = file.load<SetupHeader>(kHeaderOffset);
    return header.ok() && header->header == kMagicHdrS;
}

Result<EntryPoint> load_bzimage(const BootFile& kernel, const BootSource& source,
                                GuestMemory& memory, Random& random, FileSource& files) {
    SetupHeader header = TRY(checked_header(kernel));
    const uint64_t address = TRY(load_address(kernel, header, memory));
    const uint64_t sectors = header.setup_sects == 0 ? 4 : header.setup_sects;
    const uint64_t setup_size = (sectors + 1) * kSectorSize;
    if (setup_size >= kernel.size()) {
        return Error::corrupt("{} claims {} setup sectors and has {} bytes", kernel.path(), sectors,
                              kernel.size());
    }
    TRY(kernel.read_into(memory, address, setup_size, kernel.size() - setup_size));

    const uint64_t kernel_end =
        address + std::max<uint64_t>(header.init_size, kernel.size() - setup_size);
    PlacedInitrd initrd;
    if (!source.initrd_path.empty()) {
        const BootFile file = TRY(BootFile::open(files, source.initrd_path, "initrd"));
        // XLF_CAN_BE_LOADED_ABOVE_4G kernels take an initrd anywhere; others say how far they
        // reach.
        const bool anywhere = (header.xloadflags & kXlfAbove4G) != 0;
        const uint64_t limit = anywhere ? kPciHoleStart : uint64_t{header.initrd_addr_max} + 1;
        initrd = TRY(place_initrd(file, memory, kernel_end, limit));
    }
    TRY(store_cmdline(memory, source.cmdline, header.cmdline_size));
    TRY(store_seed(memory, random));

    ZeroPage page{};
    header.type_of_loader = kLoaderUndefined;
    header.code32_start = static_cast<uint32_t>(address);
    header.ramdisk_image = static_cast<uint32_t>(initrd.address);
    header.ramdisk_size = static_cast<uint32_t>(initrd.size);
    header.cmd_line_ptr = static_cast<uint32_t>(boot_layout::kCmdline);
    header.setup_data = boot_layout::kRngSeed;
    page.header = header;
    page.acpi_rsdp_addr = board::kAcpiStart;
    fill_memory_map(page, memory);
    TRY(memory.store(boot_layout::kZeroPage, page));
    return EntryPoint{EntryMode::Long64, address + kEntry64Offset, boot_layout::kZeroPage};
}

Result<void> store_boot_tables(GuestMemory& memory, EntryMode mode) {
    // boot.rst: __BOOT_CS 0x10 and __BOOT_DS 0x18, flat. PVH wants flat 32-bit segments; selectors
    // are free there.
    constexpr uint64_t kCode64 = 0x00af'9b00'0000'ffff;
    constexpr uint64_t kCode32 = 0x00cf'9b00'0000'ffff;
    constexpr uint64_t kData = 0x00cf'9300'0000'ffff;
    const std::array<uint64_t, 4> gdt = {0, 0, mode == EntryMode::Long64 ? kCode64 : kCode32,
                                         kData};
    TRY(memory.store(boot_layout::kGdt, gdt));
    if (mode == EntryMode::Protected32) {
        return {};
    }
    constexpr uint64_t kPresentWritable = 0x03;
    constexpr uint64_t kLargePage = 0x80;
    constexpr uint64_t kPage = 0x1000;
    constexpr uint64_t kDirectories = 4;
    using Table = std::array<uint64_t, 512>;
    Table top{};
    Table pointers{};
    const uint64_t pointers_at = boot_layout::kPageTables + kPage;
    const uint64_t directories_at = pointers_at + kPage;
    top[0] = pointers_at | kPresentWritable;
    for (uint64_t i = 0; i < kDirectories; ++i) {
        pointers[i] = (directories_at + i * kPage) | kPresentWritable;
        Table directory{};
        for (uint64_t j = 0; j < directory.size(); ++j) {
            directory[j] = (((i * directory.size()) + j) << 21) | kPresentWritable | kLargePage;
        }
        TRY(memory.store(directories_at + i * kPage, directory));
    }
    TRY(memory.store(boot_layout::kPageTables, top));
    return memory.store(pointers_at, pointers);
}

}  // namespace kumoi::hypervisor
