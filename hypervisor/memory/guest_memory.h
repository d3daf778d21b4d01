// GuestMemory: guest RAM as checked, copy-in/copy-out access by guest physical address (gpa).
//
// RAM is one memfd mapped MAP_SHARED, laid out as regions around the PCI hole; behind it in the
// same file lies what may be plugged later, block by block (HotMemoryPlan). Every address and
// length that comes from the guest goes through here and is bounds-checked; a refused access is an
// Error, never a crash. The guest may write the same bytes at any moment: copy first, then check
// the copy. Thread safe: regions are fixed once created, blocks come and go atomically (who had a
// view of one before it went still writes to the file, harmlessly); concurrent data races with the
// guest are inherent and limited to the bytes copied.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/memory/hot_memory.h"
#include "hypervisor/memory/memory_host.h"
#include "hypervisor/memory/page_bitmap.h"

namespace kumoi::hypervisor {

struct MemoryRegion {
    uint64_t gpa = 0;
    uint64_t size = 0;         // bytes
    uint64_t file_offset = 0;  // in the memfd
    std::byte* host = nullptr;
};

constexpr uint64_t kPciHoleStart = 0x8000'0000;       // RAM below: at most 2 GiB
constexpr uint64_t kHighMemoryStart = 0x1'0000'0000;  // the rest of RAM starts here

class GuestMemory {
public:
    // RAM of `size` bytes (a multiple of 4096): up to 2 GiB at 0, the rest at 4 GiB.
    static Result<GuestMemory> create(uint64_t size);
    struct Options {
        uint64_t size = 0;       // bytes at boot
        uint64_t page_size = 0;  // of huge pages; 0: ordinary ones
        HotMemoryPlan hot;
    };
    static Result<GuestMemory> create(const Options& options, MemoryHost& host);
    GuestMemory(GuestMemory&&) = default;
    GuestMemory& operator=(GuestMemory&&) = default;

    Result<void> read(uint64_t gpa, std::span<std::byte> out) const;
    Result<void> write(uint64_t gpa, std::span<const std::byte> bytes);
    Result<void> fill(uint64_t gpa, uint64_t size, std::byte value);
    // All zero again, and given back to the host: what a machine reset starts from. Nothing else
    // may touch the memory meanwhile.
    Result<void> clear();
    // Gives the whole pages inside [gpa, gpa + size) back to the host; they read as zero when they
    // are touched again. Returns the bytes given back; parts outside RAM are passed over, and none
    // are given back while somebody forbids it.
    Result<uint64_t> discard(uint64_t gpa, uint64_t size);
    // While the content of RAM is being copied by somebody who must not see it change (a live
    // snapshot): no discard is under way once this returns. Calls nest.
    void forbid_discard();
    void allow_discard();
    Result<void> check_discard() const;  // Unavailable while somebody forbids it
    uint64_t resident_bytes() const;     // backed by host pages now
    template <class T>
        requires std::is_trivially_copyable_v<T>
    Result<T> load(uint64_t gpa) const {
        T value;
        TRY(read(gpa, std::as_writable_bytes(std::span(&value, 1))));
        return value;
    }
    template <class T>
        requires std::is_trivially_copyable_v<T>
    Result<void> store(uint64_t gpa, const T& value) {
        return write(gpa, std::as_bytes(std::span(&value, 1)));
    }
    // Host view of [gpa, gpa+size), which must lie inside one region. For I/O buffers and for rings
    // that were checked once: never check bytes through it and then use them through it again.
    // Whoever writes through it says so with mark_written(), after the write.
    Result<std::span<std::byte>> host_span(uint64_t gpa, uint64_t size) const;
    // For a DirtyLog: these bytes of a host view were written by this process or for it. Any
    // thread; nothing but a look at a pointer while nobody wants to know.
    void mark_written(std::span<const std::byte> host) const {
        if (PageMarks* marks = writes_->active.load(std::memory_order_acquire)) {
            mark(*marks, host);
        }
    }
    // From the return on, every write by this process is marked. One thread at a time.
    Result<void> start_marking();
    void stop_marking() { writes_->active.store(nullptr, std::memory_order_release); }
    bool marking() const { return writes_->active.load(std::memory_order_acquire) != nullptr; }
    void take_marks(PageBitmap& into) const;  // adds them to `into`, of file_pages()
    uint64_t file_pages() const { return mapping_.size() / PageBitmap::kPageSize; }
    std::span<std::byte> file_bytes() const { return mapping_.bytes(); }

    // Where a host view from host_span() lies for the guest; empty when it is not ours.
    std::optional<uint64_t> address_of(std::span<const std::byte> host) const;

    const std::vector<MemoryRegion>& regions() const { return regions_; }
    uint64_t size() const { return mapping_.size(); }  // of the file: with what may be plugged
    uint64_t boot_size() const { return mapping_.size() - hot_.size; }
    std::span<std::byte> boot_bytes() const { return mapping_.bytes().first(boot_size()); }
    bool huge_pages() const { return page_size_ > 4096; }
    // First address behind all memory there is or may be.
    uint64_t end() const;

    const HotMemoryPlan& hot() const { return hot_; }
    // A block becomes memory, or stops being any and the host has its pages back. Unavailable while
    // discards are forbidden. One thread at a time; others may access memory meanwhile.
    Result<void> plug_hot(uint32_t block, HotContent content = HotContent::Zero);
    Result<void> unplug_hot(uint32_t block);
    // The block's bytes on the host, plugged or not: what the guest is to see there.
    std::span<std::byte> hot_bytes(uint32_t block) const;
    // What is plugged, as regions, neighbours joined.
    std::vector<MemoryRegion> plugged_regions() const;
    int fd() const { return memfd_.get(); }

private:
    struct DiscardGate {
        std::mutex mutex;
        int forbidden = 0;
    };
    struct Writes {
        std::atomic<PageMarks*> active{nullptr};  // `marks`, while somebody wants them
        std::unique_ptr<PageMarks> marks;         // made once; never freed under a writer
    };
    GuestMemory() = default;
    void mark(PageMarks& marks, std::span<const std::byte> host) const;
    Result<void> punch(uint64_t offset, uint64_t size) const;
    Result<void> punch_block(uint32_t block) const;
    Result<std::span<std::byte>> hot_span(uint64_t gpa, uint64_t size) const;
    bool in_hot(uint64_t gpa) const { return gpa >= hot_.base && gpa - hot_.base < hot_.size; }

    UniqueFd memfd_;
    Mapping mapping_;
    std::vector<MemoryRegion> regions_;
    uint64_t page_size_ = 0;  // what the host gives and takes back at once
    HotMemoryPlan hot_;
    std::unique_ptr<std::atomic<bool>[]> plugged_;                            // by block
    std::unique_ptr<DiscardGate> discard_ = std::make_unique<DiscardGate>();  // stays when we move
    std::unique_ptr<Writes> writes_ = std::make_unique<Writes>();             // so does this
};

}  // namespace kumoi::hypervisor
