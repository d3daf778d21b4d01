// VhostUserConnection: the front end's side of one vhost-user connection: what virtio device a back
// end serves, which memory it may use, and its rings.
//
//     auto connection = TRY(VhostUserConnection::connect(path, options));
//     TRY(connection->negotiate({.features = ..., .protocol_features = ...}));
//     TRY(connection->set_memory_table(regions));
//     TRY(connection->start_ring({.index = 0, ...}));
//     ...
//     const uint16_t base = TRY(connection->stop_ring(0));
//
// Every call that waits is bounded by Options::timeout_ms. Answers are checked against what was
// asked; after any error but Unsupported and Conflict the connection is lost and must be replaced
// by a new one. One thread at a time: the owner serialises.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "hypervisor/vhost_user/channel.h"
#include "hypervisor/vhost_user/protocol.h"

namespace kumoi::hypervisor {

class GuestMemory;

class VhostUserConnection {
public:
    struct Options {
        int64_t timeout_ms = 5000;
        const Clock* clock = nullptr;  // null: the system's
    };
    struct Wanted {
        uint64_t features = 0;           // virtio feature bits we can use
        uint64_t features_required = 0;  // refuse a back end without them
        uint64_t protocol_features = 0;
    };
    // One piece of our memory. Descriptors name bytes by `guest_address`, ring addresses are
    // `host` addresses.
    struct MemoryTableRegion {
        uint64_t guest_address = 0;
        uint64_t size = 0;
        const std::byte* host = nullptr;
        int fd = -1;
        uint64_t file_offset = 0;
    };
    struct Ring {
        uint16_t index = 0;
        uint16_t size = 0;
        const std::byte* descriptors = nullptr;
        const std::byte* available = nullptr;
        const std::byte* used = nullptr;
        uint16_t base = 0;  // the available index to start at
        int kick_fd = -1;   // we write
        int call_fd = -1;   // the back end writes
        int error_fd = -1;  // -1: none
    };
    // Memory in which a back end notes what is in flight, so that its successor finds it.
    struct Inflight {
        UniqueFd fd;
        vhost_user::InflightDescription description{};
    };

    static Result<std::unique_ptr<VhostUserConnection>> connect(const std::string& path,
                                                                Options options);
    static std::unique_ptr<VhostUserConnection> over(UniqueFd socket, Options options);

    Result<void> negotiate(const Wanted& wanted);
    uint64_t features() const { return features_; }
    uint64_t protocol_features() const { return protocol_features_; }
    bool has_protocol(uint64_t mask) const { return (protocol_features_ & mask) == mask; }

    Result<uint16_t> queue_count();  // how many rings (or pairs) the back end has; 1 without MQ
    Result<void> set_memory_table(std::span<const MemoryTableRegion> regions);
    Result<void> start_ring(const Ring& ring);
    Result<void> enable_ring(uint16_t index, bool enabled);
    Result<uint16_t> stop_ring(uint16_t index);  // the available index it stopped at
    Result<void> read_config(std::span<std::byte> out);
    Result<void> write_config(uint32_t offset, std::span<const std::byte> bytes);
    Result<Inflight> get_inflight(uint16_t queue_count, uint16_t queue_size);
    Result<void> set_inflight(const Inflight& inflight);
    Result<void> set_mtu(uint16_t mtu);
    Result<void> send_rarp(std::span<const uint8_t, 6> mac);

    // The channel on which the back end speaks to us. take_backend_request() after its descriptor
    // is readable: one whole message, answered when it asks for that.
    Result<void> open_backend_channel();
    int backend_channel_fd() const { return backend_ ? backend_->fd() : -1; }
    Result<vhost_user::BackendRequest> take_backend_request();

    int fd() const { return channel_.fd(); }  // readable between calls: the back end has gone

private:
    VhostUserConnection(UniqueFd socket, const Options& options, const Clock& clock)
        : options_(options),
          clock_(clock),
          channel_(std::move(socket), options.timeout_ms, clock) {}
    Result<void> negotiate_protocol(uint64_t offered, uint64_t wanted);
    Result<void> set(vhost_user::Request request, std::span<const std::byte> payload,
                     std::span<const int> fds = {});
    Result<void> set_number(vhost_user::Request request, uint64_t value);
    Result<void> set_ring_fd(vhost_user::Request request, uint16_t index, int fd);
    Result<vhost_user::Message> ask(vhost_user::Request request,
                                    std::span<const std::byte> payload);
    Result<vhost_user::Message> answer(vhost_user::Request request);
    Result<uint64_t> ask_number(vhost_user::Request request);

    const Options options_;
    const Clock& clock_;
    vhost_user::MessageChannel channel_;
    std::unique_ptr<vhost_user::MessageChannel> backend_;
    uint64_t features_ = 0;
    uint64_t protocol_features_ = 0;
};

// The guest's RAM under the guest's own addresses, as a device that hands the guest's rings to the
// back end needs it.
std::vector<VhostUserConnection::MemoryTableRegion> memory_table_of(const GuestMemory& memory);

}  // namespace kumoi::hypervisor
