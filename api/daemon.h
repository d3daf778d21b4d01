// What every way of running kumoi-compute shares: one daemon a state folder, an end by signal, and
// how its HTTP servers are made from the configuration.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "api/http/server.h"
#include "base/config.h"
#include "base/event_loop.h"
#include "base/fd.h"
#include "base/metrics.h"
#include "base/result.h"

namespace kumoi::api {

struct ListenAddress {
    std::string host;
    uint16_t port = 0;
};
// Of a HostPort option, whose text was checked when the configuration was read.
ListenAddress parse_listen(const std::string& text);

// Listens where option `listen` of the server's section says; "compute" has section [api].
// `streams`: for bodies of any size.
Result<std::unique_ptr<HttpServer>> start_server(const Config& config, const std::string& name,
                                                 Router router, bool streams,
                                                 const ServerDependencies& dependencies);
Router make_metrics_router(const Metrics& metrics);

// Conflict when another kumoi-compute uses the folder. Held as long as the descriptor is open.
Result<UniqueFd> lock_state(const std::string& state_path);

// For a process that lives for months beside guests: few heaps for its many threads, made before
// those, and what a burst of work has freed goes back to the system within 20 s. The loop's thread.
void keep_memory_small(EventLoop& loop);

// Ends the loop at SIGTERM or SIGINT. Made before any thread is, so that all have them blocked.
class StopSignals {
public:
    static Result<StopSignals> watch(EventLoop& loop);

private:
    UniqueFd signals_;
    EventLoop::Watch watch_;
};

}  // namespace kumoi::api
