// Random: the seam through which all randomness enters. SystemRandom for keys, ids and tokens;
// SeededRandom for anything that must repeat (tests, simulations, backoff in tests).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>

namespace kumoi {

class Random {
public:
    virtual ~Random() = default;
    virtual void fill(std::span<std::byte> bytes) = 0;  // thread safe
    uint64_t next();
    // Uniform in [0, bound); bound > 0.
    uint64_t below(uint64_t bound);
};

// getrandom(2).
class SystemRandom final : public Random {
public:
    void fill(std::span<std::byte> bytes) override;
};

// xoshiro256** (Blackman, Vigna 2018) seeded through splitmix64. One seed feeds named streams:
// SeededRandom(7, "arrivals") and SeededRandom(7, "faults") never disturb each other.
class SeededRandom final : public Random {
public:
    explicit SeededRandom(uint64_t seed, std::string_view stream = {});
    void fill(std::span<std::byte> bytes) override;

private:
    uint64_t step();
    std::mutex mutex_;
    std::array<uint64_t, 4> state_{};
};

}  // namespace kumoi
