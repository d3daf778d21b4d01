// Qcow2Image: a DiskImage over a qcow2 file and its backing files. Threading as DiskImage; all
// queues share one Store (store.h).
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "hypervisor/block/disk_image.h"
#include "hypervisor/block/qcow2/dirty_bitmap.h"
#include "hypervisor/block/qcow2/qcow2_queue.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

struct Qcow2ImageOptions {
    std::string path;
    bool read_only = false;
    CacheMode cache = CacheMode::Writeback;
    DiskEngine engine = DiskEngine::Automatic;
    uint32_t chain_depth_max = 32;  // backing files
    std::string backing_format;     // where an image does not say
    uint64_t l2_cache_bytes = 32u << 20;
};

class Qcow2Image final : public DiskImage {
public:
    static Result<std::unique_ptr<Qcow2Image>> open(FileSource& files,
                                                    const Qcow2ImageOptions& options);
    ~Qcow2Image() override;  // closes: everything durable

    std::string name() const override { return options_.path; }
    uint64_t size() const override { return slot_.store->size() & ~uint64_t{511}; }
    bool read_only() const override { return options_.read_only; }
    uint32_t block_size() const override;
    bool write_cache() const override { return options_.cache != CacheMode::Writethrough; }
    bool can_discard() const override { return !options_.read_only; }
    void abandon() override { abandoned_ = true; }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& loop, DiskClient& client) override;
    uint16_t queue_count_max() const override { return 16; }
    Result<void> resize(uint64_t size) override;
    void on_resize(std::function<void()> function) override;

    // The rest while every queue is drained. Bitmaps stay with the disk.
    // From now on writes go to `overlay`, a new image opened without its backing file, which
    // becomes the present one.
    Result<void> switch_to_overlay(std::unique_ptr<qcow2::Store> overlay);
    // `base` has the disk's whole contents and takes over; its backing file is the one of the
    // image's own backing file, which goes with the image.
    Result<void> switch_to_base(std::unique_ptr<qcow2::Store> base);
    // Everything was pulled: the image stands alone.
    Result<void> forget_backing();
    Result<void> sync();  // everything durable, the image open; no queue may be in use
    // As the destructor does, which then does nothing more; no queue may be open.
    Result<void> close_now();
    qcow2::Store& store() { return *slot_.store; }
    qcow2::DirtyBitmaps& bitmaps() { return *bitmaps_; }
    const Qcow2ImageOptions& options() const { return options_; }

private:
    explicit Qcow2Image(const Qcow2ImageOptions& options) : options_(options) {}
    Result<void> open_store(FileSource& files, const std::string& path);
    Result<void> close();
    Result<std::unique_ptr<qcow2::DirtyBitmaps>> move_bitmaps(qcow2::Store& to);
    void adopt(std::unique_ptr<qcow2::Store> store, std::unique_ptr<qcow2::DirtyBitmaps> bitmaps);

    Qcow2ImageOptions options_;
    bool abandoned_ = false;
    qcow2::StoreSlot slot_;
    std::mutex resized_mutex_;  // guards resized_
    std::function<void()> resized_;
    std::unique_ptr<qcow2::DirtyBitmaps> bitmaps_;
};

}  // namespace kumoi::hypervisor
