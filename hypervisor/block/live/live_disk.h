// LiveDisk: a DiskImage around a writable one, so that jobs can work on the disk while its guest
// runs. It owns the one job a disk can have, and the gate of a running backup.
//
// Threading as DiskImage. What says "while the disk stands still": on the control thread, every
// queue drained.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "hypervisor/block/disk_image.h"
#include "hypervisor/block/live/copy_gate.h"
#include "hypervisor/block/live/live_job.h"
#include "hypervisor/block/qcow2/block_source.h"
#include "hypervisor/memory/page_bitmap.h"

namespace kumoi::hypervisor {

class LiveQueue;
class Qcow2Image;
class RawImage;

class LiveDisk final : public DiskImage {
public:
    // One of the two pointers names the image inside (through a lease).
    LiveDisk(std::unique_ptr<DiskImage> image, Qcow2Image* qcow2, RawImage* raw)
        : image_(std::move(image)), qcow2_(qcow2), raw_(raw) {}
    ~LiveDisk() override;

    std::string name() const override { return image_->name(); }
    uint64_t size() const override { return image_->size(); }
    bool read_only() const override { return image_->read_only(); }
    uint32_t block_size() const override { return image_->block_size(); }
    bool write_cache() const override { return image_->write_cache(); }
    bool can_discard() const override { return image_->can_discard(); }
    uint16_t queue_count_max() const override { return image_->queue_count_max(); }
    void abandon() override { image_->abandon(); }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& loop, DiskClient& client) override;
    Result<void> resize(uint64_t size) override;
    void on_resize(std::function<void()> function) override {
        image_->on_resize(std::move(function));
    }
    LiveDisk* live() override { return this; }

    Qcow2Image* qcow2() { return qcow2_; }  // null: a raw disk
    bool has_backing();                     // some of its contents are in another file
    // Reads the disk; while it lives the image must.
    Result<std::unique_ptr<qcow2::BlockSource>> open_source();

    LiveJob* job() { return job_.get(); }  // the running or the last one; null: none yet
    void set_job(std::unique_ptr<LiveJob> job) { job_ = std::move(job); }
    // While the disk stands still. Null: none.
    void set_gate(std::unique_ptr<CopyGate> gate);
    CopyGate* gate() const { return gate_.load(std::memory_order_acquire); }

    // From here on granules of 64 KiB that were changed are marked, once a change is complete.
    // While the disk stands still; the marks stay until they are replaced, which also is then.
    PageMarks& track_changes();
    void stop_tracking() { marks_.store(nullptr, std::memory_order_release); }

private:
    friend class LiveQueue;
    void enter(LiveQueue& queue);
    void leave(LiveQueue& queue);
    std::vector<LiveQueue*> queues_of(std::thread::id thread);

    std::unique_ptr<DiskImage> image_;
    Qcow2Image* const qcow2_;
    RawImage* const raw_;
    std::unique_ptr<CopyGate> owned_gate_;
    std::atomic<CopyGate*> gate_{nullptr};
    std::unique_ptr<PageMarks> owned_marks_;
    std::atomic<PageMarks*> marks_{nullptr};
    std::mutex queues_mutex_;  // guards queues_
    std::vector<LiveQueue*> queues_;
    std::unique_ptr<LiveJob> job_;  // ends before what it works on
};

// Holds back what a backup has not copied yet; everything else goes straight through.
class LiveQueue final : public DiskQueue, private DiskClient, private GateWaiter {
public:
    static Result<std::unique_ptr<LiveQueue>> open(LiveDisk& disk, EventLoop& loop,
                                                   DiskClient& client);
    ~LiveQueue() override;
    bool submit(DiskRequest& request) override;
    bool pass_on(DiskRequest& request);
    void kick() override { inner_->kick(); }
    void drain() override;

private:
    friend class LiveDisk;
    LiveQueue(LiveDisk& disk, EventLoop& loop, DiskClient& client)
        : disk_(disk), loop_(loop), client_(client) {}
    void release();
    void disk_completed(uint32_t token, int result) override;
    void disk_batch_done() override;
    void gate_moved() override;

    LiveDisk& disk_;
    EventLoop& loop_;
    DiskClient& client_;
    const std::thread::id thread_ = std::this_thread::get_id();
    std::unique_ptr<DiskQueue> inner_;
    struct Change {
        uint64_t offset;
        uint64_t size;
    };
    std::unordered_map<uint32_t, Change> changes_;  // in flight, by token, while they are tracked
    std::deque<DiskRequest> held_;
    std::atomic<bool> posted_{false};
    std::shared_ptr<int> life_ = std::make_shared<int>();  // shared: weakly, with posted functions
};

}  // namespace kumoi::hypervisor
