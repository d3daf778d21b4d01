#include "hypervisor/memory/page_bitmap.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kWordBits = 64;

uint64_t word_count(uint64_t pages) {
    return (pages + kWordBits - 1) / kWordBits;
}

// Calls visit(word index, mask) for each word that has bits of [first, first + count).
template <class Visit>
void for_each_word(uint64_t pages, uint64_t first, uint64_t count, const Visit& visit) {
    if (first >= pages) {
        return;
    }
    const uint64_t end = first + std::min(count, pages - first);
    while (first < end) {
        const uint64_t bit = first % kWordBits;
        const uint64_t part = std::min(kWordBits - bit, end - first);
        const uint64_t ones = part == kWordBits ? ~uint64_t{0} : (uint64_t{1} << part) - 1;
        visit(first / kWordBits, ones << bit);
        first += part;
    }
}

}  // namespace

PageBitmap::PageBitmap(uint64_t pages) : pages_(pages), words_(word_count(pages)) {}

void PageBitmap::set(uint64_t first, uint64_t count) {
    for_each_word(pages_, first, count,
                  [this](uint64_t index, uint64_t mask) { words_[index] |= mask; });
}

void PageBitmap::clear(uint64_t first, uint64_t count) {
    for_each_word(pages_, first, count,
                  [this](uint64_t index, uint64_t mask) { words_[index] &= ~mask; });
}

void PageBitmap::clear_all() {
    std::fill(words_.begin(), words_.end(), 0);
}

uint64_t PageBitmap::count() const {
    uint64_t sum = 0;
    for (const uint64_t word : words_) {
        sum += static_cast<uint64_t>(std::popcount(word));
    }
    return sum;
}

uint64_t PageBitmap::count(uint64_t first, uint64_t count) const {
    uint64_t sum = 0;
    for_each_word(pages_, first, count, [this, &sum](uint64_t index, uint64_t mask) {
        sum += static_cast<uint64_t>(std::popcount(words_[index] & mask));
    });
    return sum;
}

bool PageBitmap::empty() const {
    return std::all_of(words_.begin(), words_.end(), [](uint64_t word) { return word == 0; });
}

void PageBitmap::merge(const PageBitmap& other) {
    KUMOI_ASSERT(pages_ == other.pages_);
    for (size_t i = 0; i < words_.size(); ++i) {
        words_[i] |= other.words_[i];
    }
}

void PageBitmap::subtract(const PageBitmap& other) {
    KUMOI_ASSERT(pages_ == other.pages_);
    for (size_t i = 0; i < words_.size(); ++i) {
        words_[i] &= ~other.words_[i];
    }
}

void PageBitmap::merge_words(uint64_t first, std::span<const uint64_t> words, uint64_t count) {
    KUMOI_ASSERT(first <= pages_ && count <= pages_ - first);
    KUMOI_ASSERT(word_count(count) <= words.size());
    const uint64_t shift = first % kWordBits;
    for (uint64_t i = 0; i < word_count(count); ++i) {
        uint64_t word = words[i];
        if (const uint64_t left = count - i * kWordBits; left < kWordBits) {
            word &= (uint64_t{1} << left) - 1;
        }
        if (word == 0) {
            continue;
        }
        const uint64_t at = first / kWordBits + i;
        words_[at] |= word << shift;
        if (shift != 0 && at + 1 < words_.size()) {
            words_[at + 1] |= word >> (kWordBits - shift);
        }
    }
}

std::optional<PageRun> PageBitmap::next_run(uint64_t from, uint64_t count_max, uint64_t end) const {
    end = std::min(end, pages_);
    if (from >= end || count_max == 0) {
        return std::nullopt;
    }
    const size_t words = word_count(end);
    size_t index = from / kWordBits;
    uint64_t word = words_[index] & (~uint64_t{0} << (from % kWordBits));
    while (word == 0) {
        if (++index == words) {
            return std::nullopt;
        }
        word = words_[index];
    }
    PageRun run{index * kWordBits + static_cast<uint64_t>(std::countr_zero(word)), 0};
    if (run.first >= end) {
        return std::nullopt;
    }
    uint64_t bit = run.first % kWordBits;
    for (;;) {
        const auto ones = static_cast<uint64_t>(std::countr_one(words_[index] >> bit));
        run.count += ones;
        if (bit + ones < kWordBits || run.count >= count_max || ++index == words) {
            break;
        }
        bit = 0;
    }
    run.count = std::min({run.count, count_max, end - run.first});
    return run;
}

PageMarks::PageMarks(uint64_t pages)
    : pages_(pages), words_(std::make_unique<std::atomic<uint64_t>[]>(word_count(pages))) {}

void PageMarks::mark(uint64_t first, uint64_t count) {
    for_each_word(pages_, first, count, [this](uint64_t index, uint64_t mask) {
        words_[index].fetch_or(mask, std::memory_order_release);
    });
}

void PageMarks::take_into(PageBitmap& into) {
    KUMOI_ASSERT(into.pages() == pages_);
    const std::span<uint64_t> words = into.words();
    for (size_t i = 0; i < words.size(); ++i) {
        if (words_[i].load(std::memory_order_relaxed) != 0) {
            words[i] |= words_[i].exchange(0, std::memory_order_acquire);
        }
    }
}

void PageMarks::clear() {
    for (uint64_t i = 0; i < word_count(pages_); ++i) {
        words_[i].store(0, std::memory_order_relaxed);
    }
}

}  // namespace kumoi::hypervisor
