// RequestedHostFilter: the host is the one the request names, if it names one, and
// none where this very build failed before.
#pragma once

#include "scheduler/filter.h"

namespace kumoi::scheduler {

class RequestedHostFilter final : public Filter {
public:
    std::string_view name() const override { return "RequestedHostFilter"; }
    Verdict host_passes(const HostState& host, const RequestSpec& spec) const override;
};

}  // namespace kumoi::scheduler
