// What every way of running kumoi-compute shares: one daemon a state folder, and an end by signal.
#pragma once

#include <cstdint>
#include <string>

#include "base/event_loop.h"
#include "base/fd.h"
#include "base/result.h"

namespace kumoi::api {

struct ListenAddress {
    std::string host;
    uint16_t port = 0;
};
// Of a HostPort option, whose text was checked when the configuration was read.
ListenAddress parse_listen(const std::string& text);

// Conflict when another kumoi-compute uses the folder. Held as long as the descriptor is open.
Result<UniqueFd> lock_state(const std::string& state_path);

// Ends the loop at SIGTERM or SIGINT. Made before any thread is, so that all have them blocked.
class StopSignals {
public:
    static Result<StopSignals> watch(EventLoop& loop);

private:
    UniqueFd signals_;
    EventLoop::Watch watch_;
};

}  // namespace kumoi::api
