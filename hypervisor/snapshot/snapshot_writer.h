// SnapshotWriter: one snapshot file being written: guest memory block by block, in any order and
// from several threads, then sections, block table, index and trailer.
//
//     auto writer = TRY(SnapshotWriter::create(std::move(output), memory_size, Compression::None));
//     TRY(writer->write_blocks(first, bytes));           // any thread; each block once
//     TRY(writer->finish(index, sections));              // durable when this returns
//
// The file comes into being under its name only by finish(): until then it is written under another
// name, or, where there is only a descriptor, has no trailer and is refused by every reader.
// Destroying an unfinished writer leaves no file.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/snapshot/format.h"
#include "hypervisor/snapshot/section.h"

namespace kumoi::hypervisor {

enum class Compression { None, Zstd };

// What the index says about the machine besides its sections.
struct SnapshotInfo {
    std::string board;         // "kumoi-1"
    std::string program;       // version of the writer
    std::string config;        // guest.json
    std::string directory;     // what its relative paths are relative to
    std::string shape_digest;  // of what must be equal in a machine that takes this state
    int64_t created_ns = 0;    // wall clock
};

// Where a snapshot goes. `partial` and `path` are both empty when there is only the descriptor.
struct SnapshotOutput {
    UniqueFd fd;
    std::string partial;  // name while it is written
    std::string path;     // name afterwards
};

class SnapshotWriter {
public:
    static Result<std::unique_ptr<SnapshotWriter>> create(SnapshotOutput output,
                                                          uint64_t memory_size,
                                                          Compression compression);
    ~SnapshotWriter();
    SnapshotWriter(const SnapshotWriter&) = delete;
    SnapshotWriter& operator=(const SnapshotWriter&) = delete;

    // Whole blocks from `first_block` on (the last block of memory may be shorter).
    Result<void> write_blocks(uint64_t first_block, std::span<const std::byte> bytes);
    Result<void> finish(const SnapshotInfo& info, const std::vector<SectionWriter>& sections);

    uint64_t bytes_written() const { return bytes_written_.load(std::memory_order_relaxed); }
    uint64_t zero_pages() const { return zero_pages_.load(std::memory_order_relaxed); }

private:
    SnapshotWriter(SnapshotOutput output, uint64_t memory_size, Compression compression);
    Result<void> write_raw(uint64_t block, std::span<const std::byte> bytes, uint16_t present);
    Result<void> write_frame(std::span<const std::byte> bytes, uint16_t present,
                             snapshot::BlockEntry& entry);
    Result<uint64_t> append(std::span<const std::byte> bytes);
    Result<void> make_durable();

    SnapshotOutput output_;
    const uint64_t memory_size_;
    const Compression compression_;
    std::vector<snapshot::BlockEntry> table_;  // each entry by the thread that writes its block
    std::atomic<uint64_t> end_;                // where the next appended bytes go
    std::atomic<uint64_t> bytes_written_{0};
    std::atomic<uint64_t> zero_pages_{0};
    bool finished_ = false;
};

}  // namespace kumoi::hypervisor
