// Loads a Linux bzImage by the 64-bit boot protocol (Linux Documentation/arch/x86/boot.rst) and
// makes its zero page: memory map, command line, initrd, RSDP address, and a seed for the guest's
// random number generator. Every number in the header is checked against the file and guest memory.
#pragma once

#include "hypervisor/boot/boot_params.h"

namespace kumoi::hypervisor {

// True when the file carries the boot sector's "HdrS" magic.
bool is_bzimage(const BootFile& file);
Result<EntryPoint> load_bzimage(const BootFile& kernel, const BootSource& source,
                                GuestMemory& memory, Random& random, FileSource& files);
// GDT and 4 GiB identity map that EntryMode::Long64 needs; GDT alone for Protected32.
Result<void> store_boot_tables(GuestMemory& memory, EntryMode mode);

}  // namespace kumoi::hypervisor
