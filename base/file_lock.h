// Advisory locks on whole files (flock(2)): held by whoever has the descriptor, children that
// inherited it included, and gone with the last of them. Any thread.
#pragma once

#include <fcntl.h>

#include <optional>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi {

// Opens the file (or folder) and takes its lock. Nothing when somebody else holds it.
Result<std::optional<UniqueFd>> try_lock_file(const std::string& path,
                                              int flags = O_RDWR | O_CREAT);

}  // namespace kumoi
