// VirtioConsole: the console device (virtio 1.2 §5.3), one port, no multiport: bytes to and from a
// ConsoleBackend. Output that the backend cannot take at once is lost and counted, so a stuck
// reader never stops the guest. Input waits in the backend until the guest has buffers. Threading
// as VirtioDevice.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/virtio/console_backend.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

class VirtioConsole final : public VirtioDevice {
public:
    static constexpr uint16_t kReceiveQueue = 0;
    static constexpr uint16_t kTransmitQueue = 1;
    static constexpr size_t kChunkBytes = 4096;

    VirtioConsole(std::string name, std::unique_ptr<ConsoleBackend> backend, uint16_t columns = 0,
                  uint16_t rows = 0);
    ~VirtioConsole() override;

    std::string name() const override { return name_; }
    uint16_t type() const override { return virtio::kTypeConsole; }
    uint32_t class_code() const override { return 0x07'80'00; }  // communication, other
    uint64_t features() const override;
    std::vector<uint16_t> queue_sizes() const override { return {64, 64}; }
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    DeviceStatistics statistics() const override;

    Result<void> start(VirtioContext& context) override;
    void process_queue(Queue& queue) override;
    void quiesce() override;
    void resume() override;
    void stop() override;

private:
    void transmit(Queue& queue);
    void transmit_chain(const Chain& chain);
    void receive(Queue& queue);

    const std::string name_;
    const uint16_t columns_;
    const uint16_t rows_;
    std::unique_ptr<ConsoleBackend> backend_;
    VirtioContext* context_ = nullptr;
    bool paused_ = false;
    Counter tx_bytes_, tx_lost_bytes_, rx_bytes_, malformed_;
};

}  // namespace kumoi::hypervisor
