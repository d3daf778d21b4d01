#include "hypervisor/firmware/firmware.h"

#include <cerrno>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hypervisor/board/board_layout.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kPageSize = 4096;
constexpr uint64_t kNvramSizeMax = 16u << 20;

Result<uint64_t> size_of(int fd, const std::string& path, uint64_t size_max) {
    struct stat status {};
    if (fstat(fd, &status) != 0) {
        return Error::from_errno(errno, "looking at " + path);
    }
    const auto size = static_cast<uint64_t>(status.st_size);
    if (!S_ISREG(status.st_mode) || size == 0 || size % kPageSize != 0 || size > size_max) {
        return Error::invalid(
            "{} has {} bytes; a firmware image is a regular file of 4096 to {} "
            "bytes, a multiple of 4096",
            path, size, size_max);
    }
    return size;
}

}  // namespace

// The guest's own copy of the variables; one machine at a time may hold it.
class Firmware::NvramFile final : public PflashStore {
public:
    NvramFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
    Result<void> lock() {
        struct flock lock {};
        lock.l_type = F_WRLCK;
        lock.l_whence = SEEK_SET;
        if (fcntl(fd_.get(), F_OFD_SETLK, &lock) != 0) {
            if (errno == EAGAIN || errno == EACCES) {
                return Error::conflict("{} is in use by another machine", path_)
                    .with_hint("give each machine its own copy of the variables");
            }
            return Error::from_errno(errno, "locking " + path_);
        }
        return {};
    }
    Result<void> write(uint64_t offset, std::span<const std::byte> bytes) override {
        TRY_CONTEXT(pwrite_all(fd_.get(), bytes, offset), "writing {}", path_);
        if (fdatasync(fd_.get()) != 0) {
            return Error::from_errno(errno, "making " + path_ + " durable");
        }
        return {};
    }
    int fd() const { return fd_.get(); }

private:
    UniqueFd fd_;
    const std::string path_;
};

Firmware::Firmware(Platform& platform) : platform_(platform) {}

Firmware::~Firmware() = default;

Result<std::unique_ptr<Firmware>> Firmware::create(const FirmwareConfig& config, Platform& platform,
                                                   FileSource& files) {
    std::unique_ptr<Firmware> firmware(new Firmware(platform));
    TRY_CONTEXT(firmware->map_code(config.code, files), "firmware.code");
    if (config.type == FirmwareType::Uefi) {
        TRY_CONTEXT(firmware->map_nvram(config.nvram, files), "firmware.nvram");
    }
    return firmware;
}

// A private mapping: pages are shared with the page cache and with every other guest.
Result<void> Firmware::map_code(const std::string& path, FileSource& files) {
    const UniqueFd fd = TRY(files.open(path, O_RDONLY));
    const uint64_t size = TRY(size_of(fd.get(), path, board::kFirmwareSizeMax));
    if (size < board::kFirmwareCopySize) {
        return Error::invalid("{} has {} bytes; a firmware image has at least {}", path, size,
                              board::kFirmwareCopySize);
    }
    code_ = TRY(Mapping::map(fd.get(), size, PROT_READ | PROT_WRITE, MAP_PRIVATE));
    code_mapping_ =
        TRY(platform_.map_memory(board::kFirmwareEnd - size, code_.bytes(), GuestAccess::ReadOnly));
    return {};
}

Result<void> Firmware::map_nvram(const std::string& path, FileSource& files) {
    UniqueFd fd = TRY(files.open(path, O_RDWR));
    const uint64_t size = TRY(
        size_of(fd.get(), path, std::min(kNvramSizeMax, board::kFirmwareSizeMax - code_.size())));
    file_ = std::make_unique<NvramFile>(std::move(fd), path);
    TRY(file_->lock());
    variables_ = TRY(Mapping::map(-1, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS));
    const size_t got = TRY(pread_some(file_->fd(), variables_.bytes(), 0));
    if (got != size) {
        return Error::io("{} ended after {} of {} bytes", path, got, size);
    }
    const uint64_t base = board::kFirmwareEnd - code_.size() - size;
    nvram_ = TRY(Pflash::create(platform_, base, variables_.bytes(), *file_));
    return {};
}

Result<void> Firmware::install() {
    const auto end = code_.bytes().last(board::kFirmwareCopySize);
    TRY(platform_.memory().write(board::kHighLoadStart - board::kFirmwareCopySize, end));
    if (nvram_) {
        nvram_->reset();
    }
    return {};
}

}  // namespace kumoi::hypervisor
