// What a VMDK of a stranger must be before qemu-img may open it: one sparse or stream-optimized
// file
// that holds everything itself. Descriptors can name other files of this host as their content
// (OSSA-2024-001); such a disk is refused here, before any other program reads it.
#pragma once

#include <string>

#include "base/result.h"

namespace kumoi::cli {

Result<void> check_vmdk(const std::string& path);
// The descriptor inside, as text. Pure; for the check and its tests.
Result<void> check_vmdk_descriptor(std::string_view text);

}  // namespace kumoi::cli
