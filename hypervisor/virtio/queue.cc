#include "hypervisor/virtio/queue.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace kumoi::hypervisor {

// The layout of guest memory is little endian (§2.7); so are we.
static_assert(std::endian::native == std::endian::little);

struct Queue::RawDescriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags;
    uint16_t next;
};

namespace {

constexpr uint16_t kNext = 1;      // §2.7.5: VIRTQ_DESC_F_NEXT
constexpr uint16_t kWrite = 2;     // VIRTQ_DESC_F_WRITE
constexpr uint16_t kIndirect = 4;  // VIRTQ_DESC_F_INDIRECT
constexpr uint64_t kDescriptorSize = 16;
constexpr uint64_t kUsedElementSize = 8;
constexpr uint16_t kNoInterrupt = 1;  // §2.7.6: VIRTQ_AVAIL_F_NO_INTERRUPT
constexpr uint16_t kNoNotify = 1;     // §2.7.8: VIRTQ_USED_F_NO_NOTIFY

// Both rings begin with flags and index; the entries follow at byte 4.
constexpr uint64_t kFlagsAt = 0;
constexpr uint64_t kIndexAt = 2;
constexpr uint64_t kEntriesAt = 4;

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
        descriptors_ = std::move(other.descriptors_);
    }
    return *this;
}

Chain::~Chain() {
    give_back();
}

void Chain::give_back() {
    if (queue_ != nullptr) {
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
                       [&bytes](std::span<std::byte> target, uint64_t at) {
                           std::memcpy(target.data(), bytes.data() + at, target.size());
                       });
}

uint64_t Chain::readable_vectors(uint64_t offset, uint64_t size, std::vector<iovec>& out) const {
    return append_vectors(readable(), offset, size, out);
}

uint64_t Chain::writable_vectors(uint64_t offset, uint64_t size, std::vector<iovec>& out) const {
    return append_vectors(writable(), offset, size, out);
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
    if (!walk(chain, {TableKind::Ring, descriptors_, size_}, head)) {
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
    if (static_cast<uint16_t>(index - next_available_) > size_) {
        return refuse("the available index jumped by more than the queue size");
    }
    seen_available_ = index;
    return next_available_ != seen_available_;
}

// Follows one table of descriptors. A chain cannot visit more descriptors than the table has
// without visiting one twice, so the loop's bound is also the test for loops.
bool Queue::walk(Chain& chain, const Table& table, uint16_t first) {
    uint16_t index = first;
    for (uint32_t seen = 0; seen < table.count; ++seen) {
        if (index >= table.count) {
            return refuse("a descriptor index is outside its table");
        }
        RawDescriptor raw;  // the one and only copy
        copy_descriptor(table.bytes + kDescriptorSize * index, &raw);
        if ((raw.flags & kIndirect) != 0) {
            return table.kind == TableKind::Indirect ? refuse("an indirect table is nested")
                                                     : enter_indirect(chain, raw);
        }
        if (!add_buffer(chain, raw)) {
            return false;
        }
        if ((raw.flags & kNext) == 0) {
            return true;
        }
        index = raw.next;
    }
    return refuse("a descriptor chain loops");
}

bool Queue::enter_indirect(Chain& chain, const RawDescriptor& raw) {
    if (!indirect_) {
        return refuse("an indirect descriptor was not negotiated");
    }
    if ((raw.flags & kNext) != 0) {  // §2.7.5.3.1
        return refuse("an indirect descriptor has a next one");
    }
    if (raw.length == 0 || raw.length % kDescriptorSize != 0 ||
        raw.length / kDescriptorSize > kIndirectCountMax) {
        return refuse("an indirect table has a wrong size");
    }
    auto table = memory_.host_span(raw.address, raw.length);
    if (!table.ok()) {
        return refuse("an indirect table is outside of RAM");
    }
    const auto count = static_cast<uint32_t>(raw.length / kDescriptorSize);
    return walk(chain, {TableKind::Indirect, table->data(), count}, 0);
}

bool Queue::add_buffer(Chain& chain, const RawDescriptor& raw) {
    const bool writable = (raw.flags & kWrite) != 0;
    if (raw.length == 0) {
        return true;  // says nothing, costs nothing
    }
    if (!writable && chain.writable_size_ != 0) {  // §2.7.4.2
        return refuse("a readable buffer follows a writable one");
    }
    if (chain.readable_size_ + chain.writable_size_ + raw.length > kChainBytesMax) {
        return refuse("a descriptor chain is longer than 16 MiB");
    }
    auto bytes = memory_.host_span(raw.address, raw.length);
    if (!bytes.ok()) {
        return refuse("a buffer is outside of RAM");
    }
    chain.descriptors_.push_back({*bytes, writable});
    if (writable) {
        chain.writable_size_ += raw.length;
    } else {
        chain.readable_size_ += raw.length;
        ++chain.readable_count_;
    }
    return true;
}

bool Queue::refuse(std::string_view reason) {
    mark_broken(reason);
    ran_dry_ = true;
    return false;
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
    ++next_used_;
}

void Queue::publish() {
    if (broken_ || next_used_ == published_used_) {
        return;
    }
    // Release: the elements and the data are visible before the index that covers them.
    store<uint16_t>(used_ + kIndexAt, next_used_, std::memory_order_release);
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
    // §2.7.7: interrupt when the index moved past used_event, in arithmetic modulo 2^16.
    const auto used_event = load<uint16_t>(available_ + kEntriesAt + 2u * size_);
    return static_cast<uint16_t>(new_index - used_event - 1) <
           static_cast<uint16_t>(new_index - old_index);
}

bool Queue::rearm() {
    if (broken_) {
        return false;
    }
    if (event_index_) {
        store<uint16_t>(used_ + kEntriesAt + kUsedElementSize * size_, next_available_);
    } else {
        store<uint16_t>(used_ + kFlagsAt, 0);
    }
    // The wish must be visible before we look for the last time, or a buffer could slip in between.
    full_fence();
    return available_index() != next_available_;
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
    spare_.push_back(std::move(storage));
}

}  // namespace kumoi::hypervisor
