// Qcow2Queue: a DiskQueue of a qcow2 image. Threading as DiskQueue.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "hypervisor/block/disk_image.h"
#include "hypervisor/block/qcow2/queue_port.h"
#include "hypervisor/block/qcow2/store.h"
#include "hypervisor/block/qcow2/task.h"

namespace kumoi::hypervisor::qcow2 {

// The store all queues of an image use; exchanged only while all are drained.
struct StoreSlot {
    std::unique_ptr<Store> store;
};

class Qcow2Queue final : public DiskQueue {
public:
    static constexpr uint32_t kDepth = 128;

    Qcow2Queue(StoreSlot& slot, std::unique_ptr<QueuePort> port, DiskClient& client);
    ~Qcow2Queue() override;
    bool submit(DiskRequest& request) override;
    void kick() override;
    void drain() override;

private:
    struct Job {
        uint32_t token = 0;
        std::vector<iovec> vectors;
        std::optional<Task<int>> task;
    };
    Task<int> perform(DiskOperation operation, uint64_t offset, uint64_t size, bool may_unmap,
                      uint32_t index);
    void round();

    StoreSlot& slot_;
    std::unique_ptr<QueuePort> port_;
    DiskClient& client_;
    std::vector<Job> jobs_;
    std::vector<uint32_t> free_;
    std::vector<uint32_t> finished_;
    std::vector<uint32_t> handing_;
};

}  // namespace kumoi::hypervisor::qcow2
