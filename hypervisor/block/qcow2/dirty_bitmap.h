// DirtyBitmaps: which parts of a disk changed since a point in time, for incremental backup: named
// bitmaps in memory, kept in the image's bitmaps extension from close to open.
//
// An enabled bitmap records every write, zeroing and discard of the store it is attached to, before
// the request begins. On disk a bitmap in use is marked so, and counts as inconsistent if the
// process dies: then a full backup is due. Bitmaps are added, merged, cleared and listed on the
// control thread; range_changes() comes from any thread and takes no lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "hypervisor/block/qcow2/store.h"
#include "hypervisor/block/qcow2/tables.h"

namespace kumoi::hypervisor::qcow2 {

struct BitmapInfo {
    std::string name;
    uint64_t granularity = 0;  // bytes
    uint64_t dirty_bytes = 0;  // multiples of the granularity
    bool enabled = false;      // records changes
    bool persistent = false;
    bool inconsistent = false;  // its process died, or its extra data is not known: of no use
};

class DirtyBitmaps final : public WriteObserver {
public:
    static constexpr size_t kBitmapsMax = 64;
    static constexpr uint64_t kBitmapBytesMax = 64u
                                                << 20;  // in memory: one, or all that are loaded

    explicit DirtyBitmaps(Store& store);
    ~DirtyBitmaps() override;

    // Reads the image's bitmaps; a writable image's are marked in use. Then attaches.
    Result<void> load(IoPort& port);
    // Writes persistent bitmaps back. Before Store::close().
    Result<void> save(IoPort& port);

    // A granularity of 0 chooses the cluster size, at least 64 KiB.
    Result<void> add(const std::string& name, uint64_t granularity, bool persistent,
                     bool enabled = true);
    Result<void> remove(const std::string& name);
    Result<void> clear(const std::string& name);
    Result<void> set_enabled(const std::string& name, bool enabled);
    // Adds these ranges (offset, size); what is behind the disk's end does not count.
    Result<void> mark(const std::string& name,
                      const std::vector<std::pair<uint64_t, uint64_t>>& ranges);
    // Adds what `source` has to `target`; granularities may differ.
    Result<void> merge(const std::string& target, const std::string& source);
    std::vector<BitmapInfo> list() const;
    bool any_dirty(const std::string& name, uint64_t offset, uint64_t size) const;  // any thread
    // Calls visit(offset, size) for each dirty extent in order, until it returns false.
    Result<void> for_each_dirty(const std::string& name,
                                const std::function<bool(uint64_t, uint64_t)>& visit) const;
    void range_changes(uint64_t offset, uint64_t size) override;
    // Before the disk grows to `size`.
    void prepare_resize(uint64_t size);

private:
    struct Bitmap;
    Bitmap* find(const std::string& name) const;
    Result<Bitmap*> usable(const std::string& name) const;
    Result<void> read_bits(IoPort& port, const BitmapEntry& entry, Bitmap& bitmap);
    Result<void> write_bitmap(IoPort& port, Bitmap& bitmap);
    Result<void> write_directory(IoPort& port, bool in_use);
    void free_tables(const Bitmap& bitmap);
    void publish();

    Store& store_;
    mutable std::mutex mutex_;  // guards bitmaps_
    std::vector<std::unique_ptr<Bitmap>> bitmaps_;
    // What range_changes() walks; replaced as a whole, old ones kept until the end.
    using Active = std::vector<Bitmap*>;
    std::vector<std::unique_ptr<Active>> active_lists_;
    std::vector<std::unique_ptr<Bitmap>> removed_;
    std::atomic<const Active*> active_{nullptr};
    bool loaded_ = false;
};

}  // namespace kumoi::hypervisor::qcow2
