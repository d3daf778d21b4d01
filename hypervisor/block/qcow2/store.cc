// Looking up and reading.
#include "hypervisor/block/qcow2/store.h"

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "hypervisor/block/qcow2/compression.h"
#include "hypervisor/block/qcow2/operation.h"

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr size_t kDecompressedKept = 4;

}  // namespace

Store::Store(std::unique_ptr<HostFile> file, const Header& header, const StoreOptions& options,
             std::unique_ptr<BlockSource> backing)
    : file_(std::move(file)),
      header_(header),
      options_(options),
      backing_(std::move(backing)),
      cluster_bits_(header.cluster_bits),
      cluster_size_(header.cluster_size()),
      extended_(header.extended_l2()),
      l2_entries_(header.l2_entries()),
      version_(header.version),
      compression_(header.compression),
      size_(header.size),
      refcounts_(header_, *file_, metadata_),
      l2_(static_cast<uint32_t>(std::min<uint64_t>(cluster_size_, L2Cache::kSliceBytesMax)),
          extended_, options.l2_cache_bytes) {}

Store::~Store() = default;

// What one entry (extended L2: one subcluster of it) says. Everything is checked here.
Store::Extent Store::classify(const L2Cache::Entry& entry, uint32_t subcluster) const {
    Extent extent;
    extent.entry = entry.descriptor;
    if ((entry.descriptor & kEntryCompressed) != 0) {
        const CompressedRange range = compressed_range(entry.descriptor, cluster_bits_);
        const bool good = range.offset != 0 && range.offset < file_->size &&
                          (entry.descriptor & kEntryCopied) == 0;
        extent.kind = good ? ExtentKind::Compressed : ExtentKind::Bad;
        return extent;
    }
    const uint64_t host = entry.descriptor & kOffsetMask;
    const bool zero_flag = (entry.descriptor & kEntryZero) != 0;
    if ((entry.descriptor & kL2Reserved) != 0 || host % cluster_size_ != 0 ||
        (zero_flag && (extended_ || version_ < 3)) ||
        (host != 0 && host >= file_->size.load(std::memory_order_relaxed) + cluster_size_)) {
        extent.kind = ExtentKind::Bad;
        return extent;
    }
    extent.host = host;
    if (!extended_) {
        extent.kind = zero_flag   ? ExtentKind::Zero
                      : host != 0 ? ExtentKind::Data
                                  : ExtentKind::Unallocated;
    } else {
        const bool allocated = (entry.subclusters >> subcluster & 1) != 0;
        const bool zero = (entry.subclusters >> (32 + subcluster) & 1) != 0;
        extent.kind = allocated && (zero || host == 0) ? ExtentKind::Bad
                      : allocated                      ? ExtentKind::Data
                      : zero                           ? ExtentKind::Zero
                                                       : ExtentKind::Unallocated;
        extent.host += subcluster * (cluster_size_ / kSubclusters);
    }
    extent.in_place = extent.kind == ExtentKind::Data && (entry.descriptor & kEntryCopied) != 0;
    return extent;
}

// False: the slice has to be read first.
bool Store::lookup(uint64_t offset, uint64_t size_max, Extent& extent) {
    const uint64_t cluster = offset >> cluster_bits_;
    const uint64_t l1_index = cluster / l2_entries_;
    if ((l1_.load(std::memory_order_acquire)[l1_index].load(std::memory_order_acquire) &
         kOffsetMask) == 0) {
        extent = {};
        extent.size = std::min(size_max, ((l1_index + 1) * l2_entries_ << cluster_bits_) - offset);
        return true;
    }
    const uint32_t per_slice = l2_.entries_per_slice();
    const uint64_t unit = extended_ ? cluster_size_ / kSubclusters : cluster_size_;
    return l2_.with_slice(cluster / per_slice, [&](const L2Cache::Slice& slice) {
        uint64_t at = offset;
        const uint64_t slice_end = (cluster / per_slice + 1) * per_slice << cluster_bits_;
        const uint64_t end = std::min(offset + size_max, slice_end);
        while (at < end) {
            const auto index = static_cast<uint32_t>((at >> cluster_bits_) % per_slice);
            const uint64_t inside = at & (cluster_size_ - 1);
            Extent next = classify(l2_.get(slice, index),
                                   extended_ ? static_cast<uint32_t>(inside / unit) : 0);
            next.host += at % unit;
            if (at == offset) {
                extent = next;
            } else if (next.kind != extent.kind || next.in_place != extent.in_place ||
                       extent.kind == ExtentKind::Bad ||
                       (extent.kind == ExtentKind::Compressed && inside == 0) ||
                       (extent.kind == ExtentKind::Data &&
                        next.host != extent.host + (at - offset))) {
                break;
            }
            at = std::min(end, (at / unit + 1) * unit);
            extent.size = at - offset;
        }
    });
}

Task<int> Store::load_slice(IoPort& port, uint64_t offset) {
    const uint64_t index = (offset >> cluster_bits_) / l2_.entries_per_slice();
    const int status = co_await l2_.pin(port, index, *this);
    if (status == 0) {
        l2_.unpin(index);
    }
    co_return status;
}

Task<int> Store::read_slice(IoPort& port, uint64_t index, std::vector<uint64_t>& words) {
    const uint64_t slices_per_table = cluster_size_ / l2_.slice_bytes();
    const uint64_t l1_index = index / slices_per_table;
    const uint64_t table =
        l1_.load(std::memory_order_acquire)[l1_index].load(std::memory_order_acquire) & kOffsetMask;
    if (table == 0) {
        co_return 0;
    }
    const uint64_t offset = table + index % slices_per_table * l2_.slice_bytes();
    const iovec vector{words.data(), words.size() * 8};
    const int status =
        co_await io_read(port, *file_, offset, std::span(&vector, 1), words.size() * 8);
    if (status < 0) {
        co_return failed(status, fmt::format("reading L2 table {} at {:#x}", l1_index, table));
    }
    std::transform(words.begin(), words.end(), words.begin(), to_be64);
    co_return 0;
}

Task<int> Store::read(IoPort& port, uint64_t offset, std::span<const iovec> vectors,
                      uint64_t size) {
    const Operation operation(*this);
    std::vector<std::unique_ptr<IoCall>> calls;
    std::vector<std::vector<iovec>> parts;
    uint64_t done = 0;
    int status = 0;
    while (done < size && status == 0) {
        Extent extent;
        if (!lookup(offset + done, size - done, extent)) {
            status = co_await load_slice(port, offset + done);
            continue;
        }
        if (extent.kind == ExtentKind::Data && extent.size == size) {
            co_return co_await io_read(port, *file_, extent.host, vectors, size, true);
        }
        std::vector<iovec>& part = parts.emplace_back();
        cut_vectors(vectors, done, extent.size, part);
        if (extent.kind == ExtentKind::Data) {
            auto& call = calls.emplace_back(std::make_unique<IoCall>());
            call->file = file_.get();
            call->offset = extent.host;
            call->size = extent.size;
            call->vectors = part;
            call->data = true;
        } else {
            status = co_await read_piece(port, offset + done, extent, part);
        }
        done += extent.size;
    }
    const int read_status = co_await IoAll{port, calls, {}};
    co_return status < 0 ? status : read_status;
}

Task<int> Store::read_piece(IoPort& port, uint64_t offset, const Extent& extent,
                            std::span<const iovec> vectors) {
    if (extent.kind == ExtentKind::Bad) {
        co_return bad_entry(offset, extent);
    }
    if (extent.kind == ExtentKind::Compressed) {
        co_return co_await read_compressed(port, offset, extent, vectors);
    }
    if (extent.kind == ExtentKind::Zero || reads_zero_behind(offset)) {
        zero_vectors(vectors);
        co_return 0;
    }
    co_return co_await read_behind(port, offset, vectors, extent.size);
}

bool Store::reads_zero_behind(uint64_t offset) const {
    return !backing_ || offset >= backing_->size();
}

Task<int> Store::read_behind(IoPort& port, uint64_t offset, std::span<const iovec> vectors,
                             uint64_t size) {
    const uint64_t inside = std::min(size, backing_->size() - offset);
    if (inside == size) {
        co_return co_await backing_->read(port, offset, vectors, size);
    }
    std::vector<iovec> part;
    cut_vectors(vectors, 0, inside, part);
    std::vector<iovec> rest;
    cut_vectors(vectors, inside, size - inside, rest);
    zero_vectors(rest);
    co_return co_await backing_->read(port, offset, part, inside);
}

Task<int> Store::read_compressed(IoPort& port, uint64_t offset, const Extent& extent,
                                 std::span<const iovec> vectors) {
    const uint64_t entry = extent.entry;
    std::shared_ptr<std::vector<std::byte>> bytes;  // shared: the cache may drop it meanwhile
    {
        const std::lock_guard lock(decompressed_mutex_);
        for (const Decompressed& kept : decompressed_) {
            if (kept.entry == entry) {
                bytes = kept.bytes;
            }
        }
    }
    if (!bytes) {
        const CompressedRange range = compressed_range(entry, cluster_bits_);
        std::vector<std::byte> packed(range.size);
        const iovec vector{packed.data(), packed.size()};
        const int status =
            co_await io_read(port, *file_, range.offset, std::span(&vector, 1), packed.size());
        if (status < 0) {
            co_return failed(status,
                             fmt::format("reading a compressed cluster at {:#x}", range.offset));
        }
        bytes = std::make_shared<std::vector<std::byte>>(cluster_size_);
        if (!decompress(compression_, packed, *bytes)) {
            co_return failed(-EIO, fmt::format("the compressed cluster at {:#x} for guest offset "
                                               "{:#x} does not decompress",
                                               range.offset, offset));
        }
        const std::lock_guard lock(decompressed_mutex_);
        if (decompressed_.size() >= kDecompressedKept) {
            decompressed_.erase(decompressed_.begin());
        }
        decompressed_.push_back({entry, bytes});
    }
    copy_to_vectors(vectors, bytes->data() + (offset & (cluster_size_ - 1)));
    co_return 0;
}

Task<int> Store::map(IoPort& port, uint64_t offset, uint64_t size, MappedExtent& extent) {
    Extent found;
    while (!lookup(offset, size, found)) {
        const int status = co_await load_slice(port, offset);
        if (status < 0) {
            co_return status;
        }
    }
    extent = {offset, found.size, found.kind, found.host, 0};
    co_return found.kind == ExtentKind::Bad ? bad_entry(offset, found) : 0;
}

bool Store::hits_metadata(uint64_t host, uint64_t size) const {
    for (uint64_t cluster = host >> cluster_bits_; cluster <= (host + size - 1) >> cluster_bits_;
         ++cluster) {
        if (metadata_.contains(cluster)) {
            return true;
        }
    }
    return false;
}

int Store::bad_entry(uint64_t offset, const Extent& extent) {
    const uint64_t cluster = offset >> cluster_bits_;
    return failed(-EIO, fmt::format("L2 table {} entry {} is {:#x}, which is impossible in a file "
                                    "of {} bytes with clusters of {}",
                                    cluster / l2_entries_, cluster % l2_entries_, extent.entry,
                                    file_->size.load(), cluster_size_));
}

int Store::overwrites_metadata(uint64_t host, uint64_t size) {
    mark_corrupt(fmt::format("a write of {} bytes at {:#x} would overwrite metadata", size, host));
    return -EIO;
}

// The first of a kind is logged; a guest could cause any number.
int Store::failed(int status, std::string text) {
    const std::lock_guard lock(error_mutex_);
    if (last_error_ != text) {
        if (last_error_.empty()) {
            log_error("block", text, {{"image", path()}, {"errno", -status}});
        }
        last_error_ = std::move(text);
    }
    return status;
}

std::string Store::last_error() const {
    const std::lock_guard lock(error_mutex_);
    return last_error_;
}

Error Store::error_of(int status, const std::string& what) const {
    const std::string detail = last_error();
    Error error =
        Error::from_errno(-status, detail.empty() ? fmt::format("{} {}", what, path())
                                                  : fmt::format("{} {}: {}", what, path(), detail));
    if (status == -EUCLEAN || (status == -EIO && !detail.empty())) {
        error.code = ErrorCode::Corrupt;
        error.hint = "look at it with kumoi-img check";
    }
    return error;
}

}  // namespace kumoi::hypervisor::qcow2
