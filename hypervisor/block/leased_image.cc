#include "hypervisor/block/leased_image.h"

#include <cerrno>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

class LeasedQueue final : public DiskQueue {
public:
    LeasedQueue(std::unique_ptr<DiskQueue> queue, DiskLease& lease, const Clock& clock,
                DiskClient& client)
        : queue_(std::move(queue)), lease_(lease), clock_(clock), client_(client) {}

    bool submit(DiskRequest& request) override {
        if (request.operation == DiskOperation::Read || may_write(request.operation)) {
            return queue_->submit(request);
        }
        client_.disk_completed(request.token, -EROFS);
        refused_ = true;
        return true;
    }
    void kick() override {
        queue_->kick();
        if (refused_) {
            refused_ = false;
            client_.disk_batch_done();
        }
    }
    void drain() override { queue_->drain(); }

private:
    bool may_write(DiskOperation operation) {
        const int64_t now = clock_.monotonic_ns();
        if (operation == DiskOperation::Flush || now - checked_ >= LeasedImage::kCheckInterval) {
            checked_ = now;
            if (const auto checked = lease_.check(); !checked && !reported_) {
                reported_ = true;
                log_error("block", "the disk's lease", {{"error", checked.error().text()}});
            }
        }
        return !lease_.lost();
    }

    std::unique_ptr<DiskQueue> queue_;
    DiskLease& lease_;
    const Clock& clock_;
    DiskClient& client_;
    int64_t checked_ = INT64_MIN / 2;
    bool refused_ = false;
    bool reported_ = false;
};

}  // namespace

// Closing an image may write (what was not flushed): only while the lease is ours.
LeasedImage::~LeasedImage() {
    if (!lease_->check()) {
        image_->abandon();
    }
    image_.reset();
    if (!lease_->lost()) {
        if (auto released = lease_->release(); !released) {
            log_warn("block", "the disk's lease", {{"error", released.error().text()}});
        }
    }
}

Result<std::unique_ptr<DiskQueue>> LeasedImage::open_queue(EventLoop& loop, DiskClient& client) {
    auto queue = TRY(image_->open_queue(loop, client));
    return Result<std::unique_ptr<DiskQueue>>(
        std::make_unique<LeasedQueue>(std::move(queue), *lease_, clock_, client));
}

}  // namespace kumoi::hypervisor
