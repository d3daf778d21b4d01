// IoPort: how a thread makes calls on host files, and IoCall, one such call.
//
// Ports: blocking (blocking_port.h: every call completes at once), io_uring and threads
// (queue_port.h: completions come through the event loop), simulated (tests). A port belongs to one
// thread; only post() may be called from others.
//
//     int status = co_await io_read(port, file, offset, vectors);    // 0 or a negative errno
//
// Reads past the end of a file give zeros. Buffers stay the caller's until the call completes.
#pragma once

#include <atomic>
#include <coroutine>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <sys/uio.h>

namespace kumoi::hypervisor::qcow2 {

// One open host file. What a port needs beyond this it knows from the file's own type.
struct HostFile {
    virtual ~HostFile() = default;
    std::string path;
    int fd = -1;
    int direct_fd = -1;               // O_DIRECT, or -1: the same file, for aligned data
    uint32_t direct_alignment = 512;  // bytes; of memory, offset and size
    bool holes_are_zero = true;       // a regular file: what was never written reads as zeros
    std::atomic<uint64_t> size{0};    // bytes; kept current by whoever extends or cuts it
};

struct IoBatch;

struct IoCall {
    enum class Kind { Read, Write, Sync, PunchHole, Truncate };
    Kind kind = Kind::Read;
    HostFile* file = nullptr;
    uint64_t offset = 0;
    uint64_t size = 0;               // bytes; Truncate: `offset` is the new size
    std::span<const iovec> vectors;  // Read, Write
    bool data = false;               // guest data: may use direct_fd
    int result = 0;                  // 0 or a negative errno

    std::coroutine_handle<> waiter;
    IoBatch* batch = nullptr;

    // For ports: what is left after a short transfer.
    uint64_t done = 0;
    std::vector<iovec> rest;
};

class IoPort {
public:
    virtual ~IoPort() = default;
    // True: in flight, the port will call io_complete(). False: completed already.
    virtual bool start(IoCall& call) = 0;
    // Resumes `handle` on this port's thread, soon. Any thread.
    virtual void post(std::coroutine_handle<> handle) = 0;
};

struct IoBatch {
    uint32_t pending = 0;
    std::coroutine_handle<> waiter;
};

// What a port calls when a started call is finished.
void io_complete(IoCall& call);

// The next system call's transfer: returns the vectors that are left.
std::span<const iovec> io_rest(const IoCall& call);
// Takes a system call's result (>= 0 bytes, or a negative errno). True when the call is finished.
bool io_advance(IoCall& call, int64_t result);
// The descriptor for this call: direct_fd only if everything is aligned.
int io_descriptor(const IoCall& call);

struct IoAwaiter {
    IoPort& port;
    IoCall call;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> handle) {
        call.waiter = handle;
        return port.start(call);
    }
    int await_resume() const noexcept { return call.result; }
};

IoAwaiter io_read(IoPort& port, HostFile& file, uint64_t offset, std::span<const iovec> vectors,
                  uint64_t size, bool data = false);
IoAwaiter io_write(IoPort& port, HostFile& file, uint64_t offset, std::span<const iovec> vectors,
                   uint64_t size, bool data = false);
IoAwaiter io_sync(IoPort& port, HostFile& file);
IoAwaiter io_punch(IoPort& port, HostFile& file, uint64_t offset, uint64_t size);
IoAwaiter io_truncate(IoPort& port, HostFile& file, uint64_t size);

// Starts all calls together; returns the first error, or 0.
struct IoAll {
    IoPort& port;
    std::vector<std::unique_ptr<IoCall>>& calls;
    IoBatch batch;
    bool await_ready() const noexcept { return calls.empty(); }
    bool await_suspend(std::coroutine_handle<> handle);
    int await_resume() const noexcept;
};

// The part of scattered buffers from `skip`, `size` bytes long, appended to `out`.
void cut_vectors(std::span<const iovec> vectors, uint64_t skip, uint64_t size,
                 std::vector<iovec>& out);
void zero_vectors(std::span<const iovec> vectors);
void copy_to_vectors(std::span<const iovec> vectors, const void* bytes);

}  // namespace kumoi::hypervisor::qcow2
