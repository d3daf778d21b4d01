// NetPair: one receive and one transmit queue of a network card on one queue of its backend.
//
// Transmit: the 12-byte header is copied out, checked against what was negotiated and the frame's
// length, and sent in front of the guest's own buffers: no copy of the payload, no header the guest
// can change after the check. Receive: frames are read straight into the driver's buffers; with
// mergeable buffers one frame may fill several. When the buffers at hand are too small for the
// largest frame, a bounce buffer decides: the frame fits, or it is dropped and counted. What the
// filter refuses leaves its buffers for the next frame, and counts towards no limit. Work per
// wake-up is bounded. I/O thread.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/limits/report_limit.h"
#include "hypervisor/net/net_backend.h"
#include "hypervisor/virtio/device.h"
#include "hypervisor/virtio/net_filter.h"
#include "hypervisor/virtio/net_limit.h"
#include "hypervisor/virtio/net_spec.h"

namespace kumoi::hypervisor {

// Of all pairs of one card; read by any thread.
struct NetCounters {
    Counter rx_frames, rx_bytes, rx_dropped, rx_filtered;
    Counter tx_frames, tx_bytes, tx_dropped, malformed;
    Counter rx_throttled, tx_throttled;  // how often a queue had to wait for a limit
};

class NetPair {
public:
    static constexpr unsigned kFramesPerWakeup = 64;

    NetPair(std::string device, uint16_t receive_queue, uint16_t mtu,
            std::unique_ptr<NetBackend> backend, const NetFilter& filter, NicThrottle& throttle,
            NetCounters& counters);

    void start(VirtioContext& context, bool active);
    void set_active(bool active);  // an inactive pair leaves its queues and its backend alone
    // Its queues and backend are the kernel's (vhost-net) until it is told otherwise.
    void set_served_elsewhere(bool elsewhere);
    void transmit(Queue& queue);
    void receive(Queue& queue);
    void quiesce();
    void resume() { paused_ = false; }  // the turn of the receive queue watches again
    void stop();
    NetBackend& backend() { return *backend_; }

private:
    enum class Received { Frame, NothingThere, NoBuffers, TurnOver };
    void transmit_chain(Chain& chain);
    bool sanitise(virtio_net::Header& header, uint64_t frame_size) const;
    Received receive_frame(Queue& queue);
    Received receive_bounced();
    uint64_t gather(Queue& queue);  // takes buffers until the largest frame fits; bytes at hand
    bool filtered(std::span<const iovec> vectors, uint64_t size);
    void deliver(uint64_t size);
    void backend_ready();
    uint64_t receive_size_max() const;
    void watch_backend(bool enabled);

    const std::string device_;
    const uint16_t receive_queue_;
    const uint16_t mtu_;
    std::unique_ptr<NetBackend> backend_;
    const NetFilter& filter_;
    NetCounters& counters_;
    ReportLimit reports_;
    NetLimit inbound_;
    NetLimit outbound_;
    VirtioContext* context_ = nullptr;
    uint64_t negotiated_ = 0;
    EventLoop::Watch watch_;
    bool watching_ = false;
    bool paused_ = false;
    bool elsewhere_ = false;
    bool active_ = false;
    std::deque<Chain> buffers_;  // taken from the receive queue, not filled yet
    uint64_t buffered_bytes_ = 0;
    std::vector<iovec> vectors_;     // scratch
    std::vector<std::byte> bounce_;  // made when first needed
};

}  // namespace kumoi::hypervisor
