#include "hypervisor/block/qcow2/refcounts.h"

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "hypervisor/block/qcow2/blocking_port.h"

namespace kumoi::hypervisor::qcow2 {

Refcounts::Refcounts(const Header& header, HostFile& file, MetadataMap& metadata)
    : cluster_bits_(header.cluster_bits),
      cluster_size_(header.cluster_size()),
      order_(header.refcount_order),
      per_block_(header.refcounts_per_block()),
      value_max_(order_ == 6 ? UINT64_MAX : (1ull << (1u << order_)) - 1),
      file_(file),
      metadata_(metadata),
      table_offset_(header.refcount_table_offset),
      table_clusters_(header.refcount_table_clusters) {}

Result<void> Refcounts::load_table(IoPort& port) {
    table_.resize(table_clusters_ * cluster_size_ / 8);
    table_on_disk_ = table_.size();
    const iovec vector{table_.data(), table_.size() * 8};
    IoCall call;
    call.file = &file_;
    call.offset = table_offset_;
    call.size = vector.iov_len;
    call.vectors = {&vector, 1};
    KUMOI_ASSERT(!port.start(call));
    if (call.result < 0) {
        return Error::from_errno(-call.result, fmt::format("refcount table of {}", file_.path));
    }
    size_t used = 0;
    for (size_t i = 0; i < table_.size(); ++i) {
        const uint64_t offset = table_[i] = load_be<uint64_t>(&table_[i]);
        if (offset == 0) {
            continue;
        }
        used = i + 1;
        if (offset % cluster_size_ != 0 || offset > kOffsetMask || offset >= file_.size) {
            return Error::corrupt(
                "{}: refcount table entry {} is {:#x}: no cluster of a file of {} "
                "bytes",
                file_.path, i, offset, file_.size.load());
        }
        if (!metadata_.add(offset >> cluster_bits_)) {
            return Error::corrupt("{}: refcount block {} at {:#x} lies on other metadata",
                                  file_.path, i, offset);
        }
    }
    scan_end_ = used;
    return {};
}

uint64_t Refcounts::read_entry(const uint8_t* block, uint64_t index, uint32_t order) {
    switch (order) {
        case 3: return block[index];
        case 4: return load_be<uint16_t>(block + index * 2);
        case 5: return load_be<uint32_t>(block + index * 4);
        case 6: return load_be<uint64_t>(block + index * 8);
        default: {
            const uint32_t bits = 1u << order;
            const uint64_t per_byte = 8 / bits;
            return block[index / per_byte] >> (index % per_byte * bits) & ((1u << bits) - 1);
        }
    }
}

void Refcounts::write_entry(uint8_t* block, uint64_t index, uint32_t order, uint64_t value) {
    switch (order) {
        case 3: block[index] = static_cast<uint8_t>(value); return;
        case 4: store_be(block + index * 2, static_cast<uint16_t>(value)); return;
        case 5: store_be(block + index * 4, static_cast<uint32_t>(value)); return;
        case 6: store_be(block + index * 8, value); return;
        default: {
            const uint32_t bits = 1u << order;
            const uint64_t per_byte = 8 / bits;
            const auto shift = static_cast<uint32_t>(index % per_byte * bits);
            const uint32_t mask = ((1u << bits) - 1) << shift;
            uint8_t& byte = block[index / per_byte];
            byte = static_cast<uint8_t>((byte & ~mask) | (value << shift & mask));
        }
    }
}

int Refcounts::corrupt(std::string text) {
    error_ = std::move(text);
    return -EUCLEAN;
}

void Refcounts::set_dirty(Block& block, uint64_t first, uint64_t last) {
    dirty_count_ += block.dirty() ? 0 : 1;
    block.dirty_first = std::min(block.dirty_first, first & ~uint64_t{511});
    block.dirty_last =
        std::max(block.dirty_last, std::min((last + 511) & ~uint64_t{511}, cluster_size_));
}

void Refcounts::set_entry(Block& block, uint64_t index, uint64_t value) {
    write_entry(block.bytes.data(), index, order_, value);
    const uint64_t bit = index << order_;
    set_dirty(block, bit / 8, bit / 8 + std::max(1u, (1u << order_) / 8));
}

void Refcounts::evict() {
    if (blocks_.size() < std::max<uint64_t>(kCacheBytesMax / cluster_size_, 8)) {
        return;
    }
    auto oldest = blocks_.end();
    for (auto it = blocks_.begin(); it != blocks_.end(); ++it) {
        if (!it->second->dirty() && it->second->writes == 0 &&
            (oldest == blocks_.end() || it->second->used < oldest->second->used)) {
            oldest = it;
        }
    }
    if (oldest != blocks_.end()) {
        blocks_.erase(oldest);
    }
}

// The pointer is good until the next load.
Task<int> Refcounts::load_block(IoPort& port, uint64_t index, Block*& block) {
    if (const auto found = blocks_.find(index); found != blocks_.end()) {
        found->second->used = ++clock_;
        block = found->second.get();
        co_return 0;
    }
    evict();
    auto loaded = std::make_unique<Block>();
    loaded->bytes.resize(cluster_size_);
    const iovec vector{loaded->bytes.data(), cluster_size_};
    const int status =
        co_await io_read(port, file_, table_[index], std::span(&vector, 1), cluster_size_);
    if (status < 0) {
        error_ = fmt::format("reading refcount block {} at {:#x}", index, table_[index]);
        co_return status;
    }
    loaded->used = ++clock_;
    block = loaded.get();
    blocks_[index] = std::move(loaded);
    co_return 0;
}

Task<int> Refcounts::get(IoPort& port, uint64_t cluster, uint64_t& value) {
    const uint64_t index = cluster / per_block_;
    value = 0;
    if (!has_block(index)) {
        co_return 0;
    }
    Block* block = nullptr;
    const int status = co_await load_block(port, index, block);
    if (status == 0) {
        value = read_entry(block->bytes.data(), cluster % per_block_, order_);
    }
    co_return status;
}

Task<int> Refcounts::add(IoPort& port, uint64_t cluster, int64_t delta) {
    const uint64_t index = cluster / per_block_;
    int status = co_await ensure_block(port, index);
    if (status < 0) {
        co_return status;
    }
    Block* block = nullptr;
    status = co_await load_block(port, index, block);
    if (status < 0) {
        co_return status;
    }
    const uint64_t value = read_entry(block->bytes.data(), cluster % per_block_, order_);
    if (delta < 0 && value < static_cast<uint64_t>(-delta)) {
        co_return corrupt(fmt::format("refcount of cluster {:#x} is {}, {} references go away",
                                      cluster << cluster_bits_, value, -delta));
    }
    if (delta > 0 && value > value_max_ - static_cast<uint64_t>(delta)) {
        error_ = fmt::format("refcount of cluster {:#x} is {}, its {} bits cannot hold {} more",
                             cluster << cluster_bits_, value, 1u << order_, delta);
        co_return -EOVERFLOW;
    }
    set_entry(*block, cluster % per_block_, value + static_cast<uint64_t>(delta));
    co_return 0;
}

// A block is placed at the end of the file, inside the range it counts where that is the same.
Task<int> Refcounts::ensure_block(IoPort& port, uint64_t index) {
    if (has_block(index)) {
        co_return 0;
    }
    while (end_ / per_block_ != index && !has_block(end_ / per_block_)) {
        const int made = co_await ensure_block(port, end_ / per_block_);
        if (made < 0) {
            co_return made;
        }
    }
    const uint64_t home = end_ / per_block_;
    if (home != index) {
        const int status = co_await skip_used_tail(port);
        if (status < 0) {
            co_return status;
        }
        if (end_ / per_block_ != home) {
            co_return co_await ensure_block(port, index);
        }
    }
    if ((std::max(index, home) + 1) * 8 > kRefcountTableBytesMax) {
        error_ = fmt::format("cluster {:#x} needs a refcount table over 8 MiB",
                             index * per_block_ << cluster_bits_);
        co_return -EFBIG;
    }
    const uint64_t cluster = end_++;
    if (table_.size() <= index) {
        table_.resize(index + 1);
    }
    auto block = std::make_unique<Block>();
    block->bytes.resize(cluster_size_);
    block->is_new = true;
    block->used = ++clock_;
    ++new_count_;
    set_dirty(*block, 0, cluster_size_);
    table_[index] = cluster << cluster_bits_;
    blocks_[index] = std::move(block);
    metadata_.add(cluster);
    co_return co_await claim(port, {cluster, 1, false});
}

// Counts one reference for clusters that have none.
Task<int> Refcounts::claim(IoPort& port, const ClusterRun& run) {
    for (uint64_t cluster = run.first; cluster < run.first + run.count; ++cluster) {
        Block* block = nullptr;
        const int status = co_await load_block(port, cluster / per_block_, block);
        if (status < 0) {
            co_return status;
        }
        set_entry(*block, cluster % per_block_, 1);
    }
    co_return 0;
}

// Past the end of the file refcounts should be 0; where they are not, the clusters are left alone.
Task<int> Refcounts::skip_used_tail(IoPort& port) {
    for (;;) {
        uint64_t value = 0;
        const int status = co_await get(port, end_, value);
        if (status < 0) {
            co_return status;
        }
        if (value == 0 && !metadata_.contains(end_)) {
            co_return 0;
        }
        ++end_;
    }
}

Task<int> Refcounts::allocate_tail(IoPort& port, uint64_t count, ClusterRun& run) {
    for (bool ready = false; !ready;) {
        ready = true;
        for (uint64_t index = end_ / per_block_; index <= (end_ + count - 1) / per_block_;
             ++index) {
            if (!has_block(index)) {
                const int status = co_await ensure_block(port, index);
                if (status < 0) {
                    co_return status;
                }
                ready = false;
                break;
            }
        }
        for (uint64_t i = 0; ready && i < count; ++i) {
            uint64_t value = 0;
            const int status = co_await get(port, end_ + i, value);
            if (status < 0) {
                co_return status;
            }
            if (value != 0 || metadata_.contains(end_ + i)) {
                end_ += i + 1;
                ready = false;
            }
        }
    }
    run = {end_, count, file_.holes_are_zero && end_ >= zero_from_};
    if ((end_ + count) << cluster_bits_ > kOffsetMask) {
        error_ = "the file would be larger than 64 PiB";
        co_return -EFBIG;
    }
    end_ += count;
    co_return co_await claim(port, run);
}

Task<int> Refcounts::allocate(IoPort& port, uint64_t count, ClusterRun& run) {
    while (pool_.empty() && scan_block_ < scan_end_) {
        const int status = co_await scan_more(port);
        if (status < 0) {
            co_return status;
        }
    }
    while (take_pooled(count, run)) {
        bool good = true;
        for (uint64_t i = 0; i < run.count && good; ++i) {
            good = !metadata_.contains(run.first + i);
        }
        if (!good) {
            co_return corrupt(fmt::format("clusters {:#x} to {:#x} count as free but hold metadata",
                                          run.first << cluster_bits_,
                                          (run.first + run.count - 1) << cluster_bits_));
        }
        co_return co_await claim(port, run);
    }
    const uint64_t left = per_block_ - end_ % per_block_;
    co_return co_await allocate_tail(port, std::min(count, left), run);
}

bool Refcounts::take_pooled(uint64_t count, ClusterRun& run) {
    if (pool_.empty()) {
        return false;
    }
    const auto first = pool_.begin();
    run = first->second;
    pool_.erase(first);
    if (run.count > count) {
        pool_[run.first + count] = {run.first + count, run.count - count, run.zero};
        run.count = count;
    }
    return true;
}

void Refcounts::give_back(const ClusterRun& run) {
    ClusterRun joined = run;
    auto next = pool_.upper_bound(run.first);
    if (next != pool_.begin()) {
        const auto previous = std::prev(next);
        if (previous->second.first + previous->second.count == run.first &&
            previous->second.zero == run.zero) {
            joined = {previous->second.first, previous->second.count + run.count, run.zero};
            pool_.erase(previous);
        }
    }
    if (next != pool_.end() && next->second.first == joined.first + joined.count &&
        next->second.zero == joined.zero) {
        joined.count += next->second.count;
        pool_.erase(next);
    }
    pool_[joined.first] = joined;
}

// Collects the free runs of one more block that was there when the image was opened.
Task<int> Refcounts::scan_more(IoPort& port) {
    const uint64_t index = scan_block_++;
    if (!has_block(index)) {
        co_return 0;
    }
    Block* block = nullptr;
    const int status = co_await load_block(port, index, block);
    if (status < 0) {
        co_return status;
    }
    const uint64_t first = index * per_block_;
    const uint64_t last = std::min(first + per_block_, zero_from_);
    ClusterRun run;
    for (uint64_t cluster = first; cluster < last; ++cluster) {
        if (cluster == 0 || read_entry(block->bytes.data(), cluster - first, order_) != 0) {
            continue;
        }
        if (run.count > 0 && run.first + run.count == cluster) {
            ++run.count;
            continue;
        }
        if (run.count > 0) {
            give_back(run);
        }
        run = {cluster, 1, false};
    }
    if (run.count > 0) {
        give_back(run);
    }
    co_return 0;
}

std::vector<Refcounts::BlockCopy> Refcounts::take_dirty() {
    std::vector<BlockCopy> copies;
    for (auto& [index, block] : blocks_) {
        if (!block->dirty()) {
            continue;
        }
        BlockCopy& copy = copies.emplace_back();
        copy.index = index;
        copy.start = block->dirty_first;
        copy.offset = table_[index] + copy.start;
        copy.is_new = block->is_new;
        copy.bytes.assign(block->bytes.begin() + static_cast<std::ptrdiff_t>(block->dirty_first),
                          block->bytes.begin() + static_cast<std::ptrdiff_t>(block->dirty_last));
        block->dirty_first = UINT64_MAX;
        block->dirty_last = 0;
        block->is_new = false;
        ++block->writes;
    }
    dirty_count_ = 0;
    new_count_ = 0;
    std::sort(copies.begin(), copies.end(),
              [](const BlockCopy& a, const BlockCopy& b) { return a.offset < b.offset; });
    return copies;
}

void Refcounts::written(const BlockCopy& copy, bool success) {
    Block& block = *blocks_.at(copy.index);
    --block.writes;
    if (success) {
        return;
    }
    set_dirty(block, copy.start, copy.start + copy.bytes.size());
    if (copy.is_new && !block.is_new) {
        block.is_new = true;
        ++new_count_;
    }
}

Task<int> Refcounts::place_table(IoPort& port, ClusterRun& old) {
    old = {table_offset_ >> cluster_bits_, table_clusters_, false};
    uint64_t clusters = 0;
    ClusterRun run;
    do {
        const uint64_t entries = table_.size() + table_.size() / 2 + 8;
        clusters = std::max((entries * 8 + cluster_size_ - 1) >> cluster_bits_, clusters + 1);
        clusters = std::min(clusters, kRefcountTableBytesMax >> cluster_bits_);
        if (table_.size() * 8 > clusters << cluster_bits_) {
            co_return -EFBIG;
        }
        const int status = co_await allocate_tail(port, clusters, run);
        if (status < 0) {
            co_return status;
        }
    } while (table_.size() * 8 > clusters << cluster_bits_);
    for (uint64_t i = 0; i < run.count; ++i) {
        metadata_.add(run.first + i);
    }
    table_offset_ = run.first << cluster_bits_;
    table_clusters_ = clusters;
    table_.resize(clusters * cluster_size_ / 8);
    co_return 0;
}

}  // namespace kumoi::hypervisor::qcow2
