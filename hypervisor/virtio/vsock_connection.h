// VsockConnection: one stream between a guest's port and a socket on the host: its state, what the
// guest still has to be told, and the credit of both directions (virtio 1.2 §5.10.6.3).
//
// The guest may have kBufferSize bytes under way to us: what the socket does not take waits here,
// more is a breach of the credit and ends the connection. We send no more than the guest's buffer
// has room for. What has to be sent is a set of wishes, not a list, so it cannot grow.
// I/O thread only. No interrupts, no queues: the device asks and does.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "hypervisor/virtio/vsock_packet.h"

namespace kumoi::hypervisor {

class VsockConnection {
public:
    static constexpr uint32_t kBufferSize = 64u << 10;

    enum class Origin { Host, Guest };
    struct Key {
        uint32_t host_port = 0;
        uint32_t guest_port = 0;
        auto operator<=>(const Key&) const = default;
    };

    // A connection that the guest has asked for, or that it has yet to answer.
    VsockConnection(Key key, Origin origin, UniqueFd socket);

    // What a packet of the guest for this connection means. `payload` only for Data.
    void take(const vsock::Header& header, std::span<const std::byte> payload);
    void take_credit(const vsock::Header& header);  // every packet tells it
    // The socket became writable.
    void flush();

    // Something to tell the guest: the header of the next packet, which counts as sent. For Data
    // the caller has the payload's size first from data_room() and reads the socket itself.
    bool has_message() const { return wishes_ != 0; }
    vsock::Header next_message();
    // Bytes that may be read from the socket for the guest now; 0: none (closed, no credit).
    uint32_t data_room();
    vsock::Header data_header(uint32_t size);
    void socket_ended();  // the read found the end
    void socket_failed();

    bool wants_read() const;
    bool wants_write() const { return !backlog_.empty() && socket_.is_open(); }
    bool established() const { return state_ == State::Established; }
    bool finished() const { return state_ == State::Closed && wishes_ == 0; }
    int socket() const { return socket_.get(); }
    const Key& key() const { return key_; }
    uint64_t received_bytes() const { return received_total_; }

    EventLoop::Watch watch;  // the device's
    uint32_t watched_events = 0;
    bool queued = false;  // in the device's list of connections with something to send

private:
    enum class State { Connecting, Established, Closed };
    enum Wish : uint32_t {
        kRequest = 1,
        kResponse = 2,
        kReset = 4,
        kShutdown = 8,
        kCreditUpdate = 16,
        kCreditRequest = 32,
    };
    void take_response();
    void take_data(std::span<const std::byte> payload);
    void take_shutdown(uint32_t flags);
    void finish_shutdown();
    void forwarded(size_t bytes);
    bool send_now(std::span<const std::byte>& bytes);
    void reset();
    void close();
    uint32_t credit() const;
    vsock::Header header(vsock::Operation operation) const;

    const Key key_;
    UniqueFd socket_;
    State state_ = State::Connecting;
    uint32_t wishes_ = 0;
    uint32_t guest_shutdown_ = 0;     // what the guest will not do any more
    uint32_t host_shutdown_ = 0;      // what we will not do any more
    std::vector<std::byte> backlog_;  // from the guest, not taken by the socket yet
    size_t backlog_start_ = 0;
    uint32_t received_ = 0;        // bytes from the guest, modulo 2^32
    uint32_t forwarded_ = 0;       // of those, taken by the socket
    uint32_t forwarded_told_ = 0;  // of those, known to the guest
    uint32_t sent_ = 0;            // bytes to the guest
    uint32_t guest_buffer_size_ = 0;
    uint32_t guest_forwarded_ = 0;
    bool credit_requested_ = false;
    uint64_t received_total_ = 0;
};

}  // namespace kumoi::hypervisor
