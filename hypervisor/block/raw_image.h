// RawImage: a DiskImage over a regular file or a block device, byte for byte.
//
// Opening takes an open-file-description lock on the whole file: one writer, or any number of
// readers, across all processes of the host; the second is refused with an error that names the
// file. The lock goes when the image is closed or its process ends. Two engines: io_uring, or
// threads where the kernel has none. Threading as DiskImage.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "base/fd.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/block/qcow2/block_source.h"
#include "hypervisor/block/raw_operation.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

struct RawImageOptions {
    std::string path;
    bool read_only = false;
    CacheMode cache = CacheMode::Writeback;
    DiskEngine engine = DiskEngine::Automatic;
};

class RawImage final : public DiskImage {
public:
    static Result<std::unique_ptr<DiskImage>> open(FileSource& files,
                                                   const RawImageOptions& options);

    std::string name() const override { return options_.path; }
    uint64_t size() const override { return size_; }
    bool read_only() const override { return options_.read_only; }
    uint32_t block_size() const override { return file_.direct ? file_.alignment : 512; }
    bool write_cache() const override { return options_.cache != CacheMode::Writethrough; }
    bool can_discard() const override { return !options_.read_only; }
    uint16_t queue_count_max() const override { return 64; }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& loop, DiskClient& client) override;
    Result<void> sync();  // what was written is durable
    // Reads the disk beside its queues; while it lives the image must.
    Result<std::unique_ptr<qcow2::BlockSource>> open_source();
    // A file grows; of a block device the size it has by now is taken over.
    Result<void> resize(uint64_t size) override;
    void on_resize(std::function<void()> function) override;

private:
    explicit RawImage(const RawImageOptions& options) : options_(options) {}
    Result<void> open_file_locked(FileSource& files);
    Result<void> lock();
    Result<void> measure();
    Result<void> find_alignment();

    const RawImageOptions options_;
    UniqueFd fd_;
    RawFile file_;
    std::atomic<uint64_t> size_{0};
    std::mutex resized_mutex_;  // guards resized_
    std::function<void()> resized_;
};

}  // namespace kumoi::hypervisor
