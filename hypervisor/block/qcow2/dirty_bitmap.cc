#include "hypervisor/block/qcow2/dirty_bitmap.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr uint32_t kGranularityBitsMin = 9;
constexpr uint32_t kGranularityBitsMax = 31;
constexpr uint64_t kGranularityDefault = 65536;
constexpr uint64_t kNameMax = 1023;

}  // namespace

struct DirtyBitmaps::Bitmap {
    std::string name;
    uint32_t bits = 16;  // granularity
    bool enabled = false;
    bool persistent = false;
    bool inconsistent = false;
    BitmapEntry stored;  // as on disk; table empty: not there yet
    uint64_t bit_count = 0;
    std::vector<std::unique_ptr<std::atomic<uint64_t>[]>> storage;  // the last one is current
    std::vector<uint64_t> sizes;                                    // words of each
    std::atomic<std::atomic<uint64_t>*> words{nullptr};

    uint64_t word_count() const { return (bit_count + 63) / 64; }
    void allocate(uint64_t disk_size) {
        const uint64_t old = word_count();
        bit_count = (disk_size >> bits) + ((disk_size & ((1ull << bits) - 1)) != 0 ? 1 : 0);
        auto larger = std::make_unique<std::atomic<uint64_t>[]>(word_count() + 1);
        for (uint64_t i = 0; i < std::min(old, word_count()) && words != nullptr; ++i) {
            larger[i] = words[i].load();
        }
        words = larger.get();
        storage.push_back(std::move(larger));
        sizes.push_back(word_count());
    }
    void set(uint64_t offset, uint64_t size) {
        std::atomic<uint64_t>* current = words.load(std::memory_order_acquire);
        const uint64_t first = offset >> bits;
        const uint64_t last = (offset + size - 1) >> bits;
        for (uint64_t word = first / 64; word <= last / 64; ++word) {
            uint64_t mask = ~0ull;
            mask &= word == first / 64 ? ~0ull << (first % 64) : ~0ull;
            mask &= word == last / 64 ? ~0ull >> (63 - last % 64) : ~0ull;
            if ((current[word].load(std::memory_order_relaxed) & mask) != mask) {
                current[word].fetch_or(mask, std::memory_order_relaxed);
            }
        }
    }
    // Bits that late requests left in arrays replaced by a resize.
    void collect() {
        for (size_t i = 0; i + 1 < storage.size(); ++i) {
            for (uint64_t word = 0; word < std::min(sizes[i], word_count()); ++word) {
                words[word] |= storage[i][word].exchange(0);
            }
        }
    }
    bool get(uint64_t bit) const { return (words[bit / 64].load() >> (bit % 64) & 1) != 0; }
};

DirtyBitmaps::DirtyBitmaps(Store& store) : store_(store) {}

DirtyBitmaps::~DirtyBitmaps() {
    store_.set_observer(nullptr);
}

Result<void> DirtyBitmaps::load(IoPort& port) {
    const std::lock_guard lock(mutex_);
    const Header& header = store_.header();
    if (header.bitmaps && (header.autoclear & kAutoclearBitmaps) != 0) {
        auto entries = TRY(read_bitmap_directory(port, store_.file(), header));
        uint64_t bytes = 0;  // of all bitmaps in memory
        for (BitmapEntry& entry : entries) {
            auto bitmap = std::make_unique<Bitmap>();
            bitmap->name = entry.name;
            bitmap->bits = entry.granularity_bits;
            bitmap->persistent = true;
            bitmap->enabled = (entry.flags & kBitmapAuto) != 0;
            bitmap->inconsistent =
                (entry.flags & kBitmapInUse) != 0 || entry.type != 1 ||
                bitmap->bits < kGranularityBitsMin || bitmap->bits > kGranularityBitsMax ||
                (!entry.extra.empty() && (entry.flags & kBitmapExtraCompatible) == 0) ||
                bitmaps_.size() >= kBitmapsMax ||
                bytes + (store_.size() >> bitmap->bits) / 8 > kBitmapBytesMax;
            if (!bitmap->inconsistent) {
                bytes += (store_.size() >> bitmap->bits) / 8 + 1;
                bitmap->allocate(store_.size());
                TRY(read_bits(port, entry, *bitmap));
            }
            bitmap->stored = std::move(entry);
            bitmaps_.push_back(std::move(bitmap));
        }
    }
    loaded_ = true;
    if (store_.writable()) {
        if (!bitmaps_.empty()) {
            TRY(write_directory(port, true));
            for (int turn = 0; turn < 2; ++turn) {  // the old one is free at once, on disk, too
                if (const int status = run_inline(store_.flush(port)); status < 0) {
                    return store_.error_of(status, "flushing");
                }
            }
        }
        publish();
    }
    return {};
}

Result<void> DirtyBitmaps::read_bits(IoPort& port, const BitmapEntry& entry, Bitmap& bitmap) {
    const uint64_t cluster = store_.header().cluster_size();
    const uint64_t bytes = (bitmap.bit_count + 7) / 8;
    if (entry.table.size() < (bytes + cluster - 1) / cluster) {
        return Error::corrupt("{}: bitmap \"{}\" has {} table entries, too few for {} bits",
                              store_.path(), bitmap.name, entry.table.size(), bitmap.bit_count);
    }
    std::vector<uint8_t> data(cluster);
    for (uint64_t at = 0; at < bytes; at += cluster) {
        const uint64_t word = entry.table[at / cluster];
        const uint64_t part = std::min(cluster, bytes - at);
        if ((word & kOffsetMask) != 0) {
            TRY(read_bytes(port, store_.file(), word & kOffsetMask, data.data(), part, "bitmap"));
        } else {
            std::fill(data.begin(), data.end(), (word & 1) != 0 ? 0xff : 0);
        }
        for (uint64_t i = 0; i < part; ++i) {
            const uint64_t bit = (at + i) * 8;
            bitmap.words[bit / 64] |= uint64_t{data[i]} << (bit % 64);
        }
    }
    if (bitmap.bit_count % 64 != 0) {  // unused bits do not count
        bitmap.words[bitmap.word_count() - 1] &= ~0ull >> (64 - bitmap.bit_count % 64);
    }
    return {};
}

void DirtyBitmaps::publish() {
    auto active = std::make_unique<Active>();
    for (const auto& bitmap : bitmaps_) {
        if (bitmap->enabled && !bitmap->inconsistent) {
            active->push_back(bitmap.get());
        }
    }
    active_ = active.get();
    active_lists_.push_back(std::move(active));
    store_.set_observer(active_.load()->empty() ? nullptr : this);
}

void DirtyBitmaps::range_changes(uint64_t offset, uint64_t size) {
    for (Bitmap* bitmap : *active_.load(std::memory_order_acquire)) {
        bitmap->set(offset, size);
    }
}

// A request that began before may still mark the old array: see collect().
void DirtyBitmaps::prepare_resize(uint64_t size) {
    const std::lock_guard lock(mutex_);
    for (const auto& bitmap : bitmaps_) {
        if (!bitmap->inconsistent) {
            bitmap->allocate(size);
        }
    }
}

DirtyBitmaps::Bitmap* DirtyBitmaps::find(const std::string& name) const {
    const auto found = std::find_if(bitmaps_.begin(), bitmaps_.end(),
                                    [&](const auto& bitmap) { return bitmap->name == name; });
    return found == bitmaps_.end() ? nullptr : found->get();
}

Result<DirtyBitmaps::Bitmap*> DirtyBitmaps::usable(const std::string& name) const {
    Bitmap* bitmap = find(name);
    if (bitmap == nullptr) {
        return Error::not_found("{} has no bitmap \"{}\"", store_.path(), name);
    }
    bitmap->collect();
    if (bitmap->inconsistent) {
        return Error::conflict(
                   "bitmap \"{}\" of {} is inconsistent: its last user did not close "
                   "the image",
                   name, store_.path())
            .with_hint("remove it, and make a full backup");
    }
    return bitmap;
}

Result<void> DirtyBitmaps::add(const std::string& name, uint64_t granularity, bool persistent,
                               bool enabled) {
    const std::lock_guard lock(mutex_);
    if (granularity == 0) {
        granularity = std::max(store_.header().cluster_size(), kGranularityDefault);
    }
    if (!std::has_single_bit(granularity) || granularity < (1ull << kGranularityBitsMin) ||
        granularity > (1ull << kGranularityBitsMax)) {
        return Error::invalid("a granularity of {} bytes is no power of two from 512 to 2 GiB",
                              granularity);
    }
    if (name.empty() || name.size() > kNameMax || find(name) != nullptr) {
        return Error::conflict(
            "a bitmap \"{}\" exists already in {}, or the name is empty or "
            "longer than {}",
            name, store_.path(), kNameMax);
    }
    if (bitmaps_.size() >= kBitmapsMax || store_.size() / granularity > kBitmapBytesMax * 8) {
        return Error::too_large(
                   "bitmap \"{}\" would be the {}th of at most {}, or have over 2^29 "
                   "bits",
                   name, bitmaps_.size() + 1, kBitmapsMax)
            .with_hint("use a larger granularity, or remove bitmaps");
    }
    if (persistent && store_.header().version < 3) {
        return Error::unsupported("{} is a version 2 image, which cannot keep bitmaps",
                                  store_.path());
    }
    auto bitmap = std::make_unique<Bitmap>();
    bitmap->name = name;
    bitmap->bits = static_cast<uint32_t>(std::countr_zero(granularity));
    bitmap->persistent = persistent;
    bitmap->enabled = enabled;
    bitmap->allocate(store_.size());
    bitmaps_.push_back(std::move(bitmap));
    publish();
    return {};
}

Result<void> DirtyBitmaps::remove(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(bitmaps_.begin(), bitmaps_.end(),
                                    [&](const auto& bitmap) { return bitmap->name == name; });
    if (found == bitmaps_.end()) {
        return Error::not_found("{} has no bitmap \"{}\"", store_.path(), name);
    }
    removed_.push_back(std::move(*found));  // a request may still be marking it
    bitmaps_.erase(found);
    publish();
    return {};
}

Result<void> DirtyBitmaps::clear(const std::string& name) {
    const std::lock_guard lock(mutex_);
    Bitmap& bitmap = *TRY(usable(name));
    for (uint64_t i = 0; i < bitmap.word_count(); ++i) {
        bitmap.words[i] = 0;
    }
    return {};
}

Result<void> DirtyBitmaps::set_enabled(const std::string& name, bool enabled) {
    const std::lock_guard lock(mutex_);
    TRY(usable(name))->enabled = enabled;
    publish();
    return {};
}

Result<void> DirtyBitmaps::mark(const std::string& name,
                                const std::vector<std::pair<uint64_t, uint64_t>>& ranges) {
    const std::lock_guard lock(mutex_);
    Bitmap& bitmap = *TRY(usable(name));
    for (const auto& [offset, size] : ranges) {
        if (size > 0 && offset < store_.size()) {
            bitmap.set(offset, std::min(size, store_.size() - offset));
        }
    }
    return {};
}

Result<void> DirtyBitmaps::merge(const std::string& target, const std::string& source) {
    const std::lock_guard lock(mutex_);
    Bitmap& to = *TRY(usable(target));
    const Bitmap& from = *TRY(usable(source));
    for (uint64_t bit = 0; bit < from.bit_count; ++bit) {
        if (bit % 64 == 0 && from.words[bit / 64].load() == 0) {
            bit += 63;
        } else if (from.get(bit)) {
            const uint64_t offset = bit << from.bits;
            to.set(offset, std::min<uint64_t>(1ull << from.bits, store_.size() - offset));
        }
    }
    return {};
}

bool DirtyBitmaps::any_dirty(const std::string& name, uint64_t offset, uint64_t size) const {
    const std::lock_guard lock(mutex_);
    const Bitmap* bitmap = find(name);
    if (bitmap == nullptr || bitmap->inconsistent || size == 0) {
        return false;
    }
    const uint64_t last = std::min((offset + size - 1) >> bitmap->bits, bitmap->bit_count - 1);
    for (uint64_t bit = offset >> bitmap->bits; bit <= last; ++bit) {
        if (bitmap->get(bit)) {
            return true;
        }
    }
    return false;
}

std::vector<BitmapInfo> DirtyBitmaps::list() const {
    const std::lock_guard lock(mutex_);
    std::vector<BitmapInfo> infos;
    for (const auto& bitmap : bitmaps_) {
        uint64_t set = 0;
        for (uint64_t i = 0; !bitmap->inconsistent && i < bitmap->word_count(); ++i) {
            set += static_cast<uint64_t>(std::popcount(bitmap->words[i].load()));
        }
        infos.push_back({bitmap->name, 1ull << bitmap->bits, set << bitmap->bits, bitmap->enabled,
                         bitmap->persistent, bitmap->inconsistent});
    }
    return infos;
}

Result<void> DirtyBitmaps::for_each_dirty(
    const std::string& name, const std::function<bool(uint64_t, uint64_t)>& visit) const {
    const std::lock_guard lock(mutex_);
    const Bitmap& bitmap = *TRY(usable(name));
    for (uint64_t bit = 0; bit < bitmap.bit_count; ++bit) {
        if (bit % 64 == 0 && bitmap.words[bit / 64].load() == 0) {
            bit += 63;
            continue;
        }
        if (!bitmap.get(bit)) {
            continue;
        }
        const uint64_t first = bit;
        while (bit + 1 < bitmap.bit_count && bitmap.get(bit + 1)) {
            ++bit;
        }
        const uint64_t offset = first << bitmap.bits;
        const uint64_t end = std::min((bit + 1) << bitmap.bits, store_.size());
        if (!visit(offset, end - offset)) {
            break;
        }
    }
    return {};
}

Result<void> DirtyBitmaps::save(IoPort& port) {
    const std::lock_guard lock(mutex_);
    store_.set_observer(nullptr);
    if (!store_.writable() || !loaded_) {
        return {};
    }
    for (const auto& bitmap : bitmaps_) {
        bitmap->collect();
        if (bitmap->persistent && !bitmap->inconsistent) {
            TRY_CONTEXT(write_bitmap(port, *bitmap), "bitmap \"{}\"", bitmap->name);
        }
    }
    const bool any = store_.header().bitmaps.has_value() ||
                     std::any_of(bitmaps_.begin(), bitmaps_.end(),
                                 [](const auto& bitmap) { return bitmap->persistent; });
    if (any) {
        TRY(write_directory(port, false));
    }
    for (const auto& bitmap : removed_) {
        free_tables(*bitmap);
    }
    removed_.clear();
    return {};
}

// The new copy beside the old one, which is given up after the directory has changed.
Result<void> DirtyBitmaps::write_bitmap(IoPort& port, Bitmap& bitmap) {
    const uint64_t cluster = store_.header().cluster_size();
    const uint64_t bytes = (bitmap.bit_count + 7) / 8;
    const uint64_t entries = (bytes + cluster - 1) / cluster;
    std::vector<uint64_t> table(entries);
    std::vector<uint8_t> data(cluster);
    for (uint64_t i = 0; i < entries; ++i) {
        std::fill(data.begin(), data.end(), 0);
        bool any = false;
        for (uint64_t j = 0; j < std::min(cluster, bytes - i * cluster); ++j) {
            const uint64_t bit = (i * cluster + j) * 8;
            data[j] = static_cast<uint8_t>(bitmap.words[bit / 64].load() >> (bit % 64));
            any = any || data[j] != 0;
        }
        if (!any) {
            continue;
        }
        ClusterRun run;
        if (const int status = run_inline(store_.allocate_metadata(port, 1, run)); status < 0) {
            return store_.error_of(status, "allocating in");
        }
        table[i] = run.first * cluster;
        TRY(write_bytes(port, store_.file(), table[i], data.data(), cluster, "a bitmap"));
    }
    auto old = std::make_unique<Bitmap>();
    old->stored = bitmap.stored;
    removed_.push_back(std::move(old));
    ClusterRun run;
    const uint64_t table_clusters = std::max<uint64_t>((entries * 8 + cluster - 1) / cluster, 1);
    const int status = run_inline(store_.allocate_metadata(port, table_clusters, run));
    if (status < 0) {
        return store_.error_of(status, "allocating in");
    }
    std::vector<uint64_t> big_endian(table_clusters * cluster / 8);
    std::transform(table.begin(), table.end(), big_endian.begin(), to_be64);
    bitmap.stored.table = std::move(table);
    bitmap.stored.table_offset = run.first * cluster;
    return write_bytes(port, store_.file(), bitmap.stored.table_offset, big_endian.data(),
                       big_endian.size() * 8, "a bitmap table");
}

// A new directory, then a header that points to it.
Result<void> DirtyBitmaps::write_directory(IoPort& port, bool in_use) {
    std::vector<std::byte> bytes;
    uint32_t count = 0;
    for (const auto& bitmap : bitmaps_) {
        BitmapEntry& entry = bitmap->stored;
        if (!bitmap->persistent || (in_use && entry.table_offset == 0)) {
            continue;
        }
        uint32_t flags = entry.flags & kBitmapExtraCompatible;
        flags |= bitmap->enabled ? kBitmapAuto : 0;
        flags |= bitmap->inconsistent ? entry.flags : 0;
        flags |= in_use && !bitmap->inconsistent ? kBitmapInUse : 0;
        const size_t at = bytes.size();
        const size_t size = 24 + entry.extra.size() + bitmap->name.size();
        bytes.resize(at + ((size + 7) & ~size_t{7}));
        store_be<uint64_t>(&bytes[at], entry.table_offset);
        store_be<uint32_t>(&bytes[at + 8], static_cast<uint32_t>(entry.table.size()));
        store_be<uint32_t>(&bytes[at + 12], flags);
        bytes[at + 16] = static_cast<std::byte>(entry.type);
        bytes[at + 17] = static_cast<std::byte>(bitmap->bits);
        store_be<uint16_t>(&bytes[at + 18], static_cast<uint16_t>(bitmap->name.size()));
        store_be<uint32_t>(&bytes[at + 20], static_cast<uint32_t>(entry.extra.size()));
        std::copy(entry.extra.begin(), entry.extra.end(),
                  bytes.begin() + static_cast<std::ptrdiff_t>(at + 24));
        std::memcpy(&bytes[at + 24 + entry.extra.size()], bitmap->name.data(), bitmap->name.size());
        ++count;
    }
    const uint64_t cluster = store_.header().cluster_size();
    const auto old = store_.header().bitmaps;
    ClusterRun run;
    if (count > 0) {
        const uint64_t clusters = (bytes.size() + cluster - 1) / cluster;
        if (const int status = run_inline(store_.allocate_metadata(port, clusters, run));
            status < 0) {
            return store_.error_of(status, "allocating in");
        }
        TRY(write_bytes(port, store_.file(), run.first * cluster, bytes.data(), bytes.size(),
                        "the bitmap directory"));
    }
    // Refcounts of the new clusters, and the clusters themselves, are durable before the header.
    if (const int status = run_inline(store_.flush(port)); status < 0) {
        return store_.error_of(status, "flushing");
    }
    Header header = store_.header();
    header.bitmaps.reset();
    header.autoclear &= ~kAutoclearBitmaps;
    if (count > 0) {
        header.bitmaps = BitmapsExtension{count, bytes.size(), run.first * cluster};
        header.autoclear |= kAutoclearBitmaps;
    }
    TRY(store_.write_header(port, header));
    if (old) {
        store_.free_later(old->directory_offset / cluster,
                          (old->directory_size + cluster - 1) / cluster);
    }
    return {};
}

void DirtyBitmaps::free_tables(const Bitmap& bitmap) {
    const uint64_t cluster = store_.header().cluster_size();
    const BitmapEntry& entry = bitmap.stored;
    if (entry.table_offset == 0) {
        return;
    }
    for (const uint64_t word : entry.table) {
        if ((word & kOffsetMask) != 0) {
            store_.free_later((word & kOffsetMask) / cluster, 1);
        }
    }
    store_.free_later(entry.table_offset / cluster,
                      std::max<uint64_t>((entry.table.size() * 8 + cluster - 1) / cluster, 1));
}

}  // namespace kumoi::hypervisor::qcow2
