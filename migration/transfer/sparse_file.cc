#include "migration/transfer/sparse_file.h"

#include <endian.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "migration/transfer/frame.h"

namespace kumoi::transfer {
namespace {

bool is_zero(std::span<const std::byte> bytes) {
    return bytes.empty() || (bytes[0] == std::byte{0} &&
                             std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

template <class Integer>
std::span<const std::byte> raw(const Integer& value) {
    return std::as_bytes(std::span(&value, 1));
}

}  // namespace

BlockReader::BlockReader(int fd, uint64_t offset, uint64_t end)
    : fd_(fd), offset_(offset), end_(end), buffer_(kBlockSize) {}

Result<bool> BlockReader::skip_holes() {
    const off_t data = ::lseek(fd_, static_cast<off_t>(offset_), SEEK_DATA);
    if (data < 0 && errno == ENXIO) {
        return false;
    }
    if (data < 0 && errno != EINVAL) {  // EINVAL: a file system that knows no holes
        return Error::from_errno(errno, "looking for data in a file");
    }
    if (data > 0) {
        const uint64_t block = static_cast<uint64_t>(data) / kBlockSize * kBlockSize;
        offset_ = std::max(offset_, block);
    }
    return true;
}

Result<std::optional<Block>> BlockReader::next() {
    while (offset_ < end_ && TRY(skip_holes()) && offset_ < end_) {
        const size_t wanted = std::min<uint64_t>(kBlockSize, end_ - offset_);
        const std::span<std::byte> piece(buffer_.data(), wanted);
        if (TRY(pread_some(fd_, piece, offset_)) != wanted) {
            return Error::corrupt("a file became shorter while it was read");
        }
        const uint64_t offset = offset_;
        offset_ += wanted;
        if (!is_zero(piece)) {
            return std::optional(Block{offset, piece});
        }
    }
    return std::optional<Block>();
}

void BlockDigest::add(uint64_t offset, std::span<const std::byte> bytes) {
    const uint64_t big_offset = htobe64(offset);
    const uint32_t big_size = htobe32(static_cast<uint32_t>(bytes.size()));
    digest_.update(raw(big_offset));
    digest_.update(raw(big_size));
    digest_.update(bytes);
}

Result<void> BlockDigest::add_file(int fd, uint64_t end) {
    BlockReader reader(fd, 0, end);
    while (const auto block = TRY(reader.next())) {
        add(block->offset, block->bytes);
    }
    return {};
}

}  // namespace kumoi::transfer
