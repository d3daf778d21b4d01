// Preflight: can this host run servers, and how well? Each check looks at one thing, changes
// nothing and says what to do. Blocking, a second at most.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace kumoi::cli {

enum class Verdict { Good, Warning, Bad };  // Bad: servers will not run

struct Finding {
    std::string name;  // stable: "kvm", "tap", "port-8774"
    Verdict verdict = Verdict::Good;
    std::string text;  // what was found, with the numbers
    std::string hint;  // what to do; empty when good
};

std::vector<Finding> preflight(const std::string& state_path, const Clock& clock);

// Pure parts.
// `cpuinfo`: /proc/cpuinfo. Hardware virtualization, and whether we are a guest ourselves.
Finding judge_processor(std::string_view cpuinfo, bool kvm_usable);
Finding judge_memory(std::string_view meminfo);
Finding judge_clock(int64_t wall_ns);

}  // namespace kumoi::cli
