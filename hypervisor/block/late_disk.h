// LateDisk: a disk whose image comes and goes under the device: it is opened when the machine is
// made or, for a guest that comes from another host, when the handover wants it; and it can be
// given free and opened again.
//
//     closed --hold()--> held (locked, its metadata read) --take()--> in use --drop()--> closed
//
// Before it was open it has the size of one sector; what the device model is made from (read-only,
// queues, discard) follows from its configuration, and hold() fails if the image has not got it.
// Requests while it is not in use fail. Opened, taken and dropped on the control thread with the
// device's queues idle; the rest as DiskImage.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/block/disk_lease.h"
#include "hypervisor/block/disk_open.h"
#include "hypervisor/block/kept_files.h"

namespace kumoi::hypervisor {

class LateQueue;

class LateDisk final : public DiskImage {
public:
    struct Spec {
        DiskOptions options;
        uint16_t queues = 1;  // that the device has
        // Instead of a file: a back end in another process. Again each time it is opened.
        std::function<Result<std::unique_ptr<DiskImage>>()> backend;
    };
    // In use at once, under the lease of its options.
    static Result<std::unique_ptr<LateDisk>> open(FileSource& files, Spec spec);
    static std::unique_ptr<LateDisk> closed(FileSource& files, Spec spec);
    ~LateDisk() override;

    // Conflict: somebody else has its lock. Nothing of its lease is looked at.
    Result<void> hold();
    // What its lease says now; empty: it has none. While held.
    Result<std::optional<LeaseRecord>> lease_record();
    const DiskLock& lease() const { return spec_.options.lock; }
    // The lease gets this epoch, if it shows one of `accepted` (Conflict: it shows another). Then
    // the device's queues go to the image. While held; after an error it still is.
    Result<void> take(uint64_t epoch, const std::vector<uint64_t>& accepted);
    Result<void> sync();  // everything durable, the disk as it is
    // Everything durable, closed, unlocked; the lease keeps its epoch. An error tells that not
    // everything is durable; the disk is closed all the same. Written: what a raw image was given
    // need only be there for other processes of this host.
    enum class Drop { Durable, Written };
    Result<void> drop(Drop how = Drop::Durable);
    // Before the guest is stopped for a drop() that syncs: so that it takes less.
    void write_back() const;
    bool held() const { return opened_.image != nullptr; }
    bool in_use() const { return image_ != nullptr; }
    // Another file has become its image since it was opened: it cannot be opened again where only
    // what was kept can be.
    void set_moved() { moved_ = true; }
    bool moved() const { return moved_; }

    std::string name() const override;
    uint64_t size() const override { return size_; }
    bool read_only() const override { return spec_.options.read_only; }
    uint32_t block_size() const override { return block_size_; }
    bool write_cache() const override { return spec_.options.cache != CacheMode::Writethrough; }
    bool can_discard() const override { return can_discard_; }
    uint16_t queue_count_max() const override { return queue_count_max_; }
    void abandon() override;
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& loop, DiskClient& client) override;
    LiveDisk* live() override { return image_ ? image_->live() : nullptr; }
    Result<void> resize(uint64_t size) override;
    void on_resize(std::function<void()> function) override;

private:
    friend class LateQueue;
    LateDisk(FileSource& files, Spec spec);
    Result<void> check_fits(const DiskImage& image) const;
    Result<void> use(std::unique_ptr<DiskImage> image);
    void forward_resize();
    void enter(LateQueue& queue);
    void leave(LateQueue& queue);
    std::vector<LateQueue*> queues();

    Spec spec_;
    std::unique_ptr<KeptFiles> files_;  // as long as any image
    OpenedDisk opened_;                 // held
    std::unique_ptr<DiskImage> image_;  // in use
    // Of the image in use, which it belongs to.
    RawImage* raw_ = nullptr;
    Qcow2Image* qcow2_ = nullptr;
    std::atomic<uint64_t> size_{512};
    std::atomic<uint32_t> block_size_{512};
    bool can_discard_;
    uint16_t queue_count_max_;
    bool known_ = false;  // was open once: the numbers above are its own
    bool moved_ = false;
    std::mutex mutex_;  // guards queues_, resized_
    std::vector<LateQueue*> queues_;
    std::function<void()> resized_;
};

}  // namespace kumoi::hypervisor
