// CloudClients: everything a node of mode = openstack needs to ask the cloud's services, made from
// one nova.conf. One is enough for a process, however many nodes it runs; only a ReportClient
// belongs to one node (make_report_client()). Thread safe.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/config.h"
#include "base/metrics.h"
#include "base/random.h"
#include "compute/clients/cinder_client.h"
#include "compute/clients/glance_client.h"
#include "compute/clients/http_client.h"
#include "compute/clients/neutron_network.h"
#include "compute/clients/report_client.h"

namespace kumoi::clients {

class CloudClients {
public:
    struct Parts {
        const Clock& clock;
        Random& random;
        Wait wait = system_wait();
        Metrics* metrics = nullptr;  // outlives this
        bool images_only = false;    // nothing but glance() is used
    };

    // The options of client_option_table() must be declared in the configuration; clock and random
    // must outlive this. Errors: credentials that are needed are missing ([placement], [neutron],
    // and [service_user] when its tokens are wanted).
    static Result<std::unique_ptr<CloudClients>> create(const Config& config, Parts parts);
    ~CloudClients();

    PlacementClient& placement();
    NeutronClient& neutron();
    NeutronNetwork& network();  // compute::NetworkApi
    GlanceClient& glance();     // compute::ImageApi; leaves the hash to the image cache
    CinderClient& cinder();
    // The session that tells what another user's token is worth; nullptr without
    // [keystone_authtoken].
    KeystoneSession* token_checker();
    std::unique_ptr<ReportClient> make_report_client();

private:
    struct Service;
    struct State;
    explicit CloudClients(std::unique_ptr<State> state);

    std::unique_ptr<State> state_;
};

}  // namespace kumoi::clients
