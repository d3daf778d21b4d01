// VcpuThrottle: takes time away from vCPUs so that a migration can keep up with what they write.
//
// Two ways. A share of all time: every vCPU rests for that share of each period, whatever it does.
// Or a rate of dirty pages, where each vCPU's is known (dirty rings): who writes more rests until
// his average is down to it, and who does not write loses nothing. A vCPU rests outside of KVM_RUN;
// a pause ends its rest at once. The guest sees time stolen, never a jump. On the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/result.h"

namespace kumoi::hypervisor {

class VcpuThrottle {
public:
    static constexpr uint32_t kPercentMax = 99;
    static constexpr int64_t kPeriodNs = 10 * kNanosPerMilli;
    static constexpr int64_t kRunMinNs = kNanosPerMilli;  // between two rests
    static constexpr int64_t kRestMaxNs = 100 * kNanosPerMilli;

    struct Machine {
        std::function<uint32_t()> vcpus;                           // how many
        std::function<void(uint32_t vcpu, int64_t rest_ns)> rest;  // begins now
        // Pages that it has dirtied since it is there; empty: nobody knows.
        std::function<Result<uint64_t>(uint32_t vcpu)> dirtied;
    };
    VcpuThrottle(EventLoop& loop, const Clock& clock, Machine machine);
    ~VcpuThrottle();
    VcpuThrottle(const VcpuThrottle&) = delete;
    VcpuThrottle& operator=(const VcpuThrottle&) = delete;

    // 0 to kPercentMax of the time of every vCPU; 0: none.
    Result<void> set(uint32_t percent);
    uint32_t percent() const { return percent_; }
    // Of each vCPU; 0: no limit. Unsupported where nobody knows who writes.
    Result<void> set_dirty_limit(uint64_t bytes_per_s);
    uint64_t dirty_limit() const { return dirty_limit_; }

    // How long to run and to rest in turn for that share.
    struct Slice {
        int64_t run_ns = 0;
        int64_t rest_ns = 0;
    };
    static Slice slice_for(uint32_t percent);
    // For one who has dirtied so much in `elapsed_ns`.
    static int64_t rest_for(uint64_t dirtied_bytes, int64_t elapsed_ns, uint64_t bytes_per_s);

private:
    void begin();
    void arm(int64_t after_ns);
    void tick();
    int64_t rest_of_writer(uint32_t vcpu, int64_t elapsed_ns);

    EventLoop& loop_;
    const Clock& clock_;
    const Machine machine_;
    uint32_t percent_ = 0;
    uint64_t dirty_limit_ = 0;
    EventLoop::TimerId timer_ = 0;  // 0: nobody is throttled
    int64_t last_tick_ns_ = 0;
    std::vector<uint64_t> dirtied_;  // by each vCPU at the last tick
};

}  // namespace kumoi::hypervisor
