// PageServer: memory on demand: the machine runs at once, and each piece of its memory is brought
// from the BlockSource when somebody first touches it, or by the filler before that.
//
// Two threads: one answers faults, the other fills: first the working set (blocks that were touched
// early in an earlier run from the same snapshot), then, once `quiet_ms` are over, everything in
// order. A block is claimed by one of them, read, checked and put in place whole. When all is there
// the memory is watched no longer and both threads end.
// A block that cannot be had stays missing and whoever touched it waits: Events::failed is called
// (once until retry()), the machine is expected to pause, and a retry() asks again.
// Start and destroy it on the control thread; destroying while memory is missing is for machines
// that go away or whose memory has been cleared: waiting threads then find zeros.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/sandbox/thread_class.h"
#include "hypervisor/snapshot/snapshot_reader.h"
#include "hypervisor/snapshot/userfault.h"

namespace kumoi::hypervisor {

class PageServer {
public:
    struct Options {
        std::vector<uint32_t> working_set;  // blocks to bring first
        int64_t quiet_ms = 1000;            // faults of this long are recorded, nothing is filled
        bool fill = true;
        ThreadClass threads = ThreadClass::Snapshot;  // what the source needs
        std::vector<bool> present;  // blocks that are in place already; empty: none
    };
    struct Events {  // on one of the server's threads; must not wait for it
        std::function<void(const Error&)> failed;
        std::function<void()> finished;  // all memory is there
        // After the quiet time: the blocks that were touched in it, in order.
        std::function<void(std::vector<uint32_t>)> recorded;
    };
    struct Statistics {
        uint64_t blocks = 0;
        uint64_t blocks_done = 0;
        uint64_t faults = 0;
        uint64_t fault_ns_max = 0;  // from the kernel's message to the page
        uint64_t prefetched = 0;
    };

    // `memory` must be empty (but for what is present) and stay where it is.
    static Result<std::unique_ptr<PageServer>> start(FileSource& files, GuestMemory& memory,
                                                     std::unique_ptr<BlockSource> source,
                                                     const Clock& clock, Options options,
                                                     Events events);
    ~PageServer();
    PageServer(const PageServer&) = delete;
    PageServer& operator=(const PageServer&) = delete;

    void retry();  // after a failure
    bool failing() const { return failing_.load(); }
    bool finished() const { return finished_.load(); }
    Statistics statistics() const;

private:
    enum class State : uint8_t { Missing, Busy, Done };
    PageServer(GuestMemory& memory, std::unique_ptr<BlockSource> source, const Clock& clock,
               Userfault faults, Options options, Events events);
    Result<void> begin();
    void fault_main();
    void fill_main();
    bool answer(const Userfault::Fault& fault);
    bool fetch(uint64_t block);  // false: failed, or another has claimed it
    Result<void> place(uint64_t block, std::span<const std::byte> bytes, uint16_t present);
    bool fill_block(uint64_t block);
    bool wait_quiet();
    // `retries`: as many as there had been when it was tried.
    void fail(uint64_t block, const Error& error, uint64_t retries);
    void wake(uint64_t block);
    void finish();
    std::byte* host_of(uint64_t offset) const { return base_ + offset; }

    std::unique_ptr<BlockSource> source_;
    const Clock& clock_;
    const Options options_;
    const Events events_;
    Userfault faults_;
    std::byte* base_ = nullptr;  // guest memory is one mapping
    const uint64_t size_;
    const uint64_t blocks_;
    int64_t started_ns_ = 0;
    std::vector<std::atomic<State>> states_;
    std::atomic<uint64_t> done_{0};
    std::atomic<uint64_t> fault_count_{0};
    std::atomic<uint64_t> fault_ns_max_{0};
    std::atomic<uint64_t> prefetched_{0};
    std::atomic<bool> failing_{false};  // changed under mutex_, as the next
    std::atomic<uint64_t> retries_{0};
    std::atomic<bool> finished_{false};
    std::vector<uint32_t> touched_;  // of the fault thread
    bool recording_ = true;          // of the fault thread
    UniqueFd stop_fd_;
    std::mutex mutex_;  // guards stop_ and what wakes_ waits for
    std::condition_variable wakes_;
    bool stop_ = false;
    std::thread fault_thread_;
    std::thread fill_thread_;
};

}  // namespace kumoi::hypervisor
