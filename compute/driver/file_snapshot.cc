#include "compute/driver/file_snapshot.h"

#include <fcntl.h>

#include "base/file.h"

namespace kumoi::compute {

Result<std::unique_ptr<DiskSnapshot>> FileSnapshot::take(const std::string& path,
                                                         std::string disk_format,
                                                         uint64_t virtual_size) {
    UniqueFd file = TRY(open_file(path, O_RDONLY));
    TRY(remove_file(path));
    return std::unique_ptr<DiskSnapshot>(
        new FileSnapshot(std::move(file), std::move(disk_format), virtual_size));
}

Result<size_t> FileSnapshot::read(std::span<std::byte> buffer, uint64_t offset) {
    return pread_some(file_.get(), buffer, offset);
}

}  // namespace kumoi::compute
