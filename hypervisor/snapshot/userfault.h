// Userfault: a userfaultfd: the kernel asks us about pages of guest memory that are missing, or
// that somebody writes to while they are protected (userfaultfd(2), Linux 5.19 and newer for
// protected shared memory).
//
// Every access to guest memory through this process's mapping is seen: vCPUs in KVM, device
// threads, kernel threads of io_uring. Needs CAP_SYS_PTRACE or access to /dev/userfaultfd, because
// faults happen in the kernel. Threading: any thread; the kernel serialises.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

class Userfault {
public:
    enum class Mode { Missing, WriteProtect };
    struct Fault {
        uint64_t address = 0;
        bool write_protected = false;
    };

    static Result<Userfault> open(FileSource& files, Mode mode);

    Result<void> watch(std::span<std::byte> range, Mode mode);
    Result<void> unwatch(std::span<std::byte> range);  // whoever waits goes on

    // Puts pages where none are. A page that came meanwhile is left alone.
    Result<void> copy(std::byte* target, std::span<const std::byte> pages);
    Result<void> zero(std::byte* target, size_t size);
    Result<void> protect(std::span<std::byte> range);
    Result<void> unprotect(std::span<std::byte> range);  // and wakes whoever waits
    Result<void> wake(std::span<std::byte> range);

    // The next fault; nothing when none waits.
    Result<std::optional<Fault>> next_fault();
    int fd() const { return fd_.get(); }  // readable when faults wait

private:
    explicit Userfault(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

}  // namespace kumoi::hypervisor
