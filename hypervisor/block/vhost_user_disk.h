// VhostUserDisk: a DiskImage that a vhost-user-blk back end in another process serves: everything
// qemu-storage-daemon reaches (iSCSI, RBD, NBD, NFS, qcow2), SPDK and their like.
//
// The guest never sees the back end's rings and the back end never the guest's: requests are
// translated into rings in memory of our own, while their data goes directly between the back end
// and guest RAM. So a hostile guest cannot harm a back end nor the other way round, limits, pause
// and snapshots work as with any disk, and when a back end dies everything it had not answered is
// given to its successor. A guest's requests wait for as long as that takes; only a pause or reset
// that finds no back end for a while fails them.
// Threading as DiskImage: each queue on its I/O thread. The connection is shared by them under one
// lock.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"
#include "hypervisor/block/disk_image.h"
#include "hypervisor/limits/report_limit.h"
#include "hypervisor/vhost_user/connection.h"
#include "hypervisor/virtio/block_wire.h"

namespace kumoi::hypervisor {

class GuestMemory;

class VhostUserDisk final : public DiskImage {
public:
    static constexpr uint16_t kQueueCountMax = 16;
    static constexpr uint16_t kRingSize = 128;

    struct Options {
        std::string socket;
        // A new connection after the first is lost; empty: connects to `socket`. Any thread.
        std::function<Result<UniqueFd>()> connect;
        int64_t timeout_ms = 5000;         // of one answer
        int64_t drain_timeout_ms = 10000;  // how long a pause waits for requests in flight
    };

    // `first`: a connected socket.
    static Result<std::unique_ptr<DiskImage>> open(Options options, UniqueFd first,
                                                   const GuestMemory& memory);
    ~VhostUserDisk() override;

    std::string name() const override { return options_.socket; }
    uint64_t size() const override { return size_; }
    bool read_only() const override { return has(virtio_block::kFeatureReadOnly); }
    uint32_t block_size() const override { return block_size_; }
    bool write_cache() const override { return true; }
    bool can_discard() const override;
    uint16_t queue_count_max() const override { return queue_count_; }
    Result<std::unique_ptr<DiskQueue>> open_queue(EventLoop& loop, DiskClient& client) override;
    void on_resize(std::function<void()> function) override;

    // --- For its queues ---
    // shared_ptr: a queue watches the connection's descriptor until it has noticed that the
    // connection is lost, which another queue may have noticed and replaced before.
    using Connection = std::shared_ptr<VhostUserConnection>;
    // The connection now, made anew when the last one was lost.
    Result<Connection> connection();
    // The back end behind `lost` is of no use any more.
    void drop(const Connection& lost, const Error& why);
    Result<void> start_ring(const Connection& connection, const VhostUserConnection::Ring& ring);
    void stop_ring(const Connection& connection, uint16_t index);
    // Its descriptor became readable: whether the back end has gone.
    bool has_gone(const Connection& connection);
    void take_backend_requests(const Connection& connection);
    void queue_closed(uint16_t index);
    std::span<std::byte> queue_memory(uint16_t index);
    const virtio_block::Config& config() const { return config_; }
    bool has(uint64_t feature) const { return (features_ & feature) == feature; }
    const Options& options() const { return options_; }

private:
    VhostUserDisk(Options options, const GuestMemory& memory)
        : options_(std::move(options)), memory_(memory) {}
    Result<void> first_connect(UniqueFd socket);
    void drop_locked(const Connection& lost, const Error& why);
    Result<std::unique_ptr<VhostUserConnection>> reconnect_locked();
    Result<void> negotiate_locked(VhostUserConnection& made);
    Result<virtio_block::Config> read_config(VhostUserConnection& connection) const;
    Result<void> check_config(const virtio_block::Config& config) const;

    const Options options_;
    const GuestMemory& memory_;
    UniqueFd shared_fd_;
    Mapping shared_;
    // Fixed by the first connection; a successor must offer the same.
    uint64_t features_ = 0;
    uint32_t block_size_ = 512;
    uint16_t queue_count_ = 1;
    virtio_block::Config config_{};
    std::atomic<uint64_t> size_{0};
    std::mutex mutex_;  // guards the rest, and every use of the connection
    Connection connection_;
    std::vector<bool> queues_open_ = std::vector<bool>(kQueueCountMax);
    std::function<void()> resized_;
    ReportLimit reports_;  // a back end may flap
    bool loss_told_ = false;
};

}  // namespace kumoi::hypervisor
