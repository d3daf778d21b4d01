// The exit codes of kumoi, the same for every command (docs/man/kumoi.1).
#pragma once

#include "base/result.h"

namespace kumoi::cli {

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kNotFound = 3;
constexpr int kConflict = 4;
constexpr int kRefused = 5;  // by policy: rights, quota, no valid host
constexpr int kTimeout = 6;
constexpr int kUnreachable = 7;

int exit_code(const Error& error);

}  // namespace kumoi::cli
