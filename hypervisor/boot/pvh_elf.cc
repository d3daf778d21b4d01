#include "hypervisor/boot/pvh_elf.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include <elf.h>

#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint32_t kNotePhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
constexpr uint32_t kStartMagic = 0x336e'c578;
constexpr size_t kSegmentsMax = 64;
constexpr uint64_t kNotesSizeMax = 64u << 10;

struct StartInfo {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t module_count;
    uint64_t modules;
    uint64_t cmdline;
    uint64_t rsdp;
    uint64_t memory_map;
    uint32_t memory_map_count;
    uint32_t reserved;
};
static_assert(sizeof(StartInfo) == 56);

struct StartModule {
    uint64_t address;
    uint64_t size;
    uint64_t cmdline;
    uint64_t reserved;
};

struct StartMemory {
    uint64_t address;
    uint64_t size;
    uint32_t type;
    uint32_t reserved;
};

// One view of ELF32 and ELF64 program headers: PVH kernels come as both.
struct Segment {
    uint32_t type = 0;
    uint64_t offset = 0;
    uint64_t physical = 0;
    uint64_t file_size = 0;
    uint64_t memory_size = 0;
    uint64_t alignment = 0;
};

template <class Header, class ProgramHeader>
Result<std::vector<Segment>> read_segments(const BootFile& file) {
    const auto header = TRY(file.load<Header>(0));
    if (header.e_machine != EM_X86_64 && header.e_machine != EM_386) {
        return Error::unsupported("{} is an ELF file for machine type {}, not x86", file.path(),
                                  uint16_t{header.e_machine});
    }
    if (header.e_phentsize != sizeof(ProgramHeader) || header.e_phnum == 0 ||
        header.e_phnum > kSegmentsMax) {
        return Error::corrupt("{} has {} program headers of {} bytes; 1 to {} of {} are possible",
                              file.path(), uint16_t{header.e_phnum}, uint16_t{header.e_phentsize},
                              kSegmentsMax, sizeof(ProgramHeader));
    }
    if (header.e_phoff > file.size()) {
        return Error::corrupt("{} has its program headers behind its end", file.path());
    }
    std::vector<Segment> segments;
    for (uint64_t i = 0; i < header.e_phnum; ++i) {
        const auto entry =
            TRY(file.load<ProgramHeader>(header.e_phoff + i * sizeof(ProgramHeader)));
        segments.push_back({entry.p_type, entry.p_offset, entry.p_paddr, entry.p_filesz,
                            entry.p_memsz, entry.p_align});
    }
    return segments;
}

Result<std::vector<Segment>> segments_of(const BootFile& file) {
    unsigned char ident[EI_NIDENT];
    TRY(file.read(0, std::as_writable_bytes(std::span(ident))));
    if (ident[EI_DATA] != ELFDATA2LSB) {
        return Error::unsupported("{} is a big-endian ELF file", file.path());
    }
    if (ident[EI_CLASS] == ELFCLASS64) {
        return read_segments<Elf64_Ehdr, Elf64_Phdr>(file);
    }
    if (ident[EI_CLASS] == ELFCLASS32) {
        return read_segments<Elf32_Ehdr, Elf32_Phdr>(file);
    }
    return Error::corrupt("{} has the unknown ELF class {}", file.path(), ident[EI_CLASS]);
}

uint64_t align_up(uint64_t value, uint64_t alignment) {
    return (value + alignment - 1) / alignment * alignment;
}

// A note's name and descriptor are padded to the segment's alignment, 4 or 8 (gABI, "Note
// Section").
std::optional<uint32_t> find_entry(std::span<const std::byte> notes, uint64_t alignment) {
    uint64_t at = 0;
    while (at + sizeof(Elf64_Nhdr) <= notes.size()) {
        Elf64_Nhdr note;
        std::memcpy(&note, notes.data() + at, sizeof note);
        const uint64_t name_at = at + sizeof note;
        const uint64_t data_at = align_up(name_at + note.n_namesz, alignment);
        const uint64_t next = align_up(data_at + note.n_descsz, alignment);
        if (data_at + note.n_descsz > notes.size()) {
            return std::nullopt;
        }
        const bool xen = note.n_namesz == 4 && std::memcmp(notes.data() + name_at, "Xen", 4) == 0;
        if (xen && note.n_type == kNotePhys32Entry && note.n_descsz >= sizeof(uint32_t)) {
            uint32_t entry = 0;
            std::memcpy(&entry, notes.data() + data_at, sizeof entry);
            return entry;
        }
        at = next;
    }
    return std::nullopt;
}

Result<uint32_t> entry_of(const BootFile& kernel, const std::vector<Segment>& segments) {
    for (const Segment& segment : segments) {
        if (segment.type != PT_NOTE) {
            continue;
        }
        if (segment.file_size > kNotesSizeMax) {
            return Error::too_large("{} has {} bytes of ELF notes; at most {} are read",
                                    kernel.path(), segment.file_size, kNotesSizeMax);
        }
        std::vector<std::byte> notes(segment.file_size);
        TRY(kernel.read(segment.offset, notes));
        if (auto entry = find_entry(notes, segment.alignment == 8 ? 8 : 4)) {
            return *entry;
        }
    }
    return Error::unsupported("{} is an ELF file without a PVH entry note", kernel.path())
        .with_hint("build the kernel with CONFIG_PVH=y, or use its bzImage");
}

// Loads all segments; answers the first address behind them.
Result<uint64_t> load_segments(const BootFile& kernel, const std::vector<Segment>& segments,
                               GuestMemory& memory) {
    const uint64_t low_size = memory.regions().front().size;
    uint64_t end = 0;
    for (const Segment& segment : segments) {
        if (segment.type != PT_LOAD || segment.memory_size == 0) {
            continue;
        }
        if (segment.file_size > segment.memory_size) {
            return Error::corrupt("{} has a segment with {} bytes in the file and {} in memory",
                                  kernel.path(), segment.file_size, segment.memory_size);
        }
        if (segment.physical < board::kHighLoadStart || segment.physical > low_size ||
            segment.memory_size > low_size - segment.physical) {
            return Error::invalid(
                       "{} wants {} KiB at {:#x}; the guest's memory goes from {:#x} to {:#x}",
                       kernel.path(), segment.memory_size >> 10, segment.physical,
                       board::kHighLoadStart, low_size)
                .with_hint("give the guest more memory");
        }
        // Memory behind the file's bytes (bss) is zero already: RAM is fresh at every boot.
        TRY(kernel.read_into(memory, segment.physical, segment.offset, segment.file_size));
        end = std::max(end, segment.physical + segment.memory_size);
    }
    if (end == 0) {
        return Error::corrupt("{} has nothing to load", kernel.path());
    }
    return end;
}

Result<uint32_t> store_memory_map(GuestMemory& memory) {
    uint32_t count = 0;
    for (const MemoryMapEntry& entry : board_memory_map(memory)) {
        const StartMemory item{entry.base, entry.size, static_cast<uint32_t>(entry.kind), 0};
        TRY(memory.store(boot_layout::kPvhMemoryMap + count * sizeof item, item));
        ++count;
    }
    return count;
}

}  // namespace

bool is_elf(const BootFile& file) {
    unsigned char ident[SELFMAG];
    return file.read(0, std::as_writable_bytes(std::span(ident))).ok() &&
           std::memcmp(ident, ELFMAG, SELFMAG) == 0;
}

Result<EntryPoint> load_pvh_elf(const BootFile& kernel, const BootSource& source,
                                GuestMemory& memory, FileSource& files) {
    const std::vector<Segment> segments = TRY(segments_of(kernel));
    const uint32_t entry = TRY(entry_of(kernel, segments));
    const uint64_t kernel_end = TRY(load_segments(kernel, segments, memory));
    if (entry >= memory.regions().front().size) {
        return Error::corrupt("{} has its entry point at {:#x}, outside the guest's memory",
                              kernel.path(), entry);
    }
    StartInfo info{};
    info.magic = kStartMagic;
    info.version = 1;  // with the memory map
    if (!source.initrd_path.empty()) {
        const BootFile file = TRY(BootFile::open(files, source.initrd_path, "initrd"));
        const PlacedInitrd initrd = TRY(place_initrd(file, memory, kernel_end, kPciHoleStart));
        TRY(memory.store(boot_layout::kPvhModules, StartModule{initrd.address, initrd.size, 0, 0}));
        info.module_count = 1;
        info.modules = boot_layout::kPvhModules;
    }
    TRY(store_cmdline(memory, source.cmdline, boot_layout::kCmdlineMax - 1));
    info.cmdline = boot_layout::kCmdline;
    info.rsdp = board::kAcpiStart;
    info.memory_map = boot_layout::kPvhMemoryMap;
    info.memory_map_count = TRY(store_memory_map(memory));
    TRY(memory.store(boot_layout::kPvhStartInfo, info));
    return EntryPoint{EntryMode::Protected32, entry, boot_layout::kPvhStartInfo};
}

}  // namespace kumoi::hypervisor
