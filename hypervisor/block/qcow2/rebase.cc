// Offline changes of a chain: commit into the backing file, rebase onto another, resize.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "hypervisor/block/qcow2/buffer.h"
#include "hypervisor/block/qcow2/chain.h"
#include "hypervisor/block/qcow2/dirty_bitmap.h"
#include "hypervisor/block/qcow2/offline.h"
#include "hypervisor/block/qcow2/tables.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr uint64_t kCompareBytes = 2u << 20;

Result<void> checked(Store& store, int status, const std::string& what) {
    return status < 0 ? Result<void>(store.error_of(status, what)) : Result<void>{};
}

// Reads [offset, +size) of what lies behind an overlay; zeros where that ends.
Result<void> read_behind(IoPort& port, BlockSource* source, uint64_t offset, std::byte* to,
                         uint64_t size) {
    std::memset(to, 0, size);
    if (source == nullptr || offset >= source->size()) {
        return {};
    }
    const uint64_t part = std::min(size, source->size() - offset);
    const iovec vector{to, part};
    const int status = run_inline(source->read(port, offset, std::span(&vector, 1), part));
    if (status < 0) {
        return Error::from_errno(-status, fmt::format("reading {}", source->path()));
    }
    return {};
}

// Closes with the bitmaps marked as the change demands: they record it.
Result<void> finish(IoPort& port, Store& store, DirtyBitmaps& bitmaps) {
    TRY(bitmaps.save(port));
    return store.close(port);
}

class Committer {
public:
    Committer(IoPort& port, Store& overlay) : port_(port), overlay_(overlay) {}

    // `write` and `zero` change the backing file.
    Result<void> run(const std::function<Result<void>(uint64_t, std::byte*, uint64_t)>& write,
                     const std::function<Result<void>(uint64_t, uint64_t)>& zero) {
        AlignedBuffer buffer;
        if (!buffer.allocate(kCompareBytes)) {
            return Error::from_errno(ENOMEM, "a buffer");
        }
        for (uint64_t at = 0; at < overlay_.size();) {
            MappedExtent extent;
            TRY(checked(overlay_,
                        run_inline(overlay_.map(
                            port_, at, std::min(overlay_.size() - at, kCompareBytes), extent)),
                        "mapping"));
            if (extent.kind == ExtentKind::Zero) {
                TRY(zero(at, extent.size));
            } else if (extent.kind != ExtentKind::Unallocated) {
                const iovec vector{buffer.data(), extent.size};
                TRY(checked(
                    overlay_,
                    run_inline(overlay_.read(port_, at, std::span(&vector, 1), extent.size)),
                    "reading"));
                TRY(write(at, buffer.data(), extent.size));
            }
            at += extent.size;
        }
        return {};
    }

private:
    IoPort& port_;
    Store& overlay_;
};

Result<void> commit_to_qcow2(FileSource& files, IoPort& port, Store& overlay,
                             const std::string& path) {
    const auto target = TRY(open_chain(files, port, path, {}));
    DirtyBitmaps bitmaps(*target);
    TRY(bitmaps.load(port));
    if (target->size() < overlay.size()) {
        TRY(checked(*target, run_inline(target->resize(port, overlay.size())), "resizing"));
    }
    Committer committer(port, overlay);
    TRY(committer.run(
        [&](uint64_t offset, std::byte* bytes, uint64_t size) {
            const iovec vector{bytes, size};
            return checked(*target,
                           run_inline(target->write(port, offset, std::span(&vector, 1), size)),
                           "writing");
        },
        [&](uint64_t offset, uint64_t size) {
            return checked(*target, run_inline(target->zero(port, offset, size, true)), "writing");
        }));
    return finish(port, *target, bitmaps);
}

Result<void> commit_to_raw(FileSource& files, IoPort& port, Store& overlay,
                           const std::string& path) {
    const auto target = TRY(open_host_file(files, path, true, false, true));
    std::vector<std::byte> zeros(kCompareBytes);
    if (target->size < overlay.size()) {
        const std::byte last{0};
        TRY(write_bytes(port, *target, overlay.size() - 1, &last, 1, "data"));
    }
    Committer committer(port, overlay);
    TRY(committer.run(
        [&](uint64_t offset, std::byte* bytes, uint64_t size) {
            return write_bytes(port, *target, offset, bytes, size, "data");
        },
        [&](uint64_t offset, uint64_t size) {
            return write_bytes(port, *target, offset, zeros.data(), size, "zeros");
        }));
    IoCall sync;
    sync.kind = IoCall::Kind::Sync;
    sync.file = target.get();
    port.start(sync);
    if (sync.result < 0) {
        return Error::from_errno(-sync.result, fmt::format("syncing {}", path));
    }
    return {};
}

}  // namespace

Result<void> commit_image(FileSource& files, const std::string& path) {
    BlockingPort port;
    const auto chain = TRY(backing_chain(files, path));
    if (chain.empty()) {
        return Error::invalid("{} has no backing file to commit to", path);
    }
    {
        // Without its backing file open: that one is about to be written.
        auto file = TRY(open_host_file(files, path, false, false, true));
        StoreOptions read_only;
        read_only.writable = false;
        const auto overlay = TRY(Store::open(port, std::move(file), read_only, nullptr));
        TRY(chain[0].format == "qcow2" ? commit_to_qcow2(files, port, *overlay, chain[0].path)
                                       : commit_to_raw(files, port, *overlay, chain[0].path));
    }
    // What it held is below it now.
    const auto store = TRY(open_chain(files, port, path, {}));
    DirtyBitmaps bitmaps(*store);
    TRY(bitmaps.load(port));
    TRY(checked(*store, run_inline(store->forget_all(port)), "emptying"));
    return finish(port, *store, bitmaps);
}

Result<void> rebase_image(FileSource& files, const std::string& path,
                          const RebaseOptions& options) {
    BlockingPort port;
    std::unique_ptr<Store> store;
    std::unique_ptr<BlockSource> target;
    if (options.unsafe) {
        auto file = TRY(open_host_file(files, path, true, false, true));
        store = TRY(Store::open(port, std::move(file), {}, nullptr));
    } else {
        store = TRY(open_chain(files, port, path, {}));
        if (!options.backing_file.empty()) {
            target = TRY(open_source(
                files, port,
                {TRY(resolve_backing(path, options.backing_file)), options.backing_format}, {}));
        }
    }
    DirtyBitmaps bitmaps(*store);
    TRY(bitmaps.load(port));
    AlignedBuffer now;
    AlignedBuffer then;
    if (!now.allocate(kCompareBytes) || !then.allocate(kCompareBytes)) {
        return Error::from_errno(ENOMEM, "buffers");
    }
    // What shows through from the old backing file and would show otherwise is copied up.
    for (uint64_t at = 0; !options.unsafe && at < store->size();) {
        MappedExtent extent;
        const uint64_t part = std::min(store->size() - at, kCompareBytes);
        TRY(checked(*store, run_inline(store->map(port, at, part, extent)), "mapping"));
        if (extent.kind == ExtentKind::Unallocated) {
            TRY(read_behind(port, store->backing(), at, now.data(), extent.size));
            TRY(read_behind(port, target.get(), at, then.data(), extent.size));
            const iovec vector{now.data(), extent.size};
            if (std::memcmp(now.data(), then.data(), extent.size) != 0) {
                TRY(checked(*store,
                            run_inline(store->write(port, at, std::span(&vector, 1), extent.size)),
                            "writing"));
            }
        }
        at += extent.size;
    }
    TRY(checked(*store, run_inline(store->flush(port)), "flushing"));
    Header header = store->header();
    header.backing_file = options.backing_file;
    header.backing_format = options.backing_format;
    TRY(store->write_header(port, header));
    store->replace_backing(std::move(target));
    return finish(port, *store, bitmaps);
}

Result<void> resize_image(FileSource& files, const std::string& path, uint64_t size, bool shrink) {
    BlockingPort port;
    const auto store = TRY(open_chain(files, port, path, {}));
    const uint64_t before = store->size();
    if (size % 512 != 0) {
        return Error::invalid("{} bytes are no multiple of 512", size);
    }
    if (size < before && !shrink) {
        return Error::conflict("{} has {} bytes; {} would cut off {} bytes of the disk", path,
                               before, size, before - size)
            .with_hint("say so with --shrink, after the guest has made its file systems smaller");
    }
    if (size < before && store->header().snapshot_count > 0) {
        return Error::unsupported("{} has snapshots; it cannot shrink", path);
    }
    DirtyBitmaps bitmaps(*store);
    TRY(bitmaps.load(port));
    if (size < before) {
        TRY(checked(*store, run_inline(store->zero(port, size, before - size, true)), "emptying"));
    }
    bitmaps.prepare_resize(size);
    TRY(checked(*store, run_inline(store->resize(port, size)), "resizing"));
    return finish(port, *store, bitmaps);
}

}  // namespace kumoi::hypervisor::qcow2
