#include "migration/stream/delta_cache.h"

#include <algorithm>

#include "migration/stream/page_delta.h"

namespace kumoi::migration {

void DeltaCache::begin_round() {
    ++round_;
    if (table_.empty()) {
        table_.resize(places_);
        contents_.resize(places_ * kPage);
    }
}

DeltaCache::Send DeltaCache::take(uint64_t page, std::span<const std::byte, kPage> now,
                                  std::vector<std::byte>& out) {
    if (table_.empty()) {
        return Send::Whole;
    }
    const uint64_t at = page % places_;
    const std::lock_guard lock(lock_of(at));
    Place& place = table_[at];
    Send how = Send::Whole;
    if (place.page == page) {
        const size_t before = out.size();
        if (encode_delta(content(at), now, out)) {
            how = out.size() == before ? Send::Nothing : Send::Delta;
        }
    } else if (place.page != UINT64_MAX && place.round + 1 >= round_) {
        return Send::Whole;  // the place is in use
    }
    place = {page, round_};
    if (how != Send::Nothing) {
        std::ranges::copy(now, content(at).begin());
    }
    return how;
}

void DeltaCache::forget(uint64_t page) {
    if (table_.empty()) {
        return;
    }
    const uint64_t at = page % places_;
    const std::lock_guard lock(lock_of(at));
    if (table_[at].page == page) {
        table_[at] = {};
    }
}

void DeltaCache::clear() {
    table_ = {};
    contents_ = {};
}

}  // namespace kumoi::migration
