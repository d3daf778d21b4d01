// What a compute node tells Placement about itself: the inventory of its root provider and the
// traits that follow from what its driver can do. Pure functions.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "compute/clients/provider_tree.h"

namespace kumoi::clients {

// Of the configuration, where the operator set one; else what Placement has stays; else `initial`.
struct AllocationRatio {
    std::optional<double> configured;
    double initial = 1.0;
};

struct RootResources {
    int64_t vcpus = 0;
    int64_t pcpus = 0;  // of a dedicated set; 0: none
    int64_t memory_mb = 0;
    int64_t disk_gb = 0;
    int64_t reserved_vcpus = 0;
    int64_t reserved_memory_mb = 512;
    int64_t reserved_disk_gb = 0;
    AllocationRatio cpu_ratio{{}, 4.0};
    AllocationRatio memory_ratio{{}, 1.0};
    AllocationRatio disk_ratio{{}, 1.0};
};

Inventories root_inventory(const RootResources& resources,
                           const std::optional<Inventories>& existing = {});

// Names as in Nova's driver capabilities ("supports_" left out): "attach_interface",
// "image_type_qcow2", "multiattach", ... Unknown ones are left out. COMPUTE_NODE is always there.
Traits capability_traits(const std::set<std::string>& capabilities);

}  // namespace kumoi::clients
