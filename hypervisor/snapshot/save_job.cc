#include "hypervisor/snapshot/save_job.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <poll.h>
#include <unistd.h>

#include "base/log.h"
#include "hypervisor/snapshot/job_thread.h"
#include "hypervisor/snapshot/pages.h"

namespace kumoi::hypervisor {

using namespace snapshot;

SaveJob::SaveJob(GuestMemory& memory, std::unique_ptr<SnapshotWriter> writer, const Clock& clock,
                 Options options)
    : memory_(memory),
      base_(memory.regions().front().host),
      size_(memory.size()),
      blocks_(block_count(memory.size())),
      writer_(std::move(writer)),
      clock_(clock),
      options_(options),
      states_(blocks_) {}

Result<std::unique_ptr<SaveJob>> SaveJob::create(FileSource& files, GuestMemory& memory,
                                                 std::unique_ptr<SnapshotWriter> writer,
                                                 const Clock& clock, Options options) {
    std::unique_ptr<SaveJob> job(new SaveJob(memory, std::move(writer), clock, options));
    if (options.mode == Mode::Live) {
        job->faults_ = TRY(Userfault::open(files, Userfault::Mode::WriteProtect));
        job->stop_fd_ = TRY(make_eventfd());
    }
    return job;
}

SaveJob::~SaveJob() {
    cancel();
    if (main_thread_.joinable()) {
        main_thread_.join();
    }
    stop_faults();
}

Result<void> SaveJob::arm() {
    if (!faults_) {
        return {};
    }
    arming_ = true;
    touched_.assign(blocks_, false);
    TRY(faults_->watch({base_, size_}, Userfault::Mode::WriteProtect));
    watching_ = true;
    // From here on somebody must answer, whatever comes.
    fault_thread_ = start_job_thread("save-faults", [this] { fault_main(); });
    return faults_->protect({base_, size_});
}

// Nobody writes now, and nobody waits: whoever had to has gone on and stopped since. A fault that
// two threads had raised may still be unread; read after this, it just copies its block early.
Result<void> SaveJob::prepare() {
    if (!faults_) {
        return {};
    }
    const std::lock_guard lock(arming_mutex_);
    arming_ = false;
    for (uint64_t block = 0; block < blocks_;) {
        uint64_t end = block;
        while (end < blocks_ && touched_[end]) {
            ++end;
        }
        if (end > block) {
            TRY(faults_->protect(bytes_of(block, end - block)));
        }
        block = end + 1;
    }
    return {};
}

bool SaveJob::note_while_arming(uint64_t block) {
    const std::lock_guard lock(arming_mutex_);
    if (!arming_) {
        return false;
    }
    touched_[block] = true;
    release(block, 1);
    return true;
}

// All threads are started here: in a sandbox, a worker may not start others.
Result<void> SaveJob::start(SnapshotInfo info, std::vector<SectionWriter> sections, Done done) {
    for (unsigned i = 1; i < options_.threads; ++i) {
        helpers_.push_back(start_job_thread("save", [this] { work(); }));
    }
    main_thread_ =
        start_job_thread("save", [this, info = std::move(info), sections = std::move(sections),
                                  done = std::move(done)] { run(info, sections, done); });
    return {};
}

SaveJob::Statistics SaveJob::statistics() const {
    return {blocks_,
            blocks_done_.load(),
            writer_ ? writer_->bytes_written() : 0,
            writer_ ? writer_->zero_pages() : 0,
            fault_count_.load(),
            pool_full_.load(),
            fault_ns_max_.load()};
}

void SaveJob::run(const SnapshotInfo& info, const std::vector<SectionWriter>& sections,
                  const Done& done) {
    Result<void> result = save_memory();
    stop_faults();
    if (result) {
        result = writer_->finish(info, sections);
    }
    done(std::move(result));
}

Result<void> SaveJob::save_memory() {
    work();
    for (std::thread& helper : helpers_) {
        helper.join();
    }
    while (!failed_ && write_copy()) {
    }
    const std::lock_guard lock(mutex_);
    if (error_) {
        return *error_;
    }
    if (cancelled_) {
        return Error::make(ErrorCode::Cancelled, "the save was cancelled");
    }
    return {};
}

void SaveJob::work() {
    const uint64_t chunks = (size_ + kChunkSize - 1) / kChunkSize;
    for (;;) {
        while (!failed_ && write_copy()) {  // the pool first: the guest waits for its room
        }
        const uint64_t chunk = next_chunk_.fetch_add(1);
        if (chunk >= chunks || cancelled_ || failed_) {
            return;
        }
        save_chunk(chunk);
    }
}

// Blocks that are holes of the memory file are zero, and are not read: reading would fill them.
void SaveJob::save_chunk(uint64_t chunk) {
    const uint64_t first = chunk * kChunkBlocks;
    const uint64_t end = std::min(first + kChunkBlocks, blocks_);
    uint64_t data = next_data(first * kBlockSize);
    uint32_t mine = 0;  // bit n: block n of the chunk is not the fault thread's
    static_assert(kChunkBlocks <= 32);
    for (uint64_t block = first; block < end && !failed_; ++block) {
        const uint64_t offset = block * kBlockSize;
        if (data < offset) {
            data = next_data(offset);
        }
        State expected = State::Waiting;
        if (!states_[block].compare_exchange_strong(expected, State::Busy)) {
            continue;
        }
        if (data < offset + kBlockSize) {
            if (auto written = write_block(block, bytes_of(block)); !written) {
                fail(written.error());
            }
        }
        states_[block] = State::Taken;
        mine |= 1u << (block - first);
        blocks_done_.fetch_add(1, std::memory_order_relaxed);
    }
    for_each_run(mine, [&](unsigned at, unsigned count) { release(first + at, count); });
}

uint64_t SaveJob::next_data(uint64_t offset) const {
    const off_t at = ::lseek(memory_.fd(), static_cast<off_t>(offset), SEEK_DATA);
    if (at < 0) {
        return errno == ENXIO ? size_ : offset;  // no data behind; or no answer: read it
    }
    return static_cast<uint64_t>(at);
}

Result<void> SaveJob::write_block(uint64_t block, std::span<const std::byte> bytes) {
    return writer_->write_blocks(block, bytes);
}

bool SaveJob::write_copy() {
    Copy copy;
    {
        const std::lock_guard lock(mutex_);
        if (copies_.empty()) {
            return false;
        }
        copy = std::move(copies_.front());
        copies_.pop_front();
    }
    if (auto written = write_block(copy.block, copy.bytes); !written) {
        fail(written.error());
    }
    return true;
}

std::span<std::byte> SaveJob::bytes_of(uint64_t block, uint64_t count) const {
    const uint64_t offset = block * kBlockSize;
    return {base_ + offset, std::min(count * kBlockSize, size_ - offset)};
}

void SaveJob::fail(const Error& error) {
    const std::lock_guard lock(mutex_);
    if (!failed_.exchange(true)) {
        error_ = error;
    }
}

// --- Live: the guest's writes ---

void SaveJob::release(uint64_t block, uint64_t count) {
    if (!watching_) {
        return;
    }
    if (auto freed = faults_->unprotect(bytes_of(block, count)); !freed) {
        log_error("snapshot", "guest memory stays protected", {{"error", freed.error().text()}});
    }
}

void SaveJob::fault_main() {
    for (;;) {
        pollfd watched[2] = {{faults_->fd(), POLLIN, 0}, {stop_fd_.get(), POLLIN, 0}};
        if (::poll(watched, 2, -1) < 0) {
            continue;
        }
        if ((watched[1].revents & POLLIN) != 0) {
            return;
        }
        for (;;) {
            const auto fault = faults_->next_fault();
            if (!fault || !*fault) {
                break;
            }
            const int64_t begun = clock_.monotonic_ns();
            answer(**fault);
            const auto took = static_cast<uint64_t>(clock_.monotonic_ns() - begun);
            fault_ns_max_ = std::max(fault_ns_max_.load(), took);
        }
    }
}

void SaveJob::answer(const Userfault::Fault& fault) {
    const uint64_t offset = fault.address - reinterpret_cast<uint64_t>(base_);
    if (offset >= size_) {
        return;
    }
    const uint64_t block = offset / kBlockSize;
    if (note_while_arming(block)) {
        return;
    }
    fault_count_.fetch_add(1, std::memory_order_relaxed);
    State expected = State::Waiting;
    if (!states_[block].compare_exchange_strong(expected, State::Busy)) {
        // Busy: being written; the writer releases the chunk, which wakes. Taken: it is released
        // already, or will be with its chunk, but this wait may have begun before: again.
        if (expected == State::Taken) {
            release(block, 1);
        }
        return;
    }
    if (!copy_aside(block)) {
        pool_full_.fetch_add(1, std::memory_order_relaxed);
        if (auto written = write_block(block, bytes_of(block)); !written) {
            fail(written.error());
        }
    }
    states_[block] = State::Taken;
    blocks_done_.fetch_add(1, std::memory_order_relaxed);
    release(block, 1);
}

bool SaveJob::copy_aside(uint64_t block) {
    {
        const std::lock_guard lock(mutex_);
        if (copies_.size() >= options_.copies_max) {
            return false;
        }
    }
    const auto bytes = bytes_of(block);
    Copy copy{block, std::vector<std::byte>(bytes.begin(), bytes.end())};
    const std::lock_guard lock(mutex_);
    copies_.push_back(std::move(copy));
    return true;
}

void SaveJob::stop_faults() {
    if (!watching_) {
        return;
    }
    if (auto freed = faults_->unwatch({base_, size_}); !freed) {
        log_error("snapshot", "guest memory stays watched", {{"error", freed.error().text()}});
    }
    watching_ = false;
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(stop_fd_.get(), &one, sizeof one);
    if (fault_thread_.joinable()) {
        fault_thread_.join();
    }
}

}  // namespace kumoi::hypervisor
