#include "sim/planetlab/trace_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "sim/planetlab/line_reader.h"

namespace kumoi::sim {

namespace {

constexpr unsigned kPercentMax = 100;

bool is_folder(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

// A sample at the front of `text`, which is shortened by it.
Result<uint8_t> take_sample(std::string_view& text, const std::string& where) {
    unsigned value = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc{} || value > kPercentMax) {
        return Error::invalid("{}: expected a sample from 0 to {}, found \"{}\"", where,
                              kPercentMax, text.substr(0, 12));
    }
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    return static_cast<uint8_t>(value);
}

std::string place(const LineReader& reader) {
    return fmt::format("{} line {}", reader.path(), reader.number());
}

Error no_such_day(const std::string& path, const std::string& day,
                  const std::vector<std::string>& days) {
    std::string known;
    for (const std::string& one : days) {
        known += (known.empty() ? "" : ", ") + one;
    }
    return Error::not_found("{} has no day \"{}\"", path, day)
        .with_hint(known.empty() ? "it has no day at all" : "it has " + known);
}

Result<TraceDay> load_folder(const std::string& path, const std::string& day) {
    const std::string folder = path + "/" + day;
    if (!is_folder(folder)) {
        return no_such_day(path, day, TRY(list_trace_days(path)));
    }
    TraceDay result{day, {}};
    for (const std::string& name : TRY(list_directory(folder))) {
        LineReader reader = TRY(LineReader::open(folder + "/" + name));
        UtilizationTrace trace{name, {}};
        std::string line;
        for (uint8_t& sample : trace.percent) {
            const bool found = TRY(reader.next(line));
            if (!found) {
                return Error::make(ErrorCode::Corrupt, "{}: {} samples, expected {}", reader.path(),
                                   reader.number(), kSamplesPerDay);
            }
            std::string_view rest = line;
            sample = TRY(take_sample(rest, place(reader)));
        }
        result.traces.push_back(std::move(trace));
    }
    return result;
}

// Lines of other days are passed over unread.
Result<void> load_lines(const std::string& path, std::vector<TraceDay>& days) {
    LineReader reader = TRY(LineReader::open(path));
    std::string line;
    while (TRY(reader.next(line))) {
        const auto day = std::find_if(days.begin(), days.end(), [&](const TraceDay& one) {
            return line.starts_with(one.day + ",");
        });
        if (day == days.end()) {
            continue;
        }
        std::string found;
        day->traces.push_back(TRY(parse_trace_line(line, found, place(reader))));
        if (day->traces.size() > kTracesMax) {
            return Error::make(ErrorCode::TooLarge, "{}: more than {} traces in a day", path,
                               kTracesMax);
        }
    }
    return {};
}

void sort_by_name(TraceDay& day) {
    std::sort(day.traces.begin(), day.traces.end(),
              [](const auto& one, const auto& other) { return one.name < other.name; });
}

}  // namespace

Result<UtilizationTrace> parse_trace_line(std::string_view line, std::string& day,
                                          const std::string& where) {
    const size_t first = line.find(',');
    // A name may hold commas: the samples begin after the last one.
    const size_t last = line.rfind(',');
    if (first == std::string_view::npos || first == last) {
        return Error::invalid("{}: expected `day,name,S S S ...`", where);
    }
    day = line.substr(0, first);
    UtilizationTrace trace{std::string(line.substr(first + 1, last - first - 1)), {}};
    std::string_view rest = line.substr(last + 1);
    for (size_t i = 0; i < kSamplesPerDay; ++i) {
        if (i > 0) {
            if (rest.empty() || rest.front() != ' ') {
                return Error::invalid("{}: {} samples, expected {}", where, i, kSamplesPerDay);
            }
            rest.remove_prefix(1);
        }
        trace.percent[i] = TRY(take_sample(rest, where));
    }
    if (!rest.empty()) {
        return Error::invalid("{}: more than {} samples", where, kSamplesPerDay);
    }
    return trace;
}

Result<std::vector<std::string>> list_trace_days(const std::string& path) {
    std::vector<std::string> days;
    if (is_folder(path)) {
        for (const std::string& name : TRY(list_directory(path))) {
            if (is_folder(path + "/" + name)) {
                days.push_back(name);
            }
        }
        return days;
    }
    LineReader reader = TRY(LineReader::open(path));
    std::string line;
    while (TRY(reader.next(line))) {
        const std::string day = line.substr(0, line.find(','));
        if (!day.empty() && std::find(days.begin(), days.end(), day) == days.end()) {
            days.push_back(day);
        }
    }
    return days;
}

Result<std::vector<TraceDay>> load_trace_days(const std::string& path,
                                              const std::vector<std::string>& names) {
    std::vector<TraceDay> days;
    for (const std::string& name : names) {
        days.push_back({name, {}});
    }
    if (is_folder(path)) {
        for (TraceDay& day : days) {
            day = TRY(load_folder(path, day.day));
        }
    } else {
        TRY(load_lines(path, days));
    }
    for (TraceDay& day : days) {
        if (day.traces.empty()) {
            return no_such_day(path, day.day, TRY(list_trace_days(path)));
        }
        sort_by_name(day);
    }
    return days;
}

}  // namespace kumoi::sim
