// The commands of kumoi-img. Each takes the words after its name, prints to standard output, and
// returns the exit code, or the error to print.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace kumoi::hypervisor::image_tool {

using Words = std::vector<std::string>;

inline constexpr int kExitErrors = 2;  // check: corruptions remain
inline constexpr int kExitLeaks = 3;   // check: only leaks remain

Result<int> create(const Words& words);
Result<int> info(const Words& words);
Result<int> check(const Words& words);
Result<int> resize(const Words& words);
Result<int> convert(const Words& words);
Result<int> map(const Words& words);
Result<int> commit(const Words& words);
Result<int> rebase(const Words& words);
Result<int> bitmap(const Words& words);

}  // namespace kumoi::hypervisor::image_tool
