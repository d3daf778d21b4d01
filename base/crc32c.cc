#include "base/crc32c.h"

#include <array>
#include <cstring>

#include <nmmintrin.h>

namespace kumoi {

namespace {

constexpr std::array<uint32_t, 256> make_table() {
    constexpr uint32_t kReflectedPolynomial = 0x82f6'3b78;
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit) {
            value = (value >> 1) ^ ((value & 1) != 0 ? kReflectedPolynomial : 0);
        }
        table[i] = value;
    }
    return table;
}

constexpr std::array<uint32_t, 256> kTable = make_table();

__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(std::span<const std::byte> bytes,
                                                        uint32_t before) {
    uint64_t crc = ~before;
    const std::byte* at = bytes.data();
    size_t left = bytes.size();
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word = 0;
        std::memcpy(&word, at, 8);
        crc = _mm_crc32_u64(crc, word);
    }
    auto rest = static_cast<uint32_t>(crc);
    for (; left > 0; --left, ++at) {
        rest = _mm_crc32_u8(rest, static_cast<uint8_t>(*at));
    }
    return ~rest;
}

}  // namespace

uint32_t crc32c_portable(std::span<const std::byte> bytes, uint32_t before) {
    uint32_t crc = ~before;
    for (const std::byte byte : bytes) {
        crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
    }
    return ~crc;
}

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t before) {
    static const bool fast = __builtin_cpu_supports("sse4.2") != 0;
    return fast ? crc32c_sse42(bytes, before) : crc32c_portable(bytes, before);
}

}  // namespace kumoi
