// open_disk: a DiskImage of any format a guest's configuration can name, under its lease if it has
// one. Control thread.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "hypervisor/block/disk_format.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

struct DiskOptions {
    std::string path;
    DiskFormat format = DiskFormat::Raw;
    bool read_only = false;
    CacheMode cache = CacheMode::Writeback;
    DiskEngine engine = DiskEngine::Automatic;
    uint32_t chain_depth_max = 32;  // qcow2: backing files
    DiskLock lock;
};

Result<std::unique_ptr<DiskImage>> open_disk(FileSource& files, const DiskOptions& options);

}  // namespace kumoi::hypervisor
