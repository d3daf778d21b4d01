// VirtioPciDevice: virtio 1.2 over PCI (§4.1), modern only: one virtio device as a PCI function.
//
// One 32 KiB memory BAR holds all registers, a page each:
//     0x0000 common configuration   0x1000 ISR status    0x2000 device configuration
//     0x3000 notify (4 bytes a queue)   0x4000 MSI-X table   0x5000 MSI-X pending bits
// Notify addresses are doorbells (ioeventfd): a kick never reaches this class unless the machine
// has no such thing. The PCI_CFG capability (§4.1.4.9) reaches the same registers for firmware.
// Interrupts go by MSI-X when the driver turned it on, else by the INTx line given in the
// configuration. Threading: register accesses come from vCPU threads, verbs from the control
// thread; one mutex. The I/O thread only touches what is atomic or has its own lock, so waiting for
// it here cannot deadlock. Lock order: PciRoot, transport, MSI-X table, interrupt line.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/limits/report_limit.h"
#include "hypervisor/pci/msix.h"
#include "hypervisor/pci/pci_device.h"
#include "hypervisor/virtio/common_config.h"
#include "hypervisor/virtio/device.h"
#include "hypervisor/virtio/device_runner.h"

namespace kumoi::hypervisor {

struct VirtioPciConfig {
    int32_t intx_gsi = -1;  // the line for drivers without MSI-X; -1: none
    uint8_t intx_pin = 1;   // what the interrupt pin register says of it: 1 is INTA
    // Called once per break, on the I/O or a vCPU thread: the control socket's event.
    std::function<void(const std::string& device, const std::string& reason)> on_broken;
};

class VirtioPciDevice final : public PciDevice, private IoDevice, private RunnerEvents {
public:
    static constexpr uint64_t kBarSize = 0x8000;
    static constexpr unsigned kBarIndex = 0;
    static constexpr uint64_t kIsrOffset = 0x1000;
    static constexpr uint64_t kDeviceOffset = 0x2000;
    static constexpr uint64_t kNotifyOffset = 0x3000;
    static constexpr uint64_t kMsixTableOffset = 0x4000;
    static constexpr uint64_t kMsixPendingOffset = 0x5000;
    static constexpr uint32_t kNotifyMultiplier = 4;

    static Result<std::unique_ptr<VirtioPciDevice>> create(Platform& platform,
                                                           std::unique_ptr<VirtioDevice> device,
                                                           VirtioPciConfig config = {});
    ~VirtioPciDevice() override;

    // Nothing in flight and no guest memory touched once this has returned; a driver that gets
    // ready meanwhile is served after resume().
    void pause() override;
    void resume() override;
    bool is_broken() const { return needs_reset_.load(); }
    VirtioDevice& device() { return *device_; }
    DeviceStatistics statistics() const;
    Json statistics_json() const override;

    std::string name() const override { return device_->name(); }
    uint32_t config_read(uint32_t offset, uint32_t width) override;
    void config_write(uint32_t offset, uint32_t width, uint32_t value) override;
    void reset() override;
    PciConfigSpace* config_space() override { return &config_; }
    IoDevice* bar(unsigned index) override { return index == kBarIndex ? this : nullptr; }
    void bar_moved(unsigned index, uint64_t base) override;
    // Both while paused. A loaded device whose driver was ready is started, and stays paused.
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

private:
    VirtioPciDevice(Platform& platform, std::unique_ptr<VirtioDevice> device,
                    VirtioPciConfig config);
    Result<void> initialise();
    void add_capabilities();
    uint8_t add_virtio_capability(uint8_t type, uint32_t offset, uint32_t length,
                                  std::span<const uint8_t> tail = {},
                                  std::span<const uint8_t> writable = {});
    void io_read(uint64_t offset, std::span<uint8_t> data) override;
    void io_write(uint64_t offset, std::span<const uint8_t> data) override;
    bool window_access(uint32_t offset, uint32_t width, uint64_t& target, uint32_t& length);
    void write_common(uint64_t offset, std::span<const uint8_t> data);
    void driver_ok();
    void reset_locked();
    Result<void> load_parts(SectionReader& in);
    Result<void> start_loaded(SectionReader& in);
    void publish_vectors();
    void add_doorbell(uint16_t queue, uint64_t gpa, int doorbell);
    void notify(uint64_t offset);

    void queue_interrupt(uint16_t queue_index) override;
    void config_interrupt() override;
    void device_broken(std::string_view reason) override;
    void interrupt(uint16_t vector, uint8_t isr_bit);
    void update_line();

    Platform& platform_;
    std::unique_ptr<VirtioDevice> device_;
    const VirtioPciConfig options_;
    PciConfigSpace config_;
    uint8_t window_capability_ = 0;
    Msix msix_;
    mutable std::mutex mutex_;  // guards common_, bar_base_ and the verbs of runner_
    CommonConfig common_;
    uint64_t bar_base_ = 0;
    std::unique_ptr<DeviceRunner> runner_;
    // Read by the I/O thread when it interrupts.
    std::atomic<uint16_t> config_vector_{virtio::kNoVector};
    std::vector<std::atomic<uint16_t>> queue_vectors_;
    std::atomic<bool> needs_reset_{false};
    std::atomic<uint8_t> generation_{0};
    mutable std::mutex line_mutex_;  // guards isr_ and the level of line_
    uint8_t isr_ = 0;
    bool intx_disabled_ = false;
    std::unique_ptr<IrqLine> line_;
    Counter breaks_;
    ReportLimit break_reports_;
    ReportLimit doorbell_reports_;
    std::vector<bool> doorbells_there_;  // by queue: the platform has them at bar_base_
    Counter resets_;
    Counter interrupts_;
};

}  // namespace kumoi::hypervisor
