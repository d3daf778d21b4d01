#include "hypervisor/block/qcow2/io_port.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace kumoi::hypervisor::qcow2 {

namespace {

IoAwaiter awaiter(IoPort& port, IoCall::Kind kind, HostFile& file, uint64_t offset, uint64_t size) {
    IoAwaiter made{port, {}};
    made.call.kind = kind;
    made.call.file = &file;
    made.call.offset = offset;
    made.call.size = size;
    return made;
}

bool aligned(const IoCall& call, uint32_t alignment) {
    if ((call.offset | call.size) % alignment != 0) {
        return false;
    }
    return std::all_of(call.vectors.begin(), call.vectors.end(), [=](const iovec& vector) {
        return (reinterpret_cast<uintptr_t>(vector.iov_base) | vector.iov_len) % alignment == 0;
    });
}

}  // namespace

void io_complete(IoCall& call) {
    if (call.batch == nullptr) {
        call.waiter.resume();
        return;
    }
    IoBatch& batch = *call.batch;
    if (--batch.pending == 0) {
        batch.waiter.resume();
    }
}

std::span<const iovec> io_rest(const IoCall& call) {
    return call.done == 0 ? call.vectors : std::span<const iovec>(call.rest);
}

bool io_advance(IoCall& call, int64_t result) {
    const bool transfer = call.kind == IoCall::Kind::Read || call.kind == IoCall::Kind::Write;
    if (result == -EINTR || result == -EAGAIN) {
        return false;
    }
    if (result < 0 || !transfer) {
        call.result = static_cast<int>(std::min<int64_t>(result, 0));
        return true;
    }
    call.done += static_cast<uint64_t>(result);
    if (call.done >= call.size) {
        return true;
    }
    std::vector<iovec> rest;
    cut_vectors(call.vectors, call.done, call.size - call.done, rest);
    call.rest = std::move(rest);
    if (result > 0) {
        return false;
    }
    if (call.kind == IoCall::Kind::Read) {  // the end of the file
        zero_vectors(call.rest);
        return true;
    }
    call.result = -EIO;
    return true;
}

int io_descriptor(const IoCall& call) {
    const HostFile& file = *call.file;
    const bool transfer = call.kind == IoCall::Kind::Read || call.kind == IoCall::Kind::Write;
    if (!transfer || !call.data || file.direct_fd < 0 || call.done != 0 ||
        !aligned(call, file.direct_alignment)) {
        return file.fd;
    }
    return file.direct_fd;
}

IoAwaiter io_read(IoPort& port, HostFile& file, uint64_t offset, std::span<const iovec> vectors,
                  uint64_t size, bool data) {
    IoAwaiter made = awaiter(port, IoCall::Kind::Read, file, offset, size);
    made.call.vectors = vectors;
    made.call.data = data;
    return made;
}

IoAwaiter io_write(IoPort& port, HostFile& file, uint64_t offset, std::span<const iovec> vectors,
                   uint64_t size, bool data) {
    IoAwaiter made = awaiter(port, IoCall::Kind::Write, file, offset, size);
    made.call.vectors = vectors;
    made.call.data = data;
    return made;
}

IoAwaiter io_sync(IoPort& port, HostFile& file) {
    return awaiter(port, IoCall::Kind::Sync, file, 0, 0);
}

IoAwaiter io_punch(IoPort& port, HostFile& file, uint64_t offset, uint64_t size) {
    return awaiter(port, IoCall::Kind::PunchHole, file, offset, size);
}

IoAwaiter io_truncate(IoPort& port, HostFile& file, uint64_t size) {
    return awaiter(port, IoCall::Kind::Truncate, file, size, 0);
}

bool IoAll::await_suspend(std::coroutine_handle<> handle) {
    batch.waiter = handle;
    batch.pending = 1;  // ours: so that no completion resumes before all are started
    for (const auto& call : calls) {
        call->batch = &batch;
        ++batch.pending;
        if (!port.start(*call)) {
            --batch.pending;
        }
    }
    return --batch.pending != 0;
}

int IoAll::await_resume() const noexcept {
    for (const auto& call : calls) {
        if (call->result < 0) {
            return call->result;
        }
    }
    return 0;
}

void cut_vectors(std::span<const iovec> vectors, uint64_t skip, uint64_t size,
                 std::vector<iovec>& out) {
    for (const iovec& vector : vectors) {
        if (size == 0) {
            return;
        }
        if (skip >= vector.iov_len) {
            skip -= vector.iov_len;
            continue;
        }
        const uint64_t part = std::min<uint64_t>(vector.iov_len - skip, size);
        out.push_back({static_cast<std::byte*>(vector.iov_base) + skip, part});
        size -= part;
        skip = 0;
    }
}

void zero_vectors(std::span<const iovec> vectors) {
    for (const iovec& vector : vectors) {
        std::memset(vector.iov_base, 0, vector.iov_len);
    }
}

void copy_to_vectors(std::span<const iovec> vectors, const void* bytes) {
    const auto* from = static_cast<const std::byte*>(bytes);
    for (const iovec& vector : vectors) {
        std::memcpy(vector.iov_base, from, vector.iov_len);
        from += vector.iov_len;
    }
}

}  // namespace kumoi::hypervisor::qcow2
