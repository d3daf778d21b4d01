// Weigher: how much one aspect of a host speaks for it. The scheduler scales the raw weights of all
// candidates to 0..1 and adds them up, each times its multiplier (nova/weights.py); a negative
// multiplier turns spreading into stacking. Weighers are pure.
#pragma once

#include <string_view>

#include "scheduler/host_state.h"
#include "scheduler/request_spec.h"

namespace kumoi::scheduler {

class Weigher {
public:
    explicit Weigher(double multiplier) : multiplier_(multiplier) {}
    virtual ~Weigher() = default;
    virtual std::string_view name() const = 0;
    virtual double weigh(const HostState& host, const RequestSpec& spec) const = 0;
    double multiplier() const { return multiplier_; }

private:
    double multiplier_;
};

}  // namespace kumoi::scheduler
