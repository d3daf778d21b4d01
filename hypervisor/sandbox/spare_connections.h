// Connections that somebody outside has made for this process, to peers that were restarted and
// that it cannot reach by itself: a sandboxed machine and the back end of a disk that was plugged
// in. One a path, the newest; kept by the process, as the machine is one. Any thread.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace kumoi::hypervisor {

constexpr size_t kSpareConnectionsMax = 64;

Result<void> offer_connection(const std::string& path, UniqueFd connection);
// Unavailable: none was offered since the last.
Result<UniqueFd> take_offered_connection(const std::string& path);

}  // namespace kumoi::hypervisor
