#include "migration/stream/page_delta.h"

#include <array>
#include <cstring>

#include "base/little_endian.h"

namespace kumoi::migration {

namespace {

constexpr size_t kWord = sizeof(uint64_t);
constexpr size_t kWords = kPage / kWord;
constexpr size_t kRunHeader = 4;

bool same(const std::byte* before, const std::byte* now, size_t word) {
    return std::memcmp(before + word * kWord, now + word * kWord, kWord) == 0;
}

}  // namespace

bool encode_delta(std::span<const std::byte, kPage> before, std::span<const std::byte, kPage> now,
                  std::vector<std::byte>& out) {
    const size_t begun = out.size();
    size_t at = 0;  // words that are told of
    while (at < kWords) {
        size_t first = at;
        while (first < kWords && same(before.data(), now.data(), first)) {
            ++first;
        }
        size_t end = first;
        while (end < kWords && !same(before.data(), now.data(), end)) {
            ++end;
        }
        if (first == end) {
            return true;  // the rest is as before
        }
        const size_t bytes = (end - first) * kWord;
        const size_t run = out.size();
        if (run - begun + kRunHeader + bytes > kDeltaMax) {
            out.resize(begun);
            return false;
        }
        out.resize(run + kRunHeader + bytes);
        store_little_endian(std::span(out), run, static_cast<uint16_t>(first - at));
        store_little_endian(std::span(out), run + 2, static_cast<uint16_t>(end - first));
        std::memcpy(out.data() + run + kRunHeader, now.data() + first * kWord, bytes);
        at = end;
    }
    return true;
}

bool apply_delta(std::span<const std::byte> delta, std::span<std::byte, kPage> page) {
    size_t word = 0;
    while (!delta.empty()) {
        if (delta.size() < kRunHeader) {
            return false;
        }
        const size_t skip = load_little_endian<uint16_t>(delta, 0);
        const size_t count = load_little_endian<uint16_t>(delta, 2);
        delta = delta.subspan(kRunHeader);
        if (count == 0 || skip + count > kWords - word || delta.size() < count * kWord) {
            return false;
        }
        std::memcpy(page.data() + (word + skip) * kWord, delta.data(), count * kWord);
        word += skip + count;
        delta = delta.subspan(count * kWord);
    }
    return true;
}

}  // namespace kumoi::migration
