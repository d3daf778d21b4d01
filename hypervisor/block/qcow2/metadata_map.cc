#include "hypervisor/block/qcow2/metadata_map.h"

#include <algorithm>

namespace kumoi::hypervisor::qcow2 {

MetadataMap::MetadataMap() {
    directories_.push_back(std::make_unique<Directory>(64));
    directory_ = directories_.back().get();
}

MetadataMap::~MetadataMap() = default;

bool MetadataMap::add(uint64_t cluster) {
    const uint64_t bit = cluster % kPageBits;
    std::atomic<uint64_t>& word = page(cluster / kPageBits).words[bit / 64];
    const uint64_t mask = 1ull << (bit % 64);
    return (word.fetch_or(mask, std::memory_order_relaxed) & mask) == 0;
}

void MetadataMap::remove(uint64_t cluster) {
    const uint64_t bit = cluster % kPageBits;
    page(cluster / kPageBits)
        .words[bit / 64]
        .fetch_and(~(1ull << (bit % 64)), std::memory_order_relaxed);
}

MetadataMap::Page& MetadataMap::page(uint64_t index) {
    Directory* directory = directory_.load(std::memory_order_relaxed);
    if (index >= directory->count) {
        auto larger = std::make_unique<Directory>(std::max(directory->count * 2, index + 1));
        for (uint64_t i = 0; i < directory->count; ++i) {
            larger->pages[i].store(directory->pages[i].load(std::memory_order_relaxed),
                                   std::memory_order_relaxed);
        }
        directory = larger.get();
        directories_.push_back(std::move(larger));
        directory_.store(directory, std::memory_order_release);
    }
    Page* found = directory->pages[index].load(std::memory_order_relaxed);
    if (found == nullptr) {
        pages_.push_back(std::make_unique<Page>());
        found = pages_.back().get();
        directory->pages[index].store(found, std::memory_order_release);
    }
    return *found;
}

}  // namespace kumoi::hypervisor::qcow2
