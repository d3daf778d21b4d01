// Fleet: many compute hosts with the simulated driver in one process (`kumoi-compute --fleet N`),
// for load tests of a real control plane. Each has its own service, node record, resource provider,
// RPC queues and compute_id; threads, connections, tokens and timers are shared.
//
// start() returns at once: hosts register some at a time, serve as soon as they are in, and one
// that could not register is tried again. start() and stop() from the thread that owns the loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/openstack_node.h"
#include "base/metrics.h"
#include "base/worker_pool.h"

namespace kumoi::api {

struct FleetOptions {
    int64_t nodes = 0;
    int64_t verb_threads = 64;         // operations on servers, of all hosts together
    int64_t request_threads = 16;      // incoming RPC
    int64_t housekeeping_threads = 8;  // heartbeats and resource updates
    int64_t start_threads = 8;         // hosts that register at a time

    // Refuses what a fleet cannot be: real guests, or a cloud of its own.
    static Result<FleetOptions> from_config(const Config& config, int64_t nodes);
};

// "kumoi-0001" for host "kumoi".
std::string fleet_host(const std::string& host, int64_t number);
// As many descriptors as the system lets us have: each host has its journal open.
void raise_descriptor_limit();

class Fleet {
public:
    // `shared` without pools; what it refers to outlives this.
    Fleet(NodeShared shared, FleetOptions options, Metrics& metrics);
    ~Fleet();  // stop(); the loop has ended
    Fleet(const Fleet&) = delete;
    Fleet& operator=(const Fleet&) = delete;

    void start();
    void stop();
    int64_t serving() const { return serving_; }

private:
    struct Slot {
        int64_t number = 0;
        int64_t failures = 0;
        std::unique_ptr<OpenstackNode> node;  // of one start thread at a time
        std::atomic<bool> serving{false};
    };
    void submit(Slot& slot);
    void bring_up(Slot& slot);
    Result<void> try_bring_up(Slot& slot);
    NodeSettings settings_of(const Slot& slot) const;

    const FleetOptions options_;
    WorkerPool verbs_;
    WorkerPool requests_;
    WorkerPool housekeeping_;
    const NodeShared shared_;
    std::vector<std::unique_ptr<Slot>> slots_;
    std::atomic<int64_t> serving_{0};
    std::atomic<bool> stopping_{false};
    Gauge& serving_gauge_;
    WorkerPool starts_;
};

}  // namespace kumoi::api
