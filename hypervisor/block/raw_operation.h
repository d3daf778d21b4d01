// RawOperation: one disk request on a raw file as a sequence of system calls, without making them.
//
//     operation.begin(request, file);
//     do { result = call(operation.step()); } while (!operation.advance(result));
//
// It goes on after short transfers, tries the next way when a file system cannot discard or zero a
// range, and bounces buffers that O_DIRECT cannot take. Both engines (io_uring, threads) run it.
// A plain value, used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include <sys/uio.h>

#include "hypervisor/block/disk_image.h"

namespace kumoi::hypervisor {

// What the engines need to know of an open file. The image owns the descriptor.
struct RawFile {
    int fd = -1;
    bool direct = false;       // O_DIRECT: buffers aligned to `alignment`
    uint32_t alignment = 512;  // bytes
};

class RawOperation {
public:
    enum class Call { Read, Write, Sync, Allocate };
    struct Step {
        Call call = Call::Sync;
        int mode = 0;  // Allocate: fallocate(2)
        uint64_t offset = 0;
        uint64_t size = 0;
        std::span<const iovec> vectors;
    };

    // Takes the request's vectors, leaving the old storage in their place.
    void begin(DiskRequest& request, const RawFile& file);
    Step step() const;
    // The call's return value, or a negative errno. True when the request is finished.
    bool advance(int64_t result);

    int result() const { return result_; }  // 0 or a negative errno
    uint32_t token() const { return token_; }
    uint64_t bounce_bytes() const { return bounce_ ? size_ : 0; }
    void finish();  // copies a bounced read to its place and frees the buffer
    static bool needs_bounce(const DiskRequest& request, const RawFile& file);

private:
    enum class Method { Transfer, Sync, PunchHole, ZeroRange, ZeroWrites };
    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };
    bool advance_range(int64_t result);
    bool done(int result);
    void consume(uint64_t bytes);
    void aim_zeroes();
    void make_bounce();

    DiskOperation operation_ = DiskOperation::Read;
    Method method_ = Method::Transfer;
    uint32_t token_ = 0;
    int result_ = 0;
    uint64_t offset_ = 0;     // of what is left
    uint64_t remaining_ = 0;  // bytes
    uint64_t size_ = 0;
    std::vector<iovec> vectors_;
    size_t first_vector_ = 0;
    std::vector<iovec> original_;  // while vectors_ points to the bounce buffer
    std::unique_ptr<std::byte, Free> bounce_;
};

}  // namespace kumoi::hypervisor
