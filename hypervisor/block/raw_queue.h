// RawQueue: what both engines of a raw image share: a fixed number of operations in flight and the
// limit on bounce memory. Threading as DiskQueue.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "hypervisor/block/raw_operation.h"

namespace kumoi::hypervisor {

class RawQueue : public DiskQueue {
public:
    static constexpr uint32_t kDepth = 128;
    static constexpr uint64_t kBounceBytesMax = 8u << 20;  // one request may exceed it when alone

    RawQueue(const RawFile& file, DiskClient& client);
    ~RawQueue() override;
    bool submit(DiskRequest& request) final;

protected:
    virtual void start(uint32_t slot) = 0;  // makes, or queues, the operation's next call
    RawOperation& operation(uint32_t slot) { return operations_[slot]; }
    uint32_t in_flight() const { return kDepth - static_cast<uint32_t>(free_.size()); }
    void finish(uint32_t slot);  // hands the result to the client
    void batch_done() { client_.disk_batch_done(); }
    const RawFile file_;

private:
    DiskClient& client_;
    std::vector<RawOperation> operations_;
    std::vector<uint32_t> free_;
    uint64_t bounce_bytes_ = 0;
};

// Error when the kernel has no io_uring, or its use is forbidden.
Result<std::unique_ptr<DiskQueue>> make_uring_queue(const RawFile& file, EventLoop& loop,
                                                    DiskClient& client);
// A few threads that call preadv and friends.
Result<std::unique_ptr<DiskQueue>> make_thread_queue(const RawFile& file, EventLoop& loop,
                                                     DiskClient& client);

}  // namespace kumoi::hypervisor
