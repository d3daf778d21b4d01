// Standalone: one node with its own control plane in one process: database, identity, images,
// networks, conductor, the manager and driver of this host, and the HTTP servers in front of them.
// Wiring only: who is made from what, in which order things start and stop.
//
//     auto cloud = TRY(Standalone::create(config));
//     TRY(cloud->start());      // recovered, and every API answers
//     cloud->run();             // until SIGTERM, SIGINT or request_stop()
//     cloud->stop();            // drains; guests live on
//
// One thread owns it; request_stop() may come from any.
#pragma once

#include <memory>

#include "base/config.h"
#include "base/result.h"

namespace kumoi::api {

class Standalone {
public:
    // Opens and checks everything; listens nowhere yet. Conflict when another kumoi-compute uses
    // the same state_path.
    static Result<std::unique_ptr<Standalone>> create(const Config& config);
    ~Standalone();
    Result<void> start();
    void run();
    void request_stop();
    void stop();

private:
    struct Parts;
    explicit Standalone(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

}  // namespace kumoi::api
