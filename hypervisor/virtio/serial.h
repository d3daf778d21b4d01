// VirtioSerial: a console device with several ports and no console (virtio 1.2 §5.3, feature
// MULTIPORT): ports 1 to N, each with a name, for programs of guest and host that
// talk to each other (/dev/virtio-ports/NAME in a Linux guest). Port 0 is a console's: not there.
//
// What the guest is told about ports follows from what it knows and what is true, so a driver that
// asks for everything again and again costs nothing that is kept. Nothing is lost between the two
// programs while both are there: a slow reader makes the other wait. Threading as VirtioDevice.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/virtio/channel_backend.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

struct SerialPort {
    std::string name;
    std::unique_ptr<ChannelBackend> backend;
};

class VirtioSerial final : public VirtioDevice {
public:
    static constexpr uint16_t kControlReceiveQueue = 2;
    static constexpr uint16_t kControlTransmitQueue = 3;
    static constexpr uint16_t kPortQueueFirst = 4;  // of port 1: receive, then transmit
    static constexpr size_t kChunkBytes = 4096;

    VirtioSerial(std::string name, std::vector<SerialPort> ports);
    ~VirtioSerial() override;

    std::string name() const override { return name_; }
    uint16_t type() const override { return virtio::kTypeConsole; }
    uint32_t class_code() const override { return 0x07'80'00; }  // communication, other
    uint64_t features() const override;
    std::vector<uint16_t> queue_sizes() const override;
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    DeviceStatistics statistics() const override;
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

    Result<void> start(VirtioContext& context) override;
    void process_queue(Queue& queue) override;
    void quiesce() override;
    void resume() override;
    void stop() override;

private:
    // What the guest knows of a port, and what it said.
    struct Knowledge {
        bool added = false;      // PORT_ADD was sent
        bool ready = false;      // it has answered that it has the port
        bool named = false;      // PORT_NAME was sent
        bool host_open = false;  // somebody is at our end, as far as it knows
        bool guest_open = false;
    };
    struct Port {
        std::string name;
        std::unique_ptr<ChannelBackend> backend;
        Knowledge knowledge;
    };
    struct Message {
        uint32_t port = 0;
        uint16_t event = 0;
        uint16_t value = 0;
        std::string_view name = {};
    };

    bool has_ports() const;  // the driver knows what ports are
    static uint16_t receive_queue(size_t port) {
        return static_cast<uint16_t>(kPortQueueFirst + 2 * port);
    }
    void take_control(Queue& queue);
    void take_message(const Chain& chain);
    void send_control(Queue& queue);
    std::optional<Message> next_message();
    bool put_message(Chain& chain, const Message& message);
    void receive(Port& port, Queue& queue);
    void transmit(Port& port, Queue& queue);
    void discard(Queue& queue);
    void connection_changed(size_t port);

    const std::string name_;
    std::vector<Port> ports_;
    VirtioContext* context_ = nullptr;
    bool paused_ = false;
    bool driver_ready_ = false;
    std::atomic<uint64_t> open_count_{0};
    Counter tx_bytes_, tx_lost_bytes_, rx_bytes_, control_in_, control_out_, malformed_;
};

}  // namespace kumoi::hypervisor
