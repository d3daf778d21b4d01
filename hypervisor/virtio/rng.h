// VirtioRng: the entropy device (virtio 1.2 §5.4). Fills device-writable buffers from a Random, at
// most kFillBytesMax a buffer chain, so a guest cannot keep the thread busy with one request.
// Threading as VirtioDevice.
#pragma once

#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/random.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

class VirtioRng final : public VirtioDevice {
public:
    static constexpr size_t kFillBytesMax = 64u << 10;

    VirtioRng(std::string name, Random& random) : name_(std::move(name)), random_(random) {}

    std::string name() const override { return name_; }
    uint16_t type() const override { return virtio::kTypeEntropy; }
    uint32_t class_code() const override { return 0xff'00'00; }  // unassigned
    uint64_t features() const override { return 0; }
    std::vector<uint16_t> queue_sizes() const override { return {64}; }
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    DeviceStatistics statistics() const override;

    Result<void> start(VirtioContext& /*context*/) override { return {}; }
    void process_queue(Queue& queue) override;
    void stop() override {}

private:
    uint32_t fill(const Chain& chain);

    const std::string name_;
    Random& random_;
    Counter requests_, bytes_, malformed_;
};

}  // namespace kumoi::hypervisor
