// CpuSet: a set of processor numbers in Nova's notation: "4-12,^8,15" is 4 to 12 without 8, and 15.
// Values.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "base/result.h"

namespace kumoi::compute {

using CpuSet = std::set<int64_t>;

constexpr int64_t kCpuSetNumberMax = 8191;

// InvalidArgument for what is no such list, for numbers above `max`, and for the empty set.
Result<CpuSet> parse_cpu_set(const std::string& text, int64_t max = kCpuSetNumberMax);
std::string format_cpu_set(const CpuSet& cpus);  // "4-7,9": as the kernel writes it

}  // namespace kumoi::compute
