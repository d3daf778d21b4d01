// What one does to images no guest uses: copy, commit, rebase, map, shrink. Blocking.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "hypervisor/block/qcow2/block_source.h"
#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/qcow2/create.h"
#include "hypervisor/block/qcow2/store.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor::qcow2 {

// Makes the file (it must not exist, or be empty) and an image in it. A size of 0 takes the backing
// file's.
Result<void> create_image_file(FileSource& files, const std::string& path, CreateOptions options);

// What is at `offset`, through all backing files, at most `size` long: never Unallocated, but Zero
// where no image has data.
Result<MappedExtent> map_through(IoPort& port, BlockSource& source, uint64_t offset, uint64_t size);
// Calls visit for every extent of the disk, neighbours of one kind, depth and place joined.
Result<void> map_all(IoPort& port, BlockSource& source,
                     const std::function<void(const MappedExtent&)>& visit);

struct CopyOptions {
    bool compress = false;  // qcow2 targets
    std::function<void(uint64_t done, uint64_t total)> progress;
};
// The contents of `source` into a new image; zeros take no room.
Result<void> copy_to_store(IoPort& port, BlockSource& source, Store& target,
                           const CopyOptions& options);
Result<void> copy_to_raw(IoPort& port, BlockSource& source, HostFile& target,
                         const CopyOptions& options);

// Writes what an overlay has of its own into its backing file, and empties the overlay.
Result<void> commit_image(FileSource& files, const std::string& path);

struct RebaseOptions {
    std::string backing_file;  // empty: none
    std::string backing_format;
    bool unsafe = false;  // only the header changes: the new file must have the same contents
};
Result<void> rebase_image(FileSource& files, const std::string& path, const RebaseOptions& options);

Result<void> resize_image(FileSource& files, const std::string& path, uint64_t size, bool shrink);

}  // namespace kumoi::hypervisor::qcow2
