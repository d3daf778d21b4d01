// Refcounts: the refcount table and blocks of an image, and the allocation of host clusters.
//
// Clusters are taken from free runs found in the existing blocks, then from the end of the file.
// Nothing is written here: changed blocks are collected by the commit, which alone decides about
// order. All members are called with the image's metadata lock held (store.h).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "hypervisor/block/qcow2/format.h"
#include "hypervisor/block/qcow2/io_port.h"
#include "hypervisor/block/qcow2/metadata_map.h"
#include "hypervisor/block/qcow2/task.h"

namespace kumoi::hypervisor::qcow2 {

// A run of host clusters. `zero`: what was never written, or punched out: reads as zeros.
struct ClusterRun {
    uint64_t first = 0;
    uint64_t count = 0;
    bool zero = false;
};

class Refcounts {
public:
    struct Block {
        std::vector<uint8_t> bytes;
        bool is_new = false;                // its table entry is not on disk yet
        uint64_t dirty_first = UINT64_MAX;  // bytes [first, last) are not on disk
        uint64_t dirty_last = 0;
        uint64_t used = 0;
        uint32_t writes = 0;  // copies on their way to the disk: stays here until they are there
        bool dirty() const { return dirty_first < dirty_last; }
    };

    Refcounts(const Header& header, HostFile& file, MetadataMap& metadata);

    Result<void> load_table(IoPort& port);  // blocking port
    // The first cluster past everything in use or written.
    void set_end(uint64_t cluster) { end_ = zero_from_ = cluster; }
    uint64_t end() const { return end_; }

    Task<int> get(IoPort& port, uint64_t cluster, uint64_t& value);
    // Adds `delta`; refuses underflow and more than the width can hold.
    Task<int> add(IoPort& port, uint64_t cluster, int64_t delta);
    // 1 to `count` clusters in a run, refcount 1 each.
    Task<int> allocate(IoPort& port, uint64_t count, ClusterRun& run);
    // Exactly `count` clusters in a run, from the end of the file.
    Task<int> allocate_tail(IoPort& port, uint64_t count, ClusterRun& run);
    // Clusters whose refcount has become 0 and that nobody uses any more.
    void give_back(const ClusterRun& run);
    bool scan_passed(uint64_t cluster) const { return cluster / per_block_ < scan_block_; }

    // Bytes of the tables in memory, in disk order.
    const std::vector<uint64_t>& table() const { return table_; }
    struct BlockCopy {
        uint64_t index = 0;
        uint64_t offset = 0;  // in the file, of `bytes`
        uint64_t start = 0;   // in the block, of `bytes`
        bool is_new = false;
        std::vector<uint8_t> bytes;
    };
    std::vector<BlockCopy> take_dirty();  // copies, and marks them clean and not new
    void written(const BlockCopy& copy, bool success);
    bool any_dirty() const { return dirty_count_ > 0 || table_too_small(); }
    bool any_new() const { return new_count_ > 0; }
    bool table_too_small() const { return table_.size() > table_on_disk_; }
    uint64_t table_offset() const { return table_offset_; }
    uint64_t table_clusters() const { return table_clusters_; }
    // Where the grown table goes, and the run that becomes free.
    Task<int> place_table(IoPort& port, ClusterRun& old);
    void table_written() { table_on_disk_ = table_clusters_ * cluster_size_ / 8; }

    uint64_t per_block() const { return per_block_; }
    const std::string& error() const { return error_; }
    static uint64_t read_entry(const uint8_t* block, uint64_t index, uint32_t order);
    static void write_entry(uint8_t* block, uint64_t index, uint32_t order, uint64_t value);

private:
    static constexpr uint64_t kCacheBytesMax = 8u << 20;
    Task<int> load_block(IoPort& port, uint64_t index, Block*& block);
    Task<int> ensure_block(IoPort& port, uint64_t index);
    Task<int> scan_more(IoPort& port);
    Task<int> skip_used_tail(IoPort& port);
    bool take_pooled(uint64_t count, ClusterRun& run);
    void evict();
    Task<int> claim(IoPort& port, const ClusterRun& run);
    bool has_block(uint64_t index) const { return index < table_.size() && table_[index] != 0; }
    void set_dirty(Block& block, uint64_t first, uint64_t last);
    void set_entry(Block& block, uint64_t index, uint64_t value);
    int corrupt(std::string text);

    const uint32_t cluster_bits_;
    const uint64_t cluster_size_;
    const uint32_t order_;
    const uint64_t per_block_;
    const uint64_t value_max_;
    HostFile& file_;
    MetadataMap& metadata_;
    uint64_t table_offset_;
    uint64_t table_clusters_;
    std::vector<uint64_t> table_;
    uint64_t table_on_disk_ = 0;  // entries that have room in the table on disk
    std::unordered_map<uint64_t, std::unique_ptr<Block>> blocks_;
    uint64_t dirty_count_ = 0;
    uint64_t clock_ = 0;
    uint64_t new_count_ = 0;
    uint64_t end_ = 0;
    uint64_t zero_from_ = 0;  // clusters from here on were never written
    uint64_t scan_block_ = 0;
    uint64_t scan_end_ = 0;                // blocks that existed when the image was opened
    std::map<uint64_t, ClusterRun> pool_;  // by first cluster
    std::string error_;
};

}  // namespace kumoi::hypervisor::qcow2
