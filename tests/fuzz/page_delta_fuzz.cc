// Fuzzes what has changed in a page (migration/stream/page_delta.h): any bytes as a delta, which
// may change the page and nothing else; and two pages made of them, whose delta must lead from
// one to the other.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/assert.h"
#include "migration/stream/page_delta.h"

using namespace kumoi;
using namespace kumoi::migration;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    std::array<std::byte, 3 * kPage> memory{};
    const std::span<std::byte, kPage> page(memory.data() + kPage, kPage);
    (void)apply_delta(bytes, page);
    const auto untouched = [](std::span<const std::byte> guard) {
        return std::ranges::all_of(guard, [](std::byte byte) { return byte == std::byte{0}; });
    };
    KUMOI_ASSERT(untouched(std::span(memory).first(kPage)));
    KUMOI_ASSERT(untouched(std::span(memory).last(kPage)));

    std::array<std::byte, kPage> before{};
    std::array<std::byte, kPage> now{};
    const size_t half = std::min(size / 2, kPage);
    std::ranges::copy(bytes.first(half), before.begin());
    std::ranges::copy(bytes.last(half), now.begin());
    std::vector<std::byte> delta;
    if (encode_delta(before, now, delta)) {
        KUMOI_ASSERT(delta.size() <= kDeltaMax);
        KUMOI_ASSERT(delta.empty() == (before == now));
        KUMOI_ASSERT(apply_delta(delta, before));
        KUMOI_ASSERT(before == now);
    } else {
        KUMOI_ASSERT(delta.empty());
    }
    return 0;
}
