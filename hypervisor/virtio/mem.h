// VirtioMem: memory that grows and shrinks in blocks (virtio 1.2 §5.15). The machine says how much
// is wanted (set_requested_size); the guest's driver plugs and unplugs blocks until it is so.
//
// A guest can have no more than was requested, touches no block that is not plugged, and cannot
// make the device wait: each request is bounded by the number of blocks. Blocks stay plugged when
// the driver resets the device; unplug_all() is for a machine reset, with vCPUs parked.
// Threads: requests on the I/O thread, configuration space by vCPUs, the rest by the loop; what
// they share is under one lock.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/limits/report_limit.h"
#include "hypervisor/memory/hot_memory.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

class VirtioMem final : public VirtioDevice {
public:
    struct Sizes {
        uint64_t plugged = 0;  // bytes
        uint64_t requested = 0;
    };
    // `memory` outlives the device. `changed` (or empty) comes on the I/O thread after each plug
    // and unplug.
    VirtioMem(std::string name, HotMemory& memory, uint16_t node,
              std::function<void(Sizes)> changed);

    // InvalidArgument when it is no multiple of the block size or beyond the region.
    Result<void> set_requested_size(uint64_t bytes);
    Sizes sizes() const;
    Result<void> unplug_all();

    std::string name() const override { return name_; }
    uint16_t type() const override { return virtio::kTypeMemory; }
    uint32_t class_code() const override { return kClassCode; }
    uint64_t features() const override;
    std::vector<uint16_t> queue_sizes() const override { return {kQueueSize}; }
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    DeviceStatistics statistics() const override;
    Result<void> start(VirtioContext& context) override;
    void process_queue(Queue& queue) override;
    void stop() override;
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

    static constexpr uint32_t kClassCode = 0x05'80'00;  // other memory controller
    static constexpr uint16_t kQueueSize = 64;

private:
    enum class Response : uint16_t { Ack = 0, Nack = 1, Busy = 2, Error = 3 };
    enum class BlockState : uint16_t { Plugged = 0, Unplugged = 1, Mixed = 2 };
    struct Answer {
        Response response = Response::Error;
        BlockState state = BlockState::Plugged;
    };
    void serve(Chain& chain);
    Answer handle(uint16_t type, uint64_t address, uint16_t blocks);
    // The blocks of [address, + count blocks), or false when they are not all ours.
    bool locate(uint64_t address, uint16_t count, uint32_t& first) const;
    Response plug(uint32_t first, uint32_t count);
    Response unplug(uint32_t first, uint32_t count);
    void host_failed(std::string_view what, uint32_t block, const Error& error);
    BlockState state_of(uint32_t first, uint32_t count) const;

    const std::string name_;
    HotMemory& memory_;
    const uint16_t node_;
    const std::function<void(Sizes)> changed_;
    mutable std::mutex mutex_;  // guards all below
    std::vector<bool> plugged_;
    uint32_t plugged_count_ = 0;
    uint64_t requested_ = 0;
    VirtioContext* context_ = nullptr;
    Counter requests_, refused_, malformed_, failures_;
    ReportLimit failure_reports_;  // a driver may ask again and again
};

}  // namespace kumoi::hypervisor
