// NetControl: the network device's control queue (virtio 1.2 §5.1.6.5): one command a chain,
// answered by one byte. Parses hostile bytes, changes the filter, and asks its owner for the rest.
//
// Everything runs on the I/O thread but mac() and announcing(), which vCPU threads read from the
// configuration space.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>

#include "base/metrics.h"
#include "hypervisor/virtio/net_filter.h"
#include "hypervisor/virtio/queue.h"

namespace kumoi::hypervisor {

class NetControl {
public:
    static constexpr size_t kCommandBytesMax = 4096;

    struct Hooks {
        std::function<bool(uint64_t offload_features)> set_offloads;
        std::function<bool(uint16_t pairs)> set_pairs;
    };

    NetControl(const MacAddress& mac, uint16_t pairs_max, Hooks hooks);

    void begin(uint64_t features);  // at DRIVER_OK; a loaded state is kept
    void reset();
    void process(Chain& chain);

    const NetFilter& filter() const { return filter_; }
    MacAddress mac() const;
    bool announcing() const { return announcing_; }
    void set_announcing(bool on) { announcing_ = on; }
    uint16_t pairs() const { return pairs_; }
    uint64_t offloads() const { return offloads_; }  // feature bits of frames for the guest
    uint64_t command_count() const { return commands_.value(); }
    uint64_t refused_count() const { return refused_.value(); }

    void save(SectionWriter& out) const;
    Result<void> load(SectionReader& in);

private:
    using Bytes = std::span<const uint8_t>;
    bool run(uint8_t kind, uint8_t command, Bytes data);
    bool set_mode(uint8_t command, Bytes data);
    bool set_mac(uint8_t command, Bytes data);
    bool set_vlan(uint8_t command, Bytes data);
    bool set_pairs(uint8_t command, Bytes data);
    bool set_offloads(uint8_t command, Bytes data);
    bool agreed(uint64_t feature) const { return (features_ & feature) != 0; }

    const MacAddress permanent_mac_;
    const uint16_t pairs_max_;
    const Hooks hooks_;
    uint64_t features_ = 0;
    uint64_t offloads_ = 0;
    bool loaded_ = false;
    std::atomic<uint16_t> pairs_{1};
    std::atomic<bool> announcing_{false};
    mutable std::mutex mac_mutex_;  // guards filter_'s address against read_config()
    NetFilter filter_;
    Counter commands_, refused_;
};

}  // namespace kumoi::hypervisor
