#include "compute/driver/cpu_set.h"

#include <charconv>
#include <optional>
#include <string_view>

namespace kumoi::compute {
namespace {

std::optional<int64_t> number(std::string_view text, int64_t max) {
    int64_t value = 0;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    const bool whole = parsed.ec == std::errc() && parsed.ptr == end;
    return whole && value >= 0 && value <= max ? std::optional(value) : std::nullopt;
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && text.front() == ' ') {
        text.remove_prefix(1);
    }
    while (!text.empty() && text.back() == ' ') {
        text.remove_suffix(1);
    }
    return text;
}

}  // namespace

Result<CpuSet> parse_cpu_set(const std::string& text, int64_t max) {
    CpuSet cpus;
    CpuSet without;
    const auto fail = [&] {
        return Error::invalid("\"{}\" is no list of processors up to {}, like 4-12,^8,15", text,
                              max);
    };
    for (size_t begin = 0; begin <= text.size();) {
        const size_t comma = std::min(text.find(',', begin), text.size());
        std::string_view item = trimmed(std::string_view(text).substr(begin, comma - begin));
        begin = comma + 1;
        const bool minus = item.starts_with('^');
        item = minus ? item.substr(1) : item;
        const size_t dash = minus ? std::string_view::npos : item.find('-');
        const auto first = number(item.substr(0, dash), max);
        const auto last =
            dash == std::string_view::npos ? first : number(item.substr(dash + 1), max);
        if (!first || !last || *last < *first) {
            return fail();
        }
        for (int64_t cpu = *first; cpu <= *last; ++cpu) {
            (minus ? without : cpus).insert(cpu);
        }
    }
    for (const int64_t cpu : without) {
        cpus.erase(cpu);
    }
    if (cpus.empty()) {
        return fail();
    }
    return cpus;
}

std::string format_cpu_set(const CpuSet& cpus) {
    std::string text;
    for (auto at = cpus.begin(); at != cpus.end();) {
        const int64_t first = *at;
        int64_t last = first;
        for (++at; at != cpus.end() && *at == last + 1; ++at) {
            last = *at;
        }
        text += fmt::format("{}{}", text.empty() ? "" : ",", first);
        if (last != first) {
            text += fmt::format("-{}", last);
        }
    }
    return text;
}

}  // namespace kumoi::compute
