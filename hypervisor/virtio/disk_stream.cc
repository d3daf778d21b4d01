#include "hypervisor/virtio/disk_stream.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace kumoi::hypervisor {

namespace {

// New limits are noticed this soon, whatever the old ones said.
constexpr int64_t kHoldNsMax = 100 * kNanosPerMilli;

}  // namespace

DiskStream::DiskStream(BlockShared& shared, DiskStreamOwner& owner, uint32_t size)
    : shared_(shared), owner_(owner), size_(size) {}

Result<void> DiskStream::start(EventLoop& loop, const Clock& clock) {
    loop_ = &loop;
    clock_ = &clock;
    disk_ = TRY(shared_.image.open_queue(loop, *this));
    requests_ = std::vector<Request>(size_ + 1u);
    free_.clear();
    for (uint32_t token = 0; token < size_; ++token) {
        free_.push_back(size_ - 1u - token);
    }
    return {};
}

void DiskStream::stop() {
    disk_.reset();
    requests_.clear();
    free_.clear();
}

void DiskStream::accept(const Operation& operation) {
    KUMOI_ASSERT(!free_.empty());
    const uint32_t token = free_.back();
    free_.pop_back();
    const DiskOperation kind = operation.operation;
    Request& request = requests_[token];
    request.operation = kind;
    request.size = operation.size;
    request.durable = kind != DiskOperation::Read && kind != DiskOperation::Flush &&
                      (operation.durable || !shared_.write_cache);
    request.disk.operation = kind;
    request.disk.offset = operation.offset;
    request.disk.size = operation.size;
    request.disk.token = token;
    if (kind == DiskOperation::Flush || kind == DiskOperation::Discard ||
        kind == DiskOperation::WriteZeroes) {
        request.disk.vectors.clear();
    }
    const Wait wait = wait_of(kind);
    if (shared_.throttle.limited() && wait != Wait::None) {
        // What waits already goes first.
        const int64_t wait_ns = held(wait).empty() ? ask_limits(request) : kHoldNsMax;
        if (wait_ns > 0) {
            counters_.throttled.increment();
            held(wait).push_back(token);
            return wake_after(wait_ns);
        }
    }
    submit(token);
}

// --- Limits ---

DiskStream::Wait DiskStream::wait_of(DiskOperation operation) {
    switch (operation) {
        case DiskOperation::Read: return Wait::Reads;
        case DiskOperation::Flush: return Wait::None;
        default: return Wait::Writes;
    }
}

// A discard moves no bytes, so it only counts as a request. Before a pause nothing may wait: its
// tokens are owed instead, so the average stays.
int64_t DiskStream::ask_limits(const Request& request) {
    const bool read = request.operation == DiskOperation::Read;
    const auto direction = read ? DiskThrottle::Direction::Read : DiskThrottle::Direction::Write;
    const uint64_t bytes = request.operation == DiskOperation::Discard ? 0 : request.size;
    if (quiescing_) {
        shared_.throttle.charge(direction, bytes);
        return 0;
    }
    return shared_.throttle.admit(direction, bytes, clock_->monotonic_ns());
}

void DiskStream::wake_after(int64_t wait_ns) {
    if (!timer_) {
        timer_ = loop_->call_after(std::min(wait_ns, kHoldNsMax), [this] {
            timer_.reset();
            owner_.take_turn();
        });
    }
}

void DiskStream::start_waiting() {
    while (!disk_full_.empty() && submit_now(disk_full_.front())) {
        disk_full_.pop_front();
    }
    for (auto& waiting : held_) {
        while (!waiting.empty() && disk_full_.empty()) {
            if (const int64_t wait_ns = ask_limits(requests_[waiting.front()]); wait_ns > 0) {
                wake_after(wait_ns);
                break;
            }
            submit(waiting.front());
            waiting.pop_front();
        }
    }
}

// --- The disk ---

void DiskStream::submit(uint32_t token) {
    if (!submit_now(token)) {
        disk_full_.push_back(token);  // a completion asks for a turn
    }
}

bool DiskStream::submit_now(uint32_t token) {
    return disk_->submit(requests_[token].disk);
}

void DiskStream::disk_completed(uint32_t token, int result) {
    if (token == size_) {
        flush_completed(result);
    } else if (result == 0 && requests_[token].durable) {
        written_.push_back(token);
    } else {
        report(token, result);
    }
}

void DiskStream::start_flush() {
    if (flush_running_ || written_.empty()) {
        return;
    }
    DiskRequest& flush = requests_[size_].disk;
    flush.operation = DiskOperation::Flush;
    flush.offset = flush.size = 0;
    flush.vectors.clear();
    flush.token = size_;
    std::swap(flushing_, written_);
    flush_running_ = true;
    if (!disk_->submit(flush)) {  // full: after the next completion
        std::swap(flushing_, written_);
        flush_running_ = false;
        return;
    }
    disk_->kick();
}

void DiskStream::flush_completed(int result) {
    flush_running_ = false;
    for (const uint32_t token : flushing_) {
        report(token, result);
    }
    flushing_.clear();
}

void DiskStream::disk_batch_done() {
    start_flush();
    owner_.batch_done();
    if (!disk_full_.empty() && !quiescing_) {
        owner_.take_turn();
    }
}

void DiskStream::report(uint32_t token, int result) {
    if (result == 0) {
        count(requests_[token]);
    } else {
        counters_.errors.increment();
    }
    owner_.request_done(token, result);
    free_.push_back(token);
}

void DiskStream::quiesce() {
    if (!disk_) {
        return;
    }
    quiescing_ = true;
    if (timer_) {
        loop_->cancel(*std::exchange(timer_, std::nullopt));
    }
    while (free_.size() < size_) {
        start_waiting();
        start_flush();
        disk_->kick();
        disk_->drain();
    }
    quiescing_ = false;
}

void DiskStream::count(const Request& request) {
    switch (request.operation) {
        case DiskOperation::Read:
            counters_.reads.increment();
            counters_.read_bytes.increment(request.size);
            break;
        case DiskOperation::Write:
            counters_.writes.increment();
            counters_.write_bytes.increment(request.size);
            break;
        case DiskOperation::Flush: counters_.flushes.increment(); break;
        case DiskOperation::Discard: counters_.discards.increment(); break;
        case DiskOperation::WriteZeroes: counters_.write_zeroes.increment(); break;
    }
}

}  // namespace kumoi::hypervisor
