// VhostUserNet: NetBackends served by a vhost-user-net back end in another process (DPDK, Open
// vSwitch, VPP, Snabb): one for each pair of queues, over one connection.
//
// The guest never sees the back end's rings and the back end never the guest's memory: frames are
// copied between the guest's buffers and a memory file of our own that only the back end shares. So
// neither can harm the other, and pause, filters and snapshots work as with a TAP. A copy a frame
// is the price. No offloads are asked for: frames are at most the MTU and an Ethernet header. When
// the back end goes, frames are dropped until it is back; a new connection is tried at most once a
// second, when the guest sends. Used on the device's I/O thread; open() on the loop's.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "hypervisor/net/net_backend.h"
#include "hypervisor/vhost_user/connection.h"
#include "hypervisor/vhost_user/driver_ring.h"

namespace kumoi::hypervisor {

class VhostUserNet {
public:
    static constexpr uint16_t kRingSize = 256;
    static constexpr int64_t kRetryNs = kNanosPerSecond;

    struct Options {
        std::string socket;
        uint16_t pairs = 1;
        uint16_t mtu = 1500;
        // A new connection after the first was lost. I/O thread.
        std::function<Result<UniqueFd>()> connect;
        const Clock* clock = nullptr;
        int64_t timeout_ms = 1000;  // of one answer
    };

    // `first`: a connected socket. Refuses a back end that has too few queues.
    static Result<std::vector<std::unique_ptr<NetBackend>>> open(Options options, UniqueFd first);
};

}  // namespace kumoi::hypervisor
