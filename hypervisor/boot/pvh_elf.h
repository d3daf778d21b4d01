// Loads an ELF kernel by the PVH entry: ELF note XEN_ELFNOTE_PHYS32_ENTRY and struct hvm_start_info
// (Xen docs/misc/pvh.pandoc, xen/include/public/arch-x86/hvm/start_info.h). Segments go straight
// from the file into guest memory; every offset, size and address is checked first.
#pragma once

#include "hypervisor/boot/boot_params.h"

namespace kumoi::hypervisor {

bool is_elf(const BootFile& file);
Result<EntryPoint> load_pvh_elf(const BootFile& kernel, const BootSource& source,
                                GuestMemory& memory, FileSource& files);

}  // namespace kumoi::hypervisor
