#include "base/random.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/assert.h"

namespace kumoi {
namespace {

uint64_t splitmix64(uint64_t& state) {
    state += 0x9e3779b97f4a7c15ULL;
    uint64_t mixed = state;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return mixed ^ (mixed >> 31);
}

uint64_t fnv1a(std::string_view text) {
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char character : text) {
        hash = (hash ^ static_cast<unsigned char>(character)) * 0x100000001b3ULL;
    }
    return hash;
}

}  // namespace

uint64_t Random::next() {
    uint64_t value = 0;
    fill(std::as_writable_bytes(std::span(&value, 1)));
    return value;
}

uint64_t Random::below(uint64_t bound) {
    KUMOI_ASSERT(bound > 0);
    const uint64_t limit = UINT64_MAX - UINT64_MAX % bound;  // rejection keeps it uniform
    uint64_t value = next();
    while (value >= limit) {
        value = next();
    }
    return value % bound;
}

void SystemRandom::fill(std::span<std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::getrandom(bytes.data(), bytes.size(), 0);
        if (count < 0) {
            KUMOI_ASSERT(errno == EINTR);
            continue;
        }
        bytes = bytes.subspan(static_cast<size_t>(count));
    }
}

SeededRandom::SeededRandom(uint64_t seed, std::string_view stream) {
    uint64_t mixer = seed ^ fnv1a(stream);
    for (uint64_t& word : state_) {
        word = splitmix64(mixer);
    }
}

uint64_t SeededRandom::step() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
}

void SeededRandom::fill(std::span<std::byte> bytes) {
    const std::lock_guard lock(mutex_);
    while (!bytes.empty()) {
        const uint64_t word = step();
        const size_t count = std::min(bytes.size(), sizeof(word));
        std::memcpy(bytes.data(), &word, count);
        bytes = bytes.subspan(count);
    }
}

}  // namespace kumoi
