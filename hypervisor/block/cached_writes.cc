#include "hypervisor/block/cached_writes.h"

#include <algorithm>
#include <cerrno>
#include <climits>

namespace kumoi::hypervisor {

bool CachedWrites::at_once(uint64_t bytes) const {
    return bytes <= kBytesMax && clock_.monotonic_ns() >= paused_until_ns_;
}

int64_t CachedWrites::write(int fd, std::span<const iovec> vectors, uint64_t offset) {
    const int64_t begun = clock_.monotonic_ns();
    const auto count = static_cast<int>(std::min<size_t>(vectors.size(), IOV_MAX));
    const ssize_t written = ::pwritev(fd, vectors.data(), count, static_cast<off_t>(offset));
    const int64_t result = written < 0 ? -errno : written;
    took(clock_.monotonic_ns() - begun);
    return result;
}

void CachedWrites::took(int64_t nanoseconds) {
    if (nanoseconds > kSlowNs) {
        paused_until_ns_ = clock_.monotonic_ns() + kPauseNs;
    }
}

}  // namespace kumoi::hypervisor
