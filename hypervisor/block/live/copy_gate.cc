#include "hypervisor/block/live/copy_gate.h"

#include <algorithm>

namespace kumoi::hypervisor {

CopyGate::CopyGate(uint64_t disk_size)
    : disk_size_(disk_size),
      granules_((disk_size + kGranule - 1) >> kGranuleBits),
      bits_(std::make_unique<std::atomic<uint64_t>[]>(granules_ / 64 + 1)) {}

void CopyGate::need(uint64_t offset, uint64_t size) {
    if (size == 0 || offset >= disk_size_) {
        return;
    }
    const uint64_t end = std::min(disk_size_, offset + size);
    for (uint64_t at = offset >> kGranuleBits; at <= (end - 1) >> kGranuleBits; ++at) {
        if (!pending(at)) {
            bits_[at / 64].fetch_or(1ull << (at % 64), std::memory_order_relaxed);
            pending_count_.fetch_add(1);
        }
    }
}

bool CopyGate::pending(uint64_t granule) const {
    return (bits_[granule / 64].load(std::memory_order_acquire) >> (granule % 64) & 1) != 0;
}

// What is behind the disk as it was when the gate was made (it has grown) is not copied.
bool CopyGate::may_change(uint64_t offset, uint64_t size) const {
    if (open_.load(std::memory_order_acquire) || size == 0 || offset >= disk_size_) {
        return true;
    }
    const uint64_t last = (std::min(disk_size_, offset + size) - 1) >> kGranuleBits;
    return !run_from(offset >> kGranuleBits, last, 1).has_value();
}

// The first pending granules in [first, last], neighbours together.
std::optional<CopyGate::Piece> CopyGate::run_from(uint64_t first, uint64_t last,
                                                  uint64_t size_max) const {
    uint64_t at = first;
    while (at <= last && !pending(at)) {
        const bool whole_word = at % 64 == 0 && bits_[at / 64].load() == 0;
        at += whole_word ? 64 : 1;
    }
    if (at > last) {
        return std::nullopt;
    }
    uint64_t end = at + 1;
    while (end <= last && pending(end) && ((end - at) << kGranuleBits) < size_max) {
        ++end;
    }
    const uint64_t offset = at << kGranuleBits;
    return Piece{offset, std::min(disk_size_, end << kGranuleBits) - offset};
}

void CopyGate::want(GateWaiter& waiter, uint64_t offset, uint64_t size) {
    const std::lock_guard lock(mutex_);
    const uint64_t end = std::min(disk_size_, offset + size);
    wanted_.push_back({offset >> kGranuleBits, (end - 1) >> kGranuleBits});
    if (std::find(waiters_.begin(), waiters_.end(), &waiter) == waiters_.end()) {
        waiters_.push_back(&waiter);
    }
    if (may_change(offset, size)) {  // copied since the caller looked
        waiter.gate_moved();
    }
}

void CopyGate::forget(GateWaiter& waiter) {
    const std::lock_guard lock(mutex_);
    std::erase(waiters_, &waiter);
}

void CopyGate::wait(uint64_t offset, uint64_t size) {
    std::unique_lock lock(mutex_);
    moved_.wait(lock, [&] { return may_change(offset, size); });
}

std::optional<CopyGate::Piece> CopyGate::next(uint64_t size_max) {
    if (open_ || granules_ == 0) {
        return std::nullopt;
    }
    if (const auto piece = wanted(size_max)) {
        return piece;
    }
    const auto piece = run_from(cursor_, granules_ - 1, size_max);
    cursor_ = piece ? piece->offset >> kGranuleBits : granules_;
    return piece;
}

std::optional<CopyGate::Piece> CopyGate::wanted(uint64_t size_max) {
    const std::lock_guard lock(mutex_);
    while (!wanted_.empty()) {
        if (const auto piece = run_from(wanted_.front().first, wanted_.front().last, size_max)) {
            return piece;
        }
        wanted_.pop_front();
    }
    return std::nullopt;
}

void CopyGate::copied(const Piece& piece) {
    const uint64_t last = (piece.offset + piece.size - 1) >> kGranuleBits;
    for (uint64_t at = piece.offset >> kGranuleBits; at <= last; ++at) {
        if (pending(at)) {
            bits_[at / 64].fetch_and(~(1ull << (at % 64)), std::memory_order_release);
            pending_count_.fetch_sub(1);
        }
    }
    tell();
}

void CopyGate::open() {
    open_.store(true, std::memory_order_release);
    tell();
}

void CopyGate::tell() {
    const std::lock_guard lock(mutex_);
    for (GateWaiter* waiter : waiters_) {
        waiter->gate_moved();
    }
    moved_.notify_all();
}

}  // namespace kumoi::hypervisor
