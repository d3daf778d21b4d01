// VirtioVsock: the socket device (virtio 1.2 §5.10): stream connections between programs in the
// guest and on the host, without a network.
//
// A client of the host connects to the listener, says "CONNECT port\n" and is answered "OK port\n"
// with the port it has now, then bytes flow. The guest connects to a port p of cid 2 and reaches
// what the host offers as p (VsockSockets). Everything is bounded: connections, handshakes, bytes
// kept for a slow reader (VsockConnection), answers to packets that belong to nothing.
//
// Data for the guest is read from the socket straight into the driver's buffers. Connections with
// something to send wait in a ring; a socket is watched only while its connection is not in it, so
// an event never comes twice and a lack of buffers costs nothing. Threading as VirtioDevice.
#pragma once

#include <atomic>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/limits/report_limit.h"
#include "hypervisor/virtio/device.h"
#include "hypervisor/virtio/vsock_connection.h"
#include "hypervisor/virtio/vsock_sockets.h"

namespace kumoi::hypervisor {

class VirtioVsock final : public VirtioDevice {
public:
    static constexpr uint16_t kReceiveQueue = 0;
    static constexpr uint16_t kTransmitQueue = 1;
    static constexpr uint16_t kEventQueue = 2;
    static constexpr size_t kConnectionsMax = 256;
    static constexpr size_t kHandshakesMax = 32;
    static constexpr size_t kStrayRepliesMax = 64;
    static constexpr int64_t kRequestTimeoutNs = 2 * kNanosPerSecond;
    static constexpr uint32_t kHostPortFirst = 1u << 30;  // of connections from the host

    VirtioVsock(std::string name, uint64_t guest_cid, std::unique_ptr<VsockSockets> sockets);
    ~VirtioVsock() override;

    std::string name() const override { return name_; }
    uint16_t type() const override { return virtio::kTypeVsock; }
    uint32_t class_code() const override { return 0x02'80'00; }  // network controller, other
    uint64_t features() const override { return 0; }             // streams only
    std::vector<uint16_t> queue_sizes() const override { return {256, 256, 16}; }
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    DeviceStatistics statistics() const override;
    // Connections do not move: the guest is told that they are gone.
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

    Result<void> start(VirtioContext& context) override;
    void process_queue(Queue& queue) override;
    void quiesce() override;
    void resume() override;
    void stop() override;

private:
    using Key = VsockConnection::Key;
    struct Handshake {
        UniqueFd socket;
        EventLoop::Watch watch;
        std::string line;
    };
    using Handshakes = std::list<Handshake>;

    void transmit(Queue& queue);
    void take_packet(const Chain& chain);
    void take_request(const vsock::Header& header);
    void reset_stray(const vsock::Header& header);
    void receive(Queue& queue);
    bool fill(Chain& chain);
    bool serve(VsockConnection& connection, Chain& chain);
    bool read_into(VsockConnection& connection, Chain& chain, uint32_t room);
    void put_header(Chain& chain, vsock::Header header);
    void send_events(Queue& queue);

    void accept();
    void watch_handshake(Handshakes::iterator handshake);
    void handshake_ready(Handshakes::iterator handshake);
    void connect_to_guest(UniqueFd socket, uint32_t guest_port);
    void expect_response(const Key& key);
    VsockConnection* add(Key key, VsockConnection::Origin origin, UniqueFd socket);
    void socket_ready(const Key& key, uint32_t events);
    void after(VsockConnection& connection);  // queue it, watch it or forget it
    void queue_up(VsockConnection& connection);
    void update_watch(VsockConnection& connection);
    void watch_listener();

    const std::string name_;
    ReportLimit reports_;
    const uint64_t guest_cid_;
    std::unique_ptr<VsockSockets> sockets_;
    VirtioContext* context_ = nullptr;
    bool paused_ = false;
    bool transport_reset_ = false;
    uint32_t next_host_port_ = kHostPortFirst;
    std::map<Key, std::unique_ptr<VsockConnection>> connections_;
    std::deque<Key> waiting_;  // connections with something for the guest
    std::deque<vsock::Header> strays_;
    Handshakes handshakes_;
    EventLoop::Watch listener_watch_;
    std::vector<std::byte> payload_;  // scratch
    std::vector<iovec> vectors_;      // scratch
    std::atomic<uint64_t> connection_count_{0};
    Counter opened_, refused_, to_guest_bytes_, from_guest_bytes_, packets_in_, packets_out_;
    Counter malformed_, strays_dropped_;
};

}  // namespace kumoi::hypervisor
