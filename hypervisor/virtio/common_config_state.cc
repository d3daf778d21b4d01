// CommonConfig's section: what a driver has negotiated and set up.
#include <bit>

#include "hypervisor/virtio/common_config.h"

namespace kumoi::hypervisor {

namespace {

// Fields of the sections; never reused.
enum Field : uint16_t {
    kFieldDeviceFeatureSelect = 1,
    kFieldDriverFeatureSelect = 2,
    kFieldDriverFeatures = 3,
    kFieldConfigVector = 4,
    kFieldStatus = 5,
    kFieldQueueSelect = 6,
    kFieldQueues = 7,
};
enum QueueField : uint16_t {
    kFieldSize = 1,
    kFieldVector = 2,
    kFieldEnabled = 3,
    kFieldDescriptors = 4,
    kFieldAvailable = 5,
    kFieldUsed = 6,
};

}  // namespace

void CommonConfig::save(SectionWriter& out) const {
    out.u64(kFieldDeviceFeatureSelect, device_feature_select_);
    out.u64(kFieldDriverFeatureSelect, driver_feature_select_);
    out.u64(kFieldDriverFeatures, driver_features_).u64(kFieldConfigVector, config_vector_);
    out.u64(kFieldStatus, status_).u64(kFieldQueueSelect, queue_select_);
    for (const QueueRegisters& queue : queues_) {
        SectionWriter one("queue", 1);
        one.u64(kFieldSize, queue.size).u64(kFieldVector, queue.vector);
        one.flag(kFieldEnabled, queue.enabled).u64(kFieldDescriptors, queue.descriptor_gpa);
        one.u64(kFieldAvailable, queue.available_gpa).u64(kFieldUsed, queue.used_gpa);
        out.group(kFieldQueues, one);
    }
}

Result<void> CommonConfig::load(SectionReader& in) {
    using namespace virtio;
    const uint64_t features = TRY(in.u64(kFieldDriverFeatures));
    const uint8_t status = TRY(in.u8(kFieldStatus));
    if ((status & kStatusFeaturesOk) != 0 && (features & ~device_features_) != 0) {
        return Error::make(ErrorCode::Unsupported,
                           "{}: the driver uses virtio features {:#x} that this machine's device "
                           "does not offer",
                           in.name(), features & ~device_features_)
            .with_hint("restore with the backend the guest was saved with");
    }
    auto queues = TRY(in.groups(kFieldQueues));
    if (queues.size() != queues_.size()) {
        return Error::make(ErrorCode::Unsupported, "{}: {} queues were saved, the device has {}",
                           in.name(), queues.size(), queues_.size());
    }
    std::vector<QueueRegisters> loaded;
    for (size_t i = 0; i < queues.size(); ++i) {
        loaded.push_back(TRY(load_queue(queues[i], queues_[i].size_max)));
    }
    device_feature_select_ = TRY(in.u32(kFieldDeviceFeatureSelect));
    driver_feature_select_ = TRY(in.u32(kFieldDriverFeatureSelect));
    driver_features_ = features;
    config_vector_ = checked_vector(TRY(in.u16(kFieldConfigVector)));
    queue_select_ = TRY(in.u16(kFieldQueueSelect));
    status_ = status;
    queues_ = std::move(loaded);
    return {};
}

Result<CommonConfig::QueueRegisters> CommonConfig::load_queue(SectionReader& in,
                                                              uint16_t size_max) const {
    QueueRegisters queue;
    queue.size_max = size_max;
    queue.size = TRY(in.u16(kFieldSize));
    if (!std::has_single_bit(queue.size) || queue.size > size_max) {
        return in.refuse(kFieldSize, fmt::format("is {}, of at most {}", queue.size, size_max));
    }
    queue.vector = checked_vector(TRY(in.u16(kFieldVector)));
    queue.enabled = TRY(in.flag(kFieldEnabled));
    queue.descriptor_gpa = TRY(in.u64(kFieldDescriptors));
    queue.available_gpa = TRY(in.u64(kFieldAvailable));
    queue.used_gpa = TRY(in.u64(kFieldUsed));
    TRY(in.finish());
    return queue;
}

}  // namespace kumoi::hypervisor
