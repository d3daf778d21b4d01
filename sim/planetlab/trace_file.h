// Reads CPU traces of the PlanetLab kind: one virtual machine a trace, one sample in five minutes,
// whole percents of its processor.
//
// Two layouts: a file of lines `day,name,S S S ...` with 288 samples 0 to 100 (plain, or .xz), and
// a folder `DIR/day/name` with a sample a line. Within a day traces are sorted by name, because a
// trace's place decides the type of its machine. Blocking; hostile bytes are refused with file and
// line.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace kumoi::sim {

inline constexpr size_t kSamplesPerDay = 288;
inline constexpr size_t kTracesMax = 1u << 20;

struct UtilizationTrace {
    std::string name;
    std::array<uint8_t, kSamplesPerDay> percent{};
};

struct TraceDay {
    std::string day;
    std::vector<UtilizationTrace> traces;
};

// These days, in this order, in one reading. NotFound: no such file, or no such day in it (the
// error names those it has).
Result<std::vector<TraceDay>> load_trace_days(const std::string& path,
                                              const std::vector<std::string>& names);
// The days a file or folder has, in order.
Result<std::vector<std::string>> list_trace_days(const std::string& path);

// One line of the first layout, without its end; `where` begins the error.
Result<UtilizationTrace> parse_trace_line(std::string_view line, std::string& day,
                                          const std::string& where);

}  // namespace kumoi::sim
