// FreePageHints: a guest that tells which of its pages are free, so that a migration need not carry
// what is in them.
//
// Why a page that was called free can be left out, and no write to it is missed. In this order:
//   1. the dirty log is started and its pages rearmed (dirty_log.h): every later write is logged;
//   2. begin(): the guest is asked, under a number that it has not seen before;
//   3. it finds a page free, and tells so together with that number;
//   4. the page is marked; the sender passes it over, and does not rearm it.
// Whatever the guest writes to the page after 3, that is, once it is in use again, comes after
// 1: it is in the log, and step 4 takes nothing away from the log: the page comes with the next
// round. The danger would be a hint from before a rearm or a collection of the log, for it could
// hide a write that was logged, collected and forgotten in between. Hence a hint with an older
// number counts for nothing, and marks are looked at in that one round only whose pages were
// rearmed before begin().
// A guest that lies loses the content of pages of its own.
//
// All of it: one thread at a time, any thread. Marks come from another one.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

namespace kumoi::hypervisor {

// Pages of a memory file that are called free: one thread marks, any number look.
class FreePages {
public:
    explicit FreePages(uint64_t pages)
        : pages_(pages), words_(std::make_unique<std::atomic<uint64_t>[]>((pages + 63) / 64)) {}
    // Of a range the part behind the last page is passed over.
    void mark(uint64_t first, uint64_t count) {
        first = std::min(first, pages_);
        const uint64_t end = first + std::min(count, pages_ - first);
        for (uint64_t page = first; page < end; page = (page / 64 + 1) * 64) {
            const uint64_t bits = std::min(end - page, 64 - page % 64);
            const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
            words_[page / 64].fetch_or(mask << page % 64, std::memory_order_release);
        }
    }
    bool test(uint64_t page) const {
        return (words_[page / 64].load(std::memory_order_acquire) >> page % 64 & 1) != 0;
    }

private:
    uint64_t pages_;
    std::unique_ptr<std::atomic<uint64_t>[]> words_;
};

class FreePageHints {
public:
    struct Progress {
        uint64_t pages = 0;  // marked so far
        bool complete = false;
    };
    virtual ~FreePageHints() = default;
    // False: nobody is there who could tell, or what is in free pages matters to the guest.
    virtual bool available() const = 0;
    // Asks for all free pages. False: as above.
    virtual bool begin(FreePages& into) = 0;
    virtual Progress progress() const = 0;
    // The guest may use its free pages again. When this returns no mark is made any more.
    virtual void end() = 0;
};

}  // namespace kumoi::hypervisor
