// VirtioKeyboard and VirtioTablet: virtio input devices (virtio 1.2 §5.8): what evdev says, over a
// queue.
//
// Both are a VirtioInput with different capabilities. Keys and positions come from any thread and
// wait, bounded, until the driver has buffers; what finds no room is dropped by whole reports and
// counted, releases last, so that no key stays down. The status queue (LEDs) is read and counted. A
// saved device forgets who pressed what: its keys come up after the restore. Threading as
// VirtioDevice; key(), pointer() and ready() from any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/display/input_hub.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

class VirtioInput : public VirtioDevice {
public:
    static constexpr size_t kReportsMax = 128;  // that wait for the driver

    std::string name() const override { return name_; }
    uint16_t type() const override;
    uint32_t class_code() const override { return 0x09'80'00; }  // input, other
    uint64_t features() const override { return 0; }
    std::vector<uint16_t> queue_sizes() const override { return {64, 64}; }
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    void write_config(uint32_t offset, std::span<const uint8_t> bytes) override;
    DeviceStatistics statistics() const override;
    Result<void> start(VirtioContext& context) override;
    void process_queue(Queue& queue) override;
    void stop() override;
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

protected:
    struct Event {  // §5.8.6, little endian as the host here
        uint16_t type = 0;
        uint16_t code = 0;
        uint32_t value = 0;
    };
    enum class Keep { MayDrop, Always };  // Always: up to twice kReportsMax

    VirtioInput(std::string name, std::string product)
        : name_(std::move(name)), product_(std::move(product)) {}
    // The driver runs; while the machine stands still what comes is lost, as on an unplugged cable.
    bool running() const { return running_; }
    // One report: these events and the SYN that ends it.
    void report(std::vector<Event> events, Keep keep);
    // §5.8.5: the capability bitmap of one event type, empty when it has none.
    virtual std::vector<uint8_t> event_bits(uint8_t type) const = 0;
    virtual std::vector<uint8_t> axis(uint8_t /*code*/) const { return {}; }
    virtual std::vector<uint8_t> properties() const { return {}; }

private:
    std::vector<uint8_t> selected() const;
    void remember(const std::vector<Event>& report);
    void send_reports(Queue& queue);

    const std::string name_;
    const std::string product_;
    std::atomic<uint16_t> selection_{0};  // select, subselect << 8
    std::atomic<bool> running_{false};
    Counter reports_, dropped_, status_, malformed_;
    mutable std::mutex mutex_;  // guards all below
    VirtioContext* context_ = nullptr;
    std::deque<std::vector<Event>> waiting_;
    size_t sent_events_ = 0;   // of the first report, already in the ring
    std::set<uint16_t> down_;  // keys and buttons, as the reports say; released after a restore
};

class VirtioKeyboard final : public VirtioInput, public KeySink {
public:
    explicit VirtioKeyboard(std::string name) : VirtioInput(std::move(name), "kumoi keyboard") {}
    bool ready() const override { return running(); }
    void key(uint16_t code, bool down) override;

private:
    std::vector<uint8_t> event_bits(uint8_t type) const override;
};

class VirtioTablet final : public VirtioInput, public PointerSink {
public:
    explicit VirtioTablet(std::string name) : VirtioInput(std::move(name), "kumoi tablet") {}
    bool ready() const override { return running(); }
    void pointer(const PointerState& state) override;

private:
    std::vector<uint8_t> event_bits(uint8_t type) const override;
    std::vector<uint8_t> axis(uint8_t code) const override;
    std::vector<uint8_t> properties() const override;

    std::mutex state_mutex_;
    PointerState last_;
    bool known_ = false;
};

}  // namespace kumoi::hypervisor
