// DeltaCache: what was sent last of pages that are written to again and again, so that of the
// next sending only the difference is needed (page_delta.h).
//
// Bounded: each page has one place, shared with others; who is there stays while it is sent every
// round, or two pages that share a place would only throw each other out. The other side must have
// exactly what is in here. Hence every page that is sent goes through take() or forget(), and once
// pages are sent without, all is forgotten with clear() first.
// take() and forget() by several threads for different pages; the rest while nobody does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "migration/stream/page_frame.h"

namespace kumoi::migration {

class DeltaCache {
public:
    enum class Send { Whole, Delta, Nothing };

    explicit DeltaCache(uint64_t bytes_max) : places_(bytes_max / kPage) {}
    // A round begins. Memory is taken at the first one.
    void begin_round();
    // How to send a page that is like this now. Appends the delta to `out`.
    Send take(uint64_t page, std::span<const std::byte, kPage> now, std::vector<std::byte>& out);
    void forget(uint64_t page);  // it is sent otherwise
    void clear();                // and gives the memory back

private:
    static constexpr size_t kLocks = 64;
    struct Place {
        uint64_t page = UINT64_MAX;  // whose; UINT64_MAX: nobody's
        uint64_t round = 0;          // when it was sent last
    };
    std::span<std::byte, kPage> content(uint64_t place) {
        return std::span<std::byte, kPage>(contents_.data() + place * kPage, kPage);
    }
    std::mutex& lock_of(uint64_t place) { return locks_[place % kLocks]; }

    const uint64_t places_;
    uint64_t round_ = 0;
    std::array<std::mutex, kLocks> locks_;  // each guards every 64th place and its content
    std::vector<Place> table_;
    std::vector<std::byte> contents_;
};

}  // namespace kumoi::migration
