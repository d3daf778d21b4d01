#include "base/fd.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace kumoi {

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
        reset(other.release());
    }
    return *this;
}

int UniqueFd::release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
}

void UniqueFd::reset(int fd) {
    if (fd_ >= 0) {
        ::close(fd_);
    }
    fd_ = fd;
}

Result<UniqueFd> UniqueFd::duplicate() const {
    const int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) {
        return Error::from_errno(errno, fmt::format("duplicating descriptor {}", fd_));
    }
    return UniqueFd(copy);
}

Mapping::Mapping(Mapping&& other) noexcept : data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
    other.size_ = 0;
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
    if (this != &other) {
        reset();
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
    }
    return *this;
}

Result<Mapping> Mapping::map(int fd, size_t size, int protection, int flags, uint64_t offset) {
    void* address = ::mmap(nullptr, size, protection, flags, fd, static_cast<off_t>(offset));
    if (address == MAP_FAILED) {
        return Error::from_errno(errno, fmt::format("mapping {} bytes", size));
    }
    Mapping mapping;
    mapping.data_ = static_cast<std::byte*>(address);
    mapping.size_ = size;
    return mapping;
}

void Mapping::reset() {
    if (data_ != nullptr) {
        ::munmap(data_, size_);
        data_ = nullptr;
        size_ = 0;
    }
}

Result<UniqueFd> open_file(const std::string& path, int flags, unsigned mode) {
    int fd = -1;
    do {
        fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return Error::from_errno(errno, "opening " + path);
    }
    return UniqueFd(fd);
}

Result<void> write_all(int fd, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::write(fd, bytes.data(), bytes.size());
        if (count < 0) {
            if (errno == EINTR) {
                continue;
            }
            return Error::from_errno(errno, fmt::format("writing {} bytes", bytes.size()));
        }
        bytes = bytes.subspan(static_cast<size_t>(count));
    }
    return {};
}

Result<void> pwrite_all(int fd, std::span<const std::byte> bytes, uint64_t offset) {
    while (!bytes.empty()) {
        const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (count < 0) {
            if (errno == EINTR) {
                continue;
            }
            return Error::from_errno(errno,
                                     fmt::format("writing {} bytes at {}", bytes.size(), offset));
        }
        bytes = bytes.subspan(static_cast<size_t>(count));
        offset += static_cast<uint64_t>(count);
    }
    return {};
}

Result<size_t> pread_some(int fd, std::span<std::byte> bytes, uint64_t offset) {
    size_t total = 0;
    while (total < bytes.size()) {
        const ssize_t count = ::pread(fd, bytes.data() + total, bytes.size() - total,
                                      static_cast<off_t>(offset + total));
        if (count < 0) {
            if (errno == EINTR) {
                continue;
            }
            return Error::from_errno(errno,
                                     fmt::format("reading {} bytes at {}", bytes.size(), offset));
        }
        if (count == 0) {
            break;
        }
        total += static_cast<size_t>(count);
    }
    return total;
}

Result<UniqueFd> make_eventfd(unsigned initial) {
    const int fd = ::eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return Error::from_errno(errno, "creating an eventfd");
    }
    return UniqueFd(fd);
}

}  // namespace kumoi
