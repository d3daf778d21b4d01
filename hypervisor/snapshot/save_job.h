// SaveJob: one running save: guest memory, then everything else, into a SnapshotWriter.
//
// Stopped mode: the machine stands still until Events::done; threads read memory and write it.
// Live mode: arm() write-protects all memory while the machine runs, noting what is written to
// nevertheless; prepare(), while it stands still for a moment, protects just that again, so the
// moment does not grow with the memory. Afterwards the machine runs, and whoever first writes to a
// block waits until its old content has been copied aside (into a bounded pool; when that is full,
// until it has been written). So the file holds the memory of the moment of prepare(), whatever the
// guest does meanwhile.
// Pages the guest never touched are not read: they are holes of the memory file.
// Made, started and destroyed on the control thread; Events come from a thread of the job.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/snapshot/snapshot_writer.h"
#include "hypervisor/snapshot/userfault.h"

namespace kumoi::hypervisor {

class SaveJob {
public:
    enum class Mode { Stopped, Live };
    struct Options {
        Mode mode = Mode::Stopped;
        unsigned threads = 2;
        size_t copies_max = 512;  // blocks in the pool of a live save: 32 MiB
    };
    struct Statistics {
        uint64_t blocks = 0;
        uint64_t blocks_done = 0;
        uint64_t bytes_written = 0;
        uint64_t zero_pages = 0;
        uint64_t faults = 0;     // writes of the guest that had to wait for a copy
        uint64_t pool_full = 0;  // of those, how often for the disk
        uint64_t fault_ns_max = 0;
    };
    // Once, also after cancel() (Cancelled). The file is there exactly when it says so.
    using Done = std::function<void(Result<void>)>;

    static Result<std::unique_ptr<SaveJob>> create(FileSource& files, GuestMemory& memory,
                                                   std::unique_ptr<SnapshotWriter> writer,
                                                   const Clock& clock, Options options);
    ~SaveJob();  // cancels, waits
    SaveJob(const SaveJob&) = delete;
    SaveJob& operator=(const SaveJob&) = delete;

    // Live: with the machine running, right before it is stopped.
    Result<void> arm();
    // With the machine at a standstill. After this (live) it may go on.
    Result<void> prepare();
    Result<void> start(SnapshotInfo info, std::vector<SectionWriter> sections, Done done);
    void cancel() { cancelled_ = true; }
    Statistics statistics() const;

private:
    enum class State : uint8_t { Waiting, Busy, Taken };
    struct Copy {
        uint64_t block = 0;
        std::vector<std::byte> bytes;
    };
    SaveJob(GuestMemory& memory, std::unique_ptr<SnapshotWriter> writer, const Clock& clock,
            Options options);
    void run(const SnapshotInfo& info, const std::vector<SectionWriter>& sections,
             const Done& done);
    Result<void> save_memory();
    void work();
    void save_chunk(uint64_t chunk);
    Result<void> write_block(uint64_t block, std::span<const std::byte> bytes);
    bool write_copy();  // one of the pool; false: there was none
    void fault_main();
    void answer(const Userfault::Fault& fault);
    bool copy_aside(uint64_t block);
    bool note_while_arming(uint64_t block);
    void release(uint64_t block, uint64_t count);
    uint64_t next_data(uint64_t offset) const;
    void fail(const Error& error);
    std::span<std::byte> bytes_of(uint64_t block, uint64_t count = 1) const;
    void stop_faults();

    GuestMemory& memory_;
    std::byte* base_ = nullptr;
    const uint64_t size_;
    const uint64_t blocks_;
    std::unique_ptr<SnapshotWriter> writer_;
    const Clock& clock_;
    const Options options_;
    std::optional<Userfault> faults_;  // live
    bool watching_ = false;
    UniqueFd stop_fd_;
    std::vector<std::atomic<State>> states_;
    std::atomic<uint64_t> next_chunk_{0};
    std::atomic<uint64_t> blocks_done_{0};
    std::atomic<uint64_t> fault_count_{0};
    std::atomic<uint64_t> pool_full_{0};
    std::atomic<uint64_t> fault_ns_max_{0};
    std::atomic<bool> cancelled_{false};
    std::atomic<bool> failed_{false};
    std::mutex arming_mutex_;  // guards the two below: a noted block is protected again, or never
    bool arming_ = false;
    std::vector<bool> touched_;  // blocks written to between arm() and prepare()
    std::mutex mutex_;           // guards all below
    std::deque<Copy> copies_;
    std::optional<Error> error_;
    std::thread fault_thread_;
    std::vector<std::thread> helpers_;  // joined by the main one
    std::thread main_thread_;
};

}  // namespace kumoi::hypervisor
