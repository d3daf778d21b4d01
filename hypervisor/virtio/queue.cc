#include "hypervisor/virtio/queue.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "hypervisor/virtio/queue_core.h"

namespace kumoi::hypervisor {

// The layout of guest memory is little endian (§2.7); so are we.
static_assert(std::endian::native == std::endian::little);

namespace {

constexpr uint64_t kDescriptorSize = kQueueDescriptorSize;
constexpr uint64_t kUsedElementSize = 8;
constexpr uint16_t kNoInterrupt = 1;  // §2.7.6: VIRTQ_AVAIL_F_NO_INTERRUPT
constexpr uint16_t kNoNotify = 1;     // §2.7.8: VIRTQ_USED_F_NO_NOTIFY

// A driver decides how long chains are; storage of long ones is not kept, or it would decide how
// much memory we have.
constexpr size_t kStorageKept = 256;

// Both rings begin with flags and index; the entries follow at byte 4.
constexpr uint64_t kFlagsAt = 0;
constexpr uint64_t kIndexAt = 2;
constexpr uint64_t kEntriesAt = 4;

std::string_view reason_of(QueueStep step) {
    switch (step) {
        case kQueueIndexOutside: return "a descriptor index is outside its table";
        case kQueueLoop: return "a descriptor chain loops";
        case kQueueNestedIndirect: return "an indirect table is nested";
        case kQueueIndirectNotNegotiated: return "an indirect descriptor was not negotiated";
        case kQueueIndirectWithNext: return "an indirect descriptor has a next one";
        case kQueueIndirectSize: return "an indirect table has a wrong size";
        case kQueueReadableAfterWritable: return "a readable buffer follows a writable one";
        case kQueueTooLong: return "a descriptor chain is longer than 16 MiB";
        default: return "a descriptor chain is broken";
    }
}

// Guest memory is read and written by the guest at the same time: every access to a ring is an
// atomic of its natural size, so a value is either the old or the new one and the compiler reads it
// once.
template <class T>
T load(const std::byte* at, std::memory_order order = std::memory_order_relaxed) {
    return std::atomic_ref<T>(*reinterpret_cast<T*>(const_cast<std::byte*>(at))).load(order);
}

template <class T>
void store(std::byte* at, T value, std::memory_order order = std::memory_order_relaxed) {
    std::atomic_ref<T>(*reinterpret_cast<T*>(at)).store(value, order);
}

// Only ring tables are promised to be aligned (§2.7); an indirect table may lie anywhere.
void copy_descriptor(const std::byte* at, void* out) {
    if (reinterpret_cast<uintptr_t>(at) % sizeof(uint64_t) == 0) {
        const uint64_t words[2] = {load<uint64_t>(at), load<uint64_t>(at + 8)};
        std::memcpy(out, words, sizeof(words));
        return;
    }
    std::memcpy(out, at, kDescriptorSize);
}

// ThreadSanitizer knows no fences; a sequentially consistent exchange does the same on x86.
void full_fence() {
#ifdef __SANITIZE_THREAD__
    static std::atomic<int> word{0};
    word.exchange(0, std::memory_order_seq_cst);
#else
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

template <class Visit>
uint64_t visit_bytes(std::span<const Descriptor> part, uint64_t offset, uint64_t size,
                     const Visit& visit) {
    uint64_t done = 0;
    for (const Descriptor& descriptor : part) {
        const uint64_t length = descriptor.bytes.size();
        if (offset >= length) {
            offset -= length;
            continue;
        }
        const uint64_t count = std::min(length - offset, size - done);
        if (count == 0) {
            break;
        }
        visit(descriptor.bytes.subspan(offset, count), done);
        done += count;
        offset = 0;
    }
    return done;
}

uint64_t append_vectors(std::span<const Descriptor> part, uint64_t offset, uint64_t size,
                        std::vector<iovec>& out) {
    return visit_bytes(part, offset, size, [&out](std::span<std::byte> bytes, uint64_t /*at*/) {
        out.push_back({bytes.data(), bytes.size()});
    });
}

}  // namespace

// --- Chain ---

Chain::Chain(Chain&& other) noexcept
    : queue_(std::exchange(other.queue_, nullptr)),
      head_(other.head_),
      used_bytes_(other.used_bytes_),
      readable_count_(other.readable_count_),
      readable_size_(other.readable_size_),
      writable_size_(other.writable_size_),
      lent_end_(other.lent_end_),
      descriptors_(std::move(other.descriptors_)) {}

Chain& Chain::operator=(Chain&& other) noexcept {
    if (this != &other) {
        give_back();
        queue_ = std::exchange(other.queue_, nullptr);
        head_ = other.head_;
        used_bytes_ = other.used_bytes_;
        readable_count_ = other.readable_count_;
        readable_size_ = other.readable_size_;
        writable_size_ = other.writable_size_;
        lent_end_ = other.lent_end_;
        descriptors_ = std::move(other.descriptors_);
    }
    return *this;
}

Chain::~Chain() {
    give_back();
}

void Chain::give_back() {
    if (queue_ != nullptr) {
        mark_written();
        queue_->put_used(head_, used_bytes_);
        queue_->keep_storage(std::move(descriptors_));
        queue_ = nullptr;
    }
}

size_t Chain::copy_out(uint64_t offset, std::span<std::byte> out) const {
    return visit_bytes(readable(), offset, out.size(),
                       [&out](std::span<const std::byte> bytes, uint64_t at) {
                           std::memcpy(out.data() + at, bytes.data(), bytes.size());
                       });
}

size_t Chain::copy_in(uint64_t offset, std::span<const std::byte> bytes) {
    return visit_bytes(writable(), offset, bytes.size(),
                       [this, &bytes](std::span<std::byte> target, uint64_t at) {
                           std::memcpy(target.data(), bytes.data() + at, target.size());
                           queue_->memory_.mark_written(target);
                       });
}

// What went in by vectors, or by the device's own hand: once all is there, and before the driver
// can hear of it.
void Chain::mark_written() const {
    if (!queue_->memory_.marking()) {
        return;
    }
    visit_bytes(writable(), 0, std::max<uint64_t>(lent_end_, used_bytes_),
                [this](std::span<std::byte> bytes, uint64_t /*at*/) {
                    queue_->memory_.mark_written(bytes);
                });
}

uint64_t Chain::readable_vectors(uint64_t offset, uint64_t size, std::vector<iovec>& out) const {
    return append_vectors(readable(), offset, size, out);
}

uint64_t Chain::writable_vectors(uint64_t offset, uint64_t size, std::vector<iovec>& out) {
    const uint64_t covered = append_vectors(writable(), offset, size, out);
    lent_end_ = std::max(lent_end_, offset + covered);
    return covered;
}

// --- Queue: set-up ---

Queue::Queue(GuestMemory& memory, const QueueConfig& config, uint64_t features, QueueEvents& events)
    : index_(config.index),
      size_(config.size),
      event_index_((features & virtio::kFeatureEventIndex) != 0),
      indirect_((features & virtio::kFeatureIndirectDescriptors) != 0),
      memory_(memory),
      events_(events),
      batch_left_(config.size) {}

Queue::~Queue() {
    KUMOI_ASSERT(in_flight_ == 0);
}

Result<std::unique_ptr<Queue>> Queue::create(GuestMemory& memory, const QueueConfig& config,
                                             uint64_t features, QueueEvents& events) {
    if (!std::has_single_bit(config.size) || config.size > virtio::kQueueSizeMax) {
        return Error::invalid("queue {} has {} entries; a power of two up to {} is needed",
                              config.index, config.size, virtio::kQueueSizeMax);
    }
    std::unique_ptr<Queue> queue(new Queue(memory, config, features, events));
    TRY_CONTEXT(queue->resolve(config), "queue {}", config.index);
    return queue;
}

Result<void> Queue::resolve(const QueueConfig& config) {
    if (config.descriptor_gpa % 16 != 0 || config.available_gpa % 2 != 0 ||
        config.used_gpa % 4 != 0) {
        return Error::invalid("rings at {:#x}, {:#x}, {:#x} are not aligned to 16, 2 and 4 bytes",
                              config.descriptor_gpa, config.available_gpa, config.used_gpa);
    }
    // The event index word behind each ring is only there when the feature is negotiated (§2.7.6).
    const uint64_t event = event_index_ ? 2 : 0;
    descriptors_ = TRY(memory_.host_span(config.descriptor_gpa, kDescriptorSize * size_)).data();
    available_ =
        TRY(memory_.host_span(config.available_gpa, kEntriesAt + 2u * size_ + event)).data();
    used_ = TRY(memory_.host_span(config.used_gpa, kEntriesAt + kUsedElementSize * size_ + event))
                .data();
    return {};
}

// --- Queue: taking buffers ---

void Queue::begin_batch() {
    batch_left_ = size_;
    ran_dry_ = false;
    if (!event_index_ && !broken_) {
        store<uint16_t>(used_ + kFlagsAt, kNoNotify);
        mark_used_ring(kFlagsAt, sizeof(uint16_t));
    }
}

std::optional<Chain> Queue::next_chain() {
    if (broken_ || batch_left_ == 0 || !something_available()) {
        ran_dry_ = true;
        return std::nullopt;
    }
    if (in_flight_ >= size_) {
        refuse("more buffers are in flight than the ring has entries");
        return std::nullopt;
    }
    const auto head = load<uint16_t>(available_ + kEntriesAt + 2u * (next_available_ % size_));
    Chain chain(*this, head);
    chain.descriptors_ = take_storage();
    if (!walk(chain, head)) {
        chain.queue_ = nullptr;  // broken: nothing goes back
        return std::nullopt;
    }
    ++next_available_;
    ++in_flight_;
    --batch_left_;
    chains_.increment();
    return chain;
}

void Queue::put_back(Chain chain) {
    KUMOI_ASSERT(chain.queue_ == this);
    chain.mark_written();
    --next_available_;
    --in_flight_;
    chain.queue_ = nullptr;
    keep_storage(std::move(chain.descriptors_));
}

uint16_t Queue::available_index() const {
    // Acquire: what the driver wrote before it moved the index is visible after this.
    return load<uint16_t>(available_ + kIndexAt, std::memory_order_acquire);
}

bool Queue::something_available() {
    if (next_available_ != seen_available_) {
        return true;
    }
    const uint16_t index = available_index();
    if (queue_index_jumped(index, next_available_, size_)) {
        return refuse("the available index jumped by more than the queue size");
    }
    seen_available_ = index;
    return next_available_ != seen_available_;
}

// Follows a chain from `first`, through at most one indirect table.
bool Queue::walk(Chain& chain, uint16_t first) {
    QueueWalk walk;
    queue_walk_begin(&walk, size_, first);
    const std::byte* table = descriptors_;
    for (int done = 0; done == 0;) {
        if (const QueueStep place = queue_walk_check_index(&walk); place != kQueueBuffer) {
            return refuse(reason_of(place));
        }
        QueueDescriptor raw;  // the one and only copy
        copy_descriptor(table + kDescriptorSize * walk.index, &raw);
        const QueueStep step = queue_walk_step(&walk, &raw, indirect_ ? 1 : 0, &done);
        if (step == kQueueIndirect) {
            auto entered = memory_.host_span(raw.address, raw.length);
            if (!entered.ok()) {
                return refuse("an indirect table is outside of RAM");
            }
            table = entered->data();
            queue_walk_enter(&walk, &raw);
        } else if (step == kQueueBuffer) {
            auto bytes = memory_.host_span(raw.address, raw.length);
            if (!bytes.ok()) {
                return refuse("a buffer is outside of RAM");
            }
            chain.descriptors_.push_back({*bytes, (raw.flags & kQueueFlagWrite) != 0});
            chain.readable_count_ += (raw.flags & kQueueFlagWrite) == 0 ? 1 : 0;
        } else if (step != kQueueEmpty) {
            return refuse(reason_of(step));
        }
    }
    chain.readable_size_ = walk.readable_size;
    chain.writable_size_ = walk.writable_size;
    return true;
}

bool Queue::refuse(std::string_view reason) {
    mark_broken(reason);
    ran_dry_ = true;
    return false;
}

void Queue::set_position(Position position) {
    KUMOI_ASSERT(in_flight_ == 0);
    next_available_ = seen_available_ = position.next_available;
    next_used_ = published_used_ = position.next_used;
}

void Queue::mark_broken(std::string_view reason) {
    if (!broken_) {
        broken_ = true;
        events_.queue_broken(index_, reason);
    }
}

// --- Queue: returning buffers ---

void Queue::put_used(uint16_t head, uint32_t bytes) {
    KUMOI_ASSERT(in_flight_ > 0);
    --in_flight_;
    if (broken_) {
        return;
    }
    std::byte* element = used_ + kEntriesAt + kUsedElementSize * (next_used_ % size_);
    store<uint32_t>(element, head);
    store<uint32_t>(element + 4, bytes);
    memory_.mark_written(std::span(element, kUsedElementSize));
    ++next_used_;
}

void Queue::publish() {
    if (broken_ || next_used_ == published_used_) {
        return;
    }
    // Release: the elements and the data are visible before the index that covers them.
    store<uint16_t>(used_ + kIndexAt, next_used_, std::memory_order_release);
    mark_used_ring(kIndexAt, sizeof(uint16_t));
    const uint16_t old = std::exchange(published_used_, next_used_);
    // The index must be visible before we read whether the driver sleeps (§2.7.7.2); it does the
    // same the other way round.
    full_fence();
    if (driver_wants_interrupt(old, next_used_)) {
        events_.queue_used(index_);
    }
}

bool Queue::driver_wants_interrupt(uint16_t old_index, uint16_t new_index) const {
    if (!event_index_) {
        return (load<uint16_t>(available_ + kFlagsAt) & kNoInterrupt) == 0;
    }
    const auto used_event = load<uint16_t>(available_ + kEntriesAt + 2u * size_);
    return queue_event_passed(used_event, new_index, old_index);
}

bool Queue::rearm() {
    if (broken_) {
        return false;
    }
    if (event_index_) {
        const uint64_t at = kEntriesAt + kUsedElementSize * size_;
        store<uint16_t>(used_ + at, next_available_);
        mark_used_ring(at, sizeof(uint16_t));
    } else {
        store<uint16_t>(used_ + kFlagsAt, 0);
        mark_used_ring(kFlagsAt, sizeof(uint16_t));
    }
    // The wish must be visible before we look for the last time, or a buffer could slip in between.
    full_fence();
    return available_index() != next_available_;
}

void Queue::mark_used_ring(uint64_t offset, uint64_t size) const {
    memory_.mark_written(std::span(used_ + offset, size));
}

std::vector<Descriptor> Queue::take_storage() {
    if (spare_.empty()) {
        return {};
    }
    std::vector<Descriptor> storage = std::move(spare_.back());
    spare_.pop_back();
    return storage;
}

void Queue::keep_storage(std::vector<Descriptor> storage) {
    storage.clear();
    if (storage.capacity() <= kStorageKept) {
        spare_.push_back(std::move(storage));
    }
}

}  // namespace kumoi::hypervisor
