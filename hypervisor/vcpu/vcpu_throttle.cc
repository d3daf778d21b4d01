#include "hypervisor/vcpu/vcpu_throttle.h"

#include <algorithm>
#include <utility>

namespace kumoi::hypervisor {

namespace {
constexpr uint64_t kPageSize = 4096;
}

VcpuThrottle::VcpuThrottle(EventLoop& loop, const Clock& clock, Machine machine)
    : loop_(loop), clock_(clock), machine_(std::move(machine)) {}

VcpuThrottle::~VcpuThrottle() {
    loop_.cancel(timer_);
}

// The period grows where the rest of it would be too short to run in.
VcpuThrottle::Slice VcpuThrottle::slice_for(uint32_t percent) {
    const int64_t share = std::min(percent, kPercentMax);
    const int64_t period = std::max(kPeriodNs, kRunMinNs * 100 / (100 - share));
    const int64_t rest = period * share / 100;
    return {period - rest, rest};
}

// Time in which the limit lets through what was written, without the time it took.
int64_t VcpuThrottle::rest_for(uint64_t dirtied_bytes, int64_t elapsed_ns, uint64_t bytes_per_s) {
    const double due_s = static_cast<double>(dirtied_bytes) / static_cast<double>(bytes_per_s);
    const double rest_ns =
        due_s * static_cast<double>(kNanosPerSecond) - static_cast<double>(elapsed_ns);
    return static_cast<int64_t>(std::clamp(rest_ns, 0.0, static_cast<double>(kRestMaxNs)));
}

Result<void> VcpuThrottle::set(uint32_t percent) {
    if (percent > kPercentMax) {
        return Error::invalid("vCPUs can lose up to {} % of their time, not {} %", kPercentMax,
                              percent);
    }
    percent_ = percent;
    begin();
    return {};
}

Result<void> VcpuThrottle::set_dirty_limit(uint64_t bytes_per_s) {
    if (bytes_per_s != 0 && !machine_.dirtied) {
        return Error::unsupported("which vCPU writes is not known")
            .with_hint("set \"dirty_tracking\" of the guest to \"ring\", or throttle all vCPUs");
    }
    dirty_limit_ = bytes_per_s;
    begin();
    return {};
}

void VcpuThrottle::begin() {
    loop_.cancel(std::exchange(timer_, 0));
    if (percent_ == 0 && dirty_limit_ == 0) {
        return;
    }
    last_tick_ns_ = clock_.monotonic_ns();
    dirtied_.clear();  // counted from the first tick on
    arm(percent_ != 0 ? slice_for(percent_).run_ns : kPeriodNs);
}

void VcpuThrottle::arm(int64_t after_ns) {
    timer_ = loop_.call_after(after_ns, [this] { tick(); });
}

void VcpuThrottle::tick() {
    const int64_t now = clock_.monotonic_ns();
    const int64_t elapsed = now - std::exchange(last_tick_ns_, now);
    const Slice slice = slice_for(percent_);
    const bool known = !dirtied_.empty();
    dirtied_.resize(machine_.vcpus());
    for (uint32_t vcpu = 0; vcpu < dirtied_.size(); ++vcpu) {
        int64_t rest = percent_ == 0 ? 0 : slice.rest_ns;
        if (dirty_limit_ != 0) {
            const int64_t writers = rest_of_writer(vcpu, elapsed);
            rest = std::max(rest, known ? writers : 0);
        }
        if (rest > 0) {
            machine_.rest(vcpu, rest);
        }
    }
    arm(percent_ == 0 ? kPeriodNs : slice.run_ns + slice.rest_ns);
}

int64_t VcpuThrottle::rest_of_writer(uint32_t vcpu, int64_t elapsed_ns) {
    const auto now = machine_.dirtied(vcpu);
    if (!now.ok()) {
        return 0;  // the migration that wants to know hears of it
    }
    const uint64_t pages = *now - std::min(*now, std::exchange(dirtied_[vcpu], *now));
    return rest_for(pages * kPageSize, elapsed_ns, dirty_limit_);
}

}  // namespace kumoi::hypervisor
