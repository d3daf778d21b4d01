// BackupTarget: the file a backup of a running disk goes to: a raw file, or a qcow2 image, which
// can name an earlier backup as its backing file and then holds only what changed since. Made on
// the control thread, used on the job's.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "hypervisor/block/disk_format.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

struct BackupTargetOptions {
    std::string path;  // an empty file, or none
    DiskFormat format = DiskFormat::Qcow2;
    uint64_t size = 0;           // of the disk, bytes
    std::string backing_file;    // as the image shall name it; empty: everything is in this file
    std::string backing_format;  // "raw" or "qcow2"
};

class BackupTarget {
public:
    static Result<std::unique_ptr<BackupTarget>> create(FileSource& files,
                                                        const BackupTargetOptions& options);
    virtual ~BackupTarget() = default;

    // From a multiple of 64 KiB up to another one, or to the end of the disk.
    virtual Result<void> write(uint64_t offset, std::span<std::byte> bytes) = 0;
    virtual Result<void> zero(uint64_t offset, uint64_t size) = 0;
    virtual Result<void> finish() = 0;  // durable
    const std::string& path() const { return path_; }

protected:
    explicit BackupTarget(std::string path) : path_(std::move(path)) {}

private:
    const std::string path_;
};

}  // namespace kumoi::hypervisor
