#include "hypervisor/block/qcow2/block_source.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace kumoi::hypervisor::qcow2 {

Task<int> RawSource::read(IoPort& port, uint64_t offset, std::span<const iovec> vectors,
                          uint64_t size) {
    co_return co_await io_read(port, *file_, offset, vectors, size, true);
}

Task<int> RawSource::map(IoPort& /*port*/, uint64_t offset, uint64_t size, MappedExtent& extent) {
    extent = {offset, size, ExtentKind::Data, offset, 0};
    if (file_->fd < 0 || !file_->holes_are_zero) {
        co_return 0;
    }
    const off_t data = ::lseek(file_->fd, static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0 && errno == ENXIO) {
        extent.kind = ExtentKind::Zero;
        co_return 0;
    }
    if (data > static_cast<off_t>(offset)) {
        extent.kind = ExtentKind::Zero;
        extent.size = std::min<uint64_t>(size, static_cast<uint64_t>(data) - offset);
        co_return 0;
    }
    const off_t hole = ::lseek(file_->fd, static_cast<off_t>(offset), SEEK_HOLE);
    if (hole > static_cast<off_t>(offset)) {
        extent.size = std::min<uint64_t>(size, static_cast<uint64_t>(hole) - offset);
    }
    co_return 0;
}

}  // namespace kumoi::hypervisor::qcow2
