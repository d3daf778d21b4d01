#include "hypervisor/block/vhost_user_disk.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "hypervisor/block/vhost_user_queue.h"
#include "hypervisor/memory/guest_memory.h"
#include "hypervisor/virtio/spec.h"

namespace kumoi::hypervisor {

using namespace virtio_block;

namespace {

constexpr uint64_t kRequired = virtio::kFeatureVersion1 | virtio::kFeatureIndirectDescriptors;
constexpr uint64_t kWanted = kFeatureSizeMax | kFeatureSegMax | kFeatureReadOnly |
                             kFeatureBlockSize | kFeatureFlush | kFeatureMultiQueue |
                             kFeatureDiscard | kFeatureWriteZeroes;
constexpr uint64_t kProtocolWanted = vhost_user::kProtocolMultiQueue |
                                     vhost_user::kProtocolReplyAck | vhost_user::kProtocolConfig |
                                     vhost_user::kProtocolBackendRequest;
constexpr uint64_t kCapacitySectorsMax = 1ull << 54;  // bytes fit in 63 bits

// Our own addresses are what the back end knows everything by: requests need no translation.
VhostUserConnection::MemoryTableRegion region_at(const std::byte* host, uint64_t size, int fd,
                                                 uint64_t file_offset) {
    return {reinterpret_cast<uint64_t>(host), size, host, fd, file_offset};
}

}  // namespace

Result<std::unique_ptr<DiskImage>> VhostUserDisk::open(Options options, UniqueFd first,
                                                       const GuestMemory& memory) {
    std::unique_ptr<VhostUserDisk> disk(new VhostUserDisk(std::move(options), memory));
    TRY_CONTEXT(disk->first_connect(std::move(first)), "vhost-user disk {}", disk->options_.socket);
    return Result<std::unique_ptr<DiskImage>>(std::move(disk));
}

VhostUserDisk::~VhostUserDisk() = default;

Result<void> VhostUserDisk::first_connect(UniqueFd socket) {
    const size_t size = kQueueCountMax * VhostUserQueue::memory_size();
    shared_fd_ = UniqueFd(::memfd_create("kumoi-vhost-user-rings", MFD_CLOEXEC));
    if (!shared_fd_.is_open() || ::ftruncate(shared_fd_.get(), static_cast<off_t>(size)) != 0) {
        return Error::from_errno(errno, "memory for the rings");
    }
    shared_ = TRY(Mapping::map(shared_fd_.get(), size, PROT_READ | PROT_WRITE, MAP_SHARED));
    const std::lock_guard lock(mutex_);
    auto made = VhostUserConnection::over(std::move(socket), {.timeout_ms = options_.timeout_ms});
    TRY(negotiate_locked(*made));
    connection_ = std::move(made);
    return {};
}

std::span<std::byte> VhostUserDisk::queue_memory(uint16_t index) {
    return shared_.bytes().subspan(index * VhostUserQueue::memory_size(),
                                   VhostUserQueue::memory_size());
}

Result<std::unique_ptr<VhostUserConnection>> VhostUserDisk::reconnect_locked() {
    const VhostUserConnection::Options connection_options{.timeout_ms = options_.timeout_ms};
    auto made = options_.connect
                    ? VhostUserConnection::over(TRY(options_.connect()), connection_options)
                    : TRY(VhostUserConnection::connect(options_.socket, connection_options));
    TRY(negotiate_locked(*made));
    return made;
}

// Negotiates and shares the memory. The first back end says what the disk is like; a
// later one must agree, for the guest has been told.
Result<void> VhostUserDisk::negotiate_locked(VhostUserConnection& made) {
    const bool first = features_ == 0;
    TRY(made.negotiate({.features = first ? kWanted : features_,
                        .features_required = first ? kRequired : features_ | kRequired,
                        .protocol_features = kProtocolWanted}));
    if (!made.has_protocol(vhost_user::kProtocolConfig)) {
        return Error::unsupported("the back end does not tell the disk's size (CONFIG)");
    }
    const Config config = TRY(read_config(made));
    const uint16_t queues = std::min(TRY(made.queue_count()), kQueueCountMax);
    if (first) {
        TRY(check_config(config));
        features_ = made.features() & (kWanted | kRequired);
        config_ = config;
        block_size_ = has(kFeatureBlockSize) ? config.blk_size : kSectorSize;
        queue_count_ = has(kFeatureMultiQueue) ? queues : 1;
    } else if (queues < queue_count_ || config.capacity * kSectorSize < size_ ||
               (has(kFeatureBlockSize) && config.blk_size > block_size_)) {
        return Error::conflict(
            "the new back end has {} queues and {} sectors of {} bytes; the "
            "guest knows of {} queues and {} sectors of {}",
            queues, uint64_t{config.capacity}, uint32_t{config.blk_size}, queue_count_,
            size_ / kSectorSize, block_size_);
    }
    size_ = config.capacity * kSectorSize;
    std::vector<VhostUserConnection::MemoryTableRegion> table{
        region_at(shared_.data(), shared_.size(), shared_fd_.get(), 0)};
    for (const MemoryRegion& region : memory_.regions()) {
        table.push_back(region_at(region.host, region.size, memory_.fd(), region.file_offset));
    }
    TRY(made.set_memory_table(table));
    if (made.has_protocol(vhost_user::kProtocolBackendRequest)) {
        TRY(made.open_backend_channel());
    }
    return {};
}

Result<Config> VhostUserDisk::read_config(VhostUserConnection& connection) const {
    Config config{};
    TRY(connection.read_config(std::as_writable_bytes(std::span(&config, 1))));
    if (config.capacity == 0 || config.capacity > kCapacitySectorsMax) {
        return Error::corrupt("the back end says the disk has {} sectors",
                              uint64_t{config.capacity});
    }
    return config;
}

Result<void> VhostUserDisk::check_config(const Config& config) const {
    if (config.blk_size != 512 && config.blk_size != 1024 && config.blk_size != 2048 &&
        config.blk_size != 4096) {
        return Error::unsupported("the back end's blocks have {} bytes; 512 to 4096 are possible",
                                  uint32_t{config.blk_size});
    }
    return {};
}

bool VhostUserDisk::can_discard() const {
    return !read_only() && has(kFeatureDiscard | kFeatureWriteZeroes) &&
           config_.max_discard_sectors != 0 && config_.max_write_zeroes_sectors != 0;
}

void VhostUserDisk::on_resize(std::function<void()> function) {
    const std::lock_guard lock(mutex_);
    resized_ = std::move(function);
}

// --- Queues ---

Result<std::unique_ptr<DiskQueue>> VhostUserDisk::open_queue(EventLoop& loop, DiskClient& client) {
    uint16_t index = 0;
    {
        const std::lock_guard lock(mutex_);
        while (index < queue_count_ && queues_open_[index]) {
            ++index;
        }
        if (index == queue_count_) {
            return Error::exhausted("all {} queues of {} are open", queue_count_, options_.socket);
        }
        queues_open_[index] = true;
    }
    auto queue = std::make_unique<VhostUserQueue>(*this, index, loop, client);
    TRY(queue->open());
    return Result<std::unique_ptr<DiskQueue>>(std::move(queue));
}

void VhostUserDisk::queue_closed(uint16_t index) {
    const std::lock_guard lock(mutex_);
    queues_open_[index] = false;
}

Result<VhostUserDisk::Connection> VhostUserDisk::connection() {
    std::function<void()> resized;
    Connection now;
    {
        const std::lock_guard lock(mutex_);
        if (!connection_) {
            const uint64_t size_before = size_;
            connection_ = TRY(reconnect_locked());
            if (loss_told_) {
                log_info("block", "the vhost-user back end is back", {{"disk", options_.socket}});
            }
            if (size_ != size_before) {  // the new one has more
                resized = resized_;
            }
        }
        now = connection_;
    }
    if (resized) {
        resized();
    }
    return now;
}

void VhostUserDisk::drop(const Connection& lost, const Error& why) {
    const std::lock_guard lock(mutex_);
    drop_locked(lost, why);
}

void VhostUserDisk::drop_locked(const Connection& lost, const Error& why) {
    if (connection_ != lost || !lost) {
        return;
    }
    connection_.reset();
    ::shutdown(lost->fd(), SHUT_RDWR);  // the other queues notice, and so does the back end
    loss_told_ = reports_.admit().has_value();
    if (loss_told_) {
        log_warn("block", "lost the vhost-user back end, requests wait for the next one",
                 {{"disk", options_.socket}, {"reason", why.text()}});
    }
}

Result<void> VhostUserDisk::start_ring(const Connection& connection,
                                       const VhostUserConnection::Ring& ring) {
    const std::lock_guard lock(mutex_);
    return connection->start_ring(ring);
}

void VhostUserDisk::stop_ring(const Connection& connection, uint16_t index) {
    const std::lock_guard lock(mutex_);
    if (connection == connection_) {
        if (auto stopped = connection->stop_ring(index); !stopped.ok()) {
            drop_locked(connection, stopped.error());
        }
    }
}

// Under the lock no answer is on its way, so anything to read is the end or nonsense.
bool VhostUserDisk::has_gone(const Connection& connection) {
    const std::lock_guard lock(mutex_);
    std::byte byte{};
    const ssize_t size = ::recv(connection->fd(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return size >= 0 || (errno != EAGAIN && errno != EINTR);
}

void VhostUserDisk::take_backend_requests(const Connection& connection) {
    std::function<void()> resized;
    {
        const std::lock_guard lock(mutex_);
        if (connection != connection_) {
            return;
        }
        const auto request = connection->take_backend_request();
        if (!request.ok()) {
            drop_locked(connection, request.error());
            return;
        }
        if (*request != vhost_user::BackendRequest::ConfigChange) {
            return;
        }
        const auto config = read_config(*connection);
        if (config.ok() && config->capacity * kSectorSize != size_) {
            size_ = config->capacity * kSectorSize;
            resized = resized_;
        }
    }
    if (resized) {
        resized();
    }
}

}  // namespace kumoi::hypervisor
