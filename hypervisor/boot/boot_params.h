// What a loader leaves behind: where the first vCPU starts and in which mode, and the memory map
// that every loader hands to its kernel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/random.h"
#include "base/result.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

// E820 types (ACPI 6.4 §15, table 15.4).
enum class MemoryKind : uint32_t { Ram = 1, Reserved = 2, Acpi = 3 };

struct MemoryMapEntry {
    uint64_t base = 0;
    uint64_t size = 0;
    MemoryKind kind = MemoryKind::Ram;
    bool operator==(const MemoryMapEntry&) const = default;
};

// The board's map: conventional memory, the ACPI area, RAM below and above the hole, ECAM.
std::vector<MemoryMapEntry> board_memory_map(const GuestMemory& memory);

enum class EntryMode {
    Protected32,  // PVH: flat 32-bit segments, paging off, EBX = start info
    Long64,       // Linux 64-bit boot protocol: identity map, RSI = zero page
};

struct EntryPoint {
    EntryMode mode = EntryMode::Long64;
    uint64_t address = 0;
    uint64_t argument = 0;  // EBX or RSI
};

struct BootSource {
    std::string kernel_path;
    std::string initrd_path;  // empty: none
    std::string cmdline;
};

// Guest physical addresses that loaders use below 1 MiB; all free once the kernel has its own
// tables.
namespace boot_layout {
constexpr uint64_t kGdt = 0x500;
constexpr uint64_t kPvhStartInfo = 0x6000;
constexpr uint64_t kPvhModules = 0x6040;
constexpr uint64_t kPvhMemoryMap = 0x6100;
constexpr uint64_t kZeroPage = 0x7000;
constexpr uint64_t kStackTop = 0x8ff0;
constexpr uint64_t kPageTables = 0x9000;  // one PML4, one PDPT, four page directories
constexpr uint64_t kRngSeed = 0x1'0000;
constexpr uint64_t kCmdline = 0x2'0000;
constexpr uint64_t kCmdlineMax = 0x1'0000;  // bytes with the terminating zero
constexpr uint64_t kInitialMemoryMin = 0x20'0000;
}  // namespace boot_layout

// A kernel or initrd file, opened and sized once. Reads go straight into guest memory.
class BootFile {
public:
    static Result<BootFile> open(FileSource& files, const std::string& path, std::string_view what);
    uint64_t size() const { return size_; }
    const std::string& path() const { return path_; }
    // All of the bytes or an error that says where the file ends.
    Result<void> read(uint64_t offset, std::span<std::byte> out) const;
    Result<void> read_into(GuestMemory& memory, uint64_t gpa, uint64_t offset, uint64_t size) const;
    template <class T>
        requires std::is_trivially_copyable_v<T>
    Result<T> load(uint64_t offset) const {
        T value;
        TRY(read(offset, std::as_writable_bytes(std::span(&value, 1))));
        return value;
    }

private:
    UniqueFd fd_;
    std::string path_;
    uint64_t size_ = 0;
};

struct PlacedInitrd {
    uint64_t address = 0;
    uint64_t size = 0;
};

// Puts the initrd at the highest page below `limit` and above `floor`, in the low RAM region.
Result<PlacedInitrd> place_initrd(const BootFile& file, GuestMemory& memory, uint64_t floor,
                                  uint64_t limit);
Result<void> store_cmdline(GuestMemory& memory, const std::string& cmdline, uint64_t size_max);

}  // namespace kumoi::hypervisor
