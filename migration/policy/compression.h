// Whether making bytes smaller pays: when the link would have taken longer for what is saved than
// the processor takes to save it, of each thread that does both in turn:
//
//     (in - out) * link time per byte > processor time
//
// A gauge is asked before each turn (a chunk, or a round) and told what it was like. What does not
// pay is left out for a turn, then two, four, ... up to `rest_max`, and tried again: links and
// guests change. Pure: time and bytes come in.
#pragma once

#include <cstdint>

namespace kumoi::migration {

struct CompressionSample {
    uint64_t in = 0;   // bytes that were looked at
    uint64_t out = 0;  // what they became
    int64_t cpu_ns = 0;
};

struct LinkSample {
    uint64_t bytes = 0;  // given to the sockets, by threads that waited for them so long
    int64_t ns = 0;
};

bool compression_pays(const CompressionSample& sample, const LinkSample& link);

class CompressionGauge {
public:
    struct Limits {
        uint64_t telling_bytes = 0;  // less says nothing
        unsigned rest_max = 1;       // turns
    };
    explicit CompressionGauge(const Limits& limits) : limits_(limits) {}
    bool on() const { return resting_ == 0; }
    // A turn has ended: `sample` is empty where it was off.
    void turn(const CompressionSample& sample, const LinkSample& link);
    unsigned dropped() const { return dropped_; }  // how often it did not pay

private:
    const Limits limits_;
    CompressionSample sample_;  // since it was last judged
    LinkSample link_;           // of late
    unsigned resting_ = 0;      // turns without
    unsigned rest_ = 1;         // turns without the next time
    unsigned dropped_ = 0;
};

}  // namespace kumoi::migration
