// The driver of this host as the configuration wants it, with what it stands on.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/config.h"
#include "base/random.h"
#include "base/result.h"
#include "compute/driver/upgrade_report.h"
#include "compute/driver/virt_driver.h"
#include "compute/images/image_cache.h"
#include "compute/manager/image_api.h"

namespace kumoi::api {

struct NodeDriver {
    std::unique_ptr<Random> simulated_random;          // null with real guests
    std::unique_ptr<compute::ImageCache> image_cache;  // null without real guests
    bool keeps_qcow2 = false;                          // in that cache, for root disks
    std::unique_ptr<compute::VirtDriver> driver;
    // A non-maskable interrupt into a running guest.
    std::function<Result<void>(const compute::Instance&)> inject_nmi;
    // Its guest goes on in the installed kumoi-vmm; empty without real guests.
    std::function<Result<compute::UpgradeReport>(const std::string& uuid, bool dry_run)>
        upgrade_guest;

    bool is_simulated() const { return simulated_random != nullptr; }
};

// [DEFAULT] compute_driver. What it is given outlives it. `stream`: hosts of one process fail
// different spawns.
Result<NodeDriver> make_node_driver(const Config& config, compute::ImageApi& images,
                                    const Clock& clock, Random& random,
                                    const std::string& stream = "simulated driver");

}  // namespace kumoi::api
