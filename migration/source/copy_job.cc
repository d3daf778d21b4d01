#include "migration/source/copy_job.h"

#include <chrono>

#include "hypervisor/snapshot/job_thread.h"

namespace kumoi::migration {

using hypervisor::SectionWriter;

namespace {

// More than this over the goal, and a guest that was stopped goes on again.
constexpr double kTolerance = 1.1;
// How long to wait for the first free pages, or more of them, and for all: what comes later helps
// only where it overtakes the sender.
constexpr int64_t kHintQuietNs = 50 * kNanosPerMilli;
constexpr int64_t kHintWaitNs = 500 * kNanosPerMilli;

PageSender::Options sender_options(const CopyJob::Options& options,
                                   const std::shared_ptr<DiskCopy>& disks) {
    PageSender::Options sender{
        .bandwidth = options.bandwidth, .compress = options.compress, .delta = options.delta};
    if (disks) {
        sender.more = [disks](size_t thread, StreamSocket& stream, uint32_t round) {
            return disks->send_some(thread, stream, round);
        };
    }
    return sender;
}

PageSender::Memory with_free_pages(CopyJob::Parts& parts, const hypervisor::FreePages& free) {
    PageSender::Memory memory = std::move(parts.memory);
    memory.free = parts.hints == nullptr ? nullptr : &free;
    return memory;
}

}  // namespace

CopyJob::CopyJob(Parts parts, Options options, Events events)
    : log_(parts.log),
      disks_(parts.disks),
      hints_(parts.hints),
      free_(parts.hints == nullptr ? 0 : log_.pages()),
      link_(std::move(parts.link)),
      clock_(parts.clock),
      events_(std::move(events)),
      goal_(options.goal),
      sender_(std::move(parts.streams), with_free_pages(parts, free_), parts.clock,
              sender_options(options, parts.disks)),
      convergence_(options.goal),
      pending_(log_.pages()) {
    figures_.total = log_.pages() * kPage;
    figures_.remaining = figures_.total;
}

CopyJob::~CopyJob() {
    cancel();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void CopyJob::start(Offer offer, std::vector<SectionWriter> sections, int64_t fixed_ns) {
    offer_ = std::move(offer);
    offered_ = std::move(sections);
    // Saving is measured; loading over there takes as long, the handover's two syncs and its round
    // trip some milliseconds.
    constexpr int64_t kHandoverNs = 5 * kNanosPerMilli;
    convergence_.set_fixed(2 * fixed_ns + kHandoverNs);
    thread_ = hypervisor::start_job_thread(
        "mig-copy", [this] { run(); }, hypervisor::ThreadClass::Migration);
}

void CopyJob::accept(const Acceptance& acceptance) {
    const std::lock_guard lock(mutex_);
    accepted_ = acceptance;
    changed_.notify_all();
}

void CopyJob::stopped() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    state_.reset();  // one of an earlier stop, after which the guest went on
    changed_.notify_all();
}

void CopyJob::state(std::vector<SectionWriter> sections, bool paused) {
    const std::lock_guard lock(mutex_);
    state_ = std::move(sections);
    paused_ = paused;
    changed_.notify_all();
}

void CopyJob::force() {
    forced_.store(true);
}

void CopyJob::force_post_copy() {
    post_copy_.store(true);
    sender_.cut_short();
}

std::vector<std::unique_ptr<StreamSocket>> CopyJob::release_streams() {
    thread_.join();
    return sender_.release_streams();
}

void CopyJob::cancel() {
    {
        const std::lock_guard lock(mutex_);
        cancelled_ = true;
        changed_.notify_all();
    }
    sender_.stop();
}

CopyJob::Figures CopyJob::figures() const {
    const PageSender::Figures sent = sender_.figures();
    const uint64_t remaining = sender_.remaining();
    const std::lock_guard lock(mutex_);
    Figures figures = figures_;
    figures.sent = sent.bytes;
    figures.pages = sent.pages;
    figures.zero_pages = sent.zero_pages;
    figures.free_pages = sent.free_pages;
    figures.delta_pages = sent.delta_pages;
    figures.same_pages = sent.same_pages;
    figures.packed_frames = sent.packed_frames;
    if (remaining != 0) {
        figures.remaining = remaining;
    }
    if (disks_) {
        figures.disk_total = disks_->total();
        figures.disk_remaining = disks_->remaining();
    }
    return figures;
}

template <class Ready>
Result<void> CopyJob::wait(const Ready& ready) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return cancelled_ || ready(); });
    if (cancelled_) {
        return Error::make(ErrorCode::Cancelled, "the migration was cancelled");
    }
    return {};
}

void CopyJob::run() {
    auto done = send_offer();
    if (done) {
        done = copy();
    }
    if (!done) {
        events_.failed(done.error());
        return;
    }
    events_.all_sent(post_copy_.load());
}

Result<void> CopyJob::send_offer() {
    TRY(link_->send(MessageType::Offer, offer_.encode()));
    TRY(send_sections(offered_));
    offered_.clear();
    TRY(link_->send(MessageType::OfferEnd, {}));
    TRY(wait([this] { return accepted_.has_value(); }));
    if (accepted_->delta) {
        sender_.allow_delta();
    }
    events_.accepted();
    return {};
}

Result<void> CopyJob::send_sections(const std::vector<SectionWriter>& sections) {
    for (const SectionWriter& section : sections) {
        TRY(link_->send(MessageType::Section, encode_section(section)));
    }
    return {};
}

Result<void> CopyJob::copy() {
    collected_ns_ = clock_.monotonic_ns();
    pending_.set_all();
    TRY(send_everything());
    for (;;) {
        TRY(collect());
        const Convergence::Advice advice = weigh();
        publish(advice);
        if (advice.step == Convergence::Step::PostCopy) {
            post_copy_.store(true);
        }
        const bool post_copy = post_copy_.load() && advice.step != Convergence::Step::Stop;
        const bool whatever_is_left = post_copy || forced_.load();
        if ((advice.step == Convergence::Step::Stop || whatever_is_left) &&
            TRY(stop_guest(whatever_is_left))) {
            return finish(post_copy);
        }
        TRY(send(PageSender::Holes::Read));
    }
}

// The first round, but for what the guest calls free: in this order, or writes are missed
// (hypervisor/memory/free_page_hints.h).
Result<void> CopyJob::send_everything() {
    if (hints_ == nullptr || !hints_->available()) {
        return send(PageSender::Holes::Skip);
    }
    TRY(log_.rearm(0, log_.pages()));
    Result<void> sent;
    if (hints_->begin(free_)) {
        sent = wait_for_hints();
    }
    if (sent.ok()) {
        sent = send(PageSender::Holes::Skip);
    }
    hints_->end();
    return sent;
}

Result<void> CopyJob::wait_for_hints() {
    constexpr auto kLook = std::chrono::milliseconds(1);
    const int64_t begun = clock_.monotonic_ns();
    int64_t news = begun;
    uint64_t pages = 0;
    for (int64_t now = begun; now - begun < kHintWaitNs && now - news < kHintQuietNs;
         now = clock_.monotonic_ns()) {
        const auto progress = hints_->progress();
        if (progress.complete) {
            break;
        }
        news = progress.pages == pages ? news : now;
        pages = progress.pages;
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, kLook, [this] { return cancelled_; })) {
            return Error::make(ErrorCode::Cancelled, "the migration was cancelled");
        }
    }
    return {};
}

Result<void> CopyJob::collect() {
    if (disks_) {
        disks_->collect();
    }
    return log_.collect(pending_);
}

uint64_t CopyJob::remaining() const {
    return pending_.count() * kPage + (disks_ ? disks_->remaining() : 0);
}

Result<void> CopyJob::send(PageSender::Holes holes, bool last) {
    if (disks_) {
        disks_->start_round();
    }
    const PageSender::Figures before = sender_.figures();
    const int64_t begun = clock_.monotonic_ns();
    const uint64_t end = TRY(sender_.send_round(round_++, pending_, holes, last));
    round_ns_ = clock_.monotonic_ns() - begun;
    const PageSender::Figures after = sender_.figures();
    round_bytes_ = (after.pages - before.pages) * kPage + after.more - before.more;
    pending_.clear(0, end);
    return {};
}

Convergence::Advice CopyJob::weigh() {
    const int64_t now = clock_.monotonic_ns();
    const int64_t since = now - collected_ns_;
    collected_ns_ = now;
    return convergence_.round({.carried = round_bytes_,
                               .took_ns = round_ns_,
                               .remaining = remaining(),
                               .since_ns = since});
}

void CopyJob::publish(const Convergence::Advice& advice) {
    unsigned before = 0;
    {
        const std::lock_guard lock(mutex_);
        before = figures_.advice.throttle;
        figures_.advice = advice;
        figures_.remaining = pending_.count() * kPage;
        figures_.round = round_;
    }
    if (advice.throttle != before) {
        events_.throttle_wanted(advice.throttle);
    }
}

Result<bool> CopyJob::stop_guest(bool whatever_is_left) {
    events_.stop_wanted();
    TRY(wait([this] { return stopped_; }));
    TRY(collect());
    const int64_t expected = convergence_.expected_downtime(remaining());
    if (whatever_is_left ||
        static_cast<double>(expected) <= kTolerance * static_cast<double>(convergence_.goal_ns())) {
        return true;
    }
    convergence_.stopped_too_early(expected);
    {
        const std::lock_guard lock(mutex_);
        stopped_ = false;
    }
    events_.go_on_wanted();
    return false;
}

Result<void> CopyJob::finish(bool post_copy) {
    post_copy_.store(post_copy);
    if (post_copy) {
        TRY(send_missing());
        pending_.clear_all();
    }
    TRY(send(PageSender::Holes::Read, true));
    TRY(wait([this] { return state_.has_value(); }));
    StateEnd end;
    std::vector<SectionWriter> sections;
    {
        const std::lock_guard lock(mutex_);
        sections = std::move(*state_);
        end.paused = paused_;
        end.post_copy = post_copy;
        figures_.remaining = 0;
    }
    TRY(send_sections(sections));
    end.round = round_ - 1;
    end.sections = static_cast<uint32_t>(sections.size());
    return link_->send(MessageType::State, end.encode());
}

// What the other side has of these pages is not what the guest has.
Result<void> CopyJob::send_missing() {
    constexpr size_t kRunsOfMessage = 65'536;
    std::vector<PageRun> runs;
    std::vector<std::byte> bytes;
    Result<void> done;
    const auto flush = [&] {
        encode_runs(runs, bytes);
        done = done.ok() ? link_->send(MessageType::Missing, bytes) : std::move(done);
        runs.clear();
    };
    pending_.for_each_run([&](const hypervisor::PageRun& run) {
        for (uint64_t at = run.first; at < run.first + run.count; at += UINT32_MAX) {
            const uint64_t count = std::min<uint64_t>(run.first + run.count - at, UINT32_MAX);
            runs.push_back({at, static_cast<uint32_t>(count), RunKind::Zero});
        }
        if (runs.size() >= kRunsOfMessage) {
            flush();
        }
    });
    if (!runs.empty()) {
        flush();
    }
    return done;
}

}  // namespace kumoi::migration
