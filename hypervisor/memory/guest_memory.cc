#include "hypervisor/memory/guest_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kumoi::hypervisor {

namespace {
constexpr uint64_t kPageSize = 4096;
}

Result<GuestMemory> GuestMemory::create(uint64_t size) {
    if (size == 0 || size % kPageSize != 0) {
        return Error::invalid("guest memory of {} bytes is not a positive multiple of {} bytes",
                              size, kPageSize);
    }
    GuestMemory memory;
    memory.memfd_ = UniqueFd(memfd_create("kumoi-guest-ram", MFD_CLOEXEC));
    if (!memory.memfd_.is_open()) {
        return Error::from_errno(errno, "creating the memory file of the guest");
    }
    if (ftruncate(memory.memfd_.get(), static_cast<off_t>(size)) != 0) {
        return Error::from_errno(errno,
                                 fmt::format("sizing the guest's memory to {} MiB", size >> 20))
            .with_hint(
                "give the guest less memory, or raise the limit of this process (ulimit -f)");
    }
    // MAP_NORESERVE: pages come when touched; overcommit is the node's decision, made before us.
    memory.mapping_ = TRY_CONTEXT(
        Mapping::map(memory.memfd_.get(), size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE),
        "mapping {} MiB of guest memory", size >> 20);
    std::byte* host = memory.mapping_.data();
    const uint64_t low = std::min(size, kPciHoleStart);
    memory.regions_.push_back({0, low, 0, host});
    if (size > low) {
        memory.regions_.push_back({kHighMemoryStart, size - low, low, host + low});
    }
    return memory;
}

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
    return {};
}

Result<void> GuestMemory::fill(uint64_t gpa, uint64_t size, std::byte value) {
    if (size == 0) {
        return {};
    }
    const std::span<std::byte> host = TRY(host_span(gpa, size));
    std::memset(host.data(), static_cast<int>(value), size);
    return {};
}

Result<void> GuestMemory::clear() {
    const auto size = static_cast<off_t>(mapping_.size());
    if (fallocate(memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size) != 0) {
        return Error::from_errno(errno, "giving back the guest's memory");
    }
    return {};
}

Result<uint64_t> GuestMemory::discard(uint64_t gpa, uint64_t size) {
    const std::lock_guard lock(discard_->mutex);
    uint64_t done = 0;
    if (discard_->forbidden > 0) {
        return done;
    }
    const uint64_t end = size > UINT64_MAX - gpa ? UINT64_MAX : gpa + size;
    for (const MemoryRegion& region : regions_) {
        const uint64_t from = (std::max(gpa, region.gpa) + kPageSize - 1) & ~(kPageSize - 1);
        const uint64_t to = std::min(end, region.gpa + region.size) & ~(kPageSize - 1);
        if (from >= to) {
            continue;
        }
        const auto offset = static_cast<off_t>(region.file_offset + (from - region.gpa));
        if (fallocate(memfd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                      static_cast<off_t>(to - from)) != 0) {
            return Error::from_errno(errno, "giving back a part of the guest's memory");
        }
        done += to - from;
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

std::optional<uint64_t> GuestMemory::address_of(std::span<const std::byte> host) const {
    for (const MemoryRegion& region : regions_) {
        if (host.data() >= region.host && host.data() < region.host + region.size) {
            return region.gpa + static_cast<uint64_t>(host.data() - region.host);
        }
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
