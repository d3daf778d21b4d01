// CommonConfig: the registers and the status machine of virtio over PCI (virtio 1.2 §4.1.4.3,
// §3.1.1).
//
// Values only: no threads, no interrupts, no queues. The transport asks what a write means (Effect)
// and does it. Reads of any offset and width are answered; writes count only with a field's own
// width, and 64-bit fields also in halves (§4.1.3.1). Out of order steps are ignored: features only
// before FEATURES_OK, queues only between FEATURES_OK and DRIVER_OK, status bits are never taken
// back but by a reset.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "hypervisor/snapshot/section.h"
#include "hypervisor/virtio/queue.h"
#include "hypervisor/virtio/spec.h"

namespace kumoi::hypervisor {

class CommonConfig {
public:
    static constexpr uint32_t kSize =
        56;  // up to and with queue_device; no notify data, no queue reset

    enum class Effect { None, Reset, DriverOk };

    CommonConfig(uint64_t device_features, const std::vector<uint16_t>& queue_sizes,
                 uint16_t vector_count);

    // What changes outside of these registers: NEEDS_RESET and the configuration's generation.
    struct Live {
        uint8_t status_bits = 0;
        uint8_t generation = 0;
    };
    void read(uint64_t offset, std::span<uint8_t> data, const Live& live) const;
    Effect write(uint64_t offset, std::span<const uint8_t> data);
    void reset();

    uint8_t status() const { return status_; }
    uint64_t features() const { return driver_features_; }
    uint16_t config_vector() const { return config_vector_; }
    uint16_t queue_vector(uint16_t index) const { return queues_[index].vector; }
    std::vector<QueueConfig> enabled_queues() const;
    void save(SectionWriter& out) const;
    // Only what a driver could have led to by writing registers.
    Result<void> load(SectionReader& in);

private:
    struct QueueRegisters {
        uint16_t size_max = 0;
        uint16_t size = 0;
        uint16_t vector = virtio::kNoVector;
        bool enabled = false;
        uint64_t descriptor_gpa = 0;
        uint64_t available_gpa = 0;
        uint64_t used_gpa = 0;
    };
    std::array<uint8_t, kSize> image(const Live& live) const;
    Effect write_status(uint8_t value);
    void write_features(uint32_t value);
    void write_queue(uint64_t offset, size_t width, uint64_t value);
    void write_address(uint64_t offset, size_t width, uint64_t value);
    uint16_t checked_vector(uint64_t value) const;
    bool queues_open() const;
    Result<QueueRegisters> load_queue(SectionReader& in, uint16_t size_max) const;

    const uint64_t device_features_;
    const uint16_t vector_count_;
    uint32_t device_feature_select_ = 0;
    uint32_t driver_feature_select_ = 0;
    uint64_t driver_features_ = 0;
    uint16_t config_vector_ = virtio::kNoVector;
    uint8_t status_ = 0;
    uint16_t queue_select_ = 0;
    std::vector<QueueRegisters> queues_;
};

}  // namespace kumoi::hypervisor
