// What the node reads of a qcow2 file by itself: the size of its disk. Everything else is
// kumoi-img's, in a process of its own.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace kumoi::compute {

Result<uint64_t> qcow2_virtual_size(const std::string& path);  // bytes

}  // namespace kumoi::compute
