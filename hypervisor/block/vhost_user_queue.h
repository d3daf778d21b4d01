// VhostUserQueue: one DiskQueue of a VhostUserDisk: DiskRequests become virtio-blk requests in a
// ring that the back end shares.
//
// Each slot of the ring has a page of shared memory: an indirect table, the request's header and
// its status. A slot keeps its request until the back end has answered it, so that it can be given
// to another back end. Threading as DiskQueue.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/fd.h"
#include "hypervisor/block/vhost_user_disk.h"
#include "hypervisor/vhost_user/driver_ring.h"

namespace kumoi::hypervisor {

class VhostUserQueue final : public DiskQueue {
public:
    static size_t memory_size();  // of one queue, whole pages

    VhostUserQueue(VhostUserDisk& disk, uint16_t index, EventLoop& loop, DiskClient& client);
    ~VhostUserQueue() override;
    Result<void> open();

    bool submit(DiskRequest& request) override;
    void kick() override;
    void drain() override;

private:
    struct Slot {
        DiskOperation operation = DiskOperation::Read;
        bool may_unmap = false;
        bool busy = false;
        uint32_t token = 0;
        uint64_t offset = 0;  // of what is left
        uint64_t left = 0;
        uint64_t step = 0;  // of that, with the back end
        std::vector<iovec> vectors;
    };
    struct Page;  // in shared memory, one a slot
    Page& page(uint16_t slot);
    bool fill(uint16_t slot);
    bool add_data(uint16_t slot, size_t& count);
    uint64_t step_max(const Slot& slot) const;
    void give(uint16_t slot);
    void reap();
    void answered(uint16_t slot);
    void complete(uint16_t slot, int result);
    Result<void> attach();
    void detach();
    void lose(const Error& why);
    void connection_readable();
    void try_again();
    void retry_later();
    void fail_all();
    uint16_t busy_count() const { return static_cast<uint16_t>(slots_.size() - free_.size()); }

    VhostUserDisk& disk_;
    const uint16_t index_;
    EventLoop& loop_;
    DiskClient& client_;
    DriverRing ring_;
    std::vector<Slot> slots_;
    std::vector<uint16_t> free_;
    UniqueFd kick_;
    UniqueFd call_;
    VhostUserDisk::Connection connection_;  // null: lost
    EventLoop::Watch call_watch_;
    EventLoop::Watch connection_watch_;
    EventLoop::Watch backend_watch_;
    std::optional<EventLoop::TimerId> retry_;
};

}  // namespace kumoi::hypervisor
