#include "base/clock.h"

#include <fmt/core.h>

#include <charconv>
#include <chrono>
#include <ctime>

namespace kumoi {
namespace {

int64_t read_clock(clockid_t id) {
    timespec time{};
    ::clock_gettime(id, &time);
    return static_cast<int64_t>(time.tv_sec) * kNanosPerSecond + time.tv_nsec;
}

int64_t floor_seconds(int64_t wall_ns) {
    const int64_t seconds = wall_ns / kNanosPerSecond;
    return wall_ns % kNanosPerSecond < 0 ? seconds - 1 : seconds;
}

std::string date_and_time(int64_t seconds) {
    const std::time_t time = seconds;
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", parts.tm_year + 1900,
                       parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

// Takes exactly `digits` digits off the front of `text`.
std::optional<int> take_digits(std::string_view& text, size_t digits) {
    if (text.size() < digits) {
        return std::nullopt;
    }
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + digits, value);
    if (error != std::errc() || end != text.data() + digits || text.front() == '-') {
        return std::nullopt;
    }
    text.remove_prefix(digits);
    return value;
}

bool take_char(std::string_view& text, std::string_view one_of) {
    if (text.empty() || one_of.find(text.front()) == std::string_view::npos) {
        return false;
    }
    text.remove_prefix(1);
    return true;
}

std::optional<int64_t> take_fraction_ns(std::string_view& text) {
    if (!take_char(text, ".")) {
        return 0;
    }
    int64_t nanoseconds = 0;
    int64_t scale = kNanosPerSecond / 10;
    size_t digits = 0;
    while (!text.empty() && text.front() >= '0' && text.front() <= '9' && digits < 9) {
        nanoseconds += (text.front() - '0') * scale;
        scale /= 10;
        text.remove_prefix(1);
        ++digits;
    }
    if (digits == 0) {
        return std::nullopt;
    }
    return nanoseconds;
}

}  // namespace

int64_t SystemClock::monotonic_ns() const {
    return read_clock(CLOCK_MONOTONIC);
}
int64_t SystemClock::wall_ns() const {
    return read_clock(CLOCK_REALTIME);
}

std::string iso8601(int64_t wall_ns) {
    return date_and_time(floor_seconds(wall_ns)) + "Z";
}

std::string iso8601_micros(int64_t wall_ns) {
    const int64_t seconds = floor_seconds(wall_ns);
    const int64_t micros = (wall_ns - seconds * kNanosPerSecond) / kNanosPerMicro;
    return date_and_time(seconds) + fmt::format(".{:06}Z", micros);
}

std::optional<int64_t> parse_iso8601(std::string_view text) {
    const auto year = take_digits(text, 4);
    const bool dash1 = take_char(text, "-");
    const auto month = take_digits(text, 2);
    const bool dash2 = take_char(text, "-");
    const auto day = take_digits(text, 2);
    if (!year || !month || !day || !dash1 || !dash2) {
        return std::nullopt;
    }
    const auto date = std::chrono::year(*year) / *month / *day;
    // Nanoseconds since 1970 in 64 bits reach from 1677 to 2262.
    if (!date.ok() || *year < 1678 || *year > 2261) {
        return std::nullopt;
    }
    int64_t seconds = std::chrono::sys_days(date).time_since_epoch() / std::chrono::seconds(1);
    if (text.empty()) {
        return seconds * kNanosPerSecond;
    }
    if (!take_char(text, "T ")) {
        return std::nullopt;
    }
    const auto hour = take_digits(text, 2);
    const bool colon1 = take_char(text, ":");
    const auto minute = take_digits(text, 2);
    const bool colon2 = take_char(text, ":");
    const auto second = take_digits(text, 2);
    if (!hour || !minute || !second || !colon1 || !colon2 || *hour > 23 || *minute > 59 ||
        *second > 60) {
        return std::nullopt;
    }
    seconds += *hour * 3600 + *minute * 60 + *second;
    const auto fraction = take_fraction_ns(text);
    if (!fraction || !(text.empty() || text == "Z" || text == "+00:00")) {
        return std::nullopt;
    }
    return seconds * kNanosPerSecond + *fraction;
}

}  // namespace kumoi
