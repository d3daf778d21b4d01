// Store: one open qcow2 image: guest offsets in, calls on its host file out.
//
// A request whose slice of the L2 table is in memory and whose clusters are mapped takes one short
// shard lock and goes straight to the file. Everything else follows two rules:
//
// * Nothing of the metadata is written when it changes. flush() commits: first data, refcounts and
//   new tables become durable, then the entries that point to them, and only then may clusters that
//   lost their last reference be used again (commit.cc). After a power cut the image is as of some
//   commit at or after the last flush that was acknowledged; a cut can only leak clusters.
// * Cluster contents that must not be lost (copied from the backing file, or what was there) are in
//   the new cluster before an entry points to it. A cluster known to read as zeros may be mapped
//   before the guest's data is in it: what it replaces read as zeros, too.
//
// Any thread may call read, write, zero, discard and flush, each with its own port. open, close and
// the offline members want a port that completes at once, and nothing else running.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "hypervisor/block/qcow2/async_lock.h"
#include "hypervisor/block/qcow2/block_source.h"
#include "hypervisor/block/qcow2/format.h"
#include "hypervisor/block/qcow2/l2_cache.h"
#include "hypervisor/block/qcow2/metadata_map.h"
#include "hypervisor/block/qcow2/refcounts.h"

namespace kumoi::hypervisor::qcow2 {

struct StoreOptions {
    bool writable = true;
    bool for_check = false;               // corrupt and dirty images open, nothing is repaired
    uint64_t l2_cache_bytes = 32u << 20;  // at most
    uint64_t extend_bytes = 64u << 20;    // the file grows ahead by this much (holes)
};

// Told of everything that changes the disk's contents; any thread.
class WriteObserver {
public:
    virtual ~WriteObserver() = default;
    virtual void range_changes(uint64_t offset, uint64_t size) = 0;
};

class Store final : public BlockSource, private L2Cache::Source {
public:
    static Result<std::unique_ptr<Store>> open(IoPort& port, std::unique_ptr<HostFile> file,
                                               const StoreOptions& options,
                                               std::unique_ptr<BlockSource> backing);
    ~Store() override;  // call close() first to keep what was not flushed
    Result<void> close(IoPort& port);

    const std::string& path() const override { return file_->path; }
    uint64_t size() const override { return size_.load(std::memory_order_relaxed); }
    Task<int> read(IoPort& port, uint64_t offset, std::span<const iovec> vectors,
                   uint64_t size) override;
    Task<int> map(IoPort& port, uint64_t offset, uint64_t size, MappedExtent& extent) override;
    BlockSource* backing() override { return backing_.get(); }
    Task<int> write(IoPort& port, uint64_t offset, std::span<const iovec> vectors, uint64_t size);
    Task<int> zero(IoPort& port, uint64_t offset, uint64_t size, bool may_unmap);
    Task<int> discard(IoPort& port, uint64_t offset, uint64_t size);
    Task<int> flush(IoPort& port);
    // What shows through from the backing file at `offset` becomes this image's own; its contents
    // stay. `done`: bytes looked after; 0 without an error: again. While running, too.
    Task<int> pull(IoPort& port, uint64_t offset, uint64_t size, uint64_t& done);
    // One whole cluster; stored as it is when it does not shrink. Offline.
    Task<int> write_compressed(IoPort& port, uint64_t offset, std::span<const std::byte> cluster);
    Task<int> resize(IoPort& port, uint64_t size);  // larger, while running too
    Task<int> preallocate(IoPort& port);            // a host cluster for every guest cluster
    Task<int> forget_all(IoPort& port);             // as if nothing had been written to this image

    void set_observer(WriteObserver* observer) { observer_ = observer; }
    const Header& header() const { return header_; }
    HostFile& file() { return *file_; }
    bool writable() const { return options_.writable; }
    std::string last_error() const;  // what the last refused or failed request ran into

    // For check, resize and bitmaps, on an idle store.
    Refcounts& refcounts() { return refcounts_; }
    MetadataMap& metadata() { return metadata_; }
    uint64_t l1_entry(uint64_t index) const { return l1_.load()[index]; }
    Result<void> write_header(IoPort& port, const Header& header);
    void replace_backing(std::unique_ptr<BlockSource> backing) { backing_ = std::move(backing); }
    std::unique_ptr<BlockSource> release_backing() { return std::move(backing_); }
    // Gives up a reference to each cluster, after the next commit.
    void note_change() { changed_ = true; }
    void free_later(uint64_t first_cluster, uint64_t count);
    Task<int> allocate_metadata(IoPort& port, uint64_t count, ClusterRun& run);
    Result<void> truncate_to_end(IoPort& port);
    Error error_of(int status, const std::string& what) const;

private:
    struct Extent {
        ExtentKind kind = ExtentKind::Unallocated;
        bool in_place = false;  // may be overwritten where it is
        uint64_t size = 0;      // bytes
        uint64_t host = 0;      // Data: byte offset in the file
        uint64_t entry = 0;
    };
    struct Allocation;
    struct Snapshot;
    class Operation;

    Store(std::unique_ptr<HostFile> file, const Header& header, const StoreOptions& options,
          std::unique_ptr<BlockSource> backing);
    // open.cc
    Result<void> load(IoPort& port);
    Result<void> load_l1(IoPort& port);
    Result<void> add_metadata(uint64_t offset, uint64_t size, const std::string& what);
    Result<void> load_snapshots(IoPort& port);
    Result<void> load_snapshot_l1(IoPort& port, uint64_t offset, uint64_t entries, uint32_t index);
    Result<void> load_bitmaps(IoPort& port);
    Result<void> prepare_writing(IoPort& port);
    // store.cc
    bool lookup(uint64_t offset, uint64_t size_max, Extent& extent);
    Extent classify(const L2Cache::Entry& entry, uint32_t subcluster) const;
    Task<int> load_slice(IoPort& port, uint64_t offset);
    Task<int> read_slice(IoPort& port, uint64_t index, std::vector<uint64_t>& words) override;
    Task<int> read_piece(IoPort& port, uint64_t offset, const Extent& extent,
                         std::span<const iovec> vectors);
    Task<int> read_behind(IoPort& port, uint64_t offset, std::span<const iovec> vectors,
                          uint64_t size);
    Task<int> read_compressed(IoPort& port, uint64_t offset, const Extent& extent,
                              std::span<const iovec> vectors);
    bool reads_zero_behind(uint64_t offset) const;
    bool hits_metadata(uint64_t host, uint64_t size) const;
    int bad_entry(uint64_t offset, const Extent& extent);
    int overwrites_metadata(uint64_t host, uint64_t size);
    // write.cc
    Task<int> write_allocating(IoPort& port, uint64_t offset, uint64_t size,
                               std::span<const iovec> vectors, uint64_t skip, uint64_t& done);
    Task<int> plan(IoPort& port, Allocation& allocation);
    Task<int> obtain_clusters(IoPort& port, Allocation& allocation);
    bool replaces_zeros(const Allocation& allocation) const;
    Task<int> read_around(IoPort& port, Allocation& allocation);
    void link(const Allocation& allocation);
    Task<int> undo(IoPort& port, const Allocation& allocation);
    Task<int> ensure_table(IoPort& port, uint64_t l1_index);
    Task<int> copy_table(IoPort& port, uint64_t l1_index, uint64_t offset);
    Task<int> extend_file(IoPort& port);
    void free_entry(const L2Cache::Entry& entry);
    Task<int> relieve(IoPort& port);
    Task<int> place_compressed(IoPort& port, uint64_t size, uint64_t& entry);
    // pull.cc
    Task<int> is_zero_behind(IoPort& port, uint64_t offset, uint64_t& size, bool& zero);
    // zero.cc
    Task<int> zero_clusters(IoPort& port, uint64_t first, uint64_t last, bool may_unmap);
    Task<int> zero_by_writing(IoPort& port, uint64_t offset, uint64_t size);
    Task<int> zero_part(IoPort& port, uint64_t offset, uint64_t size);
    Task<int> zero_subclusters(IoPort& port, uint64_t offset, uint64_t size);
    bool zero_entry(L2Cache::Entry& entry, uint64_t cluster, bool may_unmap,
                    std::vector<L2Cache::Entry>& freed) const;
    // commit.cc
    Task<int> commit(IoPort& port);
    Task<int> take_snapshot(IoPort& port, Snapshot& snapshot);
    Task<int> write_snapshot(IoPort& port, Snapshot& snapshot);
    Task<int> write_refcounts(IoPort& port, const Snapshot& snapshot, bool new_ones);
    Task<int> write_slices(IoPort& port, const Snapshot& snapshot, bool new_tables);
    Task<int> grow_refcount_table(IoPort& port);
    Task<int> settle(IoPort& port, Snapshot& snapshot, int status);
    Task<int> resize_header(IoPort& port, uint64_t size);  // resize.cc
    Task<int> grow_l1(IoPort& port, uint64_t size);
    Task<int> release_quarantine(IoPort& port);
    Task<int> sync(IoPort& port);
    Task<int> set_dirty_bit(IoPort& port, bool dirty);
    Task<int> store_header(IoPort& port, const Header& header);
    void mark_corrupt(std::string why);
    int failed(int status, std::string text);

    std::unique_ptr<HostFile> file_;
    Header header_;  // as on disk; changes with commit_lock_, the data path uses what follows
    const StoreOptions options_;
    std::unique_ptr<BlockSource> backing_;
    const uint32_t cluster_bits_;
    const uint64_t cluster_size_;
    const bool extended_;
    const uint64_t l2_entries_;
    const uint32_t version_;
    const Compression compression_;
    std::atomic<uint64_t> size_;
    using L1 = std::unique_ptr<std::atomic<uint64_t>[]>;
    std::vector<L1> l1_storage_;  // the last one is current; readers may hold older ones
    std::atomic<std::atomic<uint64_t>*> l1_{nullptr};
    uint64_t l1_count_ = 0;  // with meta_
    MetadataMap metadata_;
    Refcounts refcounts_;
    L2Cache l2_;
    RangeLocks ranges_;
    AsyncMutex meta_;         // refcounts_, L1 changes, the lists below
    AsyncMutex commit_lock_;  // one commit at a time
    std::mutex lists_;        // guards the sets and vectors that follow
    std::set<uint64_t> l1_dirty_;
    std::set<uint64_t> new_tables_;  // L1 entries not on disk yet
    std::vector<ClusterRun> freed_;  // refer to nothing once the next commit is done
    std::atomic<uint64_t> freed_count_{0};
    // Freed and committed, but requests that began before may still use them. Two generations of
    // requests are counted; what waits is released when the older generation has ended.
    std::vector<ClusterRun> quarantine_new_;
    std::vector<ClusterRun> quarantine_old_;
    std::atomic<bool> quarantined_{false};  // either has something
    std::atomic<uint64_t> generation_{0};
    std::atomic<uint64_t> in_flight_[2] = {0, 0};
    std::atomic<uint64_t> flush_requests_{0};
    uint64_t flush_done_ = 0;           // with commit_lock_
    int flush_status_ = 0;              // with commit_lock_
    std::atomic<bool> ordered_{false};  // data or a file size that must be durable before entries
    std::atomic<bool> sync_failed_{false};
    std::atomic<bool> corrupt_{false};
    std::atomic<bool> corruption_unsaved_{false};
    std::atomic<bool> changed_{false};  // any metadata since the last commit
    bool closed_ = false;
    bool full_commit_ = false;  // write refcounts even if they are lazy
    std::atomic<WriteObserver*> observer_{nullptr};
    // The last decompressed clusters: a guest reads one piece by piece.
    struct Decompressed {
        uint64_t entry = 0;
        std::shared_ptr<std::vector<std::byte>> bytes;  // shared: a reader copies without the lock
    };
    std::mutex decompressed_mutex_;
    std::vector<Decompressed> decompressed_;
    uint64_t compressed_at_ = 0;  // where the next compressed cluster may go
    mutable std::mutex error_mutex_;
    std::string last_error_;
};

}  // namespace kumoi::hypervisor::qcow2
