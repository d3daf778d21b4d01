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

class DiskLease;
class Qcow2Image;
class RawImage;

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

// The two halves of it: the image of its format without its lease, and what a device works with.
struct OpenedDisk {
    std::unique_ptr<DiskImage> image;
    Qcow2Image* qcow2 = nullptr;  // one of the two is the image
    RawImage* raw = nullptr;
};
Result<OpenedDisk> open_disk_format(FileSource& files, const DiskOptions& options);
std::unique_ptr<DiskImage> assemble_disk(OpenedDisk opened, std::unique_ptr<DiskLease> lease,
                                         bool read_only);

}  // namespace kumoi::hypervisor
