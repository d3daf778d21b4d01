// What a node of a real OpenStack has for volumes: Cinder, the records, and this host's back ends.
#pragma once

#include <memory>

#include "api/nova/block_devices.h"
#include "base/config.h"
#include "base/random.h"
#include "compute/clients/cinder_volumes.h"
#include "compute/manager/manager_options.h"
#include "compute/manager/volume_api.h"
#include "compute/volumes/volume_daemons.h"

namespace kumoi::api {

class NodeVolumes {
public:
    // `simulated`: guests are, so volumes are connected in name only. What it is given outlives it.
    static Result<std::unique_ptr<NodeVolumes>> create(
        const Config& config, const compute::ManagerOptions& options, nova::ObjectClient& objects,
        clients::CinderClient& cinder, const Clock& clock, Random& random, bool simulated);

    compute::VolumeServices& services() { return *services_; }
    // Watches the back ends from now on; before the manager's recovery connects any.
    void start(compute::VolumeDaemons::Restarted restarted);
    void stop();

private:
    NodeVolumes(nova::ObjectClient& objects, clients::CinderClient& cinder, const Clock& clock,
                Random& random)
        : records_(objects, clock, random), volumes_(cinder) {}

    nova::BlockDevices records_;
    clients::CinderVolumes volumes_;
    std::unique_ptr<compute::VolumeHost> host_;
    compute::VolumeDaemons* daemons_ = nullptr;  // host_, where it is one
    std::unique_ptr<compute::VolumeServices> services_;
};

}  // namespace kumoi::api
