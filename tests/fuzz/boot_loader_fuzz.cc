// Any file as a kernel (bzImage, ELF or neither): refused, or an entry point with everything inside
// the guest's memory; never a crash.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include <sys/mman.h>
#include <unistd.h>

#include "hypervisor/boot/boot_loader.h"

namespace {

// The loader opens a path; a memfd has one under /proc, so nothing touches the disk.
int kernel_file() {
    static const int fd = memfd_create("kernel", MFD_CLOEXEC);
    return fd;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace kumoi;
    using namespace kumoi::hypervisor;
    static GuestMemory memory = GuestMemory::create(8u << 20).value();
    const int fd = kernel_file();
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != static_cast<ssize_t>(size)) {
        return 0;
    }
    if (!memory.clear()) {
        std::abort();
    }
    SeededRandom random(1, "fuzz");
    BootSource source;
    source.kernel_path = fmt::format("/proc/self/fd/{}", fd);
    source.cmdline = "console=ttyS0";
    const auto entry = load_boot(source, memory, random, direct_files());
    if (entry && entry->address >= memory.size()) {
        std::abort();
    }
    return 0;
}
