#include "hypervisor/block/live/live_disk.h"

#include <algorithm>

#include "hypervisor/block/live/borrowed_source.h"
#include "hypervisor/block/qcow2/qcow2_image.h"
#include "hypervisor/block/raw_image.h"

namespace kumoi::hypervisor {

namespace {

bool changes_disk(DiskOperation operation) {
    return operation != DiskOperation::Read && operation != DiskOperation::Flush;
}

}  // namespace

LiveDisk::~LiveDisk() = default;

Result<std::unique_ptr<DiskQueue>> LiveDisk::open_queue(EventLoop& loop, DiskClient& client) {
    auto queue = TRY(LiveQueue::open(*this, loop, client));
    return Result<std::unique_ptr<DiskQueue>>(std::move(queue));
}

Result<void> LiveDisk::resize(uint64_t size) {
    if (job_ && job_->running()) {
        return Error::conflict("a {} of disk {} is under way", job_->kind(), name())
            .with_hint("wait for it, or cancel it with disk_job_cancel");
    }
    return image_->resize(size);
}

Result<std::unique_ptr<qcow2::BlockSource>> LiveDisk::open_source() {
    if (qcow2_ != nullptr) {
        return Result<std::unique_ptr<qcow2::BlockSource>>(
            std::make_unique<BorrowedSource>(qcow2_->store()));
    }
    return raw_->open_source();
}

bool LiveDisk::has_backing() {
    return qcow2_ != nullptr && qcow2_->store().backing() != nullptr;
}

void LiveDisk::set_gate(std::unique_ptr<CopyGate> gate) {
    gate_.store(gate.get(), std::memory_order_release);
    owned_gate_ = std::move(gate);
}

PageMarks& LiveDisk::track_changes() {
    owned_marks_ =
        std::make_unique<PageMarks>((size() + CopyGate::kGranule - 1) >> CopyGate::kGranuleBits);
    marks_.store(owned_marks_.get(), std::memory_order_release);
    return *owned_marks_;
}

void LiveDisk::enter(LiveQueue& queue) {
    const std::lock_guard lock(queues_mutex_);
    queues_.push_back(&queue);
}

void LiveDisk::leave(LiveQueue& queue) {
    const std::lock_guard lock(queues_mutex_);
    std::erase(queues_, &queue);
}

std::vector<LiveQueue*> LiveDisk::queues_of(std::thread::id thread) {
    const std::lock_guard lock(queues_mutex_);
    std::vector<LiveQueue*> found;
    std::copy_if(queues_.begin(), queues_.end(), std::back_inserter(found),
                 [thread](const LiveQueue* queue) { return queue->thread_ == thread; });
    return found;
}

Result<std::unique_ptr<LiveQueue>> LiveQueue::open(LiveDisk& disk, EventLoop& loop,
                                                   DiskClient& client) {
    std::unique_ptr<LiveQueue> queue(new LiveQueue(disk, loop, client));
    queue->inner_ = TRY(disk.image_->open_queue(loop, *queue));
    disk.enter(*queue);
    return Result<std::unique_ptr<LiveQueue>>(std::move(queue));
}

LiveQueue::~LiveQueue() {
    disk_.leave(*this);
    if (CopyGate* gate = disk_.gate()) {
        gate->forget(*this);
    }
}

bool LiveQueue::submit(DiskRequest& request) {
    CopyGate* gate = disk_.gate();
    if (gate == nullptr || !changes_disk(request.operation) ||
        gate->may_change(request.offset, request.size)) {
        return pass_on(request);
    }
    const uint64_t offset = request.offset;
    const uint64_t size = request.size;
    held_.push_back(request);
    request.vectors.clear();
    gate->want(*this, offset, size);
    return true;
}

bool LiveQueue::pass_on(DiskRequest& request) {
    const bool tracked = disk_.marks_.load(std::memory_order_acquire) != nullptr &&
                         changes_disk(request.operation) && request.size != 0;
    if (tracked) {  // first: it may be complete before submit() returns
        changes_[request.token] = {request.offset, request.size};
    }
    const uint32_t token = request.token;
    const bool taken = inner_->submit(request);
    if (!taken && tracked) {
        changes_.erase(token);
    }
    return taken;
}

// Also after a failure: some of it may be there.
void LiveQueue::disk_completed(uint32_t token, int result) {
    if (const auto change = changes_.find(token); change != changes_.end()) {
        if (PageMarks* marks = disk_.marks_.load(std::memory_order_acquire)) {
            const uint64_t first = change->second.offset >> CopyGate::kGranuleBits;
            const uint64_t last =
                (change->second.offset + change->second.size - 1) >> CopyGate::kGranuleBits;
            marks->mark(first, last - first + 1);
        }
        changes_.erase(change);
    }
    client_.disk_completed(token, result);
}

// On any thread, with the gate's lock held.
void LiveQueue::gate_moved() {
    if (!posted_.exchange(true)) {
        loop_.post([this, life = std::weak_ptr<int>(life_)] {
            if (!life.expired()) {
                posted_ = false;
                release();
            }
        });
    }
}

void LiveQueue::release() {
    CopyGate* gate = disk_.gate();
    for (auto request = held_.begin(); request != held_.end();) {
        if (gate != nullptr && !gate->may_change(request->offset, request->size)) {
            ++request;
            continue;
        }
        if (!pass_on(*request)) {
            break;  // full: after the next completion
        }
        request = held_.erase(request);
    }
    inner_->kick();
}

void LiveQueue::disk_batch_done() {
    client_.disk_batch_done();
    if (!held_.empty()) {
        release();
    }
}

// Waiting for the gate must not hold up the thread that copies: requests in flight on this thread,
// also those of other queues, may hold locks of the image that it needs.
void LiveQueue::drain() {
    while (!held_.empty()) {
        for (LiveQueue* queue : disk_.queues_of(thread_)) {
            queue->inner_->drain();
        }
        if (!held_.empty()) {
            disk_.gate()->wait(held_.front().offset, held_.front().size);
            release();
        }
    }
    inner_->drain();
}

}  // namespace kumoi::hypervisor
