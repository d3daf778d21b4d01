// VirtioNet: the network device (virtio 1.2 §5.1): one to kPairsMax pairs of queues (NetPair), each
// on a queue of its backend, and a control queue (NetControl).
//
// Pairs beyond the first wait until the driver asks for them. The announce bit makes a guest that
// has moved to another host tell its network where it is now. One I/O thread serves all pairs.
// Threading as VirtioDevice; announce() comes from the control thread.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "hypervisor/limits/report_limit.h"
#include "hypervisor/virtio/device.h"
#include "hypervisor/virtio/net_control.h"
#include "hypervisor/virtio/net_pair.h"
#include "hypervisor/virtio/net_vhost.h"

namespace kumoi::hypervisor {

class VirtioNet final : public VirtioDevice {
public:
    static constexpr uint64_t kFrameBytesMax = virtio_net::kFrameBytesMax;
    static constexpr uint16_t kPairsMax = 16;
    static constexpr uint16_t kControlQueueSize = 64;

    struct Options {
        std::string name = "net0";
        MacAddress mac{};
        uint16_t mtu = 1500;
        uint16_t queue_size = 256;
    };

    // A backend for each pair of queues.
    // `vhost`: as many, or none: then frames pass through here.
    VirtioNet(Options options, std::vector<std::unique_ptr<NetBackend>> backends,
              std::vector<std::unique_ptr<VhostNet>> vhost = {});
    ~VirtioNet() override;

    // Any thread: the guest is asked to send what tells switches its place, and we send in its name
    // what needs no guest.
    void announce();
    // Frames for a guest that was elsewhere until now. While paused, from the control thread.
    size_t drop_waiting_frames();
    std::weak_ptr<NetVhost> vhost() const { return vhost_; }
    // From any thread, also while running; not for a card that vhost-net may carry.
    Result<void> set_limits(const NicLimits& limits, int64_t now_ns);
    NicLimits limits() const { return throttle_.limits(); }

    std::string name() const override { return options_.name; }
    uint16_t type() const override { return virtio::kTypeNet; }
    uint32_t class_code() const override { return 0x02'00'00; }  // Ethernet controller
    uint64_t features() const override;
    std::vector<uint16_t> queue_sizes() const override;
    void read_config(uint32_t offset, std::span<uint8_t> out) const override;
    DeviceStatistics statistics() const override;
    void save(SectionWriter& out) const override { control_.save(out); }
    Result<void> load(SectionReader& in) override { return control_.load(in); }

    Result<void> start(VirtioContext& context) override;
    void begin_serving() override;
    bool served_elsewhere(uint16_t queue_index) const override;
    void process_queue(Queue& queue) override;
    void quiesce() override;
    void resume() override;
    void stop() override;

private:
    uint16_t control_queue() const;
    bool set_pairs(uint16_t count);
    bool switch_pair(uint16_t index, bool active);
    bool set_offloads(uint64_t features);

    const Options options_;
    NetCounters counters_;
    ReportLimit reports_;
    NicThrottle throttle_;  // of all pairs together
    NetControl control_;
    std::vector<std::unique_ptr<NetPair>> pairs_;
    const std::shared_ptr<NetVhost> vhost_;  // shared: weakly, with who tells of memory
    std::mutex context_mutex_;               // context_ against announce() from another thread
    VirtioContext* context_ = nullptr;
};

}  // namespace kumoi::hypervisor
