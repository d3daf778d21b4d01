// PageSender: sends rounds of guest pages over all streams of a migration, one thread a stream.
//
// Pages are taken in chunks of 2 MiB by whichever thread is free, so the last round, however small,
// uses all streams too. A page is protected again before it is read ("clear, then copy"): what the
// guest writes meanwhile is dirty again and comes with the next round. All-zero pages cost a run
// and no bytes, or nothing at all while the other side has never had anything there.
// With `delta` pages that are sent again cost what has changed in them (delta_cache.h), with
// `compress` frames are packed; each only while it pays (migration/policy/compression.h).
// send_round() is called by one thread; stop() and figures() by any.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "hypervisor/memory/free_page_hints.h"
#include "hypervisor/memory/page_bitmap.h"
#include "migration/policy/compression.h"
#include "migration/stream/delta_cache.h"
#include "migration/stream/pacer.h"
#include "migration/stream/page_frame.h"
#include "migration/stream/stream_socket.h"

namespace kumoi::migration {

class PageSender {
public:
    struct Memory {
        std::span<const std::byte> bytes;  // the guest's memory file, mapped
        int fd = -1;                       // that file; -1: without holes
        // Called right before pages [first, first + count), all of the round, are read. May be
        // empty.
        std::function<Result<void>(uint64_t first, uint64_t count)> rearm;
        // What the guest calls free (hypervisor/memory/free_page_hints.h says when that is true);
        // marked meanwhile. Null: nothing.
        const hypervisor::FreePages* free = nullptr;
    };
    // Skip: pages that the file does not have, or that are free, are not read.
    enum class Holes { Read, Skip };
    struct Options {
        uint64_t bandwidth = 0;  // bytes a second, 0: unlimited
        bool compress = false;   // zstd, for frames that get smaller by it
        bool delta = false;      // once allow_delta() is called
        bool judge = true;       // leave both out while they do not pay
        // What else belongs to a round: sends one frame by the thread of that number, says its
        // bytes, 0 when there is no more. By several threads at once. May be empty.
        std::function<Result<uint64_t>(size_t thread, StreamSocket& stream, uint32_t round)> more;
    };
    struct Figures {
        uint64_t pages = 0;       // with data
        uint64_t zero_pages = 0;  // found to be zero, sent or not
        uint64_t free_pages = 0;  // not sent for the guest called them free; holes do not count
        uint64_t bytes = 0;       // on the wire
        uint64_t frames = 0;
        uint64_t more = 0;           // of `bytes`, by Options::more
        uint64_t delta_pages = 0;    // of `pages`, that went as what had changed
        uint64_t same_pages = 0;     // of `pages`, that had not changed and did not go
        uint64_t packed_frames = 0;  // of `frames`
    };

    PageSender(std::vector<std::unique_ptr<StreamSocket>> streams, Memory memory,
               const Clock& clock, Options options);
    ~PageSender();  // stops, waits
    PageSender(const PageSender&) = delete;
    PageSender& operator=(const PageSender&) = delete;

    // The other side takes deltas. Before the first round.
    void allow_delta() { delta_allowed_ = options_.delta; }
    // These pages, then a barrier on every stream. The first error of any stream ends it for good;
    // Cancelled after stop().
    // Says behind which page it ended: the last one, unless it was cut short.
    Result<uint64_t> send_round(uint32_t round, const hypervisor::PageBitmap& pages,
                                Holes holes = Holes::Read, bool last = false);
    // The round that is being sent ends with the pages that are just being sent.
    void cut_short();
    // After a last round, or a failure: the streams, for another use. Nothing is sent any more.
    std::vector<std::unique_ptr<StreamSocket>> release_streams();
    void stop();
    Figures figures() const;
    // Bytes of memory of the round that are still to be looked at.
    uint64_t remaining() const;

private:
    static constexpr uint64_t kChunk = 512;  // pages: 2 MiB

    struct Worker {
        std::unique_ptr<StreamSocket> stream;
        size_t number = 0;
        uint64_t frames = 0;
        std::vector<std::byte> runs_bytes, copy, packed;  // of its thread
        std::vector<PageRun> runs;
        std::vector<DeltaRun> delta_runs;
        std::vector<std::byte> deltas;
        std::vector<std::byte> pages;  // as they are sent, where deltas of them will follow
        size_t pages_kept = 0;         // of these
        std::vector<iovec> vectors;
        std::thread thread;
    };
    void work(Worker& worker);
    void end_threads();
    Result<void> take_part(Worker& worker, uint32_t round);
    Result<void> send_chunk(Worker& worker, uint32_t round, uint64_t first, uint64_t end);
    Result<void> add_range(Worker& worker, uint64_t first, uint64_t end);
    void pass_over(uint64_t first, uint64_t end);
    Result<void> rearm(uint64_t first, uint64_t end);
    Result<void> send_more(Worker& worker, uint32_t round);
    void add_pages(Worker& worker, uint64_t first, uint64_t end);
    void add_page(Worker& worker, uint64_t page);
    bool add_delta(Worker& worker, uint64_t page, const std::byte* bytes);
    void begin_deltas(Holes holes);
    void end_deltas();
    std::pair<uint64_t, uint64_t> next_data(uint64_t first, uint64_t end) const;
    // page_sender_frames.cc
    Result<void> send_frame(Worker& worker, uint32_t round);
    Result<void> send_deltas(Worker& worker, uint32_t round);
    Result<void> put(Worker& worker, FrameHeader header);
    Result<CompressionSample> compress(Worker& worker, FrameHeader& header);
    bool packs();
    void pace(uint64_t bytes);
    void fail(const Error& error);

    const Memory memory_;
    const uint64_t pages_;
    const Clock& clock_;
    const Options options_;
    Pacer pacer_;
    DeltaCache deltas_;
    bool delta_allowed_ = false;
    bool delta_ = false;           // in this round
    bool deltas_warm_ = false;     // there was a round before that filled the cache
    hypervisor::PageBitmap sent_;  // pages the other side has had data in; by the chunk's thread
    const hypervisor::PageBitmap* round_pages_;
    std::atomic<uint64_t> next_page_{0};  // of the round, that nobody has taken
    std::atomic<uint64_t> data_pages_{0};
    std::atomic<uint64_t> zero_pages_{0};
    std::atomic<uint64_t> free_pages_{0};
    std::atomic<uint64_t> bytes_{0};
    std::atomic<uint64_t> frames_{0};
    std::atomic<uint64_t> more_{0};
    std::atomic<uint64_t> delta_pages_{0}, same_pages_{0}, packed_frames_{0};
    std::atomic<uint64_t> delta_in_{0}, delta_out_{0};  // of this round, as the next two
    std::atomic<uint64_t> link_bytes_{0};
    std::atomic<int64_t> delta_ns_{0}, link_ns_{0};
    std::atomic<bool> stopped_{false};
    mutable std::mutex mutex_;  // guards all below
    std::condition_variable changed_;
    uint64_t generation_ = 0;  // counts rounds that were begun
    uint32_t round_ = 0;
    Holes holes_ = Holes::Read;
    bool skip_free_ = false;
    bool last_ = false;
    uint64_t cut_ = UINT64_MAX;  // pages from here on were left out of the round
    size_t busy_ = 0;
    bool ending_ = false;
    CompressionGauge delta_gauge_;  // turns are rounds
    CompressionGauge pack_gauge_;   // turns are frames
    std::optional<Error> error_;
    std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace kumoi::migration
