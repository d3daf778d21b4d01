#include "migration/stream/page_receiver.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "hypervisor/snapshot/job_thread.h"
#include "migration/stream/page_delta.h"

namespace kumoi::migration {

PageReceiver::PageReceiver(std::vector<std::unique_ptr<StreamSocket>> streams,
                           std::span<std::byte> memory, Events events)
    : memory_(memory), events_(std::move(events)) {
    for (auto& stream : streams) {
        auto worker = std::make_unique<Worker>();
        worker->stream = std::move(stream);
        workers_.push_back(std::move(worker));
    }
    for (const auto& worker : workers_) {
        worker->thread = hypervisor::start_job_thread(
            "mig-receive", [this, worker = worker.get()] { work(*worker); },
            hypervisor::ThreadClass::Migration);
    }
}

PageReceiver::~PageReceiver() {
    stop();
    for (const auto& worker : workers_) {
        worker->thread.join();
    }
}

std::vector<std::unique_ptr<StreamSocket>> PageReceiver::release_streams() {
    std::vector<std::unique_ptr<StreamSocket>> streams;
    for (const auto& worker : workers_) {
        worker->thread.join();
        streams.push_back(std::move(worker->stream));
    }
    workers_.clear();
    return streams;
}

void PageReceiver::stop() {
    stopped_.store(true);
    for (const auto& worker : workers_) {
        worker->stream->stop();
    }
    { const std::lock_guard lock(mutex_); }  // whoever is about to wait sees it
    changed_.notify_all();
}

void PageReceiver::work(Worker& worker) {
    for (;;) {
        auto more = take_frame(worker);
        if (more && *more) {
            continue;
        }
        if (more) {
            return;
        }
        bool first = false;
        {
            const std::lock_guard lock(mutex_);
            first = !failed_ && !stopped_.load();
            failed_ = true;
        }
        if (first) {
            stop();
            events_.failed(more.error());
        }
        return;
    }
}

Result<bool> PageReceiver::take_frame(Worker& worker) {
    std::array<std::byte, FrameHeader::kSize> bytes;
    TRY(worker.stream->receive(std::span(bytes)));
    const FrameHeader header = TRY(FrameHeader::decode(bytes));
    if (header.type == FrameType::Barrier) {
        return barrier(worker, header);
    }
    if (header.type == FrameType::Request || (header.type == FrameType::Disk && !events_.disk)) {
        return Error::make(ErrorCode::Corrupt, "a frame that was not agreed on came");
    }
    {
        const std::lock_guard lock(mutex_);
        if (header.round != round_) {
            return Error::make(ErrorCode::Corrupt, "a frame of round {} came in round {}",
                               header.round, round_);
        }
    }
    ++worker.frames;
    switch (header.type) {
        case FrameType::Disk: TRY(take_granules(worker, header)); break;
        case FrameType::Delta: TRY(take_deltas(worker, header)); break;
        default: TRY(take_pages(worker, header)); break;
    }
    return true;
}

Result<void> PageReceiver::take_granules(Worker& worker, const FrameHeader& header) {
    const uint64_t size = TRY(events_.disk_size(header.number));
    worker.table.resize(header.runs * kRunSize);
    TRY(worker.stream->receive(std::span(worker.table)));
    const auto runs = TRY(decode_runs(worker.table, (size + kGranule - 1) / kGranule));
    uint64_t expected = 0;
    for (const PageRun& run : runs) {
        const uint64_t offset = run.first * kGranule;
        expected += run.kind == RunKind::Data ? std::min(run.count * kGranule, size - offset) : 0;
    }
    if (header.compressed || header.payload != expected) {
        return Error::make(ErrorCode::Corrupt, "a frame of a disk has {} bytes, not {}",
                           header.payload, expected);
    }
    worker.copy.resize(header.payload);
    TRY(worker.stream->receive(std::span(worker.copy)));
    bytes_.fetch_add(FrameHeader::kSize + worker.table.size() + header.payload,
                     std::memory_order_relaxed);
    return events_.disk(header.number, runs, worker.copy);
}

Result<void> PageReceiver::take_pages(Worker& worker, const FrameHeader& header) {
    worker.table.resize(header.runs * kRunSize);
    TRY(worker.stream->receive(std::span(worker.table)));
    const auto runs = TRY(decode_runs(worker.table, memory_.size() / kPage));
    const uint64_t size = data_pages(runs) * kPage;
    worker.vectors.clear();
    for (const PageRun& run : runs) {
        std::byte* target = memory_.data() + run.first * kPage;
        if (run.kind == RunKind::Zero) {
            std::memset(target, 0, run.count * kPage);
        } else {
            worker.vectors.push_back({target, run.count * kPage});
        }
    }
    if (header.compressed) {
        TRY(take_packed(worker, header, size));
    } else if (header.payload != size) {
        return Error::make(ErrorCode::Corrupt, "a frame of {} pages has {} bytes", size / kPage,
                           header.payload);
    } else {
        TRY(worker.stream->receive(std::span(worker.vectors)));
    }
    pages_received_.fetch_add(size / kPage, std::memory_order_relaxed);
    bytes_.fetch_add(FrameHeader::kSize + worker.table.size() + header.payload,
                     std::memory_order_relaxed);
    return {};
}

// From `packed` to `copy`.
Result<void> PageReceiver::unpack(Worker& worker, uint64_t size) {
    worker.copy.resize(size);
    const size_t length = ZSTD_decompress(worker.copy.data(), worker.copy.size(),
                                          worker.packed.data(), worker.packed.size());
    if (ZSTD_isError(length) != 0 || length != size) {
        return Error::make(ErrorCode::Corrupt, "a packed frame does not hold its {} bytes", size);
    }
    return {};
}

Result<void> PageReceiver::take_deltas(Worker& worker, const FrameHeader& header) {
    worker.table.resize(header.runs * kRunSize);
    TRY(worker.stream->receive(std::span(worker.table)));
    const auto runs = TRY(decode_delta_runs(worker.table, memory_.size() / kPage));
    uint64_t size = 0;  // at most kFrameRunsMax * kDeltaMax
    for (const DeltaRun& run : runs) {
        size += run.size;
    }
    std::vector<std::byte>& bytes = header.compressed ? worker.packed : worker.copy;
    bytes.resize(header.payload);
    TRY(worker.stream->receive(std::span(bytes)));
    if (header.compressed) {
        TRY(unpack(worker, size));
    }
    if (worker.copy.size() != size) {
        return Error::make(ErrorCode::Corrupt, "a frame of changes has {} bytes, not {}",
                           worker.copy.size(), size);
    }
    std::span<const std::byte> left = worker.copy;
    for (const DeltaRun& run : runs) {
        const std::span<std::byte, kPage> page(memory_.data() + run.page * kPage, kPage);
        if (!apply_delta(left.first(run.size), page)) {
            return Error::make(ErrorCode::Corrupt, "what changed in page {} cannot be read",
                               run.page);
        }
        left = left.subspan(run.size);
    }
    pages_received_.fetch_add(runs.size(), std::memory_order_relaxed);
    bytes_.fetch_add(FrameHeader::kSize + worker.table.size() + header.payload,
                     std::memory_order_relaxed);
    return {};
}

Result<void> PageReceiver::take_packed(Worker& worker, const FrameHeader& header, uint64_t size) {
    worker.packed.resize(header.payload);
    TRY(worker.stream->receive(std::span(worker.packed)));
    TRY(unpack(worker, size));
    size_t at = 0;
    for (const iovec& vector : worker.vectors) {
        std::memcpy(vector.iov_base, worker.copy.data() + at, vector.iov_len);
        at += vector.iov_len;
    }
    return {};
}

Result<bool> PageReceiver::barrier(const Worker& worker, const FrameHeader& header) {
    std::unique_lock lock(mutex_);
    if (header.round != round_ || header.number != worker.frames) {
        return Error::make(ErrorCode::Corrupt,
                           "the end of round {} after {} frames came in round {} after {}",
                           header.round, header.number, round_, worker.frames);
    }
    if (arrived_ != 0 && last_ != header.last) {
        return Error::make(ErrorCode::Corrupt,
                           "the streams disagree on whether round {} is the last", round_);
    }
    last_ = header.last;
    if (++arrived_ < workers_.size()) {
        changed_.wait(lock, [&] { return round_ != header.round || stopped_.load(); });
        return !header.last;
    }
    if (events_.flush_disks) {
        lock.unlock();
        TRY(events_.flush_disks());
        lock.lock();
    }
    arrived_ = 0;
    ++round_;
    finished_.store(header.last, std::memory_order_release);
    lock.unlock();
    events_.round_done(header.round);
    changed_.notify_all();
    return !header.last;
}

}  // namespace kumoi::migration
