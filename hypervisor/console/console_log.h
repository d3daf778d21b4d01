// ConsoleLog: the serial output of a guest in a file of bounded size. When the file is full it
// is copied to <path>.1 and emptied, so at most twice the limit is on disk and the last `limit`
// bytes are always there. They stay the same two files for good: a sandboxed process holds them
// open and can rename nothing. Used by one thread. A full disk loses output and counts it; it
// never fails the guest.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class ConsoleLog {
public:
    static constexpr uint64_t kSizeMaxDefault = 4u << 20;

    // Appends to what an earlier run left.
    static Result<ConsoleLog> open(FileSource& files, std::string path, uint64_t size_max);
    void append(std::string_view bytes);
    uint64_t lost_bytes() const { return lost_; }

private:
    Result<void> rotate();
    Result<void> copy_to_older();
    Result<void> write(std::string_view bytes);

    std::string path_;
    uint64_t size_max_ = kSizeMaxDefault;
    FileSource* files_ = nullptr;
    UniqueFd fd_;
    UniqueFd older_;  // opened when it is needed
    uint64_t size_ = 0;
    uint64_t lost_ = 0;
    bool complained_ = false;
};

}  // namespace kumoi::hypervisor
