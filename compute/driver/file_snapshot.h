// FileSnapshot: a snapshot that is a file, read through a descriptor. Its temporary file has no
// name any more once the snapshot exists, so that a crash leaves nothing behind.
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "compute/driver/virt_driver.h"

namespace kumoi::compute {

class FileSnapshot final : public DiskSnapshot {
public:
    // Takes the file over: it is unlinked.
    static Result<std::unique_ptr<DiskSnapshot>> take(const std::string& path,
                                                      std::string disk_format,
                                                      uint64_t virtual_size);

    std::string disk_format() const override { return disk_format_; }
    uint64_t virtual_size() const override { return virtual_size_; }
    Result<size_t> read(std::span<std::byte> buffer, uint64_t offset) override;

private:
    FileSnapshot(UniqueFd file, std::string disk_format, uint64_t virtual_size)
        : file_(std::move(file)),
          disk_format_(std::move(disk_format)),
          virtual_size_(virtual_size) {}

    const UniqueFd file_;
    const std::string disk_format_;
    const uint64_t virtual_size_;
};

}  // namespace kumoi::compute
