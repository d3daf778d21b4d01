#include "api/fleet.h"

#include <sys/resource.h>

#include <algorithm>

#include "base/log.h"

namespace kumoi::api {
namespace {

constexpr int64_t kNodesMax = 10'000;
constexpr size_t kQueuedPerNode = 16;
constexpr int64_t kRetryNs = 10 * kNanosPerSecond;
constexpr int64_t kProgressStep = 100;  // hosts between two lines of the log

NodeShared with_pools(NodeShared shared, WorkerPool& requests, WorkerPool& verbs,
                      WorkerPool& housekeeping) {
    shared.requests = &requests;
    shared.pools.emplace(compute::ComputeManager::Pools{verbs, housekeeping});
    return shared;
}

size_t queue_length(const FleetOptions& options) {
    return kQueuedPerNode * static_cast<size_t>(options.nodes) + 1024;
}

}  // namespace

Result<FleetOptions> FleetOptions::from_config(const Config& config, int64_t nodes) {
    if (nodes < 1 || nodes > kNodesMax) {
        return Error::invalid("--fleet {}: a process runs 1 to {} hosts", nodes, kNodesMax);
    }
    if (config.string("DEFAULT", "mode") != "openstack") {
        return Error::invalid("--fleet needs [DEFAULT] mode = openstack")
            .with_hint("A fleet loads a real control plane; standalone there is none.");
    }
    if (config.string("DEFAULT", "compute_driver") != "simulated") {
        return Error::invalid("--fleet needs [DEFAULT] compute_driver = simulated")
            .with_hint("This machine is one host; only simulated hosts can be many.");
    }
    FleetOptions options;
    options.nodes = nodes;
    options.verb_threads = config.integer("fleet", "verb_threads");
    options.request_threads = config.integer("fleet", "request_threads");
    options.housekeeping_threads = config.integer("fleet", "housekeeping_threads");
    options.start_threads = config.integer("fleet", "start_threads");
    return options;
}

std::string fleet_host(const std::string& host, int64_t number) {
    return fmt::format("{}-{:04}", host, number);
}

void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

Fleet::Fleet(NodeShared shared, FleetOptions options, Metrics& metrics)
    : options_(options),
      verbs_("compute", static_cast<size_t>(options.verb_threads), queue_length(options)),
      requests_("rpc", static_cast<size_t>(options.request_threads), queue_length(options)),
      housekeeping_("compute-house", static_cast<size_t>(options.housekeeping_threads),
                    queue_length(options)),
      shared_(with_pools(shared, requests_, verbs_, housekeeping_)),
      serving_gauge_(metrics.gauge("kumoi_fleet_hosts", "Simulated hosts that serve.")),
      starts_("fleet-start", static_cast<size_t>(options.start_threads), queue_length(options)) {
    for (int64_t number = 1; number <= options.nodes; ++number) {
        slots_.push_back(std::make_unique<Slot>());
        slots_.back()->number = number;
    }
}

Fleet::~Fleet() {
    stop();
}

void Fleet::start() {
    log_info("fleet", "registering simulated hosts", {{"hosts", options_.nodes}});
    for (const auto& slot : slots_) {
        submit(*slot);
    }
}

void Fleet::submit(Slot& slot) {
    const auto queued = starts_.submit([this, &slot] { bring_up(slot); });
    if (!queued.ok() && !stopping_) {
        log_error("fleet", "a host will not start", {{"why", queued.error().text()}});
    }
}

NodeSettings Fleet::settings_of(const Slot& slot) const {
    NodeSettings settings = NodeSettings::from_config(shared_.config);
    settings.options.host = fleet_host(settings.options.host, slot.number);
    settings.options.state_path += "/fleet/" + settings.options.host;
    settings.durable = false;   // its guests die with the process anyway
    settings.consoles = false;  // simulated guests have no screens
    // Every host beats at its own moment of the interval.
    constexpr uint64_t kSteps = 1'000'000;
    settings.first_period =
        static_cast<double>(shared_.random.below(kSteps) + 1) / static_cast<double>(kSteps);
    return settings;
}

Result<void> Fleet::try_bring_up(Slot& slot) {
    // A node that was made stays: its work may be on the shared threads.
    if (!slot.node) {
        slot.node = TRY(OpenstackNode::open(shared_, settings_of(slot)));
    }
    return slot.node->start();
}

void Fleet::bring_up(Slot& slot) {
    if (stopping_) {
        return;
    }
    const Result<void> up = try_bring_up(slot);
    if (stopping_) {
        return;
    }
    if (!up.ok()) {
        if (slot.failures++ == 0) {
            log_warn("fleet", "a host could not register yet; trying again",
                     {{"number", slot.number}, {"why", up.error().text()}});
        }
        shared_.loop.post(
            [this, &slot] { shared_.loop.call_after(kRetryNs, [this, &slot] { submit(slot); }); });
        return;
    }
    slot.serving = true;
    const int64_t serving = ++serving_;
    serving_gauge_.set(serving);
    if (serving % kProgressStep == 0 || serving == options_.nodes) {
        log_info("fleet", serving == options_.nodes ? "all hosts serve" : "hosts serve",
                 {{"serving", serving}, {"of", options_.nodes}});
    }
}

void Fleet::stop() {
    if (stopping_.exchange(true)) {
        return;
    }
    starts_.stop();
    starts_.join();
    for (const auto& slot : slots_) {
        if (slot->node) {
            slot->node->stop();
        }
    }
    for (WorkerPool* pool : {&requests_, &verbs_, &housekeeping_}) {
        pool->stop();
        pool->join();
    }
}

}  // namespace kumoi::api
