// The frames of the data streams: runs of guest pages, and the barriers between rounds. Pure;
// what comes from a peer is hostile.
//
//     header (32 bytes) | run table, 16 bytes each | pages of the data runs, one after the other
//
// Pages count from the start of the guest's memory file (hypervisor/memory/guest_memory.h), not by
// address. All integers little-endian. A barrier has no runs; frames of the next round follow it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"

namespace kumoi::migration {

constexpr uint64_t kPage = 4096;
constexpr uint32_t kFrameRunsMax = 512;
constexpr uint32_t kFramePagesMax = 512;  // 2 MiB of data in one frame
constexpr uint32_t kFramePayloadMax = (kFramePagesMax * kPage) + (64u << 10);

constexpr uint32_t kDeltaMax = 3072;  // bytes of one page's delta (page_delta.h)

constexpr uint64_t kGranule = 64u << 10;  // of disks
constexpr uint32_t kDiskFrameGranules = 8;

// Request: in post-copy, towards the source: block `number` (64 KiB), which comes as Pages.
// Disk: as Pages, but of disk `number`, in granules of 64 KiB (its last one may be short).
// Delta: what has changed in pages that came before; only towards who said that it takes them. Runs
// are DeltaRuns; the deltas follow one another.
enum class FrameType : uint16_t { Pages = 1, Barrier = 2, Request = 3, Disk = 4, Delta = 5 };
enum class RunKind : uint32_t { Data = 0, Zero = 1 };

struct PageRun {
    uint64_t first = 0;
    uint32_t count = 0;
    RunKind kind = RunKind::Data;
};

struct DeltaRun {
    uint64_t page = 0;
    uint32_t size = 0;  // bytes, 1 to kDeltaMax
};

struct FrameHeader {
    static constexpr size_t kSize = 32;
    FrameType type = FrameType::Pages;
    bool compressed = false;  // the payload is one zstd frame
    bool last = false;        // Barrier: no further round comes on this stream
    uint16_t runs = 0;
    uint32_t round = 0;
    uint32_t payload = 0;  // bytes that follow the run table
    uint64_t number = 0;   // Barrier: how many frames this stream has carried so far

    std::array<std::byte, kSize> encode() const;
    static Result<FrameHeader> decode(std::span<const std::byte> bytes);  // kSize bytes
};

constexpr size_t kRunSize = 16;
void encode_runs(std::span<const PageRun> runs, std::vector<std::byte>& out);
// Checked against the memory: `pages` in all. Returns the runs; their data pages are at most
// kFramePagesMax, and a zero run is at most all of memory.
Result<std::vector<PageRun>> decode_runs(std::span<const std::byte> bytes, uint64_t pages);
uint32_t data_pages(std::span<const PageRun> runs);

void encode_delta_runs(std::span<const DeltaRun> runs, std::vector<std::byte>& out);
// Checked against the memory.
Result<std::vector<DeltaRun>> decode_delta_runs(std::span<const std::byte> bytes, uint64_t pages);

}  // namespace kumoi::migration
