// Making a new image: into an empty file, through a port that completes at once.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "hypervisor/block/qcow2/format.h"
#include "hypervisor/block/qcow2/io_port.h"

namespace kumoi::hypervisor::qcow2 {

enum class Preallocation { Off, Metadata };

struct CreateOptions {
    uint64_t size = 0;  // bytes
    uint32_t version = 3;
    uint32_t cluster_bits = 16;
    uint32_t refcount_order = 4;  // version 2: always 4
    bool extended_l2 = false;
    bool lazy_refcounts = false;
    Compression compression = Compression::Zlib;
    std::string backing_file;    // as it is written to the header
    std::string backing_format;  // "raw" or "qcow2"
    Preallocation preallocation = Preallocation::Off;
};

Result<void> create_image(IoPort& port, HostFile& file, const CreateOptions& options);

}  // namespace kumoi::hypervisor::qcow2
