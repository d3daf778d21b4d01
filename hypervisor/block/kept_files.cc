#include "hypervisor/block/kept_files.h"

#include <fcntl.h>
#include <unistd.h>

namespace kumoi::hypervisor {

namespace {

void unlock_file(const UniqueFd& fd) {
    struct flock range {};
    range.l_type = F_UNLCK;
    range.l_whence = SEEK_SET;
    (void)::fcntl(fd.get(), F_OFD_SETLK, &range);  // of what has none it is no error
}

}  // namespace

Result<UniqueFd> KeptFiles::open(const std::string& path, int flags, unsigned mode) {
    const auto known = kept_.find({path, flags});
    auto opened = files_.open(path, flags, mode);
    if (!opened.ok()) {
        const bool cannot = opened.error().code == ErrorCode::NotFound;
        return cannot && known != kept_.end() ? known->second.duplicate() : std::move(opened);
    }
    UniqueFd copy = TRY(opened->duplicate());
    if (known != kept_.end()) {
        unlock_file(known->second);
        known->second = std::move(copy);
    } else {
        kept_.emplace(std::pair(path, flags), std::move(copy));
    }
    return opened;
}

void KeptFiles::write_back() const {
    for (const auto& [name, fd] : kept_) {
        (void)::fdatasync(fd.get());  // whose errors the sync tells
    }
}

void KeptFiles::unlock() {
    for (const auto& [name, fd] : kept_) {
        unlock_file(fd);
    }
}

}  // namespace kumoi::hypervisor
