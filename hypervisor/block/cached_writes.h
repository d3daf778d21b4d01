// CachedWrites: which buffered writes a disk queue's thread makes itself.
//
// ext4 and others cannot promise that a buffered write will not wait (RWF_NOWAIT), so io_uring
// hands every one to a kernel thread: two context switches for a copy of some microseconds. The
// queue makes small ones itself, until one took long, which is the kernel throttling writers of
// dirty pages: then io_uring's threads get all writes for a while, so that reads behind them do not
// wait.
// One per queue, used by its thread.
#pragma once

#include <cstdint>
#include <span>

#include <sys/uio.h>

#include "base/clock.h"

namespace kumoi::hypervisor {

class CachedWrites {
public:
    static constexpr uint64_t kBytesMax = 256u << 10;          // a write
    static constexpr int64_t kSlowNs = 2 * kNanosPerMilli;     // a write that waited
    static constexpr int64_t kPauseNs = 100 * kNanosPerMilli;  // of giving them away

    explicit CachedWrites(const Clock& clock) : clock_(clock) {}
    bool at_once(uint64_t bytes) const;
    // pwritev(2), timed: bytes, possibly fewer than asked for, or a negative errno.
    int64_t write(int fd, std::span<const iovec> vectors, uint64_t offset);
    void took(int64_t nanoseconds);

private:
    const Clock& clock_;
    int64_t paused_until_ns_ = INT64_MIN;
};

}  // namespace kumoi::hypervisor
