#include "hypervisor/block/qcow2/blocking_port.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/assert.h"

namespace kumoi::hypervisor::qcow2 {

bool BlockingPort::start(IoCall& call) {
    while (!io_advance(call, io_system_call(call))) {
    }
    return false;
}

void BlockingPort::post(std::coroutine_handle<> handle) {
    const std::lock_guard lock(mutex_);
    posted_.push_back(handle);
    changed_.notify_one();
}

void BlockingPort::resume_next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !posted_.empty(); });
    const auto handle = posted_.front();
    posted_.pop_front();
    lock.unlock();
    handle.resume();
}

int64_t io_system_call(const IoCall& call) {
    const int fd = io_descriptor(call);
    const auto vectors = io_rest(call);
    const auto count = static_cast<int>(std::min<size_t>(vectors.size(), 1024));  // IOV_MAX
    const auto offset = static_cast<off_t>(call.offset + call.done);
    int64_t result = -1;
    switch (call.kind) {
        case IoCall::Kind::Read: result = ::preadv(fd, vectors.data(), count, offset); break;
        case IoCall::Kind::Write: result = ::pwritev(fd, vectors.data(), count, offset); break;
        case IoCall::Kind::Sync: result = ::fdatasync(fd); break;
        case IoCall::Kind::PunchHole:
            result = ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                                 static_cast<off_t>(call.size));
            break;
        case IoCall::Kind::Truncate: result = ::ftruncate(fd, offset); break;
    }
    return result < 0 ? -errno : result;
}

namespace {

constexpr uint32_t kAlignmentMax = 4096;

// The smallest transfer O_DIRECT takes here: a read tells it.
Result<uint32_t> direct_alignment(const std::string& path, int fd) {
    const std::unique_ptr<void, decltype(&std::free)> memory(
        std::aligned_alloc(kAlignmentMax, kAlignmentMax), &std::free);
    if (!memory) {
        return Error::from_errno(ENOMEM, "an aligned buffer");
    }
    auto* bytes = static_cast<std::byte*>(memory.get());
    if (::pread(fd, bytes + 512, 512, 0) >= 0) {
        return 512u;
    }
    if (::pread(fd, bytes, kAlignmentMax, 0) >= 0) {
        return kAlignmentMax;
    }
    return Error::from_errno(errno, fmt::format("reading {} with O_DIRECT", path))
        .with_hint("use cache mode writeback on this file system");
}

}  // namespace

Result<std::unique_ptr<OpenedFile>> adopt_host_file(std::string path, UniqueFd file,
                                                    UniqueFd direct) {
    auto opened = std::make_unique<OpenedFile>();
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) {
        return Error::from_errno(errno, fmt::format("disk image {}", path));
    }
    uint64_t size = 0;
    if (S_ISBLK(status.st_mode)) {
        if (::ioctl(file.get(), BLKGETSIZE64, &size) != 0) {
            return Error::from_errno(errno, fmt::format("size of disk {}", path));
        }
        opened->holes_are_zero = false;
    } else if (S_ISREG(status.st_mode)) {
        size = static_cast<uint64_t>(status.st_size);
    } else {
        return Error::invalid("disk image {} is neither a file nor a block device", path);
    }
    opened->size = size;
    if (direct.is_open()) {
        opened->direct_alignment = TRY(direct_alignment(path, direct.get()));
        opened->direct_fd = direct.get();
    }
    opened->path = std::move(path);
    opened->fd = file.get();
    opened->owned = std::move(file);
    opened->owned_direct = std::move(direct);
    return Result<std::unique_ptr<OpenedFile>>(std::move(opened));
}

}  // namespace kumoi::hypervisor::qcow2
