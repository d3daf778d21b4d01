// Opening and closing.
#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "hypervisor/block/qcow2/check.h"
#include "hypervisor/block/qcow2/store.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr uint64_t kSnapshotL1BytesMax = 256u << 20;  // of all snapshots together
constexpr int kCloseCommitsMax = 8;

}  // namespace

Result<std::unique_ptr<Store>> Store::open(IoPort& port, std::unique_ptr<HostFile> file,
                                           const StoreOptions& options,
                                           std::unique_ptr<BlockSource> backing) {
    const Header header = TRY(read_header(port, *file));
    if (options.writable && !options.for_check &&
        (header.incompatible & kIncompatibleCorrupt) != 0) {
        return Error::corrupt("{} is marked corrupt: it is not opened for writing", file->path)
            .with_hint("save its contents with kumoi-img convert, or try kumoi-img check --repair");
    }
    std::unique_ptr<Store> store(new Store(std::move(file), header, options, std::move(backing)));
    TRY(store->load(port));
    if (options.writable && !options.for_check) {
        TRY(store->prepare_writing(port));
    }
    return Result<std::unique_ptr<Store>>(std::move(store));
}

Result<void> Store::load(IoPort& port) {
    TRY(add_metadata(0, cluster_size_, "the header"));
    TRY(add_metadata(header_.refcount_table_offset, header_.refcount_table_clusters * cluster_size_,
                     "the refcount table"));
    TRY(refcounts_.load_table(port));
    TRY(load_l1(port));
    TRY(load_snapshots(port));
    TRY(load_bitmaps(port));
    refcounts_.set_end((file_->size + cluster_size_ - 1) >> cluster_bits_);
    return {};
}

Result<void> Store::add_metadata(uint64_t offset, uint64_t size, const std::string& what) {
    if (offset >= file_->size || size > file_->size + cluster_size_ - offset) {
        return Error::corrupt("{}: {} has {} bytes at {:#x}, the file {}", path(), what, size,
                              offset, file_->size.load());
    }
    for (uint64_t at = offset; at < offset + size; at += cluster_size_) {
        if (!metadata_.add(at >> cluster_bits_) && options_.writable && !options_.for_check) {
            return Error::corrupt("{}: {} at {:#x} lies on other metadata", path(), what, at)
                .with_hint("look at it with kumoi-img check");
        }
    }
    return {};
}

Result<void> Store::load_l1(IoPort& port) {
    l1_count_ = header_.l1_entries;
    std::vector<uint64_t> raw(l1_count_);
    if (l1_count_ > 0) {
        TRY(add_metadata(header_.l1_offset, l1_count_ * 8, "the L1 table"));
        TRY(read_bytes(port, *file_, header_.l1_offset, raw.data(), l1_count_ * 8, "L1 table"));
    }
    l1_storage_.push_back(std::make_unique<std::atomic<uint64_t>[]>(l1_count_ + 1));
    l1_ = l1_storage_.back().get();
    for (uint64_t i = 0; i < l1_count_; ++i) {
        const uint64_t entry = to_be64(raw[i]);
        const uint64_t offset = entry & kOffsetMask;
        if ((entry & kL1Reserved) != 0 || offset % cluster_size_ != 0 ||
            (offset != 0 && offset >= file_->size)) {
            return Error::corrupt("{}: L1 entry {} is {:#x}: no table in a file of {} bytes",
                                  path(), i, entry, file_->size.load());
        }
        if (offset != 0) {
            TRY(add_metadata(offset, cluster_size_, fmt::format("L2 table {}", i)));
        }
        l1_[i] = offset == 0 ? 0 : entry;
    }
    return {};
}

Result<void> Store::load_snapshots(IoPort& port) {
    const auto snapshots = TRY(read_snapshot_table(port, *file_, header_));
    if (snapshots.empty()) {
        return {};
    }
    TRY(add_metadata(header_.snapshots_offset, snapshots.back().table_bytes, "the snapshot table"));
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < snapshots.size(); ++i) {
        bytes += uint64_t{snapshots[i].l1_entries} * 8;
        if (bytes > kSnapshotL1BytesMax) {
            return Error::too_large("{}: the L1 tables of {} snapshots take over 256 MiB", path(),
                                    snapshots.size());
        }
        if (snapshots[i].l1_entries > 0) {
            TRY(load_snapshot_l1(port, snapshots[i].l1_offset, snapshots[i].l1_entries, i));
        }
    }
    return {};
}

// So that nothing is written over the tables of a snapshot.
Result<void> Store::load_snapshot_l1(IoPort& port, uint64_t offset, uint64_t entries,
                                     uint32_t index) {
    if (offset == 0 || offset % cluster_size_ != 0) {
        return Error::corrupt("{}: the L1 table of snapshot {} is at {:#x}", path(), index, offset);
    }
    TRY(add_metadata(offset, entries * 8, fmt::format("the L1 table of snapshot {}", index)));
    std::vector<uint64_t> raw(entries);
    TRY(read_bytes(port, *file_, offset, raw.data(), entries * 8, "a snapshot's L1 table"));
    for (const uint64_t word : raw) {
        const uint64_t table = to_be64(word) & kOffsetMask;
        if (table % cluster_size_ != 0 || table >= file_->size) {
            return Error::corrupt("{}: snapshot {} has an L2 table at {:#x} of {} bytes", path(),
                                  index, table, file_->size.load());
        }
        if (table != 0) {
            metadata_.add(table >> cluster_bits_);  // often the active one's, too
        }
    }
    return {};
}

Result<void> Store::load_bitmaps(IoPort& port) {
    if (!header_.bitmaps || (header_.autoclear & kAutoclearBitmaps) == 0) {
        return {};  // inconsistent bitmaps own nothing
    }
    const auto bitmaps = TRY(read_bitmap_directory(port, *file_, header_));
    TRY(add_metadata(header_.bitmaps->directory_offset, header_.bitmaps->directory_size,
                     "the bitmap directory"));
    for (const BitmapEntry& bitmap : bitmaps) {
        TRY(add_metadata(bitmap.table_offset, bitmap.table.size() * 8,
                         fmt::format("the table of bitmap \"{}\"", bitmap.name)));
        for (const uint64_t word : bitmap.table) {
            if (const uint64_t offset = word & kOffsetMask; offset != 0) {
                TRY(add_metadata(offset, cluster_size_, fmt::format("bitmap \"{}\"", bitmap.name)));
            }
        }
    }
    return {};
}

Result<void> Store::prepare_writing(IoPort& port) {
    Header header = header_;
    header.autoclear &= kAutoclearBitmaps;  // what we do not know we do not keep up
    if (header.autoclear != header_.autoclear) {
        TRY(write_header(port, header));
    }
    if ((header_.incompatible & kIncompatibleDirty) == 0) {
        return {};
    }
    log_info("block", "the image was not closed; repairing its refcounts", {{"image", path()}});
    const auto report = TRY(rebuild_refcounts(*this, port));
    if (report.corruptions > 0) {
        return Error::corrupt("{} was not closed, and a check found {} errors: {}", path(),
                              report.corruptions, report.messages.front())
            .with_hint("look at it with kumoi-img check");
    }
    int status = run_inline(flush(port));
    if (status == 0) {
        status = run_inline(set_dirty_bit(port, false));
    }
    return status < 0 ? Result<void>(error_of(status, "repairing")) : Result<void>{};
}

Result<void> Store::write_header(IoPort& port, const Header& header) {
    int status = run_inline(store_header(port, header));
    if (status == 0) {
        status = run_inline(sync(port));
    }
    if (status < 0) {
        return error_of(status, "writing the header of");
    }
    return {};
}

// Everything durable, lazy refcounts written, the room ahead given back.
Result<void> Store::close(IoPort& port) {
    if (closed_ || !options_.writable) {
        return {};
    }
    closed_ = true;
    full_commit_ = true;
    int status = 0;
    for (int turn = 0; turn < kCloseCommitsMax && status == 0; ++turn) {
        if (turn > 0 && !changed_ && !quarantined_ && !refcounts_.any_dirty()) {
            break;
        }
        changed_ = changed_ || refcounts_.any_dirty();
        status = run_inline(flush(port));
    }
    if (status == 0 && !corrupt_ && (header_.incompatible & kIncompatibleDirty) != 0) {
        status = run_inline(set_dirty_bit(port, false));
    }
    if (status < 0) {
        return error_of(status, "closing");
    }
    return corrupt_ ? Result<void>{} : truncate_to_end(port);
}

Result<void> Store::truncate_to_end(IoPort& port) {
    if (!file_->holes_are_zero) {
        return {};
    }
    uint64_t end = refcounts_.end();
    int status = 0;
    while (end > 1 && status == 0) {
        uint64_t count = 0;
        status = run_inline(refcounts_.get(port, end - 1, count));
        if (count != 0) {
            break;
        }
        --end;
    }
    if (status == 0 && end << cluster_bits_ < file_->size) {
        status = run_inline([](IoPort& on, HostFile& file, uint64_t size) -> Task<int> {
            co_return co_await io_truncate(on, file, size);
        }(port, *file_, end << cluster_bits_));
        file_->size = end << cluster_bits_;
    }
    return status < 0 ? Result<void>(error_of(status, "closing")) : Result<void>{};
}

}  // namespace kumoi::hypervisor::qcow2
