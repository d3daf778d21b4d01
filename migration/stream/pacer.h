// Pacer: the bandwidth of one migration, shared by its streams. Thread safe. Time comes in with
// each call; whoever is told to wait waits that long and then sends.
#pragma once

#include <cstdint>
#include <mutex>

namespace kumoi::migration {

class Pacer {
public:
    // 0: not limited.
    explicit Pacer(uint64_t bytes_per_second) : rate_(bytes_per_second) {}

    // Books `bytes` and says how many nanoseconds to wait before they are sent. Time that nobody
    // used is not saved up beyond kBurstNs.
    int64_t book(uint64_t bytes, int64_t now_ns);

    static constexpr int64_t kBurstNs = 10'000'000;

private:
    const uint64_t rate_;
    std::mutex mutex_;
    int64_t free_ns_ = 0;  // when all that was booked will have been sent
};

}  // namespace kumoi::migration
