// UniqueFd and Mapping: the only owners of file descriptors and memory mappings.
// Both are movable values, used from one thread at a time; the kernel object may be shared freely.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"

namespace kumoi {

class UniqueFd {
public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) : fd_(fd) {}
    ~UniqueFd() { reset(); }
    UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept;
    UniqueFd(const UniqueFd&) = delete;
    UniqueFd& operator=(const UniqueFd&) = delete;

    int get() const { return fd_; }
    bool is_open() const { return fd_ >= 0; }
    int release();
    void reset(int fd = -1);
    Result<UniqueFd> duplicate() const;  // close-on-exec

private:
    int fd_ = -1;
};

// One mmap()ed range, unmapped when destroyed.
class Mapping {
public:
    Mapping() = default;
    ~Mapping() { reset(); }
    Mapping(Mapping&& other) noexcept;
    Mapping& operator=(Mapping&& other) noexcept;
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    // `protection` and `flags` as in mmap(2). size and offset in bytes, page aligned.
    static Result<Mapping> map(int fd, size_t size, int protection, int flags, uint64_t offset = 0);

    std::byte* data() const { return data_; }
    size_t size() const { return size_; }
    std::span<std::byte> bytes() const { return {data_, size_}; }
    void reset();

private:
    std::byte* data_ = nullptr;
    size_t size_ = 0;
};

// All transfer loops restart on EINTR and go on after short transfers.
Result<UniqueFd> open_file(const std::string& path, int flags,
                           unsigned mode = 0644);  // adds O_CLOEXEC
Result<void> write_all(int fd, std::span<const std::byte> bytes);
Result<void> pwrite_all(int fd, std::span<const std::byte> bytes, uint64_t offset);
// Fewer bytes than asked for only at end of file; returns the count.
Result<size_t> pread_some(int fd, std::span<std::byte> bytes, uint64_t offset);
Result<UniqueFd> make_eventfd(unsigned initial = 0);  // non-blocking, close-on-exec

}  // namespace kumoi
