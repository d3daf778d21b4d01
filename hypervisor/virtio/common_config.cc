#include "hypervisor/virtio/common_config.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace kumoi::hypervisor {

namespace {

// Offsets in struct virtio_pci_common_cfg, §4.1.4.3.
constexpr uint64_t kDeviceFeatureSelect = 0;
constexpr uint64_t kDeviceFeature = 4;
constexpr uint64_t kDriverFeatureSelect = 8;
constexpr uint64_t kDriverFeature = 12;
constexpr uint64_t kConfigVector = 16;
constexpr uint64_t kQueueCount = 18;
constexpr uint64_t kDeviceStatus = 20;
constexpr uint64_t kConfigGeneration = 21;
constexpr uint64_t kQueueSelect = 22;
constexpr uint64_t kQueueSize = 24;
constexpr uint64_t kQueueVector = 26;
constexpr uint64_t kQueueEnable = 28;
constexpr uint64_t kQueueNotifyOffset = 30;
constexpr uint64_t kQueueDescriptors = 32;
constexpr uint64_t kQueueDriver = 40;
constexpr uint64_t kQueueDevice = 48;

constexpr uint32_t feature_half(uint64_t features, uint32_t select) {
    return select < 2 ? static_cast<uint32_t>(features >> (32 * select)) : 0;
}

}  // namespace

CommonConfig::CommonConfig(uint64_t device_features, const std::vector<uint16_t>& queue_sizes,
                           uint16_t vector_count)
    : device_features_(device_features), vector_count_(vector_count) {
    for (const uint16_t size : queue_sizes) {
        queues_.push_back({.size_max = size, .size = size});
    }
}

void CommonConfig::read(uint64_t offset, std::span<uint8_t> data, const Live& live) const {
    const auto registers = image(live);
    for (size_t i = 0; i < data.size(); ++i) {
        const uint64_t at = offset + i;
        data[i] = at < registers.size() ? registers[at] : 0;
    }
}

// The registers as bytes, so that any offset and width has an answer.
std::array<uint8_t, CommonConfig::kSize> CommonConfig::image(const Live& live) const {
    std::array<uint8_t, kSize> bytes{};
    const auto put = [&bytes](uint64_t at, auto value) {
        std::memcpy(bytes.data() + at, &value, sizeof(value));
    };
    put(kDeviceFeatureSelect, device_feature_select_);
    put(kDeviceFeature, feature_half(device_features_, device_feature_select_));
    put(kDriverFeatureSelect, driver_feature_select_);
    put(kDriverFeature, feature_half(driver_features_, driver_feature_select_));
    put(kConfigVector, config_vector_);
    put(kQueueCount, static_cast<uint16_t>(queues_.size()));
    put(kDeviceStatus, static_cast<uint8_t>(status_ | live.status_bits));
    put(kConfigGeneration, live.generation);
    put(kQueueSelect, queue_select_);
    if (queue_select_ < queues_.size()) {  // else all zero: no such queue (§4.1.4.3)
        const QueueRegisters& queue = queues_[queue_select_];
        put(kQueueSize, queue.size);
        put(kQueueVector, queue.vector);
        put(kQueueEnable, static_cast<uint16_t>(queue.enabled ? 1 : 0));
        put(kQueueNotifyOffset, queue_select_);
        put(kQueueDescriptors, queue.descriptor_gpa);
        put(kQueueDriver, queue.available_gpa);
        put(kQueueDevice, queue.used_gpa);
    }
    return bytes;
}

CommonConfig::Effect CommonConfig::write(uint64_t offset, std::span<const uint8_t> data) {
    uint64_t value = 0;
    std::memcpy(&value, data.data(), std::min<size_t>(data.size(), sizeof(value)));
    const size_t width = data.size();
    if (offset == kDeviceFeatureSelect && width == 4) {
        device_feature_select_ = static_cast<uint32_t>(value);
    } else if (offset == kDriverFeatureSelect && width == 4) {
        driver_feature_select_ = static_cast<uint32_t>(value);
    } else if (offset == kDriverFeature && width == 4) {
        write_features(static_cast<uint32_t>(value));
    } else if (offset == kConfigVector && width == 2) {
        config_vector_ = checked_vector(value);
    } else if (offset == kDeviceStatus && width == 1) {
        return write_status(static_cast<uint8_t>(value));
    } else if (offset == kQueueSelect && width == 2) {
        queue_select_ = static_cast<uint16_t>(value);
    } else if (offset >= kQueueSize) {
        write_queue(offset, width, value);
    }
    return Effect::None;
}

void CommonConfig::reset() {
    device_feature_select_ = 0;
    driver_feature_select_ = 0;
    driver_features_ = 0;
    config_vector_ = virtio::kNoVector;
    status_ = 0;
    queue_select_ = 0;
    for (QueueRegisters& queue : queues_) {
        queue = {.size_max = queue.size_max, .size = queue.size_max};
    }
}

std::vector<QueueConfig> CommonConfig::enabled_queues() const {
    std::vector<QueueConfig> enabled;
    for (uint16_t index = 0; index < queues_.size(); ++index) {
        const QueueRegisters& queue = queues_[index];
        if (queue.enabled) {
            enabled.push_back(
                {index, queue.size, queue.descriptor_gpa, queue.available_gpa, queue.used_gpa});
        }
    }
    return enabled;
}

CommonConfig::Effect CommonConfig::write_status(uint8_t value) {
    using namespace virtio;
    if (value == 0) {
        reset();
        return Effect::Reset;
    }
    if ((value & status_) != status_) {  // §2.1.1: the driver must not clear a bit
        return Effect::None;
    }
    uint8_t wanted = value & static_cast<uint8_t>(~kStatusNeedsReset);
    const bool negotiated =
        (driver_features_ & ~device_features_) == 0 && (driver_features_ & kFeatureVersion1) != 0;
    if ((wanted & kStatusAcknowledge) == 0) {
        wanted &= static_cast<uint8_t>(~kStatusDriver);
    }
    if ((wanted & kStatusDriver) == 0 || !negotiated) {
        wanted &= static_cast<uint8_t>(~kStatusFeaturesOk);  // the driver reads that it was refused
    }
    if ((wanted & kStatusFeaturesOk) == 0) {
        wanted &= static_cast<uint8_t>(~kStatusDriverOk);
    }
    const bool now_live = (wanted & kStatusDriverOk) != 0 && (status_ & kStatusDriverOk) == 0;
    status_ = wanted;
    return now_live ? Effect::DriverOk : Effect::None;
}

void CommonConfig::write_features(uint32_t value) {
    if ((status_ & virtio::kStatusFeaturesOk) != 0 || driver_feature_select_ >= 2) {
        return;
    }
    const uint32_t shift = 32 * driver_feature_select_;
    driver_features_ &= ~(0xffff'ffffull << shift);
    driver_features_ |= static_cast<uint64_t>(value) << shift;
}

bool CommonConfig::queues_open() const {
    return (status_ & virtio::kStatusFeaturesOk) != 0 && (status_ & virtio::kStatusDriverOk) == 0;
}

void CommonConfig::write_queue(uint64_t offset, size_t width, uint64_t value) {
    if (queue_select_ >= queues_.size()) {
        return;
    }
    QueueRegisters& queue = queues_[queue_select_];
    if (offset == kQueueVector && width == 2) {
        queue.vector = checked_vector(value);  // drivers also take it back after a reset
        return;
    }
    if (!queues_open() || queue.enabled) {
        return;
    }
    if (offset == kQueueSize && width == 2) {
        const auto size = static_cast<uint16_t>(value);
        if (std::has_single_bit(size) && size <= queue.size_max) {
            queue.size = size;
        }
    } else if (offset == kQueueEnable && width == 2) {
        queue.enabled = value == 1;
    } else {
        write_address(offset, width, value);
    }
}

// 64-bit fields, whole or in 32-bit halves.
void CommonConfig::write_address(uint64_t offset, size_t width, uint64_t value) {
    QueueRegisters& queue = queues_[queue_select_];
    const uint64_t field = offset & ~uint64_t{7};
    uint64_t* target = field == kQueueDescriptors ? &queue.descriptor_gpa
                       : field == kQueueDriver    ? &queue.available_gpa
                       : field == kQueueDevice    ? &queue.used_gpa
                                                  : nullptr;
    if (target == nullptr) {
        return;
    }
    if (width == 8 && offset == field) {
        *target = value;
    } else if (width == 4 && offset % 4 == 0) {
        const uint64_t shift = 8 * (offset - field);
        *target = (*target & ~(0xffff'ffffull << shift)) | (value << shift);
    }
}

uint16_t CommonConfig::checked_vector(uint64_t value) const {
    // §4.1.5.1.2: a vector that cannot be had reads back as NO_VECTOR.
    return value < vector_count_ ? static_cast<uint16_t>(value) : virtio::kNoVector;
}

}  // namespace kumoi::hypervisor
