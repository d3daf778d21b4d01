// Openstack: this node as a compute host of a real OpenStack, in the place of nova-compute (mode =
// openstack): the connection to RabbitMQ, Nova's conductor, Placement, Neutron, Glance and Cinder,
// and one node with its driver and manager behind Nova's compute RPC API, or a fleet of simulated
// ones. Wiring only.
//
//     auto node = TRY(Openstack::create(config));   // or create(config, 1000) for a fleet
//     TRY(node->start());       // waits until a nova-conductor answers; Cancelled by a signal
//     node->run();              // until SIGTERM, SIGINT or request_stop()
//     node->stop();             // guests live on
//
// One thread owns it; request_stop() may come from any.
#pragma once

#include <cstdint>
#include <memory>

#include "base/config.h"
#include "base/result.h"

namespace kumoi::api {

class Openstack {
public:
    // `fleet`: so many simulated hosts; 0: this host.
    static Result<std::unique_ptr<Openstack>> create(const Config& config, int64_t fleet = 0);
    ~Openstack();
    Result<void> start();
    void run();
    void request_stop();
    void stop();

private:
    struct Parts;
    explicit Openstack(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

}  // namespace kumoi::api
