#include "hypervisor/block/raw_queue.h"

#include "base/assert.h"

namespace kumoi::hypervisor {

RawQueue::RawQueue(const RawFile& file, DiskClient& client)
    : file_(file), client_(client), operations_(kDepth) {
    for (uint32_t slot = 0; slot < kDepth; ++slot) {
        free_.push_back(kDepth - 1 - slot);
    }
}

RawQueue::~RawQueue() {
    KUMOI_ASSERT(in_flight() == 0);
}

bool RawQueue::submit(DiskRequest& request) {
    if (free_.empty()) {
        return false;
    }
    if (RawOperation::needs_bounce(request, file_) && bounce_bytes_ > 0 &&
        bounce_bytes_ + request.size > kBounceBytesMax) {
        return false;
    }
    const uint32_t slot = free_.back();
    free_.pop_back();
    operations_[slot].begin(request, file_);
    bounce_bytes_ += operations_[slot].bounce_bytes();
    start(slot);
    return true;
}

void RawQueue::finish(uint32_t slot) {
    RawOperation& finished = operations_[slot];
    bounce_bytes_ -= finished.bounce_bytes();
    finished.finish();
    free_.push_back(slot);
    client_.disk_completed(finished.token(), finished.result());
}

}  // namespace kumoi::hypervisor
