// Looks at the first bytes of an image before it becomes usable. A qcow2 file can name other files
// of the host (backing file, external data file); an image that does would let a tenant read them,
// so it is refused (CVE-2024-32498). Also finds the virtual size. Pure but for one pread; any
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"

namespace kumoi::compute {

struct ImageInspection {
    std::optional<uint64_t> virtual_size;  // bytes; none when the format does not say
};

constexpr size_t kInspectBytes = 512;

// `head`: the first kInspectBytes of the file, or all of a smaller one. InvalidArgument when the
// bytes are not of that format or refer to other files.
Result<ImageInspection> inspect_image(const std::string& disk_format,
                                      std::span<const std::byte> head, uint64_t file_size);

}  // namespace kumoi::compute
