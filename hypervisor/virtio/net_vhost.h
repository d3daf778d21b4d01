// NetVhost: when the kernel carries a card's frames (net/vhost_net), a VhostNet for each pair of
// queues; when it cannot, the reason, and the pair is served here as ever. Hands the rings over and
// takes them back, and passes the kernel's interrupts on. I/O thread, but for memory_changed().
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/metrics.h"
#include "hypervisor/net/vhost_net.h"
#include "hypervisor/virtio/device.h"

namespace kumoi::hypervisor {

class NetVhost {
public:
    // One for each pair; none: the card is served here.
    NetVhost(std::string device, std::vector<std::unique_ptr<VhostNet>> pairs);

    bool configured() const { return !pairs_.empty(); }
    // Hands pair `index` to the kernel, unless it has it. False: it is to be served here; said in
    // the log once a start.
    bool begin(VirtioContext& context, uint16_t index, int tap_fd);
    // Takes it back; the queues stand where the kernel left them.
    void end(VirtioContext& context, uint16_t index);
    bool serves(uint16_t pair) const {
        return pair < pairs_.size() && pairs_[pair].vhost->running();
    }
    uint64_t refused_count() const { return refused_.value(); }
    bool active() const { return active_.load(std::memory_order_relaxed) != 0; }
    // Any thread: RAM came, or is about to go.
    Result<void> memory_changed(const std::vector<MemoryRegion>& regions);

private:
    struct Pair {
        std::unique_ptr<VhostNet> vhost;
        UniqueFd calls[2];  // receive, transmit
        EventLoop::Watch watches[2];
    };
    Result<void> hand_over(VirtioContext& context, uint16_t index, int tap_fd);
    Result<void> watch_calls(VirtioContext& context, uint16_t index);

    const std::string device_;
    std::vector<Pair> pairs_;
    std::atomic<int> active_{0};  // pairs the kernel has
    Counter refused_;
};

}  // namespace kumoi::hypervisor
