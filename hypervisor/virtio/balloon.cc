#include "hypervisor/virtio/balloon.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kumoi::hypervisor {

namespace {

// §5.5.3: feature bits.
constexpr uint64_t kFeatureStatistics = 1ull << 1;
constexpr uint64_t kFeatureDeflateOnOom = 1ull << 2;
constexpr uint64_t kFeatureHints = 1ull << 3;
constexpr uint64_t kFeaturePagePoison = 1ull << 4;
constexpr uint64_t kFeatureReporting = 1ull << 5;

// §5.5.4: struct virtio_balloon_config.
constexpr uint32_t kActualAt = 4;
constexpr uint32_t kPoisonAt = 12;
constexpr uint32_t kConfigSize = 16;

// §5.5.6.6: numbers that mean something by themselves, and the first of ours.
constexpr uint32_t kHintsStop = 0;
constexpr uint32_t kHintsDone = 1;
constexpr uint32_t kHintNumberFirst = 0x8000'0000;

enum Field : uint16_t {
    kFieldTarget = 1,
    kFieldActual,
    kFieldPoison,
    kFieldHintCommand,
    kFieldHintNumber
};

constexpr uint16_t kQueueSize = 128;
constexpr uint16_t kReportingQueueSize = 32;
constexpr uint16_t kStatisticsQueue = 2;
constexpr uint16_t kHintQueue = 3;
constexpr size_t kStatisticSize = 10;             // §5.5.6.3: packed u16 tag and u64 value
constexpr size_t kPagesPerTurn = 16384;           // then the other queues and a pause get theirs
constexpr uint64_t kReportBytesMax = 1ull << 30;  // of one descriptor; ours

// §5.5.6.4 and Linux 6.12's additions, by tag.
constexpr std::array<const char*, VirtioBalloon::kStatisticCount> kStatisticNames = {
    "swap_in_bytes",     "swap_out_bytes",    "major_faults",        "minor_faults",
    "free_bytes",        "total_bytes",       "available_bytes",     "disk_cache_bytes",
    "hugetlb_allocated", "hugetlb_failed",    "oom_kills",           "allocation_stalls",
    "async_scan_pages",  "direct_scan_pages", "async_reclaim_pages", "direct_reclaim_pages"};

template <class T>
T value_at(std::span<const std::byte> bytes, size_t at) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    return value;
}

}  // namespace

VirtioBalloon::VirtioBalloon(VirtioBalloonOptions options, GuestMemory& memory, const Clock& clock)
    : options_(std::move(options)),
      memory_(memory),
      clock_(clock),
      target_pages_(static_cast<uint32_t>(options_.target_mib * kPagesPerMib)),
      hint_command_(kHintsStop),
      last_hint_number_(kHintNumberFirst) {
    for (auto& value : guest_statistics_) {
        value = 0;
    }
}

uint64_t VirtioBalloon::features() const {
    return kFeatureStatistics | kFeaturePagePoison |
           (options_.deflate_on_oom ? kFeatureDeflateOnOom : 0) |
           (options_.free_page_hints ? kFeatureHints : 0) |
           (options_.free_page_reporting ? kFeatureReporting : 0);
}

// The hint queue is number 3; the reporting queue 4, or 3 for who leaves out queues.
std::vector<uint16_t> VirtioBalloon::queue_sizes() const {
    std::vector<uint16_t> sizes{kQueueSize, kQueueSize, 2};
    if (options_.free_page_reporting) {
        sizes.insert(sizes.end(), {kReportingQueueSize, kReportingQueueSize});
    } else if (options_.free_page_hints) {
        sizes.push_back(kReportingQueueSize);
    }
    return sizes;
}

VirtioBalloon::Role VirtioBalloon::role(uint16_t queue_index) const {
    const uint64_t agreed = context_->features();
    if (queue_index < 2) {
        return queue_index == 0 ? Role::Inflate : Role::Deflate;
    }
    const bool statistics = (agreed & kFeatureStatistics) != 0;
    if (queue_index == kStatisticsQueue && statistics) {
        return Role::Statistics;
    }
    if ((agreed & kFeatureHints) != 0) {
        const bool moved_up = !statistics && context_->queue(kStatisticsQueue) != nullptr;
        if (queue_index == (moved_up ? kStatisticsQueue : kHintQueue)) {
            return Role::Hints;
        }
    }
    return (agreed & kFeatureReporting) != 0 ? Role::Reporting : Role::None;
}

// --- Configuration space ---

void VirtioBalloon::read_config(uint32_t offset, std::span<uint8_t> out) const {
    const std::array<uint32_t, kConfigSize / 4> words{target_pages_, actual_pages_, hint_command_,
                                                      poison_};
    std::array<uint8_t, kConfigSize> bytes;
    std::memcpy(bytes.data(), words.data(), bytes.size());
    read_config_bytes(bytes, offset, out);
}

void VirtioBalloon::write_config(uint32_t offset, std::span<const uint8_t> bytes) {
    uint32_t value = 0;
    if (bytes.size() != sizeof(value)) {
        return;
    }
    std::memcpy(&value, bytes.data(), sizeof(value));
    if (offset == kActualAt) {
        actual_pages_ = value;
    } else if (offset == kPoisonAt) {
        poison_ = value;
    }
}

Result<void> VirtioBalloon::set_target(uint64_t mib) {
    if (mib > memory_.boot_size() >> 20) {
        return Error::invalid("a balloon of {} MiB was asked for; the guest has {} MiB", mib,
                              memory_.boot_size() >> 20);
    }
    target_pages_ = static_cast<uint32_t>(mib * kPagesPerMib);
    const std::lock_guard lock(context_mutex_);
    if (context_ != nullptr) {
        context_->config_changed();
    }
    return {};
}

void VirtioBalloon::request_statistics() {
    const std::lock_guard lock(context_mutex_);
    if (context_ != nullptr) {
        context_->loop().post([this] { ask_for_statistics(); });
    }
}

VirtioBalloon::State VirtioBalloon::state() const {
    State state;
    state.target_mib = target_pages_ / kPagesPerMib;
    state.actual_mib = actual_pages_ / kPagesPerMib;
    const int64_t then = statistics_ns_;
    state.statistics_age_ms = then < 0 ? -1 : (clock_.monotonic_ns() - then) / kNanosPerMilli;
    for (size_t tag = 0; tag < kStatisticCount; ++tag) {
        if ((guest_statistics_valid_ & 1u << tag) != 0) {
            state.guest_statistics.push_back({kStatisticNames[tag], guest_statistics_[tag]});
        }
    }
    return state;
}

// --- Life ---

Result<void> VirtioBalloon::start(VirtioContext& context) {
    {
        const std::lock_guard lock(context_mutex_);
        context_ = &context;
    }
    paused_ = false;
    arm_timer();
    return {};
}

void VirtioBalloon::quiesce() {
    paused_ = true;
    if (statistics_chain_) {
        context_->queue(kStatisticsQueue)->put_back(std::move(*statistics_chain_));
        statistics_chain_.reset();
        statistics_known_ = true;
    }
}

void VirtioBalloon::resume() {
    paused_ = false;
}

// The interrupt that told may have been raised after the state was taken.
void VirtioBalloon::begin_serving() {
    if (std::exchange(tell_hints_done_, false)) {
        context_->config_changed();
    }
}

void VirtioBalloon::stop() {
    if (timer_) {
        context_->loop().cancel(*timer_);
        timer_.reset();
    }
    const std::lock_guard lock(context_mutex_);
    context_ = nullptr;
    statistics_known_ = false;
    // A driver that starts anew starts with an empty balloon (§5.5.5) and tells its poison again.
    actual_pages_ = 0;
    poison_ = 0;
    const std::lock_guard hints_lock(hints_mutex_);
    hints_come_ = false;
    hint_command_ = hints_ == nullptr ? kHintsStop : last_hint_number_;
}

void VirtioBalloon::arm_timer() {
    if (options_.statistics_interval_ms > 0) {
        timer_ =
            context_->loop().call_after(options_.statistics_interval_ms * kNanosPerMilli, [this] {
                arm_timer();
                ask_for_statistics();
            });
    }
}

void VirtioBalloon::process_queue(Queue& queue) {
    pages_this_turn_ = 0;
    switch (role(queue.index())) {
        case Role::Inflate: inflate(queue); break;
        case Role::Deflate: deflate(queue); break;
        case Role::Statistics: take_statistics(queue); break;
        case Role::Hints: take_hints(queue); break;
        case Role::Reporting: report(queue); break;
        default: break;
    }
}

// A guest may put as much work into one ring as it likes; a pause must not wait for all of it.
bool VirtioBalloon::turn_is_over(Queue& queue) {
    if (pages_this_turn_ < kPagesPerTurn) {
        return false;
    }
    context_->run_queue(queue.index());
    return true;
}

void VirtioBalloon::save(SectionWriter& out) const {
    out.u64(kFieldTarget, target_pages_)
        .u64(kFieldActual, actual_pages_)
        .u64(kFieldPoison, poison_)
        .u64(kFieldHintCommand, hint_command_);
    const std::lock_guard lock(hints_mutex_);
    out.u64(kFieldHintNumber, last_hint_number_);
}

Result<void> VirtioBalloon::load(SectionReader& in) {
    const auto target = TRY(in.u64_max(kFieldTarget, memory_.boot_size() / kPageSize));
    actual_pages_ = TRY(in.u32(kFieldActual));
    poison_ = TRY(in.u32(kFieldPoison));
    const auto command = TRY(in.u64_or(kFieldHintCommand, kHintsStop));
    const auto number = TRY(in.u64_or(kFieldHintNumber, kHintNumberFirst));
    target_pages_ = static_cast<uint32_t>(target);
    const std::lock_guard lock(hints_mutex_);
    // Who asked was not this process: the driver shall have its pages back.
    hint_command_ = command == kHintsStop ? kHintsStop : kHintsDone;
    tell_hints_done_ = command != kHintsStop;
    last_hint_number_ = std::max(static_cast<uint32_t>(number), kHintNumberFirst);
    return {};
}

// --- Inflate and deflate ---

void VirtioBalloon::inflate(Queue& queue) {
    while (!turn_is_over(queue)) {
        auto chain = queue.next_chain();
        if (!chain) {
            return;
        }
        inflate_chain(*chain);
    }
}

// §5.5.6: an array of 32-bit page numbers. Neighbours are given back in one go.
void VirtioBalloon::inflate_chain(const Chain& chain) {
    const uint64_t size = chain.readable_size();
    if (!chain.writable().empty() || size == 0 || size % sizeof(uint32_t) != 0 ||
        size > kPagesPerChainMax * sizeof(uint32_t)) {
        malformed_.increment();
        return;
    }
    pages_.resize(size / sizeof(uint32_t));
    chain.copy_out(0, std::as_writable_bytes(std::span(pages_)));
    pages_this_turn_ += pages_.size();
    inflated_.increment(pages_.size());
    std::sort(pages_.begin(), pages_.end());
    for (size_t i = 0; i < pages_.size();) {
        size_t next = i + 1;
        while (next < pages_.size() && pages_[next] - pages_[next - 1] <= 1) {
            ++next;
        }
        discard(uint64_t{pages_[i]} * kPageSize,
                (uint64_t{pages_[next - 1]} - pages_[i] + 1) * kPageSize);
        i = next;
    }
}

// Nothing to do: a page that the guest touches again is there again. Its content is undefined.
void VirtioBalloon::deflate(Queue& queue) {
    while (auto chain = queue.next_chain()) {
        if (!chain->writable().empty() || chain->readable_size() % sizeof(uint32_t) != 0) {
            malformed_.increment();
            continue;
        }
        deflated_.increment(chain->readable_size() / sizeof(uint32_t));
    }
}

void VirtioBalloon::discard(uint64_t gpa, uint64_t size) {
    auto done = memory_.discard(gpa, size);
    if (!done.ok()) {
        discard_errors_.increment();
        return;
    }
    discarded_bytes_.increment(*done);
}

// --- Free page reporting (§5.5.6.7) ---

void VirtioBalloon::report(Queue& queue) {
    while (!turn_is_over(queue)) {
        auto chain = queue.next_chain();
        if (!chain) {
            return;
        }
        report_chain(*chain);
    }
}

// The buffers are the free pages themselves, whole and device-writable. The driver waits until they
// are used before it gives them to anybody.
void VirtioBalloon::report_chain(const Chain& chain) {
    if (!chain.readable().empty()) {
        malformed_.increment();
        return;
    }
    const bool kept = content_matters();
    for (const Descriptor& descriptor : chain.writable()) {
        reported_.increment(descriptor.bytes.size() / kPageSize);
        pages_this_turn_ += kPagesPerTurn / kReportingQueueSize;
        if (kept) {
            continue;
        }
        const auto gpa = memory_.address_of(descriptor.bytes);
        if (!gpa || descriptor.bytes.size() > kReportBytesMax) {
            discard_errors_.increment();
            continue;
        }
        discard(*gpa, descriptor.bytes.size());
    }
}

bool VirtioBalloon::content_matters() const {
    return (context_->features() & kFeaturePagePoison) != 0 && poison_ != 0;
}

// --- Free page hints (§5.5.6.6) ---

bool VirtioBalloon::may_hint() const {
    return context_ != nullptr && (context_->features() & kFeatureHints) != 0 && !content_matters();
}

bool VirtioBalloon::available() const {
    const std::lock_guard lock(context_mutex_);
    return may_hint();
}

bool VirtioBalloon::begin(FreePages& into) {
    const std::lock_guard lock(context_mutex_);
    if (!may_hint()) {
        return false;
    }
    {
        const std::lock_guard hints_lock(hints_mutex_);
        last_hint_number_ =
            last_hint_number_ == UINT32_MAX ? kHintNumberFirst : last_hint_number_ + 1;
        hints_ = &into;
        hints_come_ = false;
        hints_complete_ = false;
        hint_pages_ = 0;
        hint_command_ = last_hint_number_;
    }
    tell_hint_command();
    return true;
}

FreePageHints::Progress VirtioBalloon::progress() const {
    const std::lock_guard lock(hints_mutex_);
    return {hint_pages_, hints_complete_};
}

void VirtioBalloon::end() {
    const std::lock_guard lock(context_mutex_);
    {
        const std::lock_guard hints_lock(hints_mutex_);
        if (hints_ == nullptr) {
            return;
        }
        hints_ = nullptr;
        hint_command_ = kHintsDone;
    }
    tell_hint_command();
}

// By the I/O thread: a thread of a migration raises no interrupts.
void VirtioBalloon::tell_hint_command() {
    if (context_ != nullptr) {
        context_->loop().post([this] {
            if (context_ != nullptr) {
                context_->config_changed();
            }
        });
    }
}

void VirtioBalloon::take_hints(Queue& queue) {
    while (!turn_is_over(queue)) {
        auto chain = queue.next_chain();
        if (!chain) {
            return;
        }
        pages_this_turn_ += kPagesPerTurn / kReportingQueueSize;
        take_hint(*chain);
    }
}

// Either a number, or free pages.
void VirtioBalloon::take_hint(const Chain& chain) {
    if (chain.readable().empty()) {
        const std::lock_guard lock(hints_mutex_);
        for (const Descriptor& descriptor : chain.writable()) {
            pages_this_turn_ += descriptor.bytes.size() >> 16;
            mark_free(descriptor.bytes);
        }
    } else if (chain.writable().empty() && chain.readable_size() == sizeof(uint32_t)) {
        take_hint_number(chain);
    } else {
        malformed_.increment();
    }
}

void VirtioBalloon::take_hint_number(const Chain& chain) {
    uint32_t number = 0;
    chain.copy_out(0, std::as_writable_bytes(std::span(&number, 1)));
    const std::lock_guard lock(hints_mutex_);
    if (number == kHintsStop && hints_come_) {
        hints_complete_ = true;
    }
    hints_come_ = hints_ != nullptr && number == last_hint_number_;
}

// Whole pages only, and only those whose number is the current one.
void VirtioBalloon::mark_free(std::span<const std::byte> bytes) {
    if (!hints_come_ || hints_ == nullptr || bytes.size() > kReportBytesMax) {
        return;
    }
    const std::byte* file = memory_.file_bytes().data();
    const auto from = static_cast<uint64_t>(bytes.data() - file);
    const uint64_t first = (from + kPageSize - 1) / kPageSize;
    const uint64_t end = (from + bytes.size()) / kPageSize;
    if (first < end) {
        hints_->mark(first, end - first);
        hint_pages_ += end - first;
        hinted_.increment(end - first);
    }
}

// --- Statistics (§5.5.6.3) ---

// The driver gives one buffer with values, which stays here until new ones are wanted.
void VirtioBalloon::take_statistics(Queue& queue) {
    while (auto chain = queue.next_chain()) {
        if (!std::exchange(statistics_known_, false)) {
            parse_statistics(*chain);
        }
        statistics_chain_ = std::move(*chain);  // an older one goes back
    }
}

void VirtioBalloon::parse_statistics(const Chain& chain) {
    const uint64_t size = chain.readable_size();
    if (!chain.writable().empty() || size > kStatisticsBytesMax) {
        malformed_.increment();
        return;
    }
    std::array<std::byte, kStatisticsBytesMax> bytes;
    const auto entries = std::span(bytes).first(size);
    chain.copy_out(0, entries);
    for (size_t at = 0; at + kStatisticSize <= size; at += kStatisticSize) {
        const auto tag = value_at<uint16_t>(entries, at);
        if (tag < kStatisticCount) {
            guest_statistics_[tag] = value_at<uint64_t>(entries, at + 2);
            guest_statistics_valid_ |= 1u << tag;
        }
    }
    if (size >= kStatisticSize) {
        statistics_ns_ = clock_.monotonic_ns();
    }
}

// Without its buffer the driver is filling it right now, or has just started.
void VirtioBalloon::ask_for_statistics() {
    if (context_ != nullptr && statistics_chain_) {
        statistics_chain_.reset();
        context_->queue(kStatisticsQueue)->publish();
    }
}

DeviceStatistics VirtioBalloon::statistics() const {
    const State now = state();
    DeviceStatistics all{{"target_mib", now.target_mib},
                         {"actual_mib", now.actual_mib},
                         {"inflated_pages", inflated_.value()},
                         {"deflated_pages", deflated_.value()},
                         {"reported_pages", reported_.value()},
                         {"hinted_pages", hinted_.value()},
                         {"discarded_bytes", discarded_bytes_.value()},
                         {"discard_errors", discard_errors_.value()},
                         {"malformed_chains", malformed_.value()}};
    for (const Statistic& statistic : now.guest_statistics) {
        all.push_back({"guest_" + statistic.name, statistic.value});
    }
    if (now.statistics_age_ms >= 0) {
        all.push_back({"guest_age_ms", static_cast<uint64_t>(now.statistics_age_ms)});
    }
    return all;
}

}  // namespace kumoi::hypervisor
