#include "hypervisor/memory/guest_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kPageSize = 4096;

// One that is somebody's memory already is not cut.
Result<void> check_size(int file, uint64_t wanted) {
    struct stat status {};
    if (fstat(file, &status) != 0) {
        return Error::from_errno(errno, "looking at the guest's memory");
    }
    const auto size = static_cast<uint64_t>(status.st_size);
    if (size != 0 && size != wanted) {
        return Error::invalid("the guest's memory has {} MiB, this machine's {}", size >> 20,
                              wanted >> 20)
            .with_hint("a newer process needs the configuration of the older one");
    }
    return {};
}

}  // namespace

Result<GuestMemory> GuestMemory::create(uint64_t size) {
    Options options;
    options.size = size;
    return create(options, system_memory_host());
}

Result<GuestMemory> GuestMemory::create(const Options& options, MemoryHost& host) {
    const uint64_t size = options.size;
    GuestMemory memory;
    memory.page_size_ = std::max(options.page_size, kPageSize);
    if (size == 0 || size % memory.page_size_ != 0) {
        return Error::invalid("guest memory of {} bytes is not a positive multiple of {} bytes",
                              size, memory.page_size_);
    }
    memory.memfd_ = TRY(host.make_file(options.page_size));
    const uint64_t all = size + options.hot.size;
    TRY(check_size(memory.memfd_.get(), all));
    if (ftruncate(memory.memfd_.get(), static_cast<off_t>(all)) != 0) {
        return Error::from_errno(errno,
                                 fmt::format("sizing the guest's memory to {} MiB", all >> 20))
            .with_hint(
                "give the guest less memory, or raise the limit of this process (ulimit -f)");
    }
    // MAP_NORESERVE: pages come when touched; overcommit is the node's decision, made before us.
    // Huge pages are reserved at once: without one, a touch would kill this process.
    const int reserve = options.page_size == 0 ? MAP_NORESERVE : 0;
    memory.mapping_ = TRY_CONTEXT(
        Mapping::map(memory.memfd_.get(), all, PROT_READ | PROT_WRITE, MAP_SHARED | reserve),
        "mapping {} MiB of guest memory in pages of {} KiB", all >> 20, memory.page_size_ >> 10);
    std::byte* mapped = memory.mapping_.data();
    const uint64_t low = std::min(size, kPciHoleStart);
    memory.regions_.push_back({0, low, 0, mapped});
    if (size > low) {
        memory.regions_.push_back({kHighMemoryStart, size - low, low, mapped + low});
    }
    memory.hot_ = options.hot;
    if (options.hot.size != 0) {
        memory.plugged_ =
            std::make_unique<std::atomic<bool>[]>(options.hot.size / options.hot.block_size);
    }
    return memory;
}

// --- Memory that comes and goes ---

uint64_t GuestMemory::end() const {
    const MemoryRegion& last = regions_.back();
    return hot_.size != 0 ? hot_.base + hot_.size : last.gpa + last.size;
}

std::span<std::byte> GuestMemory::hot_bytes(uint32_t block) const {
    return mapping_.bytes().subspan(boot_size() + block * hot_.block_size, hot_.block_size);
}

Result<void> GuestMemory::plug_hot(uint32_t block, HotContent content) {
    if (content == HotContent::Zero) {
        TRY(punch_block(block));  // what a late write left there
    }
    plugged_[block].store(true, std::memory_order_release);
    return {};
}

Result<void> GuestMemory::unplug_hot(uint32_t block) {
    plugged_[block].store(false, std::memory_order_release);
    if (auto done = punch_block(block); !done.ok()) {
        plugged_[block].store(true, std::memory_order_release);
        return done;
    }
    return {};
}

std::vector<MemoryRegion> GuestMemory::plugged_regions() const {
    std::vector<MemoryRegion> regions;
    for (uint64_t offset = 0; offset < hot_.size; offset += hot_.block_size) {
        if (!plugged_[offset / hot_.block_size].load(std::memory_order_acquire)) {
            continue;
        }
        if (!regions.empty() && regions.back().gpa + regions.back().size == hot_.base + offset) {
            regions.back().size += hot_.block_size;
            continue;
        }
        const uint64_t in_file = boot_size() + offset;
        regions.push_back(
            {hot_.base + offset, hot_.block_size, in_file, mapping_.data() + in_file});
    }
    return regions;
}

Result<void> GuestMemory::punch(uint64_t offset, uint64_t size) const {
    if (fallocate(memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  static_cast<off_t>(offset), static_cast<off_t>(size)) != 0) {
        return Error::from_errno(errno, "giving back a part of the guest's memory");
    }
    mark_written(mapping_.bytes().subspan(offset, size));  // it reads as zero now
    return {};
}

Result<void> GuestMemory::punch_block(uint32_t block) const {
    TRY(check_discard());
    return punch(boot_size() + block * hot_.block_size, hot_.block_size);
}

// A range in the hot region is memory where every block of it is plugged.
Result<std::span<std::byte>> GuestMemory::hot_span(uint64_t gpa, uint64_t size) const {
    const uint64_t offset = gpa - hot_.base;
    bool whole = size <= hot_.size - offset;
    for (uint64_t block = offset / hot_.block_size;
         whole && block <= (offset + std::max<uint64_t>(size, 1) - 1) / hot_.block_size; ++block) {
        whole = plugged_[block].load(std::memory_order_acquire);
    }
    if (!whole) {
        return Error::invalid("guest address {:#x}+{:#x} is in memory that is not plugged", gpa,
                              size);
    }
    return mapping_.bytes().subspan(boot_size() + offset, size);
}

// --- Access ---

Result<std::span<std::byte>> GuestMemory::host_span(uint64_t gpa, uint64_t size) const {
    for (const MemoryRegion& region : regions_) {
        if (gpa >= region.gpa && gpa - region.gpa < region.size) {
            const uint64_t offset = gpa - region.gpa;
            if (size > region.size - offset) {
                break;
            }
            return std::span<std::byte>(region.host + offset, size);
        }
    }
    if (in_hot(gpa)) {
        return hot_span(gpa, size);
    }
    return Error::invalid("guest address {:#x}+{:#x} is not in the guest's memory", gpa, size);
}

Result<void> GuestMemory::read(uint64_t gpa, std::span<std::byte> out) const {
    if (out.empty()) {
        return {};
    }
    const std::span<std::byte> host = TRY(host_span(gpa, out.size()));
    std::memcpy(out.data(), host.data(), out.size());
    return {};
}

Result<void> GuestMemory::write(uint64_t gpa, std::span<const std::byte> bytes) {
    if (bytes.empty()) {
        return {};
    }
    const std::span<std::byte> host = TRY(host_span(gpa, bytes.size()));
    std::memcpy(host.data(), bytes.data(), bytes.size());
    mark_written(host);
    return {};
}

Result<void> GuestMemory::fill(uint64_t gpa, uint64_t size, std::byte value) {
    if (size == 0) {
        return {};
    }
    const std::span<std::byte> host = TRY(host_span(gpa, size));
    std::memset(host.data(), static_cast<int>(value), size);
    mark_written(host);
    return {};
}

Result<void> GuestMemory::clear() {
    return punch(0, mapping_.size());
}

Result<uint64_t> GuestMemory::discard(uint64_t gpa, uint64_t size) {
    const std::lock_guard lock(discard_->mutex);
    uint64_t done = 0;
    if (discard_->forbidden > 0) {
        return done;
    }
    const uint64_t mask = page_size_ - 1;
    const uint64_t end = size > UINT64_MAX - gpa ? UINT64_MAX : gpa + size;
    std::vector<MemoryRegion> all = regions_;
    const auto plugged = plugged_regions();
    all.insert(all.end(), plugged.begin(), plugged.end());
    for (const MemoryRegion& region : all) {
        const uint64_t from = (std::max(gpa, region.gpa) + mask) & ~mask;
        const uint64_t to = std::min(end, region.gpa + region.size) & ~mask;
        if (from < to) {
            TRY(punch(region.file_offset + (from - region.gpa), to - from));
            done += to - from;
        }
    }
    return done;
}

void GuestMemory::forbid_discard() {
    const std::lock_guard lock(discard_->mutex);
    ++discard_->forbidden;
}

void GuestMemory::allow_discard() {
    const std::lock_guard lock(discard_->mutex);
    --discard_->forbidden;
}

Result<void> GuestMemory::check_discard() const {
    const std::lock_guard lock(discard_->mutex);
    return discard_->forbidden == 0
               ? Result<void>()
               : Error::unavailable("memory is being saved: nothing of it comes or goes meanwhile");
}

// --- What this process writes ---

// A thread that has just written and saw that nobody wants to know may have its write still on the
// way when we return: the barrier waits for it, so that whoever reads next sees it.
Result<void> GuestMemory::start_marking() {
    if (!writes_->marks) {
        writes_->marks = std::make_unique<PageMarks>(file_pages());
    }
    writes_->marks->clear();
    writes_->active.store(writes_->marks.get(), std::memory_order_seq_cst);
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0 ||
        syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0) {
        const int error = errno;
        stop_marking();
        return Error::from_errno(error, "waiting for all processors (membarrier)")
            .with_hint("run a Linux with CONFIG_MEMBARRIER on the host");
    }
    return {};
}

void GuestMemory::take_marks(PageBitmap& into) const {
    if (writes_->marks) {
        writes_->marks->take_into(into);
    }
}

void GuestMemory::mark(PageMarks& marks, std::span<const std::byte> host) const {
    if (host.empty() || host.data() < mapping_.data() ||
        host.data() >= mapping_.data() + mapping_.size()) {
        return;  // not of the memory file
    }
    const auto offset = static_cast<uint64_t>(host.data() - mapping_.data());
    const uint64_t first = offset / kPageSize;
    marks.mark(first, (offset + host.size() - 1) / kPageSize - first + 1);
}

std::optional<uint64_t> GuestMemory::address_of(std::span<const std::byte> host) const {
    for (const MemoryRegion& region : regions_) {
        if (host.data() >= region.host && host.data() < region.host + region.size) {
            return region.gpa + static_cast<uint64_t>(host.data() - region.host);
        }
    }
    const std::span<std::byte> behind = mapping_.bytes().subspan(boot_size());
    if (!behind.empty() && host.data() >= behind.data() &&
        host.data() < behind.data() + behind.size()) {
        return hot_.base + static_cast<uint64_t>(host.data() - behind.data());
    }
    return std::nullopt;
}

uint64_t GuestMemory::resident_bytes() const {
    constexpr uint64_t kStatBlock = 512;
    struct stat status {};
    return fstat(memfd_.get(), &status) == 0 ? static_cast<uint64_t>(status.st_blocks) * kStatBlock
                                             : 0;
}

}  // namespace kumoi::hypervisor
