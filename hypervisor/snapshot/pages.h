// Zero pages: which pages of a block hold anything. Vectorised; pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kumoi::hypervisor::snapshot {

bool is_zero_page(const std::byte* page);  // 4096 bytes, 16-byte aligned
// Bit n: page n is not all zero. At most 16 pages.
uint16_t present_pages(std::span<const std::byte> block);

// Calls visit(first_page, page_count) for each run of set bits.
template <class Visit>
void for_each_run(uint32_t bits, const Visit& visit) {
    while (bits != 0) {
        const auto first = static_cast<unsigned>(__builtin_ctz(bits));
        const auto count = static_cast<unsigned>(__builtin_ctzll(~(uint64_t{bits} >> first)));
        visit(first, count);
        bits &= ~static_cast<uint32_t>(((uint64_t{1} << count) - 1) << first);
    }
}

}  // namespace kumoi::hypervisor::snapshot
