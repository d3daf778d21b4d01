// NoVifs: the VifDriver of guests that are not real (simulated driver): nothing is plugged.
#pragma once

#include "compute/manager/network_api.h"
#include "compute/network/device_names.h"

namespace kumoi::compute {

class NoVifs final : public VifDriver {
public:
    Result<std::string> plug(const Instance& /*instance*/, const VifInfo& vif) override {
        return "tap" + short_id(vif.port_id);
    }
    Result<void> unplug(const Instance& /*instance*/, const VifInfo& /*vif*/) override {
        return {};
    }
    Result<void> reconcile(const std::vector<Instance>& /*instances*/) override { return {}; }
};

}  // namespace kumoi::compute
