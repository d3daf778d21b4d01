#include "hypervisor/block/qcow2/check.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>

namespace kumoi::hypervisor::qcow2 {

namespace {

constexpr uint64_t kTablesMaxWhenOpening = 1u << 16;  // a guest waits: 32 TiB with usual clusters

// References to host clusters, as the tables have them. Pages where there are any.
class CountMap {
public:
    static constexpr uint64_t kPage = 64;
    uint32_t& at(uint64_t cluster) {
        auto& page = pages_[cluster / kPage];
        if (!page) {
            page = std::make_unique<std::array<uint32_t, kPage>>();
            page->fill(0);
        }
        return (*page)[cluster % kPage];
    }
    uint32_t get(uint64_t cluster) const {
        const auto found = pages_.find(cluster / kPage);
        return found == pages_.end() ? 0 : (*found->second)[cluster % kPage];
    }
    template <class Visit>
    void for_each(Visit&& visit) const {
        for (const auto& [index, page] : pages_) {
            for (uint64_t i = 0; i < kPage; ++i) {
                if ((*page)[i] != 0) {
                    visit(index * kPage + i);
                }
            }
        }
    }

private:
    std::map<uint64_t, std::unique_ptr<std::array<uint32_t, kPage>>> pages_;
};

class Checker {
public:
    Checker(Store& store, IoPort& port, Repair repair, uint64_t tables_max)
        : store_(store),
          port_(port),
          repair_(repair),
          tables_max_(tables_max),
          header_(store.header()) {}
    Result<CheckReport> run();

private:
    void count(uint64_t offset, uint64_t size);
    template <class... Args>
    void corrupt(fmt::format_string<Args...> format, Args&&... args) {
        ++report_.corruptions;
        say(fmt::format(format, std::forward<Args>(args)...));
    }
    void say(std::string text);
    Result<void> count_tables();
    Result<void> count_l1(uint64_t offset, uint64_t entries, bool active);
    Result<void> count_l2(uint64_t table, uint64_t l1_index, bool active);
    void count_entry(uint64_t entry, uint64_t subclusters, uint64_t l1_index, uint64_t index,
                     bool active);
    Result<void> count_bitmaps();
    Result<void> ensure_blocks();
    Result<void> compare();
    Result<void> compare_cluster(uint64_t cluster);
    Result<void> check_copied_flags();
    Result<void> check_copied_in(uint64_t table, uint64_t l1_index);

    Store& store_;
    IoPort& port_;
    const Repair repair_;
    const uint64_t tables_max_;
    uint64_t tables_ = 0;
    const Header& header_;
    CountMap counts_;
    CheckReport report_;
};

Result<CheckReport> Checker::run() {
    report_.total_clusters = header_.cluster_count();
    TRY(count_tables());
    if (repair_ == Repair::Refcounts) {
        TRY(ensure_blocks());
    }
    for (const uint64_t block : store_.refcounts().table()) {
        if (block != 0) {
            count(block, header_.cluster_size());
        }
    }
    TRY(compare());
    TRY(check_copied_flags());
    counts_.for_each([&](uint64_t cluster) {
        report_.image_end = std::max(report_.image_end, (cluster + 1) << header_.cluster_bits);
    });
    return std::move(report_);
}

void Checker::say(std::string text) {
    if (report_.messages.size() < CheckReport::kMessagesMax) {
        report_.messages.push_back(std::move(text));
    }
}

void Checker::count(uint64_t offset, uint64_t size) {
    for (uint64_t cluster = offset >> header_.cluster_bits;
         size > 0 && cluster <= (offset + size - 1) >> header_.cluster_bits; ++cluster) {
        ++counts_.at(cluster);
    }
}

Result<void> Checker::count_tables() {
    count(0, header_.cluster_size());
    count(store_.refcounts().table_offset(),
          store_.refcounts().table_clusters() * header_.cluster_size());
    TRY(count_l1(header_.l1_offset, header_.l1_entries, true));
    const auto snapshots = TRY(read_snapshot_table(port_, store_.file(), header_));
    if (!snapshots.empty()) {
        count(header_.snapshots_offset, snapshots.back().table_bytes);
    }
    for (const SnapshotEntry& snapshot : snapshots) {
        TRY(count_l1(snapshot.l1_offset, snapshot.l1_entries, false));
    }
    return count_bitmaps();
}

Result<void> Checker::count_bitmaps() {
    if (!header_.bitmaps || (header_.autoclear & kAutoclearBitmaps) == 0) {
        return {};
    }
    count(header_.bitmaps->directory_offset, header_.bitmaps->directory_size);
    for (const BitmapEntry& bitmap : TRY(read_bitmap_directory(port_, store_.file(), header_))) {
        count(bitmap.table_offset, bitmap.table.size() * 8);
        for (const uint64_t word : bitmap.table) {
            if ((word & kOffsetMask) != 0) {
                count(word & kOffsetMask, header_.cluster_size());
            }
        }
    }
    return {};
}

Result<void> Checker::count_l1(uint64_t offset, uint64_t entries, bool active) {
    if (entries == 0) {
        return {};
    }
    count(offset, entries * 8);
    std::vector<uint64_t> l1(entries);
    TRY(read_bytes(port_, store_.file(), offset, l1.data(), entries * 8, "an L1 table"));
    for (uint64_t i = 0; i < entries; ++i) {
        const uint64_t table = to_be64(l1[i]) & kOffsetMask;
        if (table == 0) {
            continue;
        }
        if (table % header_.cluster_size() != 0 || table >= store_.file().size) {
            corrupt("L1 entry {} is {:#x}: no table", i, to_be64(l1[i]));
            continue;
        }
        if (active && counts_.get(table >> header_.cluster_bits) > 0) {
            corrupt("L1 entry {} is {:#x}: that table is in use already", i, to_be64(l1[i]));
            continue;
        }
        if (++tables_ > tables_max_) {
            return Error::too_large("{} has over {} L2 tables to look at", store_.path(),
                                    tables_max_)
                .with_hint("repair it with kumoi-img check --repair all");
        }
        count(table, header_.cluster_size());
        TRY(count_l2(table, i, active));
    }
    return {};
}

Result<void> Checker::count_l2(uint64_t table, uint64_t l1_index, bool active) {
    std::vector<uint64_t> words(header_.cluster_size() / 8);
    TRY(read_bytes(port_, store_.file(), table, words.data(), header_.cluster_size(),
                   "an L2 table"));
    const uint64_t stride = header_.extended_l2() ? 2 : 1;
    for (uint64_t i = 0; i < words.size(); i += stride) {
        const uint64_t subclusters = stride == 2 ? to_be64(words[i + 1]) : 0;
        count_entry(to_be64(words[i]), subclusters, l1_index, i / stride, active);
    }
    return {};
}

void Checker::count_entry(uint64_t entry, uint64_t subclusters, uint64_t l1_index, uint64_t index,
                          bool active) {
    const uint64_t file_size = store_.file().size;
    if ((entry & kEntryCompressed) != 0) {
        const CompressedRange range = compressed_range(entry, header_.cluster_bits);
        if (range.offset == 0 || range.offset >= file_size || (entry & kEntryCopied) != 0) {
            corrupt("L2 table {} entry {} is {:#x}: no compressed cluster of a file of {} bytes",
                    l1_index, index, entry, file_size);
            return;
        }
        report_.compressed_clusters += active ? 1 : 0;
        report_.data_clusters += active ? 1 : 0;
        count(range.offset, range.size);
        return;
    }
    const uint64_t host = entry & kOffsetMask;
    const uint64_t reserved =
        kL2Reserved | (header_.extended_l2() || header_.version < 3 ? kEntryZero : 0);
    const auto allocated = static_cast<uint32_t>(subclusters);
    if ((entry & reserved) != 0 || host % header_.cluster_size() != 0 ||
        (host != 0 && host >= file_size + header_.cluster_size()) ||
        (allocated & subclusters >> 32) != 0 || (allocated != 0 && host == 0)) {
        corrupt("L2 table {} entry {} is {:#x} {:#x}: impossible in a file of {} bytes", l1_index,
                index, entry, subclusters, file_size);
        return;
    }
    if (host != 0) {
        report_.data_clusters += active ? 1 : 0;
        count(host, header_.cluster_size());
    }
}

// Makes the refcount blocks for everything in use before any of them is counted.
Result<void> Checker::ensure_blocks() {
    int status = 0;
    uint64_t last = UINT64_MAX;
    counts_.for_each([&](uint64_t cluster) {
        const uint64_t block = cluster / store_.refcounts().per_block();
        if (status == 0 && block != last) {
            status = run_inline(store_.refcounts().add(port_, cluster, 0));
            last = block;
        }
    });
    return status < 0 ? Result<void>(store_.error_of(status, "repairing")) : Result<void>{};
}

Result<void> Checker::compare() {
    Refcounts& refcounts = store_.refcounts();
    const uint64_t per_block = refcounts.per_block();
    for (uint64_t index = 0; index < refcounts.table().size(); ++index) {
        for (uint64_t i = 0; refcounts.table()[index] != 0 && i < per_block; ++i) {
            TRY(compare_cluster(index * per_block + i));
        }
    }
    Result<void> result;
    counts_.for_each([&](uint64_t cluster) {
        const uint64_t index = cluster / per_block;
        if (index >= refcounts.table().size() || refcounts.table()[index] == 0) {
            corrupt("cluster {:#x} is used, and no refcount block counts it",
                    cluster << header_.cluster_bits);
        }
    });
    return result;
}

Result<void> Checker::compare_cluster(uint64_t cluster) {
    uint64_t refcount = 0;
    const uint64_t counted = counts_.get(cluster);
    int status = run_inline(store_.refcounts().get(port_, cluster, refcount));
    if (status < 0) {
        return store_.error_of(status, "checking");
    }
    if (refcount == counted) {
        return {};
    }
    const bool leak = refcount > counted;
    const uint64_t offset = cluster << header_.cluster_bits;
    if (repair_ == Repair::Refcounts || (leak && repair_ == Repair::Leaks)) {
        status = run_inline(store_.refcounts().add(
            port_, cluster, static_cast<int64_t>(counted) - static_cast<int64_t>(refcount)));
        if (status < 0) {
            return store_.error_of(status, "repairing");
        }
        ++report_.repaired;
        store_.note_change();
        say(fmt::format("repaired: refcount of cluster {:#x} was {}, is {}", offset, refcount,
                        counted));
        return {};
    }
    (leak ? report_.leaks : report_.corruptions) += 1;
    say(fmt::format("{}: refcount of cluster {:#x} is {}, {} references exist",
                    leak ? "leak" : "error", offset, refcount, counted));
    return {};
}

// In the active tables bit 63 says exactly: one reference.
Result<void> Checker::check_copied_flags() {
    for (uint64_t i = 0; i < header_.l1_entries; ++i) {
        const uint64_t entry = store_.l1_entry(i);
        const uint64_t table = entry & kOffsetMask;
        if (table == 0 || table % header_.cluster_size() != 0 || table >= store_.file().size) {
            continue;
        }
        const uint32_t counted = counts_.get(table >> header_.cluster_bits);
        if (((entry & kEntryCopied) != 0) != (counted == 1)) {
            corrupt("L1 entry {} is {:#x}, and its table has {} references", i, entry, counted);
        }
        TRY(check_copied_in(table, i));
    }
    return {};
}

Result<void> Checker::check_copied_in(uint64_t table, uint64_t l1_index) {
    std::vector<uint64_t> words(header_.cluster_size() / 8);
    TRY(read_bytes(port_, store_.file(), table, words.data(), header_.cluster_size(),
                   "an L2 table"));
    const uint64_t stride = header_.extended_l2() ? 2 : 1;
    bool changed = false;
    for (uint64_t i = 0; i < words.size(); i += stride) {
        const uint64_t entry = to_be64(words[i]);
        const uint64_t host = entry & kOffsetMask;
        if ((entry & kEntryCompressed) != 0 || host == 0) {
            continue;
        }
        const uint32_t counted = counts_.get(host >> header_.cluster_bits);
        if (((entry & kEntryCopied) != 0) == (counted == 1)) {
            continue;
        }
        if (repair_ == Repair::Refcounts) {
            words[i] = to_be64(counted == 1 ? entry | kEntryCopied : entry & ~kEntryCopied);
            changed = true;
            ++report_.repaired;
            say(fmt::format("repaired: L2 table {} entry {}: copied flag", l1_index, i / stride));
        } else {
            corrupt("L2 table {} entry {} is {:#x}, and its cluster has {} references", l1_index,
                    i / stride, entry, counted);
        }
    }
    if (changed) {
        TRY(write_bytes(port_, store_.file(), table, words.data(), header_.cluster_size(),
                        "an L2 table"));
    }
    return {};
}

}  // namespace

Result<CheckReport> check_image(Store& store, IoPort& port, Repair repair) {
    return Checker(store, port, repair, UINT64_MAX).run();
}

Result<void> finish_repair(Store& store, IoPort& port, const CheckReport& report) {
    TRY(store.close(port));
    Header header = store.header();
    const uint64_t marks = kIncompatibleCorrupt | kIncompatibleDirty;
    if (report.corruptions == 0 && (header.incompatible & marks) != 0) {
        header.incompatible &= ~marks;
        return store.write_header(port, header);
    }
    return {};
}

Result<CheckReport> rebuild_refcounts(Store& store, IoPort& port) {
    return Checker(store, port, Repair::Refcounts, kTablesMaxWhenOpening).run();
}

}  // namespace kumoi::hypervisor::qcow2
