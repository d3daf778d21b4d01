#include "hypervisor/boot/boot_params.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>

#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {

namespace {
constexpr uint64_t kPageSize = 4096;
constexpr uint64_t kBiosAreaStart = 0xa'0000;
}  // namespace

std::vector<MemoryMapEntry> board_memory_map(const GuestMemory& memory) {
    std::vector<MemoryMapEntry> map = {
        {0, board::kEbdaStart, MemoryKind::Ram},
        {board::kEbdaStart, kBiosAreaStart - board::kEbdaStart, MemoryKind::Reserved},
        {board::kAcpiStart, board::kAcpiSize + board::kSmbiosSize, MemoryKind::Reserved},
    };
    for (const MemoryRegion& region : memory.regions()) {
        const uint64_t start = std::max(region.gpa, board::kHighLoadStart);
        if (region.gpa + region.size > start) {
            map.push_back({start, region.gpa + region.size - start, MemoryKind::Ram});
        }
        if (region.gpa == 0) {
            // PCI firmware spec 3.3 §4.1.2: ECAM must be reserved in the map for it to be used.
            map.push_back({board::kEcamStart, board::kEcamSize, MemoryKind::Reserved});
        }
    }
    return map;
}

Result<BootFile> BootFile::open(FileSource& files, const std::string& path, std::string_view what) {
    BootFile file;
    file.fd_ = TRY_CONTEXT(files.open(path, O_RDONLY), "opening the {} {}", what, path);
    file.path_ = path;
    struct stat status {};
    if (fstat(file.fd_.get(), &status) != 0) {
        return Error::from_errno(errno, fmt::format("looking at the {} {}", what, path));
    }
    if (!S_ISREG(status.st_mode)) {
        return Error::invalid("the {} {} is not a regular file", what, path);
    }
    file.size_ = static_cast<uint64_t>(status.st_size);
    if (file.size_ == 0) {
        return Error::invalid("the {} {} is empty", what, path);
    }
    return file;
}

Result<void> BootFile::read(uint64_t offset, std::span<std::byte> out) const {
    if (offset > size_ || out.size() > size_ - offset) {
        return Error::corrupt("{} has {} bytes; its header points to {}+{}", path_, size_, offset,
                              out.size());
    }
    const size_t count = TRY(pread_some(fd_.get(), out, offset));
    if (count != out.size()) {
        return Error::corrupt("{} ended at byte {} while it was read", path_, offset + count);
    }
    return {};
}

Result<void> BootFile::read_into(GuestMemory& memory, uint64_t gpa, uint64_t offset,
                                 uint64_t size) const {
    if (size == 0) {
        return {};
    }
    auto span = memory.host_span(gpa, size);
    if (!span) {
        return Error::invalid("{} wants {} bytes at {:#x}, and the guest has {} MiB of memory",
                              path_, size, gpa, memory.size() >> 20)
            .with_hint("give the guest more memory");
    }
    TRY(read(offset, *span));
    memory.mark_written(*span);
    return {};
}

Result<PlacedInitrd> place_initrd(const BootFile& file, GuestMemory& memory, uint64_t floor,
                                  uint64_t limit) {
    const MemoryRegion& low = memory.regions().front();
    const uint64_t top = std::min(limit, low.size) / kPageSize * kPageSize;
    if (floor > top || file.size() > top - floor) {
        return Error::invalid(
                   "the initrd {} has {} KiB and only {} KiB are free between the kernel and {:#x}",
                   file.path(), file.size() >> 10, floor > top ? 0 : (top - floor) >> 10, top)
            .with_hint("give the guest more memory or use a smaller initrd");
    }
    const uint64_t address = (top - file.size()) / kPageSize * kPageSize;
    if (address < floor) {
        return Error::invalid("the initrd {} does not fit above the kernel", file.path())
            .with_hint("give the guest more memory");
    }
    TRY(file.read_into(memory, address, 0, file.size()));
    return PlacedInitrd{address, file.size()};
}

Result<void> store_cmdline(GuestMemory& memory, const std::string& cmdline, uint64_t size_max) {
    const uint64_t limit = std::min(size_max, boot_layout::kCmdlineMax - 1);
    if (cmdline.size() > limit) {
        return Error::too_large("the kernel command line has {} bytes; this kernel takes {}",
                                cmdline.size(), limit);
    }
    if (cmdline.find('\0') != std::string::npos) {
        return Error::invalid("the kernel command line contains a zero byte");
    }
    return memory.write(boot_layout::kCmdline,
                        std::as_bytes(std::span(cmdline.c_str(), cmdline.size() + 1)));
}

}  // namespace kumoi::hypervisor
