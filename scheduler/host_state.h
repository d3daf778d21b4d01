// HostState: what a placement policy may know about one compute node: its capacity in Placement's
// terms (total, reserved, allocation ratio) and what is claimed on it by servers that run there or
// are on their way. A plain value; memory in MiB, disk in GiB.
#pragma once

#include <cstdint>
#include <string>

namespace kumoi::scheduler {

// One resource class as Placement counts it: capacity = (total - reserved) * allocation ratio, and
// no single server may ask for more than the hardware has (max_unit = total).
struct Inventory {
    int64_t total = 0;
    int64_t reserved = 0;
    int64_t claimed = 0;
    double allocation_ratio = 1.0;

    int64_t capacity() const {
        return static_cast<int64_t>(static_cast<double>(total - reserved) * allocation_ratio);
    }
    int64_t usable() const { return capacity() - claimed; }
};

struct HostState {
    std::string host;
    std::string node;  // hypervisor hostname
    std::string availability_zone;
    bool enabled = true;
    bool up = true;
    std::string disabled_reason;
    std::string down_reason;  // "no heartbeat for 75 s", "forced down by an operator"
    Inventory vcpus;
    Inventory memory_mb;
    Inventory disk_gb;
    int64_t server_count = 0;
};

}  // namespace kumoi::scheduler
