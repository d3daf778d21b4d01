#include "hypervisor/console/console_log.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {
constexpr size_t kCopySize = 256u << 10;
}  // namespace

Result<ConsoleLog> ConsoleLog::open(FileSource& files, std::string path, uint64_t size_max) {
    ConsoleLog log;
    log.files_ = &files;
    log.fd_ = TRY_CONTEXT(files.open(path, O_RDWR | O_CREAT | O_APPEND, 0640),
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
    if (!older_.is_open()) {
        older_ = TRY(files_->open(path_ + ".1", O_RDWR | O_CREAT, 0640));
    }
    if (::ftruncate(older_.get(), 0) != 0) {  // first: a full disk has room again
        return Error::from_errno(errno, fmt::format("emptying {}.1", path_));
    }
    TRY_CONTEXT(copy_to_older(), "copying {} to {}.1", path_, path_);
    if (::ftruncate(fd_.get(), 0) != 0) {
        return Error::from_errno(errno, fmt::format("emptying {}", path_));
    }
    size_ = 0;
    return {};
}

Result<void> ConsoleLog::copy_to_older() {
    std::vector<std::byte> buffer(std::min<uint64_t>(size_, kCopySize));
    for (uint64_t at = 0; at < size_;) {
        const size_t count = TRY(pread_some(fd_.get(), buffer, at));
        if (count == 0) {
            return {};  // somebody emptied it
        }
        TRY(pwrite_all(older_.get(), std::span(buffer).first(count), at));
        at += count;
    }
    return {};
}

}  // namespace kumoi::hypervisor
