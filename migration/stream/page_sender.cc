#include "migration/stream/page_sender.h"

#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <tuple>

#include "base/assert.h"
#include "hypervisor/snapshot/job_thread.h"
#include "hypervisor/snapshot/pages.h"

namespace kumoi::migration {

namespace {

constexpr int kZstdLevel = 1;

}  // namespace

PageSender::PageSender(std::vector<std::unique_ptr<StreamSocket>> streams, Memory memory,
                       const Clock& clock, Options options)
    : memory_(std::move(memory)),
      pages_(memory_.bytes.size() / kPage),
      clock_(clock),
      options_(std::move(options)),
      pacer_(options_.bandwidth),
      sent_(pages_),
      round_pages_(&sent_) {
    for (auto& stream : streams) {
        auto worker = std::make_unique<Worker>();
        worker->stream = std::move(stream);
        worker->number = workers_.size();
        workers_.push_back(std::move(worker));
    }
    for (const auto& worker : workers_) {
        worker->thread = hypervisor::start_job_thread(
            "mig-send", [this, worker = worker.get()] { work(*worker); },
            hypervisor::ThreadClass::Migration);
    }
}

PageSender::~PageSender() {
    stop();
    end_threads();
}

void PageSender::end_threads() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    changed_.notify_all();
    for (const auto& worker : workers_) {
        if (worker->thread.joinable()) {
            worker->thread.join();
        }
    }
}

std::vector<std::unique_ptr<StreamSocket>> PageSender::release_streams() {
    end_threads();
    std::vector<std::unique_ptr<StreamSocket>> streams;
    for (const auto& worker : workers_) {
        streams.push_back(std::move(worker->stream));
    }
    workers_.clear();
    return streams;
}

void PageSender::cut_short() {
    const std::lock_guard lock(mutex_);
    if (busy_ == 0) {
        return;
    }
    cut_ = std::min({cut_, next_page_.exchange(pages_), pages_});
}

void PageSender::stop() {
    stopped_.store(true);
    for (const auto& worker : workers_) {
        worker->stream->stop();
    }
    { const std::lock_guard lock(mutex_); }  // whoever is about to wait sees it
    changed_.notify_all();
}

Result<uint64_t> PageSender::send_round(uint32_t round, const hypervisor::PageBitmap& pages,
                                        Holes holes, bool last) {
    std::unique_lock lock(mutex_);
    if (error_) {
        return *error_;
    }
    last_ = last;
    cut_ = UINT64_MAX;
    KUMOI_ASSERT(pages.pages() == pages_);
    round_pages_ = &pages;
    next_page_ = 0;
    round_ = round;
    holes_ = memory_.fd < 0 ? Holes::Read : holes;
    busy_ = workers_.size();
    ++generation_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return busy_ == 0; });
    if (error_) {
        return *error_;
    }
    return std::min(cut_, pages_);
}

PageSender::Figures PageSender::figures() const {
    return {data_pages_.load(), zero_pages_.load(), bytes_.load(), frames_.load(), more_.load()};
}

uint64_t PageSender::remaining() const {
    const std::lock_guard lock(mutex_);
    const uint64_t next = std::min(next_page_.load(), pages_);
    return busy_ == 0 ? 0 : round_pages_->count(next, pages_ - next) * kPage;
}

void PageSender::work(Worker& worker) {
    uint64_t seen = 0;
    for (;;) {
        uint32_t round = 0;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] { return ending_ || generation_ != seen; });
            if (ending_) {
                return;
            }
            seen = generation_;
            round = round_;
        }
        if (auto done = take_part(worker, round); !done) {
            fail(done.error());
        }
        const std::lock_guard lock(mutex_);
        if (--busy_ == 0) {
            changed_.notify_all();
        }
    }
}

Result<void> PageSender::take_part(Worker& worker, uint32_t round) {
    for (;;) {
        if (stopped_.load()) {
            return Error::make(ErrorCode::Cancelled, "the migration was stopped");
        }
        // Chunks without a page are passed over by whoever finds them.
        const uint64_t first = next_page_.fetch_add(kChunk);
        if (first >= pages_) {
            break;
        }
        const uint64_t end = std::min(first + kChunk, pages_);
        if (round_pages_->next_run(first, 1, end)) {
            TRY(send_chunk(worker, round, first, end));
        }
    }
    TRY(send_more(worker, round));
    FrameHeader barrier;
    barrier.type = FrameType::Barrier;
    barrier.round = round;
    barrier.last = last_;
    barrier.number = worker.frames;
    const auto bytes = barrier.encode();
    bytes_ += bytes.size();
    return worker.stream->send(std::span(bytes));
}

Result<void> PageSender::send_more(Worker& worker, uint32_t round) {
    while (options_.more) {
        if (stopped_.load()) {
            return Error::make(ErrorCode::Cancelled, "the migration was stopped");
        }
        const uint64_t bytes = TRY(options_.more(worker.number, *worker.stream, round));
        if (bytes == 0) {
            return {};
        }
        ++worker.frames;
        frames_.fetch_add(1, std::memory_order_relaxed);
        bytes_.fetch_add(bytes, std::memory_order_relaxed);
        more_.fetch_add(bytes, std::memory_order_relaxed);
        pace(bytes);
    }
    return {};
}

Result<void> PageSender::send_chunk(Worker& worker, uint32_t round, uint64_t first, uint64_t end) {
    TRY(rearm(first, end));
    worker.runs.clear();
    worker.vectors.resize(2);  // header and runs
    if (holes_ == Holes::Read) {
        add_pages(worker, first, end);
    } else {
        for (auto [at, stop] = next_data(first, end); at < end;
             std::tie(at, stop) = next_data(stop, end)) {
            add_pages(worker, at, stop);
        }
    }
    return worker.runs.empty() ? Result<void>() : send_frame(worker, round);
}

// Only pages of this round: one that was written since they were collected, and is not among them,
// would not be told of again.
Result<void> PageSender::rearm(uint64_t first, uint64_t end) {
    if (!memory_.rearm) {
        return {};
    }
    for (auto run = round_pages_->next_run(first, kChunk, end); run;
         run = round_pages_->next_run(run->first + run->count, kChunk, end)) {
        TRY(memory_.rearm(run->first, run->count));
    }
    return {};
}

void PageSender::add_pages(Worker& worker, uint64_t first, uint64_t end) {
    for (auto run = round_pages_->next_run(first, kChunk, end); run;
         run = round_pages_->next_run(run->first + run->count, kChunk, end)) {
        for (uint64_t page = run->first; page < run->first + run->count; ++page) {
            add_page(worker, page);
        }
    }
}

// The next pages from `first` on that the file has; (end, end): none before `end`. Reading a hole
// would fill it.
std::pair<uint64_t, uint64_t> PageSender::next_data(uint64_t first, uint64_t end) const {
    if (first >= end) {
        return {end, end};
    }
    const off_t data = lseek(memory_.fd, static_cast<off_t>(first * kPage), SEEK_DATA);
    if (data < 0) {  // ENXIO: no more; a file system that cannot say: all of it
        return errno == ENXIO ? std::pair(end, end) : std::pair(first, end);
    }
    const off_t hole = lseek(memory_.fd, data, SEEK_HOLE);
    const uint64_t from = static_cast<uint64_t>(data) / kPage;
    const uint64_t to = hole < 0 ? end : (static_cast<uint64_t>(hole) + kPage - 1) / kPage;
    return from >= end ? std::pair(end, end) : std::pair(from, std::min(to, end));
}

void PageSender::add_page(Worker& worker, uint64_t page) {
    const std::byte* bytes = memory_.bytes.data() + page * kPage;
    RunKind kind = RunKind::Data;
    if (hypervisor::snapshot::is_zero_page(bytes)) {
        zero_pages_.fetch_add(1, std::memory_order_relaxed);
        if (!sent_.test(page)) {
            return;
        }
        kind = RunKind::Zero;
    } else {
        data_pages_.fetch_add(1, std::memory_order_relaxed);
        sent_.set(page);
    }
    if (!worker.runs.empty()) {
        PageRun& last = worker.runs.back();
        if (last.kind == kind && last.first + last.count == page) {
            ++last.count;
            if (kind == RunKind::Data) {
                worker.vectors.back().iov_len += kPage;
            }
            return;
        }
    }
    worker.runs.push_back({page, 1, kind});
    if (kind == RunKind::Data) {
        worker.vectors.push_back({const_cast<std::byte*>(bytes), kPage});
    }
}

Result<void> PageSender::send_frame(Worker& worker, uint32_t round) {
    FrameHeader header;
    header.runs = static_cast<uint16_t>(worker.runs.size());
    header.round = round;
    header.payload = data_pages(worker.runs) * static_cast<uint32_t>(kPage);
    encode_runs(worker.runs, worker.runs_bytes);
    if (options_.compress && header.payload != 0) {
        TRY(compress(worker, header));
    }
    auto bytes = header.encode();
    worker.vectors[0] = {bytes.data(), bytes.size()};
    worker.vectors[1] = {worker.runs_bytes.data(), worker.runs_bytes.size()};
    const uint64_t size = bytes.size() + worker.runs_bytes.size() + header.payload;
    pace(size);
    TRY(worker.stream->send(std::span(worker.vectors)));
    ++worker.frames;
    frames_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(size, std::memory_order_relaxed);
    return {};
}

// Of a copy: the guest may write to the pages meanwhile, and zstd must not see that.
Result<bool> PageSender::compress(Worker& worker, FrameHeader& header) {
    worker.copy.resize(header.payload);
    size_t at = 0;
    for (const iovec& vector : std::span(worker.vectors).subspan(2)) {
        std::memcpy(worker.copy.data() + at, vector.iov_base, vector.iov_len);
        at += vector.iov_len;
    }
    worker.packed.resize(ZSTD_compressBound(header.payload));
    const size_t length = ZSTD_compress(worker.packed.data(), worker.packed.size(),
                                        worker.copy.data(), worker.copy.size(), kZstdLevel);
    if (ZSTD_isError(length) != 0) {
        return Error::internal("zstd: {}", ZSTD_getErrorName(length));
    }
    if (length >= header.payload) {
        return false;
    }
    header.compressed = true;
    header.payload = static_cast<uint32_t>(length);
    worker.vectors.resize(2);
    worker.vectors.push_back({worker.packed.data(), length});
    return true;
}

void PageSender::pace(uint64_t bytes) {
    const int64_t wait = pacer_.book(bytes, clock_.monotonic_ns());
    if (wait <= 0) {
        return;
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::nanoseconds(wait), [this] { return stopped_.load(); });
}

void PageSender::fail(const Error& error) {
    {
        const std::lock_guard lock(mutex_);
        if (!error_) {
            error_ = error;
        }
    }
    stop();  // the others need not go on
}

}  // namespace kumoi::migration
