// DiskLease: who may write a disk, by epoch, across hosts and processes; the format is in
// docs/reference/disk-lease.md. The lease is a file of 4 KiB beside the disk (or anywhere else both
// sides see): an owner with an epoch. Taking it needs an epoch at least as high as the one in the
// file, so an owner that was replaced finds a higher epoch and must stop writing, even if somebody
// starts it again. The disk's OFD lock stays the first line within one host; this is the line
// across hosts.
//
//     auto lease = TRY(DiskLease::acquire(files, "/srv/disk.lease", 7, "host-a"));
//     if (!lease->check()) { ... somebody has epoch 8 ... }
//
// check() and lost() from any thread; the rest from one.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/sandbox/file_source.h"

namespace kumoi::hypervisor {

struct LeaseRecord {
    uint64_t epoch = 0;  // 0: never taken
    uint64_t sequence = 0;
    bool held = false;
    std::string owner;  // at most 64 bytes
};

class DiskLease {
public:
    static constexpr size_t kOwnerMax = 64;

    // Creates the file when it is not there (and may be created).
    static Result<std::unique_ptr<DiskLease>> acquire(FileSource& files, const std::string& path,
                                                      uint64_t epoch, const std::string& owner);
    // The same, where the file shows `epoch` (already ours) or one of `accepted`; else Conflict.
    static Result<std::unique_ptr<DiskLease>> take_over(FileSource& files, const std::string& path,
                                                        uint64_t epoch, const std::string& owner,
                                                        const std::vector<uint64_t>& accepted);
    // As it will be opened when it is taken over, and only read.
    static Result<LeaseRecord> look(FileSource& files, const std::string& path);
    static Result<LeaseRecord> read(FileSource& files, const std::string& path);

    // Reads the file again. Error, from now on, when another epoch or owner is in it.
    Result<void> check();
    bool lost() const { return lost_.load(std::memory_order_acquire); }
    // Given back: the next owner takes an epoch of at least this one.
    Result<void> release();
    Result<LeaseRecord> current() const;
    uint64_t epoch() const { return epoch_; }
    const std::string& path() const { return path_; }

private:
    DiskLease(std::string path, UniqueFd fd, uint64_t epoch, std::string owner)
        : path_(std::move(path)), fd_(std::move(fd)), epoch_(epoch), owner_(std::move(owner)) {}
    Result<void> take();
    Result<void> take(const std::vector<uint64_t>& accepted);
    Result<void> write(bool held);

    const std::string path_;
    UniqueFd fd_;
    const uint64_t epoch_;
    const std::string owner_;
    std::atomic<bool> lost_{false};
};

}  // namespace kumoi::hypervisor
