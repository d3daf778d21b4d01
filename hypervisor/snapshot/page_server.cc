#include "hypervisor/snapshot/page_server.h"

#include <algorithm>
#include <chrono>

#include <poll.h>
#include <unistd.h>

#include "base/log.h"
#include "hypervisor/snapshot/job_thread.h"
#include "hypervisor/snapshot/pages.h"

namespace kumoi::hypervisor {

using namespace snapshot;

namespace {

constexpr size_t kTouchedMax = 1u << 16;  // blocks recorded: 4 GiB

}  // namespace

PageServer::PageServer(GuestMemory& memory, std::unique_ptr<BlockSource> source, const Clock& clock,
                       Userfault faults, Options options, Events events)
    : source_(std::move(source)),
      clock_(clock),
      options_(std::move(options)),
      events_(std::move(events)),
      faults_(std::move(faults)),
      base_(memory.regions().front().host),
      size_(memory.size()),
      blocks_(block_count(memory.size())),
      states_(blocks_) {}

Result<std::unique_ptr<PageServer>> PageServer::start(FileSource& files, GuestMemory& memory,
                                                      std::unique_ptr<BlockSource> source,
                                                      const Clock& clock, Options options,
                                                      Events events) {
    if (source->memory_size() != memory.size()) {
        return Error::invalid("the snapshot has {} bytes of memory, the machine {}",
                              source->memory_size(), memory.size());
    }
    Userfault faults = TRY(Userfault::open(files, Userfault::Mode::Missing));
    std::unique_ptr<PageServer> server(new PageServer(memory, std::move(source), clock,
                                                      std::move(faults), std::move(options),
                                                      std::move(events)));
    TRY(server->begin());
    return server;
}

Result<void> PageServer::begin() {
    stop_fd_ = TRY(make_eventfd());
    for (uint64_t block = 0; block < std::min<uint64_t>(blocks_, options_.present.size());
         ++block) {
        if (options_.present[block]) {
            states_[block] = State::Done;
            done_.fetch_add(1, std::memory_order_relaxed);
        }
    }
    TRY(faults_.watch({base_, size_}, Userfault::Mode::Missing));
    started_ns_ = clock_.monotonic_ns();
    fault_thread_ = start_job_thread(
        "pages", [this] { fault_main(); }, options_.threads);
    fill_thread_ = start_job_thread(
        "filler", [this] { fill_main(); }, options_.threads);
    return {};
}

PageServer::~PageServer() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wakes_.notify_all();
    source_->stop();
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(stop_fd_.get(), &one, sizeof one);
    if (fill_thread_.joinable()) {
        fill_thread_.join();
    }
    if (fault_thread_.joinable()) {
        fault_thread_.join();
    }
    if (!finished_) {
        if (auto freed = faults_.unwatch({base_, size_}); !freed) {
            log_error("snapshot", "guest memory stays watched", {{"error", freed.error().text()}});
        }
    }
}

PageServer::Statistics PageServer::statistics() const {
    return {blocks_, done_.load(), fault_count_.load(), fault_ns_max_.load(), prefetched_.load()};
}

void PageServer::retry() {
    {
        const std::lock_guard lock(mutex_);
        failing_ = false;
        ++retries_;
    }
    wakes_.notify_all();
    // Whoever waits asks the kernel again, which asks us.
    if (auto woken = faults_.wake({base_, size_}); !woken && !finished_) {
        log_warn("snapshot", "waking the guest", {{"error", woken.error().text()}});
    }
}

// --- The thread that answers faults ---

void PageServer::fault_main() {
    for (;;) {
        pollfd watched[2] = {{faults_.fd(), POLLIN, 0}, {stop_fd_.get(), POLLIN, 0}};
        const bool timed = recording_;
        if (::poll(watched, 2, timed ? static_cast<int>(options_.quiet_ms) : -1) < 0) {
            continue;
        }
        if ((watched[1].revents & POLLIN) != 0) {
            return;
        }
        for (;;) {
            const auto fault = faults_.next_fault();
            if (!fault) {
                log_error("snapshot", "page faults", {{"error", fault.error().text()}});
                return;
            }
            if (!*fault) {
                break;
            }
            const int64_t begun = clock_.monotonic_ns();
            answer(**fault);
            const auto took = static_cast<uint64_t>(clock_.monotonic_ns() - begun);
            fault_ns_max_ = std::max(fault_ns_max_.load(), took);
        }
        const int64_t quiet_ns = options_.quiet_ms * kNanosPerMilli;
        if (recording_ && clock_.monotonic_ns() - started_ns_ >= quiet_ns) {
            recording_ = false;
            if (events_.recorded) {
                events_.recorded(std::move(touched_));
            }
        }
    }
}

bool PageServer::answer(const Userfault::Fault& fault) {
    const uint64_t offset = fault.address - reinterpret_cast<uint64_t>(base_);
    if (offset >= size_) {
        return false;
    }
    fault_count_.fetch_add(1, std::memory_order_relaxed);
    const uint64_t block = offset / kBlockSize;
    if (recording_ && touched_.size() < kTouchedMax) {
        const auto number = static_cast<uint32_t>(block);
        if (touched_.empty() || touched_.back() != number) {
            touched_.push_back(number);
        }
    }
    if (fetch(block) || states_[block] != State::Done) {
        return true;  // placed; or the filler is at it and will wake whoever waits; or it failed
    }
    // The block is there and this page is not: it was all zero, or has been given back since.
    const uint64_t retries = retries_;
    if (auto placed = faults_.zero(host_of(offset), kPageSize); !placed && !finished_) {
        fail(block, placed.error(), retries);
        return false;
    }
    return true;
}

// --- Both threads ---

bool PageServer::fetch(uint64_t block) {
    State expected = State::Missing;
    if (failing_ || !states_[block].compare_exchange_strong(expected, State::Busy)) {
        return false;
    }
    const uint64_t retries = retries_;
    alignas(kPageSize) std::byte buffer[kBlockSize];
    const std::span<std::byte> bytes(buffer, std::min(kBlockSize, size_ - block * kBlockSize));
    const auto present = source_->read_block(block, bytes);
    Result<void> placed;
    if (present) {
        placed = place(block, bytes, *present);
    }
    if (!present || !placed) {
        states_[block] = State::Missing;
        fail(block, present ? placed.error() : present.error(), retries);
        return false;
    }
    states_[block] = State::Done;
    done_.fetch_add(1, std::memory_order_relaxed);
    // A thread may wait for a page of this block that is all zero: it asks again and gets it.
    wake(block);
    return true;
}

void PageServer::wake(uint64_t block) {
    const uint64_t offset = block * kBlockSize;
    const uint64_t size = std::min(kBlockSize, size_ - offset);
    if (auto woken = faults_.wake({host_of(offset), size}); !woken) {
        log_debug("snapshot", "waking", {{"error", woken.error().text()}});
    }
}

Result<void> PageServer::place(uint64_t block, std::span<const std::byte> bytes, uint16_t present) {
    Result<void> done;
    for_each_run(present, [&](unsigned first, unsigned count) {
        if (done) {
            done = faults_.copy(host_of(block * kBlockSize + first * kPageSize),
                                bytes.subspan(first * kPageSize, count * kPageSize));
        }
    });
    return done;
}

void PageServer::fail(uint64_t block, const Error& error, uint64_t retries) {
    bool stale = false;  // it could be had again before we knew that it could not
    {
        const std::lock_guard lock(mutex_);
        if (failing_) {
            return;
        }
        stale = retries != retries_;
        failing_ = !stale;
    }
    if (stale) {
        return wake(block);
    }
    log_error("snapshot", "guest memory cannot be had",
              {{"address", fmt::format("{:#x}", block * kBlockSize)}, {"error", error.text()}});
    if (events_.failed) {
        events_.failed(error);
    }
}

// --- The thread that fills ---

void PageServer::fill_main() {
    for (const uint32_t block : options_.working_set) {
        if (block < blocks_ && !fill_block(block)) {
            return;
        }
        prefetched_.fetch_add(1, std::memory_order_relaxed);
    }
    if (!options_.fill || !wait_quiet()) {
        return;
    }
    for (;;) {
        bool all = true;
        for (uint64_t block = 0; block < blocks_; ++block) {
            if (!fill_block(block)) {
                return;
            }
            all = all && states_[block] == State::Done;
        }
        if (all) {
            finish();
            return;
        }
    }
}

// False: the thread is to end. A block that cannot be had is tried again after retry().
bool PageServer::fill_block(uint64_t block) {
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            wakes_.wait(lock, [this] { return stop_ || !failing_; });
            if (stop_) {
                return false;
            }
        }
        if (fetch(block) || states_[block] != State::Missing) {
            return true;
        }
    }
}

bool PageServer::wait_quiet() {
    std::unique_lock lock(mutex_);
    return !wakes_.wait_for(lock, std::chrono::milliseconds(options_.quiet_ms),
                            [this] { return stop_; });
}

void PageServer::finish() {
    finished_ = true;  // before: the other thread may be at a fault that no longer is one
    if (auto freed = faults_.unwatch({base_, size_}); !freed) {
        log_error("snapshot", "guest memory stays watched", {{"error", freed.error().text()}});
    }
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(stop_fd_.get(), &one, sizeof one);
    if (events_.finished) {
        events_.finished();
    }
}

}  // namespace kumoi::hypervisor
