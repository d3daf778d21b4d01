#include "migration/stream/page_sender.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include "base/assert.h"
#include "hypervisor/snapshot/job_thread.h"
#include "hypervisor/snapshot/pages.h"

namespace kumoi::migration {

namespace {

constexpr uint64_t kDeltaCacheMax = 64u << 20;
// What is judged at a time, and how long what does not pay is left out at most.
constexpr CompressionGauge::Limits kDeltaLimits{.telling_bytes = 256u << 10, .rest_max = 16};
constexpr CompressionGauge::Limits kPackLimits{.telling_bytes = 16u << 20, .rest_max = 64};

uint64_t cache_size(uint64_t memory) {
    return std::max(std::min(kDeltaCacheMax, memory / 8), kPage);
}

}  // namespace

PageSender::PageSender(std::vector<std::unique_ptr<StreamSocket>> streams, Memory memory,
                       const Clock& clock, Options options)
    : memory_(std::move(memory)),
      pages_(memory_.bytes.size() / kPage),
      clock_(clock),
      options_(std::move(options)),
      pacer_(options_.bandwidth),
      deltas_(cache_size(memory_.bytes.size())),
      sent_(pages_),
      round_pages_(&sent_),
      delta_gauge_(kDeltaLimits),
      pack_gauge_(kPackLimits) {
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
    skip_free_ = memory_.free != nullptr && holes == Holes::Skip;
    begin_deltas(holes);
    busy_ = workers_.size();
    ++generation_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return busy_ == 0; });
    end_deltas();
    if (error_) {
        return *error_;
    }
    return std::min(cut_, pages_);
}

PageSender::Figures PageSender::figures() const {
    return {.pages = data_pages_.load(),
            .zero_pages = zero_pages_.load(),
            .free_pages = free_pages_.load(),
            .bytes = bytes_.load(),
            .frames = frames_.load(),
            .more = more_.load(),
            .delta_pages = delta_pages_.load(),
            .same_pages = same_pages_.load(),
            .packed_frames = packed_frames_.load()};
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
    worker.runs.clear();
    worker.vectors.resize(2);  // header and runs
    worker.delta_runs.clear();
    worker.deltas.clear();
    worker.pages.resize(delta_ ? kChunk * kPage : 0);
    worker.pages_kept = 0;
    const int64_t begun = delta_ ? clock_.monotonic_ns() : 0;
    for (uint64_t at = first; at < end;) {
        const bool free = skip_free_ && memory_.free->test(at);
        uint64_t stop = skip_free_ ? at + 1 : end;
        while (stop < end && memory_.free->test(stop) == free) {
            ++stop;
        }
        if (free) {
            pass_over(at, stop);
        } else {
            TRY(add_range(worker, at, stop));
        }
        at = stop;
    }
    if (delta_) {
        delta_ns_ += clock_.monotonic_ns() - begun;
    }
    TRY(worker.runs.empty() ? Result<void>() : send_frame(worker, round));
    return worker.delta_runs.empty() ? Result<void>() : send_deltas(worker, round);
}

Result<void> PageSender::add_range(Worker& worker, uint64_t first, uint64_t end) {
    TRY(rearm(first, end));
    if (holes_ == Holes::Read) {
        add_pages(worker, first, end);
        return {};
    }
    for (auto [at, stop] = next_data(first, end); at < end;
         std::tie(at, stop) = next_data(stop, end)) {
        add_pages(worker, at, stop);
    }
    return {};
}

// Free pages are not rearmed: what the guest has written to them since would be forgotten.
void PageSender::pass_over(uint64_t first, uint64_t end) {
    for (auto [at, stop] = next_data(first, end); at < end;
         std::tie(at, stop) = next_data(stop, end)) {
        free_pages_.fetch_add(round_pages_->count(at, stop - at), std::memory_order_relaxed);
    }
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
    if (delta_) {  // what is sent must be what is remembered
        std::byte* copy = worker.pages.data() + worker.pages_kept * kPage;
        std::memcpy(copy, bytes, kPage);
        bytes = copy;
    }
    RunKind kind = RunKind::Data;
    if (hypervisor::snapshot::is_zero_page(bytes)) {
        zero_pages_.fetch_add(1, std::memory_order_relaxed);
        if (!sent_.test(page)) {
            return;
        }
        kind = RunKind::Zero;
        deltas_.forget(page);
    } else {
        data_pages_.fetch_add(1, std::memory_order_relaxed);
        sent_.set(page);
        if (delta_ && add_delta(worker, page, bytes)) {
            return;
        }
        ++worker.pages_kept;
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

// True: this is all that is to be sent of the page.
bool PageSender::add_delta(Worker& worker, uint64_t page, const std::byte* bytes) {
    const size_t before = worker.deltas.size();
    const auto how =
        deltas_.take(page, std::span<const std::byte, kPage>(bytes, kPage), worker.deltas);
    const size_t size = worker.deltas.size() - before;
    delta_in_ += kPage;
    if (how == DeltaCache::Send::Whole) {
        delta_out_ += kPage;
        return false;
    }
    if (how == DeltaCache::Send::Nothing) {
        ++same_pages_;
        return true;
    }
    delta_out_ += size + kRunSize;
    ++delta_pages_;
    worker.delta_runs.push_back({page, static_cast<uint32_t>(size)});
    return true;
}

// Not of the first round: hardly any of its pages will come again.
void PageSender::begin_deltas(Holes holes) {
    const bool warm = std::exchange(
        delta_, delta_allowed_ && holes == Holes::Read && (delta_gauge_.on() || !options_.judge));
    deltas_warm_ = warm && delta_;  // the round that fills the cache has no deltas yet
    if (delta_) {
        deltas_.begin_round();
    } else {
        deltas_.clear();
    }
}

void PageSender::end_deltas() {
    const CompressionSample sample{delta_in_.exchange(0), delta_out_.exchange(0),
                                   delta_ns_.exchange(0)};
    const LinkSample link{link_bytes_.exchange(0), link_ns_.exchange(0)};
    if (delta_allowed_) {
        delta_gauge_.turn(deltas_warm_ ? sample : CompressionSample{}, link);
    }
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
