// VirtioNet: the network device (virtio 1.2 §5.1) with one queue pair onto a NetBackend.
//
// Transmit: the 12-byte header is copied out, checked against what was negotiated and the frame's
// length, and sent in front of the guest's own buffers: no copy of the payload, no header the guest
// can change after the check. Receive: frames are read straight into the driver's buffers; with
// mergeable buffers one frame may fill several. When the buffers at hand are too small for the
// largest frame, a bounce buffer decides: the frame fits, or it is dropped and counted. Work per
// wake-up is bounded. Threading as VirtioDevice.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/net/net_backend.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

class VirtioNet final : public VirtioDevice {
public:
    static constexpr uint16_t kReceiveQueue = 0;
    static constexpr uint16_t kTransmitQueue = 1;
    static constexpr uint64_t kFrameBytesMax =
        65550;  // 64 KiB of IP and an Ethernet header (§5.1.6.3.1)
    static constexpr unsigned kFramesPerWakeup = 64;

    VirtioNet(std::string name, std::unique_ptr<NetBackend> backend, const MacAddress& mac,
              uint16_t mtu = 1500, uint16_t queue_size = 256);
    ~VirtioNet() override;

    std::string name() const override { return name_; }
    uint16_t type() const override { return virtio::kTypeNet; }
    uint32_t class_code() const override { return 0x02'00'00; }  // Ethernet controller
    uint64_t features() const override;
    std::vector<uint16_t> queue_sizes() const override { return {queue_size_, queue_size_}; }
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    DeviceStatistics statistics() const override;

    Result<void> start(VirtioContext& context) override;
    void process_queue(Queue& queue) override;
    void quiesce() override;
    void resume() override;
    void stop() override;

private:
    struct Header;  // §5.1.6 struct virtio_net_hdr
    enum class Received { Frame, NothingThere, NoBuffers, TurnOver };
    void transmit(Queue& queue);
    void transmit_chain(Chain& chain);
    bool sanitise(Header& header, uint64_t frame_size) const;
    void receive(Queue& queue);
    Received receive_frame(Queue& queue);
    Received receive_bounced();
    uint64_t gather(Queue& queue);  // takes buffers until the largest frame fits; bytes at hand
    void deliver(uint64_t size);
    void backend_ready();
    uint64_t receive_size_max() const;
    void watch_backend(bool enabled);
    NetOffloads guest_offloads() const;

    const std::string name_;
    const MacAddress mac_;
    const uint16_t mtu_;
    const uint16_t queue_size_;
    std::unique_ptr<NetBackend> backend_;
    VirtioContext* context_ = nullptr;
    uint64_t negotiated_ = 0;
    EventLoop::Watch watch_;
    bool watching_ = false;
    bool paused_ = false;
    std::deque<Chain> buffers_;  // taken from the receive queue, not filled yet
    uint64_t buffered_bytes_ = 0;
    std::vector<iovec> vectors_;     // scratch
    std::vector<std::byte> bounce_;  // made when first needed
    Counter rx_frames_, rx_bytes_, rx_dropped_, tx_frames_, tx_bytes_, tx_dropped_, malformed_;
};

}  // namespace kumoi::hypervisor
