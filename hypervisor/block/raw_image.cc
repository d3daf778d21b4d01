#include "hypervisor/block/raw_image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/log.h"
#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/raw_queue.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kSectorSize = 512;
constexpr uint32_t kAlignmentMax = 4096;

}  // namespace

Result<std::unique_ptr<DiskImage>> RawImage::open(FileSource& files,
                                                  const RawImageOptions& options) {
    std::unique_ptr<RawImage> image(new RawImage(options));
    TRY(image->open_file_locked(files));
    return Result<std::unique_ptr<DiskImage>>(std::move(image));
}

Result<void> RawImage::open_file_locked(FileSource& files) {
    int flags = options_.read_only ? O_RDONLY : O_RDWR;
    flags |= options_.cache == CacheMode::None ? O_DIRECT : 0;
    fd_ = TRY_CONTEXT(files.open(options_.path, flags), "disk image {}", options_.path);
    file_ = {.fd = fd_.get(), .direct = options_.cache == CacheMode::None};
    TRY(lock());
    TRY(measure());
    return file_.direct ? find_alignment() : Result<void>{};
}

Result<void> RawImage::lock() {
    struct flock range {};
    range.l_type = options_.read_only ? F_RDLCK : F_WRLCK;
    range.l_whence = SEEK_SET;  // from 0 to the end, however long the file gets
    if (::fcntl(fd_.get(), F_OFD_SETLK, &range) == 0) {
        return {};
    }
    if (errno == EAGAIN || errno == EACCES) {
        return Error::conflict("disk image {} is in use by another process{}", options_.path,
                               options_.read_only ? ", which writes it" : "")
            .with_hint("stop the guest that uses it, or open it read-only in both");
    }
    return Error::from_errno(errno, fmt::format("locking disk image {}", options_.path));
}

Result<void> RawImage::measure() {
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) {
        return Error::from_errno(errno, fmt::format("disk image {}", options_.path));
    }
    if (S_ISBLK(status.st_mode)) {
        uint64_t size = 0;
        if (::ioctl(fd_.get(), BLKGETSIZE64, &size) != 0) {
            return Error::from_errno(errno, fmt::format("size of disk {}", options_.path));
        }
        size_ = size;
    } else if (S_ISREG(status.st_mode)) {
        size_ = static_cast<uint64_t>(status.st_size);
    } else {
        return Error::invalid("disk image {} is neither a file nor a block device", options_.path);
    }
    if (size_ == 0 || size_ % kSectorSize != 0) {
        return Error::invalid("disk image {} has {} bytes, which is not a multiple of 512",
                              options_.path, size_.load())
            .with_hint("enlarge it with truncate(1) or qemu-img resize");
    }
    return {};
}

// The smallest transfer O_DIRECT accepts here: a read tells it, on any file system and kernel.
Result<void> RawImage::find_alignment() {
    void* memory = std::aligned_alloc(kAlignmentMax, kAlignmentMax);
    if (memory == nullptr) {
        return Error::from_errno(ENOMEM, "an aligned buffer");
    }
    const std::unique_ptr<void, decltype(&std::free)> owned(memory, &std::free);
    auto* bytes = static_cast<std::byte*>(memory);
    file_.alignment = kSectorSize;
    // A buffer at an odd sector: some file systems ask alignment of the address, too.
    if (::pread(fd_.get(), bytes + kSectorSize, kSectorSize, 0) ==
        static_cast<ssize_t>(kSectorSize)) {
        return {};
    }
    file_.alignment = kAlignmentMax;
    if (::pread(fd_.get(), bytes, kAlignmentMax, 0) < 0) {
        return Error::from_errno(errno, fmt::format("reading {} with O_DIRECT", options_.path))
            .with_hint("use cache mode writeback on this file system");
    }
    if (size_ % kAlignmentMax != 0) {
        return Error::invalid("disk image {} has {} bytes; O_DIRECT here needs a multiple of {}",
                              options_.path, size_.load(), kAlignmentMax)
            .with_hint("use cache mode writeback, or enlarge the image");
    }
    return {};
}

Result<void> RawImage::resize(uint64_t size) {
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) {
        return Error::from_errno(errno, fmt::format("disk image {}", options_.path));
    }
    if (size < size_ || size % block_size() != 0 || options_.read_only) {
        return Error::invalid(
            "disk {} has {} bytes{}; a running disk can only grow, by multiples "
            "of {}, not to {}",
            options_.path, size_.load(), options_.read_only ? " and is read-only" : "",
            block_size(), size);
    }
    if (S_ISBLK(status.st_mode)) {
        TRY(measure());
        if (size_ < size) {
            return Error::conflict("the device {} has {} bytes, not {}", options_.path,
                                   size_.load(), size)
                .with_hint("enlarge the device first");
        }
    } else if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
        return Error::from_errno(errno, fmt::format("resizing {}", options_.path));
    } else {
        size_ = size;
    }
    const std::lock_guard lock(resized_mutex_);
    if (resized_) {
        resized_();
    }
    return {};
}

Result<void> RawImage::sync() {
    return ::fdatasync(fd_.get()) == 0
               ? Result<void>()
               : Error::from_errno(errno, fmt::format("syncing disk image {}", options_.path));
}

Result<std::unique_ptr<qcow2::BlockSource>> RawImage::open_source() {
    UniqueFd copy(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
    if (!copy.is_open()) {
        return Error::from_errno(errno, fmt::format("disk image {}", options_.path));
    }
    auto file = TRY(qcow2::adopt_host_file(options_.path, std::move(copy), UniqueFd()));
    return Result<std::unique_ptr<qcow2::BlockSource>>(
        std::make_unique<qcow2::RawSource>(std::move(file)));
}

void RawImage::on_resize(std::function<void()> function) {
    const std::lock_guard lock(resized_mutex_);
    resized_ = std::move(function);
}

Result<std::unique_ptr<DiskQueue>> RawImage::open_queue(EventLoop& loop, DiskClient& client) {
    if (options_.engine != DiskEngine::Threads) {
        auto queue = make_uring_queue(file_, loop, client);
        if (queue.ok() || options_.engine == DiskEngine::Uring) {
            return queue;
        }
        log_info("block", "no io_uring, using threads",
                 {{"disk", options_.path}, {"reason", queue.error().text()}});
    }
    return make_thread_queue(file_, loop, client);
}

}  // namespace kumoi::hypervisor
