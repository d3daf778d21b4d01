// VirtioScsi: the SCSI host device (virtio 1.2 §5.6): targets with a LUN 0 each, which are CD-ROM
// drives or disks.
//
// One request queue on one I/O thread serves all targets; commands run in the target
// (hypervisor/scsi) at once, what touches its medium is asynchronous. Task management ends what is
// under way at the target before it answers. Targets come and go while the guest runs: attach() and
// detach() on the control thread with all vCPUs parked; the driver is told by the event queue, as
// it is of a disk that has grown. A chain that cannot hold a response is returned empty and
// counted. Threading as VirtioDevice.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "hypervisor/virtio/device.h"
#include "hypervisor/virtio/scsi_frame.h"
#include "hypervisor/virtio/scsi_unit.h"

namespace kumoi::hypervisor {

class VirtioScsi final : public VirtioDevice {
public:
    static constexpr uint16_t kQueueSize = 128;
    static constexpr uint32_t kSegmentCountMax = kQueueSize - 2;
    static constexpr uint16_t kTypeScsi = 8;
    static constexpr unsigned kTargetMax = 31;  // what OVMF looks at, too
    static constexpr uint64_t kTransferBytesMax = uint64_t{8} << 20;
    static constexpr uint64_t kFeatureHotplug = 1u << 1;
    static constexpr uint64_t kFeatureChange = 1u << 2;

    VirtioScsi(std::string name, std::vector<ScsiUnitConfig> units);
    ~VirtioScsi() override;

    std::string name() const override { return name_; }
    uint16_t type() const override { return kTypeScsi; }
    uint32_t class_code() const override { return 0x01'00'00; }  // SCSI controller
    uint64_t features() const override { return kFeatureHotplug | kFeatureChange; }
    std::vector<uint16_t> queue_sizes() const override {
        return {kQueueSize, kQueueSize, kQueueSize};
    }
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    void write_config(uint32_t offset, std::span<const uint8_t> bytes) override;
    DeviceStatistics statistics() const override;

    Result<void> start(VirtioContext& context) override;
    void process_queue(Queue& queue) override;
    void quiesce() override;
    void resume() override { still_ = false; }
    void stop() override;
    void save(SectionWriter& out) const override;
    Result<void> load(SectionReader& in) override;

    // Control thread, all vCPUs parked; the target is free, the unit is there.
    Result<void> attach(ScsiUnitConfig config);
    Result<void> detach(const std::string& id);
    // Control thread. Null: there is no disk of that name.
    ScsiUnit* disk(const std::string& id);
    void for_each_disk(const std::function<void(const ScsiUnit&)>& visit) const;
    bool has_target(unsigned target) const { return units_.contains(target); }

private:
    struct Event {
        uint32_t event;
        unsigned target;
        uint32_t reason;
    };
    std::unique_ptr<ScsiUnit> make_unit(ScsiUnitConfig config);
    void process_requests(Queue& queue);
    void handle_request(Chain& chain);
    void handle_control(Chain& chain);
    uint8_t manage_task(uint32_t subtype, std::span<const uint8_t, 8> lun);
    ScsiUnit* find_unit(std::span<const uint8_t, 8> lun, uint8_t& response);
    void deliver_events(Queue& queue);
    void tell(const Event& event);
    void tell_resized(unsigned target);
    void run_on_loop(const std::function<void()>& function);
    void publish();

    const std::string name_;
    std::map<unsigned, std::unique_ptr<ScsiUnit>> units_;  // by target
    std::atomic<uint32_t> sense_size_;                     // §5.6.4: the driver may change both
    std::atomic<uint32_t> cdb_size_;
    ScsiFrame frame_;  // as they were at start(): what requests look like
    VirtioContext* context_ = nullptr;
    std::deque<Event> events_;  // the driver has given no buffer yet
    bool events_missed_ = false;
    bool still_ = false;  // paused: guest memory is not touched
    Counter commands_, malformed_;
};

}  // namespace kumoi::hypervisor
