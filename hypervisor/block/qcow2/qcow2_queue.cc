// One queue of a qcow2 image: requests become tasks on the queue's own port.
#include "hypervisor/block/qcow2/qcow2_queue.h"

#include <cerrno>

#include "base/assert.h"

namespace kumoi::hypervisor::qcow2 {

Qcow2Queue::Qcow2Queue(StoreSlot& slot, std::unique_ptr<QueuePort> port, DiskClient& client)
    : slot_(slot), port_(std::move(port)), client_(client), jobs_(kDepth) {
    for (uint32_t i = 0; i < kDepth; ++i) {
        free_.push_back(kDepth - 1 - i);
    }
    port_->on_round([this] { round(); });
}

Qcow2Queue::~Qcow2Queue() {
    KUMOI_ASSERT(free_.size() == kDepth);
}

bool Qcow2Queue::submit(DiskRequest& request) {
    if (free_.empty()) {
        return false;
    }
    const uint32_t index = free_.back();
    free_.pop_back();
    Job& job = jobs_[index];
    job.token = request.token;
    job.vectors.swap(request.vectors);
    request.vectors.clear();
    job.task.emplace(
        perform(request.operation, request.offset, request.size, request.may_unmap, index));
    job.task->start();
    return true;
}

// Everything by value: the request is the caller's.
Task<int> Qcow2Queue::perform(DiskOperation operation, uint64_t offset, uint64_t size,
                              bool may_unmap, uint32_t index) {
    Store& store = *slot_.store;
    const std::span<const iovec> vectors(jobs_[index].vectors);
    int status = 0;
    switch (operation) {
        case DiskOperation::Read:
            status = co_await store.read(*port_, offset, vectors, size);
            break;
        case DiskOperation::Write:
            status = co_await store.write(*port_, offset, vectors, size);
            break;
        case DiskOperation::Flush: status = co_await store.flush(*port_); break;
        case DiskOperation::Discard: status = co_await store.discard(*port_, offset, size); break;
        case DiskOperation::WriteZeroes:
            status = co_await store.zero(*port_, offset, size, may_unmap);
            break;
    }
    finished_.push_back(index);
    co_return status;
}

void Qcow2Queue::kick() {
    port_->kick();
}

// Hands out what has finished; the tasks end here, never inside themselves.
void Qcow2Queue::round() {
    if (finished_.empty()) {
        return;
    }
    while (!finished_.empty()) {
        handing_.swap(finished_);
        for (const uint32_t index : handing_) {
            Job& job = jobs_[index];
            const int status = job.task->take();
            const uint32_t token = job.token;
            job.task.reset();
            free_.push_back(index);
            client_.disk_completed(token, status);
        }
        handing_.clear();
    }
    client_.disk_batch_done();
}

void Qcow2Queue::drain() {
    port_->kick();
    while (free_.size() < kDepth) {
        port_->wait();
    }
}

}  // namespace kumoi::hypervisor::qcow2
