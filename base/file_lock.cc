#include "base/file_lock.h"

#include <sys/file.h>

#include <cerrno>

namespace kumoi {

Result<std::optional<UniqueFd>> try_lock_file(const std::string& path, int flags) {
    UniqueFd file = TRY(open_file(path, flags, 0600));
    if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
        return std::optional(std::move(file));
    }
    if (errno == EWOULDBLOCK) {
        return std::optional<UniqueFd>();
    }
    return Error::from_errno(errno, "locking " + path);
}

}  // namespace kumoi
