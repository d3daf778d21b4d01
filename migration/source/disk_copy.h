// DiskCopy: disks without a place that both hosts see come with the stream, in the same rounds as
// memory and with the same downtime (VMM study 3.12).
//
// A disk is cut into granules of 64 KiB. The first round sends what is in the image's own file
// (holes, and what a qcow2 image has from its backing file, are not read); later ones what the
// guest has changed since. begin() once the machine stands still, collect() also while it runs;
// send_some() by several threads at once, each with a slot of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/block/live/live_disk.h"
#include "hypervisor/block/qcow2/buffer.h"
#include "hypervisor/memory/page_bitmap.h"
#include "migration/stream/page_frame.h"
#include "migration/stream/stream_socket.h"

namespace kumoi::migration {

class DiskCopy {
public:
    struct Disk {
        std::string id;
        hypervisor::LiveDisk* image = nullptr;
    };
    // `slots`: how many threads send.
    DiskCopy(std::vector<Disk> disks, size_t slots);
    ~DiskCopy();  // the changes are tracked no longer
    DiskCopy(const DiskCopy&) = delete;
    DiskCopy& operator=(const DiskCopy&) = delete;

    // While the disks stand still: from here on changes are seen.
    Result<void> begin();
    // Adds what was changed to what is to be sent. The thread that copies.
    void collect();
    void start_round();
    // One frame of the round over this stream. Says its bytes; 0: the round has no more.
    Result<uint64_t> send_some(size_t slot, StreamSocket& stream, uint32_t round);

    uint64_t total() const { return total_; }  // bytes of all disks
    uint64_t remaining() const;                // bytes of granules to be sent

private:
    struct Item {
        Disk disk;
        uint64_t size = 0;
        hypervisor::PageMarks* marks = nullptr;
        std::unique_ptr<hypervisor::qcow2::BlockSource> source;
        hypervisor::PageBitmap pending;
        bool first_round = true;  // granules that the image does not have need not be sent
        uint64_t cursor = 0;      // of the round
    };
    struct Piece {
        size_t disk = 0;
        uint64_t first = 0;  // granules
        uint64_t count = 0;
        bool first_round = false;
    };
    struct Slot {
        hypervisor::qcow2::AlignedBuffer buffer;
        std::vector<std::byte> table;
    };
    bool next_piece(Piece& piece);
    Result<uint64_t> send_piece(Slot& slot, const Piece& piece, StreamSocket& stream,
                                uint32_t round);
    Result<void> read(Item& item, uint64_t offset, std::span<std::byte> bytes);

    mutable std::mutex mutex_;  // guards pending and cursors
    std::vector<Item> items_;
    std::vector<Slot> slots_;
    size_t current_ = 0;  // the disk of the round that is being sent
    uint64_t total_ = 0;
};

}  // namespace kumoi::migration
