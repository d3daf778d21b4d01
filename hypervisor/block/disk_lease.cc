#include "hypervisor/block/disk_lease.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>

namespace kumoi::hypervisor {

namespace {

// Two slots, written in turn: a torn write leaves the other one. Little endian.
constexpr uint64_t kSlotOffsets[] = {0, 2048};
constexpr size_t kSlotSize = 512;
constexpr size_t kFileSize = 4096;
constexpr std::string_view kMagic = "KUMOILSE";
constexpr uint32_t kVersion = 1;

struct [[gnu::packed]] Slot {
    char magic[8];
    uint32_t version;
    uint32_t held;
    uint64_t epoch;
    uint64_t sequence;
    char owner[DiskLease::kOwnerMax];  // padded with zeros
    uint8_t reserved[kSlotSize - 100];
    uint32_t checksum;  // CRC-32 of what is before
};
static_assert(sizeof(Slot) == kSlotSize);

uint32_t checksum(const Slot& slot) {
    return static_cast<uint32_t>(
        crc32(0, reinterpret_cast<const Bytef*>(&slot), kSlotSize - sizeof(uint32_t)));
}

std::optional<LeaseRecord> parse(const Slot& slot) {
    if (std::memcmp(slot.magic, kMagic.data(), kMagic.size()) != 0 || slot.version != kVersion ||
        slot.checksum != checksum(slot)) {
        return std::nullopt;
    }
    return LeaseRecord{slot.epoch, slot.sequence, slot.held != 0,
                       std::string(slot.owner, strnlen(slot.owner, sizeof(slot.owner)))};
}

Result<LeaseRecord> read_record(int fd, const std::string& path) {
    std::array<std::byte, kFileSize> bytes{};
    const size_t size = TRY_CONTEXT(pread_some(fd, bytes, 0), "lease {}", path);
    LeaseRecord newest;
    bool blank = true;
    bool found = false;
    for (const uint64_t offset : kSlotOffsets) {
        Slot slot;
        std::memcpy(&slot, &bytes[offset], sizeof(slot));
        blank = blank && slot.version == 0 && slot.magic[0] == 0;
        const auto record = parse(slot);
        if (record && (!found || record->sequence > newest.sequence)) {
            newest = *record;
            found = true;
        }
    }
    if (!found && !blank) {
        return Error::corrupt("lease {} ({} bytes) holds no valid record", path, size)
            .with_hint("make sure that nobody uses the disk, then remove the file");
    }
    return newest;
}

// For as long as a record is read and replaced.
class FileLock {
public:
    static Result<FileLock> take(int fd, const std::string& path) {
        struct flock range {};
        range.l_type = F_WRLCK;
        range.l_whence = SEEK_SET;
        if (::fcntl(fd, F_OFD_SETLKW, &range) != 0) {
            return Error::from_errno(errno, fmt::format("locking lease {}", path));
        }
        return FileLock(fd);
    }
    FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    FileLock& operator=(FileLock&&) = delete;
    ~FileLock() {
        if (fd_ >= 0) {
            struct flock range {};
            range.l_type = F_UNLCK;
            range.l_whence = SEEK_SET;
            (void)::fcntl(fd_, F_OFD_SETLK, &range);
        }
    }

private:
    explicit FileLock(int fd) : fd_(fd) {}
    int fd_;
};

}  // namespace

namespace {

Result<UniqueFd> open_lease(FileSource& files, const std::string& path) {
    return TRY_CONTEXT(files.open(path, O_RDWR | O_CREAT, 0600), "lease {}", path);
}

Result<void> check_terms(uint64_t epoch, const std::string& owner) {
    if (epoch == 0 || owner.empty() || owner.size() > DiskLease::kOwnerMax ||
        owner.find('\0') != std::string::npos) {
        return Error::invalid(
            "a lease needs an epoch from 1 and an owner of 1 to {} bytes, not {} "
            "and \"{}\"",
            DiskLease::kOwnerMax, epoch, owner);
    }
    return {};
}

}  // namespace

Result<std::unique_ptr<DiskLease>> DiskLease::acquire(FileSource& files, const std::string& path,
                                                      uint64_t epoch, const std::string& owner) {
    TRY(check_terms(epoch, owner));
    std::unique_ptr<DiskLease> lease(
        new DiskLease(path, TRY(open_lease(files, path)), epoch, owner));
    TRY(lease->take());
    return Result<std::unique_ptr<DiskLease>>(std::move(lease));
}

Result<std::unique_ptr<DiskLease>> DiskLease::take_over(FileSource& files, const std::string& path,
                                                        uint64_t epoch, const std::string& owner,
                                                        const std::vector<uint64_t>& accepted) {
    TRY(check_terms(epoch, owner));
    std::unique_ptr<DiskLease> lease(
        new DiskLease(path, TRY(open_lease(files, path)), epoch, owner));
    TRY(lease->take(accepted));
    return Result<std::unique_ptr<DiskLease>>(std::move(lease));
}

Result<void> DiskLease::take(const std::vector<uint64_t>& accepted) {
    const auto lock = TRY(FileLock::take(fd_.get(), path_));
    const LeaseRecord record = TRY(read_record(fd_.get(), path_));
    const bool ours = record.epoch == epoch_ && record.owner == owner_;
    if (!ours && std::ranges::find(accepted, record.epoch) == accepted.end()) {
        return Error::conflict("lease {} has epoch {}, taken by {}; epoch {} cannot follow it",
                               path_, record.epoch, record.owner, epoch_)
            .with_hint("the disk belongs to somebody else now; do not start this copy");
    }
    return write(true);
}

Result<LeaseRecord> DiskLease::look(FileSource& files, const std::string& path) {
    const UniqueFd fd = TRY(open_lease(files, path));
    return read_record(fd.get(), path);
}

Result<LeaseRecord> DiskLease::read(FileSource& files, const std::string& path) {
    const UniqueFd fd = TRY_CONTEXT(files.open(path, O_RDONLY), "lease {}", path);
    return read_record(fd.get(), path);
}

Result<void> DiskLease::take() {
    const auto lock = TRY(FileLock::take(fd_.get(), path_));
    const LeaseRecord record = TRY(read_record(fd_.get(), path_));
    if (record.epoch > epoch_) {
        return Error::conflict("lease {} has epoch {}, taken by {}; epoch {} is over", path_,
                               record.epoch, record.owner, epoch_)
            .with_hint("the disk belongs to somebody else now; do not start this copy");
    }
    if (record.epoch == epoch_ && record.held && record.owner != owner_) {
        return Error::conflict("lease {} with epoch {} is held by {}, not by {}", path_, epoch_,
                               record.owner, owner_)
            .with_hint("release it there, or take it with a higher epoch after fencing that owner");
    }
    return write(true);
}

Result<void> DiskLease::write(bool held) {
    const LeaseRecord record = TRY(read_record(fd_.get(), path_));
    Slot slot{};
    std::memcpy(slot.magic, kMagic.data(), kMagic.size());
    slot.version = kVersion;
    slot.held = held ? 1 : 0;
    slot.epoch = epoch_;
    slot.sequence = record.sequence + 1;
    std::memcpy(slot.owner, owner_.data(), owner_.size());
    slot.checksum = checksum(slot);
    TRY(pwrite_all(fd_.get(), std::as_bytes(std::span(&slot, 1)), kSlotOffsets[slot.sequence % 2]));
    if (::fdatasync(fd_.get()) != 0) {
        return Error::from_errno(errno, fmt::format("syncing lease {}", path_));
    }
    return {};
}

Result<void> DiskLease::check() {
    auto record = read_record(fd_.get(), path_);
    if (!record) {
        return record.error();  // unreadable is not lost: the next check may read it
    }
    if (record->epoch != epoch_ || record->owner != owner_ || !record->held) {
        lost_.store(true, std::memory_order_release);
    }
    if (lost()) {
        return Error::conflict("lease {} is {} by {} with epoch {}, ours was {}", path_,
                               record->held ? "held" : "released", record->owner, record->epoch,
                               epoch_);
    }
    return {};
}

Result<void> DiskLease::release() {
    const auto lock = TRY(FileLock::take(fd_.get(), path_));
    TRY(check());
    TRY(write(false));
    lost_.store(true, std::memory_order_release);
    return {};
}

Result<LeaseRecord> DiskLease::current() const {
    return read_record(fd_.get(), path_);
}

}  // namespace kumoi::hypervisor
