// Convergence: when a live migration that copies memory round by round may stop the guest, and what
// to do when it never could.
//
// The model (Clark et al., NSDI '05, with the fixed part that others leave out, VMM study 3.9):
//     downtime(remaining) = fixed + remaining / bandwidth
// `fixed` is what stopping, saving, loading and the handover take whatever the memory; `bandwidth`
// is a cautious estimate of what the streams carried in recent rounds. The guest is stopped as soon
// as the downtime would be within the goal, or, where the fixed part alone is too long for it, as
// soon as memory adds little to that. A guest that writes faster than the streams carry
// never gets there: then its vCPUs are slowed down so far that it does, at most by what is allowed;
// where that is not enough post-copy is proposed, or the verdict says what would help.
// Pure: time, bytes and rates come in. One thread.
#pragma once

#include <cstdint>
#include <string>

namespace kumoi::migration {

struct ConvergenceGoal {
    int64_t downtime_ns = 300'000'000;
    bool may_throttle = true;
    unsigned throttle_max = 99;   // percent
    bool limits_writers = false;  // slowing down holds those that write, and them only
    bool may_post_copy = false;   // without being asked
};

// One round, as it ended.
struct RoundReport {
    uint64_t carried = 0;    // bytes of guest data, before they are packed; zeros do not count
    int64_t took_ns = 0;     // of sending them
    uint64_t remaining = 0;  // bytes written to meanwhile
    int64_t since_ns = 0;    // since the last time remaining was taken
};

class Convergence {
public:
    enum class Step { Copy, Stop, PostCopy };
    struct Advice {
        Step step = Step::Copy;
        unsigned throttle = 0;  // percent of the vCPUs' time to take from now on
        int64_t expected_downtime_ns = 0;
        int64_t remaining_ns = 0;  // until the guest runs there; -1: it will not converge
        uint64_t dirty_rate = 0;   // bytes a second
        uint64_t bandwidth = 0;    // bytes of guest data a second
        std::string verdict;       // plain words, empty while all is well
    };

    explicit Convergence(const ConvergenceGoal& goal) : goal_(goal) {}

    // What stop, state, load and handover are expected to take.
    void set_fixed(int64_t ns) { fixed_ns_ = ns; }
    Advice round(const RoundReport& report);
    // The guest stood still, and would have been away for that long: too long, so it goes on. It is
    // stopped again only with as much to spare as was missing, a little less with every round.
    void stopped_too_early(int64_t expected_ns);
    // The goal, or what comes nearest to it.
    int64_t goal_ns() const;
    // Of this many bytes, as far as is known now.
    int64_t expected_downtime(uint64_t remaining) const;

private:
    void measure(const RoundReport& report);
    void slow_down(Advice& advice);
    std::string judge(const Advice& advice) const;

    const ConvergenceGoal goal_;
    int64_t fixed_ns_ = 20'000'000;
    uint64_t bandwidth_ = 0;
    uint64_t dirty_rate_ = 0;
    unsigned throttle_ = 0;
    unsigned rounds_ = 0;
    unsigned stuck_ = 0;  // rounds in a row that brought the end no nearer
    uint64_t last_remaining_ = UINT64_MAX;
    int64_t advised_ns_ = 0;  // the downtime that was expected when a stop was advised
    int64_t spare_ns_ = 0;
    unsigned too_early_ = 0;  // how often
};

}  // namespace kumoi::migration
