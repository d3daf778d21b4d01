// DiskWriter: writes the granules of disks that come with a migration into their images, on a
// thread of its own, as any queue of a guest's disk would. Bounded: whoever brings more than
// kWaitingMax waits. An error stays and is told with every later call.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "hypervisor/block/disk_image.h"

namespace kumoi::migration {

class DiskWriter {
public:
    static constexpr size_t kWaitingMax = 32;  // pieces; each at most 512 KiB

    // The images must outlive it.
    DiskWriter(std::vector<hypervisor::DiskImage*> images, const Clock& clock);
    ~DiskWriter();  // what still waits is not written
    DiskWriter(const DiskWriter&) = delete;
    DiskWriter& operator=(const DiskWriter&) = delete;

    size_t disks() const { return images_.size(); }
    uint64_t size(size_t disk) const { return images_[disk]->size(); }
    // From any thread. No bytes: zeros.
    Result<void> write(size_t disk, uint64_t offset, uint64_t size, std::vector<std::byte> bytes);
    // Returns when all that was brought before is durable.
    Result<void> flush();
    void stop();  // whoever waits gets an error
    uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

private:
    struct Piece {
        size_t disk = 0;
        uint64_t offset = 0;
        uint64_t size = 0;
        std::vector<std::byte> bytes;
        bool flush = false;
    };
    struct Queue;
    Result<void> add(Piece piece);
    void work();
    Result<void> write_piece(Queue& queue, Piece& piece);
    Error stopped_error() const;

    const std::vector<hypervisor::DiskImage*> images_;
    const Clock& clock_;
    std::atomic<uint64_t> bytes_{0};
    std::mutex mutex_;  // guards all below
    std::condition_variable changed_;
    std::deque<Piece> waiting_;
    uint64_t added_ = 0;
    uint64_t done_ = 0;
    bool stopped_ = false;
    std::optional<Error> error_;
    std::thread thread_;
};

}  // namespace kumoi::migration
