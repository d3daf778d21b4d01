// BlockQueue: one request queue of a VirtioBlock: parses chains, hands them to a DiskStream of its
// own, and answers. Everything runs on the queue's I/O thread, but the counters, which anybody may
// read.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "hypervisor/virtio/device.h"
#include "hypervisor/virtio/disk_stream.h"

namespace kumoi::hypervisor {

class BlockQueue final : private DiskStreamOwner {
public:
    BlockQueue(BlockShared& shared, uint16_t index, uint16_t size);

    Result<void> start(VirtioContext& context);
    void process(Queue& queue);
    void quiesce();
    void stop();
    const BlockCounters& counters() const { return stream_.counters(); }

private:
    void handle(Chain& chain);
    void handle_transfer(Chain& chain, DiskOperation operation, uint64_t sector);
    void handle_range(Chain& chain, DiskOperation operation);
    void handle_get_id(Chain& chain);
    void refuse(Chain& chain, uint8_t status);
    void accept(Chain& chain, DiskOperation operation, uint64_t offset, uint64_t size);
    void request_done(uint32_t token, int result) override;
    void batch_done() override;
    void take_turn() override { context_->run_queue(index_); }
    static void finish(Chain& chain, uint8_t status);
    bool inside_disk(uint64_t sector, uint64_t size) const;

    BlockShared& shared_;
    const uint16_t index_;
    const uint16_t size_;
    VirtioContext* context_ = nullptr;
    std::vector<std::optional<Chain>> chains_;  // by token
    DiskStream stream_;
};

}  // namespace kumoi::hypervisor
