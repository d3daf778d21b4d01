// MigrationForecast: what the numbers of a live migration, as the Compute API shows them now and
// again, say about its end: how fast memory and disks go over, how fast the guest writes them
// again, how long it will take, and whether it will end at all. Works on any cloud, for it needs
// nothing but bytes processed and bytes remaining. A value; one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "base/json.h"

namespace kumoi::cli {

class MigrationForecast {
public:
    // `migration`: of GET /servers/{id}/migrations.
    void add(int64_t now_ns, const Json& migration);

    struct State {
        std::string status;
        int64_t total = 0;  // bytes of memory and disks
        int64_t remaining = 0;
        std::optional<int64_t> bandwidth;     // bytes a second
        std::optional<int64_t> dirty_rate;    // what the guest writes again, bytes a second
        std::optional<int64_t> remaining_ms;  // none: not known, or never
        bool never = false;                   // it will not converge like this
    };
    State state() const;
    // "running, 512 of 1024 MiB left, 110 MiB/s, guest writes 20 MiB/s, 6 s to go"
    std::string line() const;
    // In plain words, what to do when it does not converge; empty while all is well.
    std::string verdict() const;

private:
    struct Sample {
        int64_t at_ns = 0;
        int64_t processed = 0;
        int64_t remaining = 0;
    };
    std::string status_;
    int64_t total_ = 0;
    std::deque<Sample> samples_;  // of the last seconds
};

std::string mebibytes(int64_t bytes);

}  // namespace kumoi::cli
