// Clock: the seam through which all time enters. Nothing in kumoi calls now() by itself; a class
// that needs time takes a Clock& in its constructor. int64 nanoseconds everywhere.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kumoi {

constexpr int64_t kNanosPerMicro = 1'000;
constexpr int64_t kNanosPerMilli = 1'000'000;
constexpr int64_t kNanosPerSecond = 1'000'000'000;

class Clock {
public:
    virtual ~Clock() = default;
    virtual int64_t monotonic_ns() const = 0;  // never goes back; meaningless across boots
    virtual int64_t wall_ns() const = 0;       // nanoseconds since 1970-01-01 UTC
};

class SystemClock final : public Clock {
public:
    int64_t monotonic_ns() const override;
    int64_t wall_ns() const override;
};

// For tests: stands still until advanced. May be advanced from any thread.
class ManualClock final : public Clock {
public:
    explicit ManualClock(int64_t wall_ns = 1'700'000'000 * kNanosPerSecond)
        : start_wall_(wall_ns) {}
    int64_t monotonic_ns() const override { return now_.load(); }
    int64_t wall_ns() const override { return start_wall_ + now_.load(); }
    void advance(int64_t nanoseconds) { now_ += nanoseconds; }

private:
    int64_t start_wall_;
    std::atomic<int64_t> now_{0};
};

// "2026-11-23T19:54:07Z"; with microseconds: "2026-11-23T19:54:07.000123Z" or, as Nova's objects
// and Keystone write it, any of both without offset parse back. UTC only.
std::string iso8601(int64_t wall_ns);
std::string iso8601_micros(int64_t wall_ns);
std::optional<int64_t> parse_iso8601(std::string_view text);

}  // namespace kumoi
