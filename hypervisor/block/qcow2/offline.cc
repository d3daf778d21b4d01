#include "hypervisor/block/qcow2/offline.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hypervisor/block/qcow2/buffer.h"
#include "hypervisor/block/qcow2/chain.h"
#include "hypervisor/block/qcow2/dirty_bitmap.h"
#include "hypervisor/block/qcow2/tables.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr uint64_t kCopyBytes = 2u << 20;

bool is_zero(const std::byte* bytes, uint64_t size) {
    return bytes[0] == std::byte{0} && std::memcmp(bytes, bytes + 1, size - 1) == 0;
}

Result<void> read_source(IoPort& port, BlockSource& source, uint64_t offset, std::byte* to,
                         uint64_t size) {
    const iovec vector{to, size};
    const int status = run_inline(source.read(port, offset, std::span(&vector, 1), size));
    if (status < 0) {
        return Error::from_errno(-status, fmt::format("reading {} at {}", source.path(), offset));
    }
    return {};
}

Result<void> write_store(IoPort& port, Store& store, uint64_t offset, std::byte* from,
                         uint64_t size) {
    const iovec vector{from, size};
    const int status = run_inline(store.write(port, offset, std::span(&vector, 1), size));
    return status < 0 ? Result<void>(store.error_of(status, "writing")) : Result<void>{};
}

// Reads `source` piece by piece where it has data; `write` gets pieces that are not all zero.
Result<void> copy_data(IoPort& port, BlockSource& source, uint64_t size_max, uint64_t unit,
                       const CopyOptions& options,
                       const std::function<Result<void>(uint64_t, std::byte*, uint64_t)>& write) {
    const uint64_t size = std::min(source.size(), size_max);
    AlignedBuffer buffer;
    if (!buffer.allocate(std::max(kCopyBytes, unit))) {
        return Error::from_errno(ENOMEM, "a buffer");
    }
    const uint64_t capacity = buffer.size() / unit * unit;
    for (uint64_t at = 0; at < size;) {  // a multiple of the unit
        const MappedExtent extent = TRY(map_through(port, source, at, size - at));
        uint64_t end = at + extent.size;
        if (extent.kind == ExtentKind::Zero) {
            const uint64_t next = end >= size ? size : end / unit * unit;
            if (next > at) {
                at = next;
                continue;
            }
            end = at + 1;  // data begins inside this unit
        }
        const uint64_t part = std::min({(end + unit - 1) / unit * unit - at, capacity, size - at});
        TRY(read_source(port, source, at, buffer.data(), part));
        for (uint64_t i = 0; i < part; i += unit) {
            const uint64_t piece = std::min(unit, part - i);
            if (!is_zero(buffer.data() + i, piece)) {
                TRY(write(at + i, buffer.data() + i, piece));
            }
        }
        at += part;
        if (options.progress) {
            options.progress(at, size);
        }
    }
    return {};
}

Result<void> preallocate_metadata(FileSource& files, const std::string& path) {
    BlockingPort port;
    const auto store = TRY(open_chain(files, port, path, {}));
    const int status = run_inline(store->preallocate(port));
    if (status < 0) {
        return store->error_of(status, "preallocating");
    }
    return store->close(port);
}

}  // namespace

Result<void> create_image_file(FileSource& files, const std::string& path, CreateOptions options) {
    BlockingPort port;
    if (!options.backing_file.empty()) {
        if (options.backing_format.empty()) {
            return Error::invalid("the format of the backing file {} is not given",
                                  options.backing_file)
                .with_hint("it is never guessed: say raw or qcow2");
        }
        if (options.backing_format != "raw" && options.backing_format != "qcow2") {
            return Error::unsupported(
                "the backing file {} has format \"{}\"; raw and qcow2 are "
                "supported",
                options.backing_file, options.backing_format);
        }
        // Only its size is read, without its lock: a guest may be using it.
        const auto backing = TRY(open_host_file(
            files, TRY(resolve_backing(path, options.backing_file)), false, false, false));
        const uint64_t size = options.backing_format == "raw"
                                  ? backing->size.load()
                                  : TRY(read_header(port, *backing)).size;
        options.size = options.size == 0 ? size : options.size;
    }
    UniqueFd fd = TRY_CONTEXT(files.open(path, O_RDWR | O_CREAT), "image {}", path);
    auto file = TRY(adopt_host_file(path, std::move(fd), UniqueFd()));
    if (file->size != 0 && file->holes_are_zero) {
        return Error::conflict("{} exists and has {} bytes", path, file->size.load())
            .with_hint("remove it first, or choose another name");
    }
    TRY(create_image(port, *file, options));
    if (options.preallocation == Preallocation::Metadata) {
        TRY(preallocate_metadata(files, path));
    }
    return {};
}

Result<MappedExtent> map_through(IoPort& port, BlockSource& source, uint64_t offset,
                                 uint64_t size) {
    BlockSource* image = &source;
    for (uint32_t depth = 0; image != nullptr && offset < image->size(); ++depth) {
        MappedExtent extent;
        size = std::min(size, image->size() - offset);
        const int status = run_inline(image->map(port, offset, size, extent));
        if (status < 0) {
            return Error::from_errno(-status,
                                     fmt::format("mapping {} at {}", image->path(), offset));
        }
        extent.depth = depth;
        if (extent.kind != ExtentKind::Unallocated) {
            return extent;
        }
        size = extent.size;
        image = image->backing();
    }
    return MappedExtent{offset, size, ExtentKind::Zero, 0, 0};
}

Result<void> map_all(IoPort& port, BlockSource& source,
                     const std::function<void(const MappedExtent&)>& visit) {
    MappedExtent joined;
    for (uint64_t at = 0; at < source.size();) {
        MappedExtent extent = TRY(map_through(port, source, at, source.size() - at));
        const bool joins =
            joined.size > 0 && joined.kind == extent.kind && joined.depth == extent.depth &&
            (extent.kind != ExtentKind::Data || joined.host + joined.size == extent.host);
        at += extent.size;
        if (joins) {
            joined.size += extent.size;
            continue;
        }
        if (joined.size > 0) {
            visit(joined);
        }
        joined = extent;
    }
    if (joined.size > 0) {
        visit(joined);
    }
    return {};
}

Result<void> copy_to_store(IoPort& port, BlockSource& source, Store& target,
                           const CopyOptions& options) {
    const uint64_t cluster = target.header().cluster_size();
    return copy_data(
        port, source, target.size(), cluster, options,
        [&](uint64_t offset, std::byte* bytes, uint64_t size) -> Result<void> {
            if (!options.compress) {
                return write_store(port, target, offset, bytes, size);
            }
            std::memset(bytes + size, 0, cluster - size);  // the disk's last cluster
            const int status =
                run_inline(target.write_compressed(port, offset, std::span(bytes, cluster)));
            return status < 0 ? Result<void>(target.error_of(status, "writing")) : Result<void>{};
        });
}

Result<void> copy_to_raw(IoPort& port, BlockSource& source, HostFile& target,
                         const CopyOptions& options) {
    constexpr uint64_t kUnit = 65536;
    if (target.holes_are_zero) {
        if (::ftruncate(target.fd, static_cast<off_t>(source.size())) != 0) {
            return Error::from_errno(errno, fmt::format("making {}", target.path));
        }
    } else {
        return Error::unsupported(
                   "{} is a block device: its old contents would show where the "
                   "image has none",
                   target.path)
            .with_hint("convert to a file");
    }
    return copy_data(port, source, source.size(), kUnit, options,
                     [&](uint64_t offset, std::byte* bytes, uint64_t size) {
                         return write_bytes(port, target, offset, bytes, size, "data");
                     });
}

}  // namespace kumoi::hypervisor::qcow2
