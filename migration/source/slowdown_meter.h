// SlowdownMeter: how much of its vCPUs' time a guest lost to its migration while it still ran here.
//
// Lost is: what vCPUs rested to be slowed down (or held at a rate of writing), what they stood in
// exits because a dirty ring was full, and, for each of them, the stops before the last one: the
// rehearsal, and those after which the guest went on. Not counted, for nobody outside of KVM sees
// it: what the first write to each protected page costs; and not the last stop, which is the
// downtime. Plain values; one thread.
#pragma once

#include <cstdint>

namespace kumoi::migration {

class SlowdownMeter {
public:
    struct Figures {
        int64_t lost_ns = 0;  // of all vCPUs together
        double percent = 0;   // of the time they could have run
    };
    // `rested_ns`, here and below: by all vCPUs so far.
    void begin(int64_t now, int64_t rested_ns);
    void stopped(int64_t now);
    void goes_on(int64_t now, unsigned vcpus);
    // The guest runs no more, or is left alone again: the figures stay.
    void end(int64_t now, int64_t rested_ns, unsigned vcpus);
    Figures figures(int64_t now, int64_t rested_ns, unsigned vcpus) const;

private:
    int64_t begun_ns_ = 0;
    int64_t rested_ns_ = 0;   // before
    int64_t stopped_ns_ = 0;  // 0: it runs
    int64_t stops_ns_ = 0;    // of all vCPUs
    bool ended_ = false;
    Figures last_;
};

}  // namespace kumoi::migration
