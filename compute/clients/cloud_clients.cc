#include "compute/clients/cloud_clients.h"

#include <algorithm>
#include <optional>

#include "compute/clients/timed_transport.h"

namespace kumoi::clients {

// One section of the configuration: its own connections, retry budget and identity.
struct CloudClients::Service {
    Service(const Config& config, const std::string& section, const Parts& parts)
        : http(http_options_from_config(config, section)),
          timed(http, parts.clock, seconds_of(section, parts.metrics)),
          transport(timed, {}, parts.random, parts.wait) {
        AuthOptions auth = AuthOptions::from_config(config, section);
        if (auth.configured()) {
            session.emplace(std::move(auth), transport, parts.clock);
        }
    }
    KeystoneSession* identity() { return session ? &*session : nullptr; }
    static Histogram* seconds_of(const std::string& section, Metrics* metrics) {
        return metrics == nullptr
                   ? nullptr
                   : &metrics->histogram("kumoi_client_request_seconds",
                                         "From a request to a service of the cloud to its answer.",
                                         {{"section", section}});
    }

    HttpClient http;
    TimedTransport timed;
    RetryingTransport transport;
    std::optional<KeystoneSession> session;
};

struct CloudClients::State {
    State(const Config& config, const Parts& given)
        : parts(given),
          service_user(config, "service_user", given),
          checker(config, "keystone_authtoken", given),
          placement_part(config, "placement", given),
          neutron_part(config, "neutron", given),
          glance_part(config, "glance", given),
          cinder_part(config, "cinder", given),
          service_tokens(config.boolean("service_user", "send_service_user_token")
                             ? service_user.identity()
                             : nullptr),
          placement_service("Placement", ServiceOptions::from_config(config, "placement"),
                            {placement_part.identity(), nullptr, placement_part.transport}),
          neutron_service("Neutron", ServiceOptions::from_config(config, "neutron"),
                          {neutron_part.identity(), service_tokens, neutron_part.transport}),
          glance_service("Glance", ServiceOptions::from_config(config, "glance"),
                         {own_identity(glance_part), service_tokens, glance_part.transport}),
          cinder_service("Cinder", ServiceOptions::from_config(config, "cinder"),
                         {own_identity(cinder_part), service_tokens, cinder_part.transport}),
          placement(placement_service),
          neutron(neutron_service, given.clock,
                  config.integer("neutron", "extension_sync_interval") * kNanosPerSecond),
          network(neutron, config.string("neutron", "ovs_bridge")),
          glance(glance_service, download_options(config),
                 static_cast<int>(
                     std::clamp<int64_t>(config.integer("glance", "num_retries"), 0, 100))),
          cinder(cinder_service, {given.random, given.wait}) {
        report.association_refresh_ns =
            config.integer("compute", "resource_provider_association_refresh") * kNanosPerSecond;
    }

    // For what is done in nobody's name (recovery, periodic work). An ordinary nova.conf gives
    // [glance] no user; any of this host's others may do it.
    KeystoneSession* own_identity(Service& section) {
        for (Service* one : {&section, &service_user, &checker, &neutron_part}) {
            if (one->identity() != nullptr) {
                return one->identity();
            }
        }
        return nullptr;
    }

    static DownloadOptions download_options(const Config& config) {
        const int64_t range_mb =
            std::clamp<int64_t>(config.integer("glance", "download_range_mb"), 1, 1024);
        return {.streams = static_cast<int>(
                    std::clamp<int64_t>(config.integer("glance", "download_streams"), 1, 64)),
                .range_bytes = static_cast<uint64_t>(range_mb) << 20,
                .check_hash = false};
    }

    const Parts parts;
    Service service_user, checker, placement_part, neutron_part, glance_part, cinder_part;
    KeystoneSession* const service_tokens;
    ServiceClient placement_service, neutron_service, glance_service, cinder_service;
    PlacementClient placement;
    NeutronClient neutron;
    NeutronNetwork network;
    GlanceClient glance;
    CinderClient cinder;
    ReportOptions report;
};

CloudClients::CloudClients(std::unique_ptr<State> state) : state_(std::move(state)) {}
CloudClients::~CloudClients() = default;

Result<std::unique_ptr<CloudClients>> CloudClients::create(const Config& config, Parts parts) {
    auto state = std::make_unique<State>(config, parts);
    const auto missing = [](const char* section, const char* why) {
        return Error::invalid("Section [{}] has no auth_url: {}", section, why)
            .with_hint(
                "give it auth_url, username, password, project_name and the two domain "
                "names, as nova.conf of a nova-compute has them");
    };
    if (parts.images_only) {
        if (state->own_identity(state->glance_part) == nullptr) {
            return missing("glance", "this node can't fetch images from its controller");
        }
        return std::unique_ptr<CloudClients>(new CloudClients(std::move(state)));
    }
    if (state->placement_part.identity() == nullptr) {
        return missing("placement", "this node can't report its resources");
    }
    if (state->neutron_part.identity() == nullptr) {
        return missing("neutron", "this node can't bind ports");
    }
    if (config.boolean("service_user", "send_service_user_token") &&
        state->service_tokens == nullptr) {
        return missing("service_user", "send_service_user_token needs a user");
    }
    return std::unique_ptr<CloudClients>(new CloudClients(std::move(state)));
}

PlacementClient& CloudClients::placement() {
    return state_->placement;
}
NeutronClient& CloudClients::neutron() {
    return state_->neutron;
}
NeutronNetwork& CloudClients::network() {
    return state_->network;
}
GlanceClient& CloudClients::glance() {
    return state_->glance;
}
CinderClient& CloudClients::cinder() {
    return state_->cinder;
}
KeystoneSession* CloudClients::token_checker() {
    return state_->checker.identity();
}

std::unique_ptr<ReportClient> CloudClients::make_report_client() {
    const Parts& parts = state_->parts;
    return std::make_unique<ReportClient>(
        state_->placement, ReportClient::Parts{parts.clock, parts.random, parts.wait},
        state_->report);
}

}  // namespace kumoi::clients
