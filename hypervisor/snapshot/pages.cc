#include "hypervisor/snapshot/pages.h"

#include <emmintrin.h>

#include "hypervisor/snapshot/format.h"

namespace kumoi::hypervisor::snapshot {

// SSE2 is in every x86-64. 256 bytes a step: most pages that are not zero show it in the first one.
bool is_zero_page(const std::byte* page) {
    constexpr size_t kStep = 16;
    const auto* words = reinterpret_cast<const __m128i*>(page);
    const __m128i zero = _mm_setzero_si128();
    for (size_t at = 0; at < kPageSize / sizeof(__m128i); at += kStep) {
        __m128i all = zero;
        for (size_t i = 0; i < kStep; ++i) {
            all = _mm_or_si128(all, _mm_load_si128(words + at + i));
        }
        if (_mm_movemask_epi8(_mm_cmpeq_epi8(all, zero)) != 0xffff) {
            return false;
        }
    }
    return true;
}

uint16_t present_pages(std::span<const std::byte> block) {
    uint32_t present = 0;
    for (unsigned page = 0; page < kBlockPages && (page + 1) * kPageSize <= block.size(); ++page) {
        present |= is_zero_page(block.data() + page * kPageSize) ? 0u : 1u << page;
    }
    return static_cast<uint16_t>(present);
}

}  // namespace kumoi::hypervisor::snapshot
