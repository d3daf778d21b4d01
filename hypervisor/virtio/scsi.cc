#include "hypervisor/virtio/scsi.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <future>

namespace kumoi::hypervisor {

namespace {

constexpr uint16_t kControlQueue = 0;
constexpr uint16_t kEventQueue = 1;
constexpr uint16_t kRequestQueue = 2;
constexpr size_t kSenseSizeOffset = 20;
constexpr size_t kCdbSizeOffset = 24;
constexpr size_t kEventsMax = 64;

// §5.6.6.2: task management.
constexpr uint8_t kFunctionComplete = 0;
constexpr uint8_t kFunctionRejected = 11;
constexpr uint8_t kIncorrectLun = 12;
constexpr uint32_t kTaskManagement = 0;
constexpr uint32_t kNotificationQuery = 1;
constexpr uint32_t kNotificationSubscribe = 2;
constexpr uint32_t kTargetReset = 4;  // its name there: I_T nexus reset
constexpr uint32_t kLogicalUnitReset = 5;
constexpr uint32_t kQueryTask = 6;
constexpr uint32_t kSubtypeMax = 7;

// §5.6.6.3: events.
constexpr uint32_t kNoEvent = 0;
constexpr uint32_t kTransportReset = 1;
constexpr uint32_t kParameterChange = 3;
constexpr uint32_t kEventsMissed = 0x8000'0000;
constexpr uint32_t kReasonRescan = 1;
constexpr uint32_t kReasonRemoved = 2;
constexpr uint32_t kReasonCapacity = 0x2a | 0x09 << 8;  // ASC, ASCQ: capacity has changed

struct [[gnu::packed]] Config {
    uint32_t num_queues = 1;
    uint32_t seg_max = VirtioScsi::kSegmentCountMax;
    uint32_t max_sectors = VirtioScsi::kTransferBytesMax / 512;
    uint32_t cmd_per_lun = 64;
    uint32_t event_info_size = 16;
    uint32_t sense_size = 0;
    uint32_t cdb_size = 0;
    uint16_t max_channel = 0;
    uint16_t max_target = VirtioScsi::kTargetMax;
    uint32_t max_lun = 16383;
};
static_assert(sizeof(Config) == 36);

struct [[gnu::packed]] EventInfo {
    uint32_t event = 0;
    std::array<uint8_t, 8> lun{};
    uint32_t reason = 0;
};
static_assert(sizeof(EventInfo) == 16);

}  // namespace

VirtioScsi::VirtioScsi(std::string name, std::vector<ScsiUnitConfig> units)
    : name_(std::move(name)), sense_size_(ScsiFrame().sense_size), cdb_size_(ScsiFrame().cdb_size) {
    for (ScsiUnitConfig& unit : units) {
        const unsigned target = unit.target;
        units_[target] = make_unit(std::move(unit));
    }
}

VirtioScsi::~VirtioScsi() = default;

std::unique_ptr<ScsiUnit> VirtioScsi::make_unit(ScsiUnitConfig config) {
    return std::make_unique<ScsiUnit>(
        std::move(config), kQueueSize,
        ScsiUnit::Hooks{.publish = [this] { publish(); },
                        .take_turn = [this] { context_->run_queue(kRequestQueue); },
                        .resized = [this](unsigned target) { tell_resized(target); }});
}

void VirtioScsi::read_config(uint32_t offset, std::span<uint8_t> out) const {
    Config config;
    config.sense_size = sense_size_;
    config.cdb_size = cdb_size_;
    std::array<uint8_t, sizeof(Config)> bytes;
    std::memcpy(bytes.data(), &config, sizeof config);
    read_config_bytes(bytes, offset, out);
}

void VirtioScsi::write_config(uint32_t offset, std::span<const uint8_t> bytes) {
    uint32_t value = 0;
    if (bytes.size() != sizeof value) {
        return;
    }
    std::memcpy(&value, bytes.data(), sizeof value);
    if (offset == kSenseSizeOffset) {
        sense_size_ = std::min(value, ScsiFrame::kSizeMax);
    } else if (offset == kCdbSizeOffset) {
        cdb_size_ = std::min(value, ScsiFrame::kSizeMax);
    }
}

Result<void> VirtioScsi::start(VirtioContext& context) {
    context_ = &context;
    still_ = false;
    frame_ = {.sense_size = sense_size_, .cdb_size = cdb_size_};
    for (const auto& [target, unit] : units_) {
        TRY(unit->start(context.loop(), context.clock(), frame_));
    }
    return {};
}

void VirtioScsi::process_queue(Queue& queue) {
    switch (queue.index()) {
        case kControlQueue:
            while (auto chain = queue.next_chain()) {
                handle_control(*chain);
            }
            return;
        case kEventQueue: return deliver_events(queue);
        default: return process_requests(queue);
    }
}

// --- Requests ---

void VirtioScsi::process_requests(Queue& queue) {
    for (const auto& [target, unit] : units_) {
        unit->start_waiting();
    }
    while (auto chain = queue.next_chain()) {
        handle_request(*chain);
    }
    for (const auto& [target, unit] : units_) {
        unit->kick();
    }
}

// §5.6.6.1: byte 0 is 1, byte 1 the target, bytes 2 and 3 a flat LUN.
ScsiUnit* VirtioScsi::find_unit(std::span<const uint8_t, 8> lun, uint8_t& response) {
    constexpr uint8_t kFlat = 0x40;
    const bool first_lun = (lun[2] == 0 || lun[2] == kFlat) && lun[3] == 0;
    const auto found = units_.find(lun[1]);
    if (lun[0] != 1 || found == units_.end()) {
        response = ScsiFrame::kBadTarget;
        return nullptr;
    }
    if (!first_lun) {
        response = kIncorrectLun;
        return nullptr;
    }
    return found->second.get();
}

void VirtioScsi::handle_request(Chain& chain) {
    std::array<uint8_t, ScsiFrame::kHeaderSize + ScsiFrame::kSizeMax> raw{};
    const size_t wanted = frame_.data_out_offset();
    const size_t got = chain.copy_out(0, std::as_writable_bytes(std::span(raw).first(wanted)));
    if (got < wanted || chain.writable_size() < frame_.data_in_offset()) {
        malformed_.increment();
        Chain(std::move(chain));
        return;
    }
    uint8_t response = 0;
    ScsiUnit* unit = find_unit(std::span<const uint8_t, 8>(raw.data(), 8), response);
    if (unit == nullptr) {
        return ScsiFrame::fail(chain, ScsiFrame::kBadTarget);
    }
    commands_.increment();
    unit->handle(chain,
                 std::span<const uint8_t>(raw).subspan(ScsiFrame::kHeaderSize, frame_.cdb_size));
}

void VirtioScsi::publish() {
    if (Queue* queue = context_->queue(kRequestQueue)) {
        queue->publish();
    }
}

// --- Control ---

void VirtioScsi::handle_control(Chain& chain) {
    std::array<uint8_t, 24> raw{};
    const size_t got = chain.copy_out(0, std::as_writable_bytes(std::span(raw)));
    uint32_t type = 0;
    std::memcpy(&type, raw.data(), sizeof type);
    if (got >= raw.size() && type == kTaskManagement && chain.writable_size() >= 1) {
        uint32_t subtype = 0;
        std::memcpy(&subtype, &raw[4], sizeof subtype);
        const uint8_t response = manage_task(subtype, std::span<const uint8_t, 8>(&raw[8], 8));
        chain.copy_in(0, std::as_bytes(std::span(&response, 1)));
        chain.add_used(1);
    } else if (got >= 16 && (type == kNotificationQuery || type == kNotificationSubscribe) &&
               chain.writable_size() >= 5) {
        const std::array<uint8_t, 5> none{};  // no asynchronous notifications, response OK
        chain.copy_in(0, std::as_bytes(std::span(none)));
        chain.add_used(none.size());
    } else {
        malformed_.increment();
    }
    Chain(std::move(chain));
}

// Nothing is aborted half way: requests under way end, and their chains are returned, before the
// driver hears that they are gone.
uint8_t VirtioScsi::manage_task(uint32_t subtype, std::span<const uint8_t, 8> lun) {
    uint8_t response = kFunctionComplete;
    ScsiUnit* unit = find_unit(lun, response);
    if (unit == nullptr) {
        return response;
    }
    if (subtype > kSubtypeMax) {
        return kFunctionRejected;
    }
    if (subtype < kQueryTask) {
        unit->quiesce();
        publish();
    }
    if (subtype == kTargetReset || subtype == kLogicalUnitReset) {
        unit->logical_unit_reset();
    }
    return kFunctionComplete;
}

// --- Events: I/O thread ---

void VirtioScsi::tell(const Event& event) {
    const uint64_t needed = event.event == kParameterChange ? kFeatureChange : kFeatureHotplug;
    if ((context_->features() & needed) == 0) {
        return;
    }
    if (events_.size() >= kEventsMax) {
        events_missed_ = true;
    } else {
        events_.push_back(event);
    }
    if (!still_) {  // every queue has a turn after a pause
        context_->serve_queue(kEventQueue);
    }
}

// Buffers stay in the ring until there is something to say.
void VirtioScsi::deliver_events(Queue& queue) {
    while (!events_.empty() || events_missed_) {
        auto chain = queue.next_chain();
        if (!chain) {
            return;
        }
        if (chain->writable_size() < sizeof(EventInfo)) {
            malformed_.increment();
            continue;
        }
        EventInfo info;
        info.event = kNoEvent | (events_missed_ ? kEventsMissed : 0);
        events_missed_ = false;
        if (!events_.empty()) {
            const Event event = events_.front();
            events_.pop_front();
            info.event |= event.event;
            info.lun = {1, static_cast<uint8_t>(event.target), 0x40};
            info.reason = event.reason;
        }
        chain->copy_in(0, std::as_bytes(std::span(&info, 1)));
        chain->add_used(sizeof info);
    }
}

// Any thread; the unit may be gone when the loop gets to it.
void VirtioScsi::tell_resized(unsigned target) {
    context_->loop().post([this, target] {
        const auto found = units_.find(target);
        if (context_ == nullptr || found == units_.end()) {
            return;
        }
        found->second->capacity_changed();
        tell({kParameterChange, target, kReasonCapacity});
    });
}

// --- Units that come and go: control thread, vCPUs parked ---

// The I/O thread stands still for us meanwhile, so that the table is one thread's at a time.
void VirtioScsi::run_on_loop(const std::function<void()>& function) {
    std::promise<void> done;
    context_->loop().post([&] {
        function();
        done.set_value();
    });
    done.get_future().wait();
}

Result<void> VirtioScsi::attach(ScsiUnitConfig config) {
    const unsigned target = config.target;
    const DiskLimits limits = config.limits;
    auto unit = make_unit(std::move(config));
    TRY(unit->set_limits(limits, SystemClock().monotonic_ns()));
    if (context_ == nullptr) {
        units_[target] = std::move(unit);
        return {};
    }
    Result<void> started;
    run_on_loop([&] {
        started = unit->start(context_->loop(), context_->clock(), frame_);
        if (started.ok()) {
            units_[target] = std::move(unit);
            tell({kTransportReset, target, kReasonRescan});
        }
    });
    return started;
}

Result<void> VirtioScsi::detach(const std::string& id) {
    const auto found =
        std::ranges::find_if(units_, [&id](const auto& entry) { return entry.second->id() == id; });
    if (found == units_.end()) {
        return Error::not_found("the controller {} has no target \"{}\"", name_, id);
    }
    if (context_ == nullptr) {
        units_.erase(found);
        return {};
    }
    std::unique_ptr<ScsiUnit> unit;  // closes its files here, not on the I/O thread
    run_on_loop([&] {
        unit = std::move(found->second);
        const unsigned target = found->first;
        units_.erase(found);
        unit->quiesce();
        publish();
        unit->stop();
        tell({kTransportReset, target, kReasonRemoved});
    });
    return {};
}

ScsiUnit* VirtioScsi::disk(const std::string& id) {
    for (const auto& [target, unit] : units_) {
        if (unit->is_disk() && unit->id() == id) {
            return unit.get();
        }
    }
    return nullptr;
}

void VirtioScsi::for_each_disk(const std::function<void(const ScsiUnit&)>& visit) const {
    for (const auto& [target, unit] : units_) {
        if (unit->is_disk()) {
            visit(*unit);
        }
    }
}

// --- Standing still ---

void VirtioScsi::quiesce() {
    for (const auto& [target, unit] : units_) {
        unit->quiesce();
    }
    still_ = true;
}

void VirtioScsi::stop() {
    for (const auto& [target, unit] : units_) {
        unit->stop();
    }
    events_.clear();
    events_missed_ = false;
    context_ = nullptr;
    sense_size_ = ScsiFrame().sense_size;
    cdb_size_ = ScsiFrame().cdb_size;
}

namespace {
constexpr uint16_t kFieldSenseSize = 1;
constexpr uint16_t kFieldCdbSize = 2;
constexpr uint16_t kFieldDrive = 3;
constexpr uint16_t kFieldEventsMissed = 4;
constexpr uint16_t kFieldDisk = kSectionMustUnderstand | 5;
constexpr uint16_t kFieldTarget = 0x41;  // in a disk's group, beside ScsiUnit's
}  // namespace

// An event that has not been delivered is one the driver learns it has missed.
void VirtioScsi::save(SectionWriter& out) const {
    out.u64(kFieldSenseSize, sense_size_).u64(kFieldCdbSize, cdb_size_);
    for (const auto& [target, unit] : units_) {
        SectionWriter section(unit->is_disk() ? "disk" : "cdrom", 1);
        unit->save(section);
        if (unit->is_disk()) {
            section.u64(kFieldTarget, target);
        }
        out.group(unit->is_disk() ? kFieldDisk : kFieldDrive, section);
    }
    out.flag(kFieldEventsMissed, events_missed_ || !events_.empty());
}

Result<void> VirtioScsi::load(SectionReader& in) {
    sense_size_ = static_cast<uint32_t>(TRY(in.u64_max(kFieldSenseSize, ScsiFrame::kSizeMax)));
    cdb_size_ = static_cast<uint32_t>(TRY(in.u64_max(kFieldCdbSize, ScsiFrame::kSizeMax)));
    events_missed_ = TRY(in.u64_or(kFieldEventsMissed, 0)) != 0;
    auto drives = TRY(in.groups(kFieldDrive));
    auto disks = TRY(in.groups(kFieldDisk));
    std::vector<ScsiUnit*> mine;
    for (const auto& [target, unit] : units_) {
        if (!unit->is_disk()) {
            mine.push_back(unit.get());
        }
    }
    if (drives.size() != mine.size() || disks.size() != units_.size() - mine.size()) {
        return in.refuse(
            kFieldDrive,
            fmt::format("there are {} drives and {} disks, the machine has {} and {}",
                        drives.size(), disks.size(), mine.size(), units_.size() - mine.size()));
    }
    for (size_t i = 0; i < drives.size(); ++i) {
        TRY(mine[i]->load(drives[i]));
    }
    for (SectionReader& disk : disks) {
        const uint64_t target = TRY(disk.u64_max(kFieldTarget, kTargetMax));
        const auto found = units_.find(static_cast<unsigned>(target));
        if (found == units_.end() || !found->second->is_disk()) {
            return in.refuse(kFieldDisk, fmt::format("the machine has no disk {}", target));
        }
        TRY(found->second->load(disk));
    }
    return {};
}

// Of the drives; a disk has statistics of its own.
DeviceStatistics VirtioScsi::statistics() const {
    uint64_t reads = 0;
    uint64_t read_bytes = 0;
    uint64_t errors = 0;
    for (const auto& [target, unit] : units_) {
        if (!unit->is_disk()) {
            const DeviceStatistics all = unit->statistics();
            reads += all[0].value;
            read_bytes += all[1].value;
            errors += unit->error_count();
        }
    }
    return {{"commands", commands_.value()},
            {"reads", reads},
            {"read_bytes", read_bytes},
            {"errors", errors},
            {"malformed_chains", malformed_.value()}};
}

}  // namespace kumoi::hypervisor
