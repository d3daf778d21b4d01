// MetadataMap: which host clusters hold metadata (header, tables, refcount blocks, bitmaps), so
// that a damaged or hostile entry never makes guest data overwrite them. One bit a cluster, in
// pages made when needed. contains() from any thread; changes by one thread at a time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace kumoi::hypervisor::qcow2 {

class MetadataMap {
public:
    static constexpr uint64_t kPageBits = 1u << 15;  // clusters a page

    MetadataMap();
    ~MetadataMap();
    MetadataMap(const MetadataMap&) = delete;
    MetadataMap& operator=(const MetadataMap&) = delete;

    // False when it was in already: two tables claim one cluster.
    bool add(uint64_t cluster);
    void remove(uint64_t cluster);
    bool contains(uint64_t cluster) const {
        const Directory* directory = directory_.load(std::memory_order_acquire);
        const uint64_t page = cluster / kPageBits;
        if (page >= directory->count) {
            return false;
        }
        const Page* bits = directory->pages[page].load(std::memory_order_acquire);
        const uint64_t bit = cluster % kPageBits;
        return bits != nullptr &&
               (bits->words[bit / 64].load(std::memory_order_relaxed) >> (bit % 64) & 1) != 0;
    }

private:
    struct Page {
        std::array<std::atomic<uint64_t>, kPageBits / 64> words{};
    };
    struct Directory {
        explicit Directory(uint64_t size) : count(size), pages(new std::atomic<Page*>[size]()) {}
        uint64_t count;
        std::unique_ptr<std::atomic<Page*>[]> pages;
    };
    Page& page(uint64_t index);

    std::atomic<Directory*> directory_;
    std::vector<std::unique_ptr<Directory>> directories_;  // old ones stay: readers may hold them
    std::vector<std::unique_ptr<Page>> pages_;
};

}  // namespace kumoi::hypervisor::qcow2
