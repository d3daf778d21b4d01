// VirtioPciDevice's section: registers of the transport, where the device stands in its rings, and
// the device type's own state as a group.
#include "hypervisor/virtio/pci_transport.h"

namespace kumoi::hypervisor {

namespace {

// Fields of the section; never reused.
enum Field : uint16_t {
    kFieldType = 1,  // virtio 1.2 §5
    kFieldMsix = 2,
    kFieldCommon = 3,
    kFieldIsr = 4,
    kFieldGeneration = 5,
    kFieldNeedsReset = 6,
    kFieldRunning = 7,
    kFieldPositions = 8,
    kFieldDevice = 9,
};
enum PositionField : uint16_t { kFieldIndex = 1, kFieldNextAvailable = 2, kFieldNextUsed = 3 };

}  // namespace

void VirtioPciDevice::save(SectionWriter& out) const {
    const std::lock_guard lock(mutex_);
    out.u64(kFieldType, device_->type());
    SectionWriter msix("msix", 1);
    msix_.save(msix);
    out.group(kFieldMsix, msix);
    SectionWriter common("common", 1);
    common_.save(common);
    out.group(kFieldCommon, common);
    {
        const std::lock_guard line_lock(line_mutex_);
        out.u64(kFieldIsr, isr_);
    }
    out.u64(kFieldGeneration, generation_).flag(kFieldNeedsReset, needs_reset_);
    out.flag(kFieldRunning, runner_->running());
    for (const auto& [index, position] : runner_->positions()) {
        SectionWriter one("position", 1);
        one.u64(kFieldIndex, index).u64(kFieldNextAvailable, position.next_available);
        one.u64(kFieldNextUsed, position.next_used);
        out.group(kFieldPositions, one);
    }
    SectionWriter device("device", 1);
    device_->save(device);
    out.group(kFieldDevice, device);
}

Result<void> VirtioPciDevice::load(SectionReader& in) {
    const std::lock_guard lock(mutex_);
    TRY_CONTEXT(load_parts(in), "virtio device {}", name());
    return {};
}

Result<void> VirtioPciDevice::load_parts(SectionReader& in) {
    if (const uint64_t type = TRY(in.u64(kFieldType)); type != device_->type()) {
        return Error::make(ErrorCode::Unsupported,
                           "virtio type {} was saved, this machine's device has type {}", type,
                           device_->type());
    }
    reset_locked();
    auto common = TRY(in.group(kFieldCommon));
    TRY(common_.load(common));
    TRY(common.finish());
    publish_vectors();
    auto msix = TRY(in.group(kFieldMsix));
    TRY(msix_.load(msix, config_));
    TRY(msix.finish());
    auto device = TRY(in.group(kFieldDevice));
    TRY(device_->load(device));
    TRY(device.finish());
    TRY(start_loaded(in));
    generation_ = TRY(in.u8(kFieldGeneration));
    const std::lock_guard lock(line_mutex_);
    isr_ = TRY(in.u8(kFieldIsr)) & 3;
    intx_disabled_ = (config_.command() & pci::kCommandIntxDisable) != 0;
    update_line();
    return {};
}

// A driver may have been ready and its device broken since: then there is nothing to start.
Result<void> VirtioPciDevice::start_loaded(SectionReader& in) {
    const bool running = TRY(in.flag(kFieldRunning));
    needs_reset_ = TRY(in.flag(kFieldNeedsReset));
    DeviceRunner::Positions positions;
    for (SectionReader& one : TRY(in.groups(kFieldPositions))) {
        Queue::Position position;
        position.next_available = TRY(one.u16(kFieldNextAvailable));
        position.next_used = TRY(one.u16(kFieldNextUsed));
        positions[TRY(one.u16(kFieldIndex))] = position;
        TRY(one.finish());
    }
    if (!running || needs_reset_) {
        return {};
    }
    if ((common_.status() & virtio::kStatusDriverOk) == 0) {
        return in.refuse(kFieldRunning, "is set though the driver was not ready");
    }
    return runner_->start(common_.enabled_queues(), common_.features(), positions);
}

}  // namespace kumoi::hypervisor
