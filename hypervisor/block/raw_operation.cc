#include "hypervisor/block/raw_operation.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kZeroesSize = 64u << 10;
constexpr int kVectorCountMax = 1024;  // IOV_MAX
constexpr size_t kBounceAlignment = 4096;

std::byte* zeroes() {
    alignas(kBounceAlignment) static std::array<std::byte, kZeroesSize> block{};
    return block.data();
}

bool retryable(int64_t result) {
    return result == -EINTR || result == -EAGAIN;
}

bool unsupported(int64_t result) {
    return result == -EOPNOTSUPP || result == -ENOSYS;
}

}  // namespace

bool RawOperation::needs_bounce(const DiskRequest& request, const RawFile& file) {
    if (!file.direct) {
        return false;
    }
    return std::any_of(request.vectors.begin(), request.vectors.end(),
                       [&file](const iovec& vector) {
                           return (reinterpret_cast<uintptr_t>(vector.iov_base) | vector.iov_len) %
                                      file.alignment !=
                                  0;
                       });
}

void RawOperation::begin(DiskRequest& request, const RawFile& file) {
    const bool bounce = needs_bounce(request, file);
    operation_ = request.operation;
    token_ = request.token;
    result_ = 0;
    offset_ = request.offset;
    remaining_ = size_ = request.size;
    std::swap(vectors_, request.vectors);
    first_vector_ = 0;
    switch (operation_) {
        case DiskOperation::Read:
        case DiskOperation::Write: method_ = Method::Transfer; break;
        case DiskOperation::Flush: method_ = Method::Sync; break;
        case DiskOperation::Discard: method_ = Method::PunchHole; break;
        case DiskOperation::WriteZeroes:
            method_ = request.may_unmap ? Method::PunchHole : Method::ZeroRange;
            break;
    }
    if (bounce) {
        make_bounce();
    }
}

void RawOperation::make_bounce() {
    const uint64_t allocated = (size_ + kBounceAlignment - 1) & ~(kBounceAlignment - 1);
    bounce_.reset(static_cast<std::byte*>(std::aligned_alloc(kBounceAlignment, allocated)));
    if (!bounce_) {
        return;  // the kernel refuses the unaligned buffers with EINVAL: an error for the guest
    }
    if (operation_ == DiskOperation::Write) {
        std::byte* at = bounce_.get();
        for (const iovec& vector : vectors_) {
            std::memcpy(at, vector.iov_base, vector.iov_len);
            at += vector.iov_len;
        }
    }
    original_ = std::exchange(vectors_, {{bounce_.get(), size_}});
}

RawOperation::Step RawOperation::step() const {
    const std::span<const iovec> left = std::span(vectors_).subspan(first_vector_);
    const auto vectors = left.first(std::min<size_t>(left.size(), kVectorCountMax));
    switch (method_) {
        case Method::Transfer:
            return {operation_ == DiskOperation::Read ? Call::Read : Call::Write, 0, offset_,
                    remaining_, vectors};
        case Method::ZeroWrites: return {Call::Write, 0, offset_, remaining_, vectors};
        case Method::PunchHole:
            return {Call::Allocate,
                    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    offset_,
                    remaining_,
                    {}};
        case Method::ZeroRange:
            return {Call::Allocate,
                    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                    offset_,
                    remaining_,
                    {}};
        case Method::Sync: break;
    }
    return {};
}

bool RawOperation::advance(int64_t result) {
    if (retryable(result)) {
        return false;
    }
    if (method_ == Method::PunchHole || method_ == Method::ZeroRange) {
        return advance_range(result);
    }
    if (result < 0 || method_ == Method::Sync) {
        return done(static_cast<int>(std::min<int64_t>(result, 0)));
    }
    if (result == 0) {
        return done(-EIO);  // the file has become shorter than the disk
    }
    consume(static_cast<uint64_t>(result));
    if (remaining_ == 0) {
        return done(0);
    }
    if (method_ == Method::ZeroWrites) {
        aim_zeroes();
    }
    return false;
}

// Not every file system and device can punch holes or zero ranges: fall back towards plain writes.
bool RawOperation::advance_range(int64_t result) {
    if (!unsupported(result)) {
        return done(static_cast<int>(result));
    }
    if (operation_ == DiskOperation::Discard) {
        return done(0);  // a discard is a hint
    }
    if (method_ == Method::PunchHole) {
        method_ = Method::ZeroRange;
        return false;
    }
    method_ = Method::ZeroWrites;
    aim_zeroes();
    return false;
}

bool RawOperation::done(int result) {
    result_ = result;
    return true;
}

void RawOperation::consume(uint64_t bytes) {
    offset_ += bytes;
    remaining_ -= std::min(bytes, remaining_);
    while (bytes > 0 && first_vector_ < vectors_.size()) {
        iovec& vector = vectors_[first_vector_];
        const uint64_t part = std::min<uint64_t>(bytes, vector.iov_len);
        vector.iov_base = static_cast<std::byte*>(vector.iov_base) + part;
        vector.iov_len -= part;
        bytes -= part;
        if (vector.iov_len == 0) {
            ++first_vector_;
        }
    }
}

void RawOperation::aim_zeroes() {
    vectors_.assign(1, {zeroes(), std::min(remaining_, kZeroesSize)});
    first_vector_ = 0;
}

void RawOperation::finish() {
    if (bounce_ && operation_ == DiskOperation::Read && result_ == 0) {
        const std::byte* at = bounce_.get();
        for (const iovec& vector : original_) {
            std::memcpy(vector.iov_base, at, vector.iov_len);
            at += vector.iov_len;
        }
    }
    bounce_.reset();
    vectors_.clear();
}

}  // namespace kumoi::hypervisor
