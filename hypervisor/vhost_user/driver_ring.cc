#include "hypervisor/vhost_user/driver_ring.h"

#include <atomic>
#include <cstring>

#include "base/assert.h"

namespace kumoi::hypervisor {

namespace {

constexpr size_t kIndexAt = 2;
constexpr size_t kEntriesAt = 4;
constexpr uint16_t kNoNotify = 1;  // §2.7.10: VIRTQ_USED_F_NO_NOTIFY
constexpr size_t kUsedAlignment = 64;

size_t available_bytes(uint16_t size) {
    return kEntriesAt + 2u * size + 2;
}

size_t used_offset(uint16_t size) {
    const size_t end = 16u * size + available_bytes(size);
    return (end + kUsedAlignment - 1) & ~(kUsedAlignment - 1);
}

template <class T>
std::atomic_ref<T> shared(std::byte* at) {
    return std::atomic_ref<T>(*reinterpret_cast<T*>(at));
}

}  // namespace

DriverRing::DriverRing(std::span<std::byte> memory, uint16_t size)
    : memory_(memory),
      size_(size),
      available_at_(16u * size),
      used_at_(used_offset(size)),
      given_(size) {
    KUMOI_ASSERT(memory.size() >= bytes(size));
    reset();
}

size_t DriverRing::bytes(uint16_t size) {
    return used_offset(size) + kEntriesAt + 8u * size + 2;
}

void DriverRing::reset() {
    std::memset(memory_.data() + available_at_, 0, bytes(size_) - available_at_);
    given_.assign(size_, false);
    given_count_ = next_available_ = published_ = next_used_ = 0;
}

void DriverRing::set_descriptor(uint16_t slot, const Descriptor& descriptor) {
    std::memcpy(memory_.data() + 16u * slot, &descriptor, sizeof(descriptor));
}

void DriverRing::give(uint16_t slot) {
    KUMOI_ASSERT(!given_[slot]);
    given_[slot] = true;
    ++given_count_;
    std::byte* entry = memory_.data() + available_at_ + kEntriesAt + 2u * (next_available_ % size_);
    shared<uint16_t>(entry).store(slot, std::memory_order_relaxed);
    ++next_available_;
}

bool DriverRing::publish() {
    if (published_ == next_available_) {
        return false;
    }
    published_ = next_available_;
    // The entries are visible before the index, and the index before we read whether the back end
    // sleeps; an exchange is both.
    shared<uint16_t>(memory_.data() + available_at_ + kIndexAt)
        .exchange(published_, std::memory_order_seq_cst);
    const uint16_t flags =
        shared<uint16_t>(memory_.data() + used_at_).load(std::memory_order_seq_cst);
    return (flags & kNoNotify) == 0;
}

Result<std::optional<uint16_t>> DriverRing::take() {
    const uint16_t index =
        shared<uint16_t>(memory_.data() + used_at_ + kIndexAt).load(std::memory_order_acquire);
    if (index == next_used_) {
        return std::optional<uint16_t>();
    }
    if (static_cast<uint16_t>(index - next_used_) > given_count_) {
        return Error::corrupt("the back end's used index moved from {} to {} with {} requests out",
                              next_used_, index, given_count_);
    }
    std::byte* element = memory_.data() + used_at_ + kEntriesAt + 8u * (next_used_ % size_);
    const uint32_t slot = shared<uint32_t>(element).load(std::memory_order_relaxed);
    if (slot >= size_ || !given_[slot]) {
        return Error::corrupt("the back end returned request {}, which it does not have", slot);
    }
    taken_length_ = shared<uint32_t>(element + 4).load(std::memory_order_relaxed);
    given_[slot] = false;
    --given_count_;
    ++next_used_;
    return std::optional<uint16_t>(static_cast<uint16_t>(slot));
}

}  // namespace kumoi::hypervisor
