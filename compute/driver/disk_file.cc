#include "compute/driver/disk_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::compute {
namespace {

constexpr uint64_t kGib = uint64_t{1} << 30;
constexpr size_t kCopyPieceMax = 64u << 20;  // bytes of one copy_file_range(2)

bool is_not_possible_here(int error) {
    return error == EXDEV || error == EOPNOTSUPP || error == EINVAL || error == ENOSYS ||
           error == ENOTTY;
}

// For file systems that cannot copy by themselves.
Result<void> copy_by_reading(int from, int to, off_t offset, off_t end) {
    std::vector<std::byte> buffer(1u << 20);
    while (offset < end) {
        const size_t wanted = std::min<size_t>(buffer.size(), static_cast<size_t>(end - offset));
        const std::span<std::byte> piece(buffer.data(), wanted);
        const size_t count = TRY(pread_some(from, piece, static_cast<uint64_t>(offset)));
        if (count == 0) {
            return Error::corrupt("the file became shorter while it was copied");
        }
        TRY(pwrite_all(to, piece.first(count), static_cast<uint64_t>(offset)));
        offset += static_cast<off_t>(count);
    }
    return {};
}

Result<void> copy_range(int from, int to, off_t offset, off_t end) {
    while (offset < end) {
        off_t in = offset;
        off_t out = offset;
        const size_t wanted = std::min<size_t>(kCopyPieceMax, static_cast<size_t>(end - offset));
        const ssize_t count = ::copy_file_range(from, &in, to, &out, wanted, 0);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count == 0 || (count < 0 && is_not_possible_here(errno))) {
            return copy_by_reading(from, to, offset, end);
        }
        if (count < 0) {
            return Error::from_errno(errno, fmt::format("copying {} bytes at {}", wanted, offset));
        }
        offset += count;
    }
    return {};
}

// Data by data extent; holes stay holes.
Result<void> copy_extents(int from, int to, off_t size) {
    if (::ftruncate(to, size) != 0) {
        return Error::from_errno(errno, fmt::format("growing the copy to {} bytes", size));
    }
    off_t offset = 0;
    while (offset < size) {
        const off_t data = ::lseek(from, offset, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            return {};  // only a hole is left
        }
        if (data < 0) {
            return copy_range(from, to, offset, size);  // no holes on this file system
        }
        const off_t hole = ::lseek(from, data, SEEK_HOLE);
        const off_t end = hole < 0 ? size : hole;
        TRY(copy_range(from, to, data, end));
        offset = end;
    }
    return {};
}

Result<void> grow(const std::string& path, uint64_t size) {
    if (::truncate(path.c_str(), static_cast<off_t>(size)) != 0) {
        return Error::from_errno(errno, fmt::format("growing {} to {} bytes", path, size));
    }
    return {};
}

}  // namespace

Result<void> copy_sparse(const std::string& from, const std::string& to, unsigned mode) {
    const UniqueFd source = TRY(open_file(from, O_RDONLY));
    const UniqueFd target = TRY(open_file(to, O_WRONLY | O_CREAT | O_EXCL, mode));
    if (::ioctl(target.get(), FICLONE, source.get()) == 0) {
        return {};
    }
    struct stat status {};
    if (::fstat(source.get(), &status) != 0) {
        return Error::from_errno(errno, "looking at " + from);
    }
    auto copied = copy_extents(source.get(), target.get(), status.st_size);
    if (!copied.ok()) {
        ::unlink(to.c_str());
        return std::move(copied).error().with_context(fmt::format("copying {} to {}", from, to));
    }
    return {};
}

Result<void> grow_disk(const std::string& path, uint64_t size) {
    return TRY(file_size(path)) < size ? grow(path, size) : Result<void>();
}

Result<void> make_ephemeral_disk(const std::string& to, int64_t size_gb) {
    TRY(remove_file(to));
    TRY(make_blank_disk(to, static_cast<uint64_t>(size_gb) * kGib));
    TRY_CONTEXT(run_checked({"mkfs.ext4", "-q", "-F", "-L", "ephemeral0", "-E",
                             "lazy_itable_init=1,lazy_journal_init=1,nodiscard", to}),
                "formatting the ephemeral disk");
    return {};
}

Result<void> make_swap_disk(const std::string& to, int64_t size_mb) {
    TRY(remove_file(to));
    TRY(make_blank_disk(to, static_cast<uint64_t>(size_mb) << 20));
    TRY_CONTEXT(run_checked({"mkswap", to}), "formatting the swap disk");
    return {};
}

Result<void> make_blank_disk(const std::string& to, uint64_t size) {
    const UniqueFd file = TRY(open_file(to, O_WRONLY | O_CREAT | O_EXCL, 0600));
    return grow(to, size);
}

}  // namespace kumoi::compute
