// The first disk of a server (docs/reference/instance-folder.md): a linked clone of the cached
// image, or a flat copy of it.
//
// A linked clone is a qcow2 overlay beside a hard link to the image, "<disk>.base". So the folder
// stays whole by itself: copying it is a backup, and the image cache may forget the image at any
// time. The format of a disk is recorded and never guessed from what a guest wrote. Blocking.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "compute/driver/instance_folder.h"
#include "compute/images/image_cache.h"

namespace kumoi::compute {

struct RootDiskOptions {
    bool use_cow_images = true;
    std::string img_path = "kumoi-img";        // the kumoi-img program
    int64_t convert_timeout_ms = 60 * 60'000;  // of one disk
};

struct RootDisk {
    std::string path;
    std::string format = "raw";  // or "qcow2"
};

// The hard link to the image that the linked clone at `disk` reads through.
std::string base_of(const std::string& disk);

// Makes `path` (which must not exist) root_gb GiB large (0: as its image). Returns its format. The
// fault FlavorDiskSmallerThanImage when the image does not fit.
Result<std::string> make_root_disk(const CachedImage& image, int64_t root_gb,
                                   const std::string& path, const RootDiskOptions& options);

// Which format the server's root disk has, by disk.info. Without that file: raw.
Result<RootDisk> root_disk(const InstanceFolder& folder);
Result<void> record_root_disk(const InstanceFolder& folder, const std::string& format);

Result<uint64_t> virtual_size(const RootDisk& disk);
// At least `size` bytes large; its guest is off.
Result<void> grow_root_disk(const RootDisk& disk, uint64_t size, const RootDiskOptions& options);
// A copy without any backing file, as raw or qcow2; its guest is off. `to` must not exist.
Result<void> flatten_root_disk(const RootDisk& disk, const std::string& to,
                               const std::string& format, const RootDiskOptions& options);

}  // namespace kumoi::compute
