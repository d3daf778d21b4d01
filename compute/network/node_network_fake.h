// NodeNetworkFake: the VifDriver of a node without devices: for the simulated driver and for tests
// without root. It asks the records the same questions as NodeNetwork and answers with the same
// names and errors, and makes nothing. Any thread.
#pragma once

#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "compute/manager/network_api.h"
#include "compute/network/node_records.h"

namespace kumoi::compute {

class NodeNetworkFake final : public VifDriver {
public:
    explicit NodeNetworkFake(NetworkRecords& records) : records_(records) {}

    Result<std::string> plug(const Instance& instance, const VifInfo& vif) override;
    Result<void> unplug(const Instance& instance, const VifInfo& vif) override;
    Result<void> reconcile(const std::vector<Instance>& instances) override;

    std::set<std::string> plugged() const;  // port ids

private:
    NetworkRecords& records_;
    mutable std::mutex mutex_;
    std::set<std::string> plugged_;  // guarded by mutex_
};

}  // namespace kumoi::compute
