// LeasedImage: a DiskImage that writes only while its lease (disk_lease.h) is ours. The lease is
// read again at each flush and, when there are writes, at least once a second; from the moment it
// is found lost every write, zeroing, discard and flush fails. Threading as DiskImage.
#pragma once

#include <memory>

#include "base/clock.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/block/disk_lease.h"

namespace kumoi::hypervisor {

class LeasedImage final : public DiskImage {
public:
    static constexpr int64_t kCheckInterval = kNanosPerSecond;

    LeasedImage(std::unique_ptr<DiskImage> image, std::unique_ptr<DiskLease> lease,
                const Clock& clock)
        : lease_(std::move(lease)), image_(std::move(image)), clock_(clock) {}

    ~LeasedImage() override;

    std::string name() const override { return image_->name(); }
    uint64_t size() const override { return image_->size(); }
    bool read_only() const override { return image_->read_only(); }
    uint32_t block_size() const override { return image_->block_size(); }
    bool write_cache() const override { return image_->write_cache(); }
    bool can_discard() const override { return image_->can_discard(); }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& loop, DiskClient& client) override;
    uint16_t queue_count_max() const override { return image_->queue_count_max(); }
    Result<void> resize(uint64_t size) override { return image_->resize(size); }
    void on_resize(std::function<void()> function) override {
        image_->on_resize(std::move(function));
    }
    DiskLease& lease() { return *lease_; }
    DiskImage& image() { return *image_; }

private:
    std::unique_ptr<DiskLease> lease_;  // outlives the image, which writes when it closes
    std::unique_ptr<DiskImage> image_;
    const Clock& clock_;
};

}  // namespace kumoi::hypervisor
