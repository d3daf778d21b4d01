#include "hypervisor/block/vhost_user_queue.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"

namespace kumoi::hypervisor {

using namespace virtio_block;

namespace {

constexpr size_t kTableSize = 132;  // header, 127 buffers and some that had to be cut, status
constexpr uint8_t kStatusUntouched = 0xff;
constexpr int64_t kRetryNs = 200 * kNanosPerMilli;
constexpr int64_t kRetryInDrainMs = 50;
constexpr size_t kPageSize = 4096;

uint64_t address(const void* host) {
    return reinterpret_cast<uint64_t>(host);
}

void drain_eventfd(int fd) {
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t size = ::read(fd, &count, sizeof(count));
}

}  // namespace

struct VhostUserQueue::Page {
    std::array<DriverRing::Descriptor, kTableSize> table;
    Header header;
    Range range;
    uint8_t status;
};

size_t VhostUserQueue::memory_size() {
    static_assert(sizeof(Page) <= kPageSize);
    const size_t ring = (DriverRing::bytes(VhostUserDisk::kRingSize) + kPageSize - 1) / kPageSize;
    return (ring + VhostUserDisk::kRingSize) * kPageSize;
}

VhostUserQueue::VhostUserQueue(VhostUserDisk& disk, uint16_t index, EventLoop& loop,
                               DiskClient& client)
    : disk_(disk),
      index_(index),
      loop_(loop),
      client_(client),
      ring_(disk.queue_memory(index).subspan(VhostUserDisk::kRingSize * kPageSize),
            VhostUserDisk::kRingSize),
      slots_(VhostUserDisk::kRingSize) {
    for (uint16_t slot = 0; slot < VhostUserDisk::kRingSize; ++slot) {
        free_.push_back(static_cast<uint16_t>(VhostUserDisk::kRingSize - 1 - slot));
    }
}

VhostUserQueue::~VhostUserQueue() {
    KUMOI_ASSERT(busy_count() == 0);
    if (retry_) {
        loop_.cancel(*retry_);
    }
    if (connection_) {
        disk_.stop_ring(connection_, index_);
    }
    detach();
    disk_.queue_closed(index_);
}

VhostUserQueue::Page& VhostUserQueue::page(uint16_t slot) {
    return *reinterpret_cast<Page*>(disk_.queue_memory(index_).data() + slot * kPageSize);
}

Result<void> VhostUserQueue::open() {
    kick_ = TRY(make_eventfd());
    call_ = TRY(make_eventfd());
    call_watch_ = TRY(loop_.watch(call_.get(), EventLoop::kReadable, [this](uint32_t /*events*/) {
        drain_eventfd(call_.get());
        reap();
    }));
    if (auto attached = attach(); !attached.ok()) {
        lose(attached.error());  // it may come back, and the guest must not end for that
    }
    return {};
}

// --- Requests ---

bool VhostUserQueue::submit(DiskRequest& request) {
    if (free_.empty()) {
        return false;
    }
    const uint16_t slot = free_.back();
    free_.pop_back();
    Slot& taken = slots_[slot];
    taken.operation = request.operation;
    taken.may_unmap = request.may_unmap;
    taken.busy = true;
    taken.token = request.token;
    taken.offset = request.offset;
    taken.left = request.size;
    std::swap(taken.vectors, request.vectors);
    const bool no_cache = taken.operation == DiskOperation::Flush && !disk_.has(kFeatureFlush);
    if (no_cache || !fill(slot)) {
        complete(slot, no_cache ? 0 : -EIO);
        return true;
    }
    if (connection_) {
        give(slot);
    }
    return true;
}

void VhostUserQueue::kick() {
    if (connection_ && ring_.publish()) {
        const uint64_t one = 1;
        [[maybe_unused]] const ssize_t size = ::write(kick_.get(), &one, sizeof(one));
    }
}

// How much of a range one request of the back end may cover.
uint64_t VhostUserQueue::step_max(const Slot& slot) const {
    switch (slot.operation) {
        case DiskOperation::Discard: return uint64_t{disk_.config().max_discard_sectors} * 512;
        case DiskOperation::WriteZeroes:
            return uint64_t{disk_.config().max_write_zeroes_sectors} * 512;
        default: return slot.left;
    }
}

// Writes the slot's page and descriptor. False when the request cannot be said to this back end.
bool VhostUserQueue::fill(uint16_t slot) {
    Slot& request = slots_[slot];
    Page& shared = page(slot);
    request.step = std::min(request.left, step_max(request));
    shared.header = {kTypeIn, 0, request.offset / kSectorSize};
    shared.status = kStatusUntouched;
    size_t count = 0;
    const auto add = [&](const void* at, uint64_t size, uint16_t flags) {
        const auto next = static_cast<uint16_t>(count + 1);
        shared.table[count++] = {address(at), static_cast<uint32_t>(size),
                                 static_cast<uint16_t>(flags | DriverRing::kNext), next};
    };
    add(&shared.header, sizeof(Header), 0);
    switch (request.operation) {
        case DiskOperation::Read: break;
        case DiskOperation::Write: shared.header.type = kTypeOut; break;
        case DiskOperation::Flush:
            shared.header.type = kTypeFlush;
            shared.header.sector = 0;
            break;
        case DiskOperation::Discard:
        case DiskOperation::WriteZeroes:
            shared.header.type =
                request.operation == DiskOperation::Discard ? kTypeDiscard : kTypeWriteZeroes;
            shared.header.sector = 0;
            shared.range = {
                request.offset / kSectorSize, static_cast<uint32_t>(request.step / kSectorSize),
                request.operation == DiskOperation::WriteZeroes && request.may_unmap ? kRangeUnmap
                                                                                     : 0};
            add(&shared.range, sizeof(Range), 0);
            break;
    }
    if (!add_data(slot, count)) {
        return false;
    }
    shared.table[count] = {address(&shared.status), 1, DriverRing::kWrite, 0};
    ++count;
    ring_.set_descriptor(slot, {address(shared.table.data()), static_cast<uint32_t>(16 * count),
                                DriverRing::kIndirect, 0});
    return true;
}

bool VhostUserQueue::add_data(uint16_t slot, size_t& count) {
    const Slot& request = slots_[slot];
    const uint64_t piece_max = disk_.has(kFeatureSizeMax) && disk_.config().size_max != 0
                                   ? disk_.config().size_max
                                   : UINT32_MAX;
    const uint16_t flags = static_cast<uint16_t>(
        DriverRing::kNext | (request.operation == DiskOperation::Read ? DriverRing::kWrite : 0));
    for (const iovec& vector : request.vectors) {
        for (uint64_t done = 0; done < vector.iov_len;) {
            if (count + 1 >= kTableSize) {
                return false;
            }
            const uint64_t size = std::min<uint64_t>(vector.iov_len - done, piece_max);
            page(slot).table[count] = {address(vector.iov_base) + done, static_cast<uint32_t>(size),
                                       flags, static_cast<uint16_t>(count + 1)};
            ++count;
            done += size;
        }
    }
    return true;
}

void VhostUserQueue::give(uint16_t slot) {
    ring_.give(slot);
}

void VhostUserQueue::reap() {
    while (connection_) {
        const auto taken = ring_.take();
        if (!taken.ok()) {
            lose(taken.error());
            break;
        }
        if (!taken->has_value()) {
            break;
        }
        answered(**taken);
    }
    kick();
    client_.disk_batch_done();
}

void VhostUserQueue::answered(uint16_t slot) {
    Slot& request = slots_[slot];
    const uint8_t status =
        std::atomic_ref<uint8_t>(page(slot).status).load(std::memory_order_relaxed);
    if (status != kStatusOk) {
        complete(slot, status == kStatusUnsupported ? -EOPNOTSUPP : -EIO);
        return;
    }
    request.offset += request.step;
    request.left -= request.step;
    if (request.left == 0) {
        complete(slot, 0);
    } else if (fill(slot)) {
        give(slot);
    } else {
        complete(slot, -EIO);
    }
}

void VhostUserQueue::complete(uint16_t slot, int result) {
    Slot& request = slots_[slot];
    request.busy = false;
    request.vectors.clear();
    free_.push_back(slot);
    // A back end may know no discards though it said so: a discard is a hint.
    const bool hint = request.operation == DiskOperation::Discard && result == -EOPNOTSUPP;
    client_.disk_completed(request.token, hint ? 0 : result);
}

// --- The back end ---

Result<void> VhostUserQueue::attach() {
    VhostUserDisk::Connection connection = TRY(disk_.connection());
    ring_.reset();
    drain_eventfd(kick_.get());
    drain_eventfd(call_.get());
    for (uint16_t slot = 0; slot < slots_.size(); ++slot) {
        if (slots_[slot].busy && fill(slot)) {
            give(slot);
        }
    }
    if (auto started = disk_.start_ring(connection, {.index = index_,
                                                     .size = ring_.size(),
                                                     .descriptors = ring_.descriptors(),
                                                     .available = ring_.available(),
                                                     .used = ring_.used(),
                                                     .kick_fd = kick_.get(),
                                                     .call_fd = call_.get()});
        !started.ok()) {
        disk_.drop(connection, started.error());
        return started;
    }
    connection_watch_ = TRY(loop_.watch(connection->fd(), EventLoop::kReadable,
                                        [this](uint32_t /*events*/) { connection_readable(); }));
    if (index_ == 0 && connection->backend_channel_fd() >= 0) {
        backend_watch_ = TRY(
            loop_.watch(connection->backend_channel_fd(), EventLoop::kReadable,
                        [this](uint32_t /*events*/) { disk_.take_backend_requests(connection_); }));
    }
    connection_ = std::move(connection);
    kick();
    return {};
}

void VhostUserQueue::detach() {
    connection_watch_.reset();
    backend_watch_.reset();
    connection_.reset();
}

void VhostUserQueue::connection_readable() {
    if (disk_.has_gone(connection_)) {
        lose(Error::unavailable("it closed the connection"));
    }
}

void VhostUserQueue::lose(const Error& why) {
    if (connection_) {
        disk_.drop(connection_, why);
    }
    detach();
    retry_later();
}

void VhostUserQueue::retry_later() {
    if (!retry_) {
        retry_ = loop_.call_after(kRetryNs, [this] {
            retry_.reset();
            try_again();
        });
    }
}

void VhostUserQueue::try_again() {
    if (!connection_ && !attach().ok()) {
        detach();
        retry_later();
    }
}

// Blocks, but not for ever: neither a back end that died nor one that hangs may keep the machine
// from pausing.
void VhostUserQueue::drain() {
    const SystemClock clock;  // real time: what is waited for is another process
    const int64_t end = clock.monotonic_ns() + disk_.options().drain_timeout_ms * kNanosPerMilli;
    while (busy_count() > 0) {
        const int64_t left_ms = (end - clock.monotonic_ns()) / kNanosPerMilli;
        if (left_ms <= 0) {
            fail_all();
            break;
        }
        kick();
        std::array<pollfd, 2> polled{{{call_.get(), POLLIN, 0}, {-1, POLLIN, 0}}};
        if (connection_) {
            polled[1].fd = connection_->fd();
        }
        ::poll(polled.data(), polled.size(),
               static_cast<int>(connection_ ? left_ms : std::min(left_ms, kRetryInDrainMs)));
        drain_eventfd(call_.get());
        reap();
        if (connection_ && polled[1].revents != 0) {
            connection_readable();
        }
        if (!connection_) {
            try_again();
        }
    }
    client_.disk_batch_done();
}

void VhostUserQueue::fail_all() {
    if (connection_) {
        lose(Error::timeout("requests were not answered within {} ms",
                            disk_.options().drain_timeout_ms));
    }
    for (uint16_t slot = 0; slot < slots_.size(); ++slot) {
        if (slots_[slot].busy) {
            complete(slot, -EIO);
        }
    }
}

}  // namespace kumoi::hypervisor
