#include "hypervisor/console/console_log.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"

namespace kumoi::hypervisor {

Result<ConsoleLog> ConsoleLog::open(std::string path, uint64_t size_max) {
    ConsoleLog log;
    log.fd_ = TRY_CONTEXT(open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0640),
                          "opening the console log {}", path);
    struct stat status {};
    if (fstat(log.fd_.get(), &status) != 0) {
        return Error::from_errno(errno, fmt::format("looking at the console log {}", path));
    }
    log.size_ = static_cast<uint64_t>(status.st_size);
    log.path_ = std::move(path);
    log.size_max_ = size_max;
    return log;
}

void ConsoleLog::append(std::string_view bytes) {
    while (!bytes.empty()) {
        if (size_ >= size_max_) {
            if (auto rotated = rotate(); !rotated && !complained_) {
                complained_ = true;
                log_warn("console", "could not rotate the console log",
                         {{"error", rotated.error().text()}});
            }
        }
        const uint64_t room = size_ < size_max_ ? size_max_ - size_ : 0;
        if (room == 0) {
            lost_ += bytes.size();
            return;
        }
        const std::string_view part = bytes.substr(0, std::min<uint64_t>(room, bytes.size()));
        if (auto written = write(part); !written) {
            lost_ += bytes.size();
            if (!complained_) {
                complained_ = true;
                log_warn("console", "could not write the console log",
                         {{"error", written.error().text()}});
            }
            return;
        }
        bytes.remove_prefix(part.size());
    }
}

Result<void> ConsoleLog::write(std::string_view bytes) {
    TRY(write_all(fd_.get(), std::as_bytes(std::span(bytes))));
    size_ += bytes.size();
    return {};
}

Result<void> ConsoleLog::rotate() {
    const std::string older = path_ + ".1";
    if (std::rename(path_.c_str(), older.c_str()) != 0) {
        return Error::from_errno(errno, fmt::format("renaming {} to {}", path_, older));
    }
    fd_ = TRY(open_file(path_, O_WRONLY | O_CREAT | O_APPEND, 0640));
    size_ = 0;
    return {};
}

}  // namespace kumoi::hypervisor
