// ServerGroupSoftAffinityWeigher: prefers hosts that run more members of the server's group
// under soft-affinity, fewer under soft-anti-affinity (the two soft weighers of Nova in one).
#pragma once

#include "scheduler/weigher.h"

namespace kumoi::scheduler {

class ServerGroupSoftAffinityWeigher final : public Weigher {
public:
    using Weigher::Weigher;
    std::string_view name() const override { return "ServerGroupSoftAffinityWeigher"; }
    double weigh(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
