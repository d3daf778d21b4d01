// DiskImage: what a disk device reads and writes through, and DiskQueue, one stream of requests to
// it.
//
// A DiskImage is opened on the control thread and describes the disk; open_queue() is called on the
// I/O thread that will use the queue. Requests are asynchronous: submit() takes one, completions
// come back on the same thread, from the loop or from inside submit(), kick() or drain(). The I/O
// vectors point into guest RAM and must stay valid until the completion. Offsets and sizes are
// bytes; the caller keeps them inside the disk. Errors are negative errno values in completions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <sys/uio.h>

#include "base/event_loop.h"
#include "base/result.h"

namespace kumoi::hypervisor {

enum class CacheMode {
    Writeback,     // page cache; flush makes it durable
    Writethrough,  // the same with the guest's write cache off until it turns it on
    None,          // O_DIRECT; flush for the drive's own cache
};
enum class DiskEngine { Automatic, Uring, Threads };  // Automatic: io_uring, else threads

enum class DiskOperation { Read, Write, Flush, Discard, WriteZeroes };

struct DiskRequest {
    DiskOperation operation = DiskOperation::Read;
    bool may_unmap = false;  // WriteZeroes: holes are fine
    uint64_t offset = 0;
    uint64_t size = 0;
    std::vector<iovec> vectors;  // Read and Write: together `size` bytes
    uint32_t token = 0;          // comes back with the completion
};

// Who submitted; called on the queue's thread.
class DiskClient {
public:
    virtual ~DiskClient() = default;
    virtual void disk_completed(uint32_t token, int result) = 0;  // 0, or a negative errno
    virtual void disk_batch_done() = 0;  // no further completion follows at once
};

class DiskQueue {
public:
    virtual ~DiskQueue() = default;  // nothing may be in flight: drain() first
    // Takes the request's vectors. False when the queue is full: ask again after a completion.
    virtual bool submit(DiskRequest& request) = 0;
    virtual void kick() = 0;   // after a batch of submits: starts them
    virtual void drain() = 0;  // returns when all are completed
};

class LiveDisk;

class DiskImage {
public:
    virtual ~DiskImage() = default;
    virtual std::string name() const = 0;  // the path, for messages
    virtual uint64_t size() const = 0;
    virtual bool read_only() const = 0;
    virtual uint32_t block_size() const = 0;  // smallest aligned transfer: 512 or 4096
    virtual bool write_cache() const = 0;     // whether the guest's write cache starts enabled
    virtual bool can_discard() const = 0;
    // How many queues may be open at once. Above 1 they run on different threads at the same time.
    virtual uint16_t queue_count_max() const { return 1; }
    // The disk is somebody else's now: closing it must not write any more.
    virtual void abandon() {}
    virtual Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& loop, DiskClient& client) = 0;
    // What jobs on the running disk work with (live/live_disk.h); null: none are possible.
    virtual LiveDisk* live() { return nullptr; }
    // Larger, while queues are in use; from the control thread.
    virtual Result<void> resize(uint64_t /*size*/) {
        return Error::unsupported("disk {} cannot be resized here", name());
    }
    // Who wants to know that size() has changed; called on any thread. Empty: nobody any more.
    virtual void on_resize(std::function<void()> /*function*/) {}
};

}  // namespace kumoi::hypervisor
