#include "hypervisor/virtio/pci_transport.h"

#include <algorithm>
#include <array>

#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

// §4.1.4: cfg_type of the vendor capabilities.
constexpr uint8_t kCommonCapability = 1;
constexpr uint8_t kNotifyCapability = 2;
constexpr uint8_t kIsrCapability = 3;
constexpr uint8_t kDeviceCapability = 4;
constexpr uint8_t kPciCapability = 5;

constexpr uint16_t kVendor = 0x1af4;
constexpr uint16_t kDeviceBase = 0x1040;  // §4.1.2: modern devices
constexpr uint8_t kRevision = 1;
constexpr uint64_t kPage = 0x1000;

// §4.1.4.5: ISR bits.
constexpr uint8_t kIsrQueue = 1;
constexpr uint8_t kIsrConfig = 2;

// In the PCI_CFG capability, §4.1.4.9.
constexpr uint32_t kWindowBar = 4;
constexpr uint32_t kWindowOffset = 8;
constexpr uint32_t kWindowLength = 12;
constexpr uint32_t kWindowData = 16;

constexpr uint64_t kTransportFeatures =
    virtio::kFeatureVersion1 | virtio::kFeatureIndirectDescriptors | virtio::kFeatureEventIndex;

PciIds ids_of(const VirtioDevice& device) {
    return {.vendor = kVendor,
            .device = static_cast<uint16_t>(kDeviceBase + device.type()),
            .subsystem_vendor = kVendor,
            .subsystem = static_cast<uint16_t>(0x40 + device.type()),
            .class_code = device.class_code(),
            .revision = kRevision};
}

uint16_t vectors_of(const VirtioDevice& device) {
    return static_cast<uint16_t>(device.queue_sizes().size() + 1);
}

}  // namespace

VirtioPciDevice::VirtioPciDevice(Platform& platform, std::unique_ptr<VirtioDevice> device,
                                 VirtioPciConfig config)
    : platform_(platform),
      device_(std::move(device)),
      options_(std::move(config)),
      config_(ids_of(*device_)),
      msix_(platform, vectors_of(*device_)),
      common_(device_->features() | kTransportFeatures, device_->queue_sizes(),
              vectors_of(*device_)),
      queue_vectors_(device_->queue_sizes().size()),
      doorbells_there_(queue_vectors_.size()) {}

VirtioPciDevice::~VirtioPciDevice() {
    bar_moved(kBarIndex, 0);
    runner_.reset();
}

Result<std::unique_ptr<VirtioPciDevice>> VirtioPciDevice::create(
    Platform& platform, std::unique_ptr<VirtioDevice> device, VirtioPciConfig config) {
    std::unique_ptr<VirtioPciDevice> made(
        new VirtioPciDevice(platform, std::move(device), std::move(config)));
    TRY_CONTEXT(made->initialise(), "virtio device {}", made->name());
    return made;
}

Result<void> VirtioPciDevice::initialise() {
    runner_ = TRY(DeviceRunner::create(*device_, platform_.memory(), *this));
    if (options_.intx_gsi >= 0) {
        line_ = TRY(platform_.irq_line(static_cast<uint32_t>(options_.intx_gsi)));
        config_.set_interrupt(options_.intx_pin, static_cast<uint8_t>(options_.intx_gsi));
    }
    config_.add_bar(kBarIndex, kBarSize, BarWidth::Memory64);
    add_capabilities();
    publish_vectors();
    return {};
}

void VirtioPciDevice::add_capabilities() {
    const auto queue_count = static_cast<uint32_t>(queue_vectors_.size());
    msix_.add_capability(config_, kBarIndex, kMsixTableOffset, kMsixPendingOffset);
    add_virtio_capability(kCommonCapability, 0, CommonConfig::kSize);
    const std::array<uint8_t, 4> multiplier{kNotifyMultiplier, 0, 0, 0};
    add_virtio_capability(kNotifyCapability, kNotifyOffset, kNotifyMultiplier * queue_count,
                          multiplier);
    add_virtio_capability(kIsrCapability, kIsrOffset, 1);
    add_virtio_capability(kDeviceCapability, kDeviceOffset, kPage);
    const std::array<uint8_t, 4> data{};
    // The driver writes bar, offset, length and data; everything before is fixed.
    const std::array<uint8_t, 18> writable{0,    0,    0xff, 0,    0,    0,    0xff, 0xff, 0xff,
                                           0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    window_capability_ = add_virtio_capability(kPciCapability, 0, 0, data, writable);
}

// struct virtio_pci_cap, §4.1.4, after its first two bytes.
uint8_t VirtioPciDevice::add_virtio_capability(uint8_t type, uint32_t offset, uint32_t length,
                                               std::span<const uint8_t> tail,
                                               std::span<const uint8_t> writable) {
    std::vector<uint8_t> body(14);
    body[0] = static_cast<uint8_t>(16 + tail.size());
    body[1] = type;
    body[2] = kBarIndex;
    for (size_t i = 0; i < 4; ++i) {
        body[6 + i] = static_cast<uint8_t>(offset >> (8 * i));
        body[10 + i] = static_cast<uint8_t>(length >> (8 * i));
    }
    body.insert(body.end(), tail.begin(), tail.end());
    return config_.add_capability(pci::kCapabilityVendor, body, writable);
}

void VirtioPciDevice::pause() {
    const std::lock_guard lock(mutex_);
    runner_->pause();
}

void VirtioPciDevice::resume() {
    const std::lock_guard lock(mutex_);
    runner_->resume();
}

DeviceStatistics VirtioPciDevice::statistics() const {
    DeviceStatistics all = device_->statistics();
    all.push_back({"chains", runner_->chain_count()});
    all.push_back({"notifications", runner_->notification_count()});
    all.push_back({"interrupts", interrupts_.value()});
    all.push_back({"interrupts_lost", msix_.lost_count()});
    all.push_back({"ring_breaks", breaks_.value()});
    all.push_back({"resets", resets_.value()});
    return all;
}

Json VirtioPciDevice::statistics_json() const {
    Json all = Json::object();
    for (const Statistic& statistic : statistics()) {
        all.set(statistic.name, statistic.value);
    }
    return all;
}

// --- Configuration space ---

uint32_t VirtioPciDevice::config_read(uint32_t offset, uint32_t width) {
    uint64_t target = 0;
    uint32_t length = 0;
    if (window_access(offset, width, target, length)) {
        std::array<uint8_t, 4> data{};
        io_read(target, std::span(data).first(length));
        for (uint32_t i = 0; i < 4; ++i) {
            config_.set(window_capability_ + kWindowData + i, 1, data[i]);
        }
    }
    return config_.read(offset, width);
}

void VirtioPciDevice::config_write(uint32_t offset, uint32_t width, uint32_t value) {
    config_.write(offset, width, value);
    msix_.follow_control(config_);
    {
        const std::lock_guard lock(line_mutex_);
        intx_disabled_ = (config_.command() & pci::kCommandIntxDisable) != 0;
        update_line();
    }
    uint64_t target = 0;
    uint32_t length = 0;
    if (window_access(offset, width, target, length)) {
        std::array<uint8_t, 4> data{};
        for (uint32_t i = 0; i < 4; ++i) {
            data[i] = static_cast<uint8_t>(config_.read(window_capability_ + kWindowData + i, 1));
        }
        io_write(target, std::span<const uint8_t>(data).first(length));
    }
}

// Whether this access touches pci_cfg_data while the window points at something.
bool VirtioPciDevice::window_access(uint32_t offset, uint32_t width, uint64_t& target,
                                    uint32_t& length) {
    const uint32_t data = window_capability_ + kWindowData;
    if (offset + width <= data || offset >= data + 4) {
        return false;
    }
    target = config_.read(window_capability_ + kWindowOffset, 4);
    length = config_.read(window_capability_ + kWindowLength, 4);
    const bool usable = length == 1 || length == 2 || length == 4;
    return config_.read(window_capability_ + kWindowBar, 1) == kBarIndex && usable &&
           target <= kBarSize - length;
}

void VirtioPciDevice::reset() {
    const std::lock_guard lock(mutex_);
    reset_locked();
    common_.reset();
    publish_vectors();
    msix_.reset(config_);
    config_.reset_command();
    const std::lock_guard line_lock(line_mutex_);
    intx_disabled_ = false;
}

void VirtioPciDevice::bar_moved(unsigned index, uint64_t base) {
    const std::lock_guard lock(mutex_);
    if (index != kBarIndex || base == bar_base_) {
        return;
    }
    for (uint16_t queue = 0; queue < queue_vectors_.size(); ++queue) {
        const uint64_t at = kNotifyOffset + kNotifyMultiplier * queue;
        const int doorbell = runner_->doorbell(queue);
        if (doorbells_there_[queue]) {
            platform_.remove_doorbell(bar_base_ + at, doorbell);
            doorbells_there_[queue] = false;
        }
        if (base != 0) {
            add_doorbell(queue, base + at, doorbell);
        }
    }
    bar_base_ = base;
}

// Refused where another device's window lies already: slower, not wrong, as the write reaches
// notify() instead.
void VirtioPciDevice::add_doorbell(uint16_t queue, uint64_t gpa, int doorbell) {
    const auto added = platform_.add_doorbell(gpa, doorbell);
    doorbells_there_[queue] = added.ok();
    if (added.ok()) {
        return;
    }
    if (const auto unreported = doorbell_reports_.admit()) {
        log_warn(
            "virtio", "no doorbell",
            {{"device", name()}, {"reason", added.error().text()}, {"unreported", *unreported}});
    }
}

// --- The BAR ---

void VirtioPciDevice::io_read(uint64_t offset, std::span<uint8_t> data) {
    const uint64_t at = offset % kPage;
    std::fill(data.begin(), data.end(), uint8_t{0xff});
    switch (offset - at) {
        case 0: {
            const std::lock_guard lock(mutex_);
            const uint8_t live = needs_reset_ ? virtio::kStatusNeedsReset : 0;
            common_.read(at, data, {live, generation_});
            break;
        }
        case kIsrOffset: {
            const std::lock_guard lock(line_mutex_);
            std::fill(data.begin(), data.end(), uint8_t{0});
            if (at == 0) {  // reading acknowledges (§4.1.4.5)
                data[0] = std::exchange(isr_, uint8_t{0});
                update_line();
            }
            break;
        }
        case kDeviceOffset: device_->read_config(static_cast<uint32_t>(at), data); break;
        case kMsixTableOffset: msix_.table_read(at, data); break;
        case kMsixPendingOffset: msix_.pending_read(at, data); break;
        default: break;
    }
}

void VirtioPciDevice::io_write(uint64_t offset, std::span<const uint8_t> data) {
    const uint64_t at = offset % kPage;
    switch (offset - at) {
        case 0: write_common(at, data); break;
        case kDeviceOffset: device_->write_config(static_cast<uint32_t>(at), data); break;
        case kNotifyOffset: notify(at); break;
        case kMsixTableOffset: msix_.table_write(at, data); break;
        default: break;
    }
}

void VirtioPciDevice::write_common(uint64_t offset, std::span<const uint8_t> data) {
    const std::lock_guard lock(mutex_);
    const auto effect = common_.write(offset, data);
    publish_vectors();
    switch (effect) {
        case CommonConfig::Effect::None: break;
        case CommonConfig::Effect::Reset: reset_locked(); break;
        case CommonConfig::Effect::DriverOk: driver_ok(); break;
    }
}

void VirtioPciDevice::driver_ok() {
    auto started = runner_->start(common_.enabled_queues(), common_.features());
    if (!started.ok()) {
        device_broken(started.error().text());
    }
}

void VirtioPciDevice::reset_locked() {
    runner_->stop();  // drains
    needs_reset_ = false;
    resets_.increment();
    const std::lock_guard lock(line_mutex_);
    isr_ = 0;
    update_line();
}

// Vectors may be changed at any time, while the I/O thread interrupts.
void VirtioPciDevice::publish_vectors() {
    config_vector_ = common_.config_vector();
    for (uint16_t i = 0; i < queue_vectors_.size(); ++i) {
        queue_vectors_[i] = common_.queue_vector(i);
    }
}

// Only when the machine has no doorbells: the address says which queue (§4.1.5.2), the value does
// not matter.
void VirtioPciDevice::notify(uint64_t offset) {
    const uint64_t queue = offset / kNotifyMultiplier;
    if (queue < queue_vectors_.size()) {
        runner_->ring(static_cast<uint16_t>(queue));
    }
}

// --- Interrupts ---

void VirtioPciDevice::queue_interrupt(uint16_t queue_index) {
    interrupt(queue_vectors_[queue_index], kIsrQueue);
}

void VirtioPciDevice::config_interrupt() {
    ++generation_;
    interrupt(config_vector_, kIsrConfig);
}

void VirtioPciDevice::device_broken(std::string_view reason) {
    if (needs_reset_.exchange(true)) {
        return;
    }
    breaks_.increment();
    config_interrupt();  // §2.1.2
    const auto unreported = break_reports_.admit();
    if (!unreported) {
        return;  // counted, and no longer told: a guest may reset and break it again for ever
    }
    log_warn("virtio", "device needs a reset",
             {{"device", name()}, {"reason", reason}, {"unreported", *unreported}});
    if (options_.on_broken) {
        options_.on_broken(name(), std::string(reason));
    }
}

void VirtioPciDevice::interrupt(uint16_t vector, uint8_t isr_bit) {
    interrupts_.increment();
    if (msix_.trigger(vector)) {
        return;
    }
    const std::lock_guard lock(line_mutex_);
    isr_ |= isr_bit;
    update_line();
}

void VirtioPciDevice::update_line() {
    if (line_) {
        line_->set_level(isr_ != 0 && !intx_disabled_);
    }
}

}  // namespace kumoi::hypervisor
