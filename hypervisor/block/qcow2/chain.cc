#include "hypervisor/block/qcow2/chain.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

#include "hypervisor/block/qcow2/blocking_port.h"
#include "hypervisor/block/qcow2/tables.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

using Identity = std::pair<dev_t, ino_t>;

Result<Identity> identity(const HostFile& file) {
    struct stat status {};
    if (::fstat(file.fd, &status) != 0) {
        return Error::from_errno(errno, file.path);
    }
    return Identity{status.st_dev, status.st_ino};
}

class ChainOpener {
public:
    ChainOpener(FileSource& files, IoPort& port, const ChainOptions& options)
        : files_(files), port_(port), options_(options) {}

    Result<std::unique_ptr<Store>> open_image(const std::string& path, bool writable) {
        auto file = TRY(open_host_file(files_, path, writable, options_.direct, options_.lock));
        TRY(remember(*file));
        const Header header = TRY(read_header(port_, *file));
        std::unique_ptr<BlockSource> backing;
        if (!header.backing_file.empty()) {
            backing = TRY_CONTEXT(open_backing(path, header), "backing file of {}", path);
        }
        StoreOptions store = options_.store;
        store.writable = writable;
        return Store::open(port_, std::move(file), store, std::move(backing));
    }

    Result<std::unique_ptr<BlockSource>> open_source(const ChainEntry& entry) {
        if (entry.format == "qcow2") {
            auto store = TRY(open_image(entry.path, false));
            return Result<std::unique_ptr<BlockSource>>(std::move(store));
        }
        if (entry.format != "raw") {
            return Error::unsupported("{} has format \"{}\"; raw and qcow2 are supported",
                                      entry.path, entry.format);
        }
        auto file = TRY(open_host_file(files_, entry.path, false, options_.direct, options_.lock));
        TRY(remember(*file));
        return Result<std::unique_ptr<BlockSource>>(std::make_unique<RawSource>(std::move(file)));
    }

private:
    Result<std::unique_ptr<BlockSource>> open_backing(const std::string& path,
                                                      const Header& header) {
        const std::string& format =
            header.backing_format.empty() ? options_.backing_format : header.backing_format;
        if (format.empty()) {
            return Error::invalid("{} names the backing file {} without its format", path,
                                  header.backing_file)
                .with_hint("store it with kumoi-img rebase --unsafe -b FILE -F FORMAT");
        }
        return open_source({TRY(resolve_backing(path, header.backing_file)), format});
    }

    Result<void> remember(const HostFile& file) {
        if (seen_.size() > options_.depth_max) {
            return Error::too_large("{} is the {}th file of its chain; {} are allowed", file.path,
                                    seen_.size() + 1, options_.depth_max + 1)
                .with_hint("shorten the chain with kumoi-img commit or convert");
        }
        if (!seen_.insert(TRY(identity(file))).second) {
            return Error::corrupt("{} is its own backing file, directly or through others",
                                  file.path);
        }
        return {};
    }

    FileSource& files_;
    IoPort& port_;
    const ChainOptions& options_;
    std::set<Identity> seen_;
};

}  // namespace

// One writer, or any number of readers; as RawImage.
Result<void> lock_host_file(const HostFile& file, bool writable) {
    struct flock range {};
    range.l_type = writable ? F_WRLCK : F_RDLCK;
    range.l_whence = SEEK_SET;
    if (::fcntl(file.fd, F_OFD_SETLK, &range) == 0) {
        return {};
    }
    if (errno == EAGAIN || errno == EACCES) {
        return Error::conflict("disk image {} is in use by another process{}", file.path,
                               writable ? "" : ", which writes it")
            .with_hint("stop the guest that uses it, or open it read-only in both");
    }
    return Error::from_errno(errno, fmt::format("locking disk image {}", file.path));
}

void unlock_host_file(const HostFile& file) {
    struct flock range {};
    range.l_type = F_UNLCK;
    range.l_whence = SEEK_SET;
    (void)::fcntl(file.fd, F_OFD_SETLK, &range);
}

Result<std::unique_ptr<HostFile>> open_host_file(FileSource& files, const std::string& path,
                                                 bool writable, bool direct, bool lock) {
    const int flags = writable ? O_RDWR : O_RDONLY;
    UniqueFd fd = TRY_CONTEXT(files.open(path, flags), "disk image {}", path);
    UniqueFd direct_fd;
    if (direct) {
        direct_fd = TRY_CONTEXT(files.open(path, flags | O_DIRECT), "disk image {}", path);
    }
    auto file = TRY(adopt_host_file(path, std::move(fd), std::move(direct_fd)));
    if (lock) {
        TRY(lock_host_file(*file, writable));
    }
    return Result<std::unique_ptr<HostFile>>(std::move(file));
}

Result<std::string> resolve_backing(const std::string& image, const std::string& backing) {
    std::string name = backing;
    if (name.starts_with("file:")) {
        name.erase(0, 5);
    } else {
        const size_t colon = name.find(':');
        const size_t slash = name.find('/');
        if (colon != std::string::npos && (slash == std::string::npos || colon < slash)) {
            return Error::unsupported(
                "the backing file \"{}\" of {} is no file: only files are "
                "opened",
                backing, image);
        }
    }
    if (name.empty()) {
        return Error::corrupt("the backing file of {} has an empty name", image);
    }
    if (name.front() == '/') {
        return name;
    }
    return (std::filesystem::path(image).parent_path() / name).string();
}

Result<std::unique_ptr<Store>> open_chain(FileSource& files, IoPort& port, const std::string& path,
                                          const ChainOptions& options) {
    return ChainOpener(files, port, options).open_image(path, options.store.writable);
}

Result<std::unique_ptr<BlockSource>> open_source(FileSource& files, IoPort& port,
                                                 const ChainEntry& entry,
                                                 const ChainOptions& options) {
    return ChainOpener(files, port, options).open_source(entry);
}

Result<std::vector<ChainEntry>> backing_chain(FileSource& files, const std::string& path,
                                              uint32_t depth_max,
                                              const std::string& backing_format) {
    BlockingPort port;
    std::vector<ChainEntry> chain;
    std::string current = path;
    for (;;) {
        const auto file = TRY(open_host_file(files, current, false, false, false));
        const Header header = TRY(read_header(port, *file));
        if (header.backing_file.empty()) {
            return chain;
        }
        if (chain.size() >= depth_max) {
            return Error::too_large("{} has more than {} backing files, or is its own", path,
                                    depth_max);
        }
        const std::string& format =
            header.backing_format.empty() ? backing_format : header.backing_format;
        if (format != "raw" && format != "qcow2") {
            return Error::invalid(
                       "{} names the backing file {} with the format \"{}\"; raw and "
                       "qcow2 are supported",
                       current, header.backing_file, format)
                .with_hint("store it with kumoi-img rebase --unsafe -b FILE -F FORMAT");
        }
        chain.push_back({TRY(resolve_backing(current, header.backing_file)), format});
        current = chain.back().path;
        if (format == "raw") {
            return chain;
        }
    }
}

}  // namespace kumoi::hypervisor::qcow2
