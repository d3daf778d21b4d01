// KUMOI_ASSERT: stops the process on a bug of ours, in every build. Never for bytes that came from
// a guest, a socket, a file or a peer: those get an Error. One condition per assert.
#pragma once

namespace kumoi {

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line);

}  // namespace kumoi

#define KUMOI_ASSERT(condition)                          \
    (static_cast<bool>(condition) ? static_cast<void>(0) \
                                  : ::kumoi::assertion_failed(#condition, __FILE__, __LINE__))
