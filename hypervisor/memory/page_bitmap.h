// PageBitmap: a set of 4 KiB pages of a memory file, one bit each, in words of 64.
//
// Page n is the bytes [n * 4096, (n + 1) * 4096) of the file (MemoryRegion::file_offset / 4096).
// Runs come out whole words at a time, so a set that is full or empty costs almost nothing to walk.
// A plain value: one thread. PageMarks is the same for many writers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace kumoi::hypervisor {

struct PageRun {
    uint64_t first = 0;
    uint64_t count = 0;
    bool operator==(const PageRun&) const = default;
};

class PageBitmap {
public:
    static constexpr uint64_t kPageSize = 4096;

    explicit PageBitmap(uint64_t pages = 0);
    uint64_t pages() const { return pages_; }
    std::span<uint64_t> words() { return words_; }
    std::span<const uint64_t> words() const { return words_; }

    bool test(uint64_t page) const { return (words_[page / 64] >> (page % 64) & 1) != 0; }
    // Of a range the part behind the last page is passed over.
    void set(uint64_t first, uint64_t count = 1);
    void clear(uint64_t first, uint64_t count = 1);
    void set_all() { set(0, pages_); }
    void clear_all();
    uint64_t count() const;
    uint64_t count(uint64_t first, uint64_t count) const;
    bool empty() const;
    // The sets must be of the same size.
    void merge(const PageBitmap& other);     // and what is in `other`
    void subtract(const PageBitmap& other);  // without what is in `other`
    // Bit i of `words` is page first + i: how KVM tells of a slot.
    void merge_words(uint64_t first, std::span<const uint64_t> words, uint64_t count);

    // The first run at or behind `from` and before `end`, cut off there and at `count_max` pages.
    std::optional<PageRun> next_run(uint64_t from, uint64_t count_max = UINT64_MAX,
                                    uint64_t end = UINT64_MAX) const;
    template <class Visit>
    void for_each_run(const Visit& visit) const {
        for (auto run = next_run(0); run; run = next_run(run->first + run->count)) {
            visit(*run);
        }
    }

private:
    uint64_t pages_;
    std::vector<uint64_t> words_;
};

// Pages that any number of threads mark and one takes away. A mark is made after the write it tells
// of, and taken before the page is read: who takes it sees the write.
class PageMarks {
public:
    explicit PageMarks(uint64_t pages);
    uint64_t pages() const { return pages_; }
    void mark(uint64_t first, uint64_t count);
    void take_into(PageBitmap& into);  // adds all marks to `into`; they are gone here
    void clear();

private:
    uint64_t pages_;
    std::unique_ptr<std::atomic<uint64_t>[]> words_;
};

}  // namespace kumoi::hypervisor
