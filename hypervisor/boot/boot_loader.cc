#include "hypervisor/boot/boot_loader.h"

#include "hypervisor/boot/bzimage.h"
#include "hypervisor/boot/pvh_elf.h"

namespace kumoi::hypervisor {

Result<EntryPoint> load_boot(const BootSource& source, GuestMemory& memory, Random& random,
                             FileSource& files) {
    if (memory.regions().front().size < boot_layout::kInitialMemoryMin) {
        return Error::invalid("the guest has {} KiB of memory; booting a kernel takes at least {}",
                              memory.size() >> 10, boot_layout::kInitialMemoryMin >> 10);
    }
    const BootFile kernel = TRY(BootFile::open(files, source.kernel_path, "kernel"));
    EntryPoint entry;
    if (is_elf(kernel)) {
        entry = TRY(load_pvh_elf(kernel, source, memory, files));
    } else if (is_bzimage(kernel)) {
        entry = TRY(load_bzimage(kernel, source, memory, random, files));
    } else {
        return Error::invalid("{} is neither a Linux bzImage nor an ELF kernel", kernel.path())
            .with_hint("point boot.kernel at a bzImage or an uncompressed vmlinux with CONFIG_PVH");
    }
    TRY(store_boot_tables(memory, entry.mode));
    return entry;
}

}  // namespace kumoi::hypervisor
