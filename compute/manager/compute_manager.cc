#include "compute/manager/compute_manager.h"

#include <algorithm>
#include <cstdlib>

#include "base/file.h"
#include "base/log.h"
#include "compute/manager/host_recovery.h"
#include "compute/manager/host_tasks.h"
#include "compute/manager/live_migration_recovery.h"
#include "compute/manager/move_records.h"
#include "compute/manager/move_recovery.h"
#include "compute/manager/power_sync.h"
#include "compute/manager/power_tasks.h"
#include "compute/manager/reboot_task.h"
#include "compute/manager/spawn_task.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr size_t kWorkersBesideBuilds = 8;   // so that builds never keep a stop or delete waiting
constexpr size_t kMigrationThreadsMax = 64;  // a live migration holds one as long as it takes
constexpr size_t kQueueLengthMax = 100'000;
constexpr size_t kHousekeepingThreads = 2;
constexpr size_t kHousekeepingQueueMax = 1024;
constexpr int64_t kPollIntervalS = 60;  // Nova's spacing of its _poll_* tasks
constexpr int64_t kConsoleLinesAll = -1;

ResourceOptions resource_options(const ManagerOptions& options, std::string compute_id) {
    ResourceOptions resources;
    resources.uuid = std::move(compute_id);
    resources.host = options.host;
    resources.host_ip = options.host_ip;
    resources.reserved_memory_mb = options.reserved_memory_mb;
    resources.cpu_allocation_ratio = options.cpu_allocation_ratio;
    resources.ram_allocation_ratio = options.ram_allocation_ratio;
    resources.disk_allocation_ratio = options.disk_allocation_ratio;
    return resources;
}

size_t migration_threads(const ManagerOptions& options) {
    const auto most = static_cast<size_t>(options.live_migration.migrations_max);
    return most == 0 ? kMigrationThreadsMax : std::min(most, kMigrationThreadsMax);
}

}  // namespace

Result<std::unique_ptr<ComputeManager>> ComputeManager::create(const Borders& borders,
                                                               ManagerOptions options,
                                                               JournalOptions journal_options,
                                                               ServerQueue::Executor executor) {
    TRY(make_directories(options.state_path));
    std::string compute_id = TRY(load_or_make_compute_id(options.state_path));
    auto journal = TRY(
        Journal::open(options.state_path + "/journal", borders.clock, std::move(journal_options)));
    return std::unique_ptr<ComputeManager>(
        new ComputeManager(borders, std::move(options), std::move(compute_id), std::move(journal),
                           std::move(executor)));
}

ComputeManager::ComputeManager(const Borders& borders, ManagerOptions options,
                               std::string compute_id, std::unique_ptr<Journal> journal,
                               ServerQueue::Executor executor)
    : options_(std::move(options)),
      journal_(std::move(journal)),
      tracker_(resource_options(options_, std::move(compute_id)), borders.clock),
      migrations_(static_cast<int64_t>(migration_threads(options_))),
      services_{borders.conductor, borders.network, borders.vifs,  borders.driver, borders.images,
                tracker_,          *journal_,       borders.clock, options_,       borders.events,
                borders.volumes,   borders.tasks,   &unsettled_,   borders.moves,  borders.cloud,
                borders.live,      &migrations_},
      own_workers_(borders.pools
                       ? nullptr
                       : std::make_unique<WorkerPool>(
                             "compute",
                             static_cast<size_t>(options_.builds_max) + kWorkersBesideBuilds +
                                 (borders.live == nullptr ? 0 : migration_threads(options_)),
                             kQueueLengthMax)),
      own_housekeeping_(borders.pools
                            ? nullptr
                            : std::make_unique<WorkerPool>("compute-house", kHousekeepingThreads,
                                                           kHousekeepingQueueMax)),
      workers_(own_workers_ ? *own_workers_ : borders.pools->verbs),
      housekeeping_(own_housekeeping_ ? *own_housekeeping_ : borders.pools->housekeeping),
      queue_(
          executor ? std::move(executor)
                   : [this](std::function<void()>
                                function) { return workers_.submit(std::move(function)); },
          static_cast<size_t>(options_.builds_max)) {}

ComputeManager::~ComputeManager() {
    services_.driver.set_event_listener({});
    stop();
    if (own_housekeeping_) {
        own_housekeeping_->stop();
        own_housekeeping_->join();
    }
}

Result<void> ComputeManager::init_host() {
    services_.driver.set_event_listener(
        [this](const LifecycleEvent& event) { on_lifecycle_event(event); });
    TRY_CONTEXT(services_.driver.init_host(options_.host), "starting the driver");
    const bool rebooted = TRY(host_was_rebooted(options_.state_path));
    HostRecovery recovery(
        services_,
        [this](const std::string& uuid, std::function<void()> function) {
            submit_quietly(uuid, std::move(function));
        },
        rebooted);
    TRY(recovery.execute());
    tracker_.set_change_listener([this] { publish_compute_node(); });
    TRY(services_.conductor.compute_node_update(tracker_.compute_node()));
    return services_.conductor.service_heartbeat(options_.host);
}

void ComputeManager::stop() {
    queue_.stop();
    if (own_workers_) {
        own_workers_->stop();
        own_workers_->join();
    } else {
        queue_.wait_idle();
    }
}

Result<void> ComputeManager::build_and_run_instance(BuildRequest request) {
    const RequestContext context = request.context;
    const std::string uuid = request.instance.uuid;
    return queue_.submit(uuid, ServerQueue::Lane::Build, [this, request = std::move(request)] {
        run_verb(services_, verbs::kBuild, request.context, request.instance.uuid,
                 [&](const Operation& operation) {
                     return SpawnTask(services_, request, operation).execute();
                 });
    });
}

Result<void> ComputeManager::start_instance(const RequestContext& context,
                                            const std::string& uuid) {
    return submit(verbs::kStart, context, uuid, start_task);
}

Result<void> ComputeManager::stop_instance(const RequestContext& context, const std::string& uuid,
                                           bool clean_shutdown) {
    return submit(verbs::kStop, context, uuid,
                  [clean_shutdown](auto& services, const auto& operation) {
                      return stop_task(services, operation, clean_shutdown);
                  });
}

Result<void> ComputeManager::reboot_instance(const RequestContext& context, const std::string& uuid,
                                             RebootType type) {
    return submit(verbs::kReboot, context, uuid, [type](auto& services, const auto& operation) {
        return RebootTask(services, operation, type).execute();
    });
}

Result<void> ComputeManager::pause_instance(const RequestContext& context,
                                            const std::string& uuid) {
    return submit(verbs::kPause, context, uuid, pause_task);
}

Result<void> ComputeManager::unpause_instance(const RequestContext& context,
                                              const std::string& uuid) {
    return submit(verbs::kUnpause, context, uuid, unpause_task);
}

Result<void> ComputeManager::submit(const VerbInfo& info, const RequestContext& context,
                                    const std::string& uuid, Task task, ServerQueue::Lane lane) {
    return queue_.submit(uuid, lane, [this, &info, context, uuid, task = std::move(task)] {
        run_verb(services_, info, context, uuid,
                 [&](const Operation& operation) { return task(services_, operation); });
    });
}

void ComputeManager::submit_quietly(const std::string& uuid, std::function<void()> function) {
    warn_unless_ok(queue_.submit(uuid, ServerQueue::Lane::Other, std::move(function)),
                   "work for a server could not be queued");
}

Result<std::string> ComputeManager::get_console_output(const RequestContext& context,
                                                       const std::string& uuid,
                                                       int64_t tail_lines) {
    const LogScope scope({{"request", context.request_id}, {"server", uuid}});
    const Instance instance = TRY(services_.conductor.instance_get(uuid));
    return services_.driver.get_console_output(instance,
                                               tail_lines < 0 ? kConsoleLinesAll : tail_lines);
}

Result<ConsoleConnection> ComputeManager::get_vnc_console(const RequestContext& context,
                                                          const std::string& uuid) {
    const LogScope scope({{"request", context.request_id}, {"server", uuid}});
    const Instance instance = TRY(services_.conductor.instance_get(uuid));
    std::string socket = TRY(services_.driver.get_vnc_console(instance));
    return ConsoleConnection{options_.host, std::move(socket)};
}

Result<ConsoleConnection> ComputeManager::get_serial_console(const RequestContext& context,
                                                             const std::string& uuid) {
    const LogScope scope({{"request", context.request_id}, {"server", uuid}});
    const Instance instance = TRY(services_.conductor.instance_get(uuid));
    std::string socket = TRY(services_.driver.get_serial_console(instance));
    return ConsoleConnection{options_.host, std::move(socket)};
}

Result<Json> ComputeManager::get_instance_diagnostics(const RequestContext& context,
                                                      const std::string& uuid) {
    const LogScope scope({{"request", context.request_id}, {"server", uuid}});
    const Instance instance = TRY(services_.conductor.instance_get(uuid));
    if (power_state_of(services_.driver, instance) != power_states::kRunning) {
        return Error::conflict("Server {} is not running, its state is {}", uuid, instance.vm_state)
            .with_hint("Start it first.")
            .with_fault("InstanceInvalidState");
    }
    return services_.driver.get_instance_diagnostics(instance);
}

Result<double> ComputeManager::get_host_uptime() {
    const std::string text = TRY(read_file("/proc/uptime", 256));
    return std::atof(text.c_str());
}

void ComputeManager::on_lifecycle_event(const LifecycleEvent& event) {
    submit_quietly(event.instance_uuid, [this, event] {
        const LogScope scope({{"server", event.instance_uuid}});
        const auto handled = handle_lifecycle_event(services_, event);
        if (!handled.ok() && !is_instance_gone(handled.error()) &&
            !is_unexpected_task_state(handled.error())) {
            log_warn("compute", "an event of the guest was not followed",
                     {{"why", handled.error().text()}});
        }
    });
}

// Many claims in a row make one update.
void ComputeManager::publish_compute_node() {
    if (publish_pending_.exchange(true)) {
        return;
    }
    const auto queued = housekeeping_.submit([this] {
        publish_pending_ = false;
        warn_unless_ok(services_.conductor.compute_node_update(tracker_.compute_node()),
                       "the node's resources were not recorded");
    });
    if (!queued.ok()) {
        publish_pending_ = false;  // the periodic audit publishes it
    }
}

void ComputeManager::heartbeat() {
    const auto told = services_.conductor.service_heartbeat(options_.host);
    warn_unless_ok(told, "the sign of life was not recorded");
    if (told.ok()) {
        settle_operations();
    }
}

void ComputeManager::settle_operations() {
    const std::set<uint64_t> ids = unsettled_.take();
    if (ids.empty()) {
        return;
    }
    for (const OpenOperation& open : journal_->open_operations()) {
        if (ids.contains(open.id)) {
            submit_quietly(open.instance_uuid, [this, open] { settle_operation(services_, open); });
        }
    }
}

Result<void> ComputeManager::update_available_resource() {
    tracker_.begin_update();
    const HostResources resources = TRY(services_.driver.get_available_resource());
    auto servers = TRY(services_.conductor.instances_by_host(options_.host));
    if (services_.moves != nullptr) {
        TRY(services_.moves->count_moves(servers));
    }
    tracker_.update(resources, servers);
    return services_.conductor.compute_node_update(tracker_.compute_node());
}

void ComputeManager::sync_power_states() {
    const auto instances = services_.conductor.instances_by_host(options_.host);
    if (!instances.ok()) {
        log_warn("compute", "servers could not be listed", {{"why", instances.error().text()}});
        return;
    }
    for (const Instance& instance : *instances) {
        if (decide_power_sync(instance, power_state_of(services_.driver, instance)) ==
            PowerSyncAction::Nothing) {
            continue;
        }
        on_lifecycle_event({instance.uuid, LifecycleEvent::Kind::Stopped, "periodic comparison"});
    }
}

void ComputeManager::poll_servers() {
    warn_unless_ok(services_.conductor.poll_servers(options_.host),
                   "servers that wait for a deadline were not looked at");
    if (services_.live != nullptr) {
        const auto recorded = services_.conductor.instances_by_host(options_.host);
        if (recorded.ok()) {
            settle_arrivals(services_, arrivals(services_, *recorded).all,
                            [this](const std::string& uuid, std::function<void()> function) {
                                submit_quietly(uuid, std::move(function));
                            });
        }
    }
    if (services_.moves != nullptr) {
        settle_kept(services_, {}, [this](const std::string& uuid, std::function<void()> function) {
            submit_quietly(uuid, std::move(function));
        });
    }
    if (services_.volumes != nullptr && services_.tasks != nullptr) {
        lost_volume_requests_.look(services_,
                                   [this](const std::string& uuid, std::function<void()> function) {
                                       submit_quietly(uuid, std::move(function));
                                   });
    }
}

struct ComputeManager::Repeated {
    const std::string name;
    const int64_t interval_s;
    const std::function<void()> function;
    std::atomic<bool> waiting{false};  // queued or running
};

void ComputeManager::start_periodic_tasks(EventLoop& loop, double first_period) {
    const auto add = [&](const char* name, int64_t interval_s, std::function<void()> function) {
        if (interval_s < 0) {
            return;  // switched off
        }
        interval_s = interval_s == 0 ? kPollIntervalS : interval_s;  // Nova's "the usual"
        repeat(loop, std::shared_ptr<Repeated>(new Repeated{name, interval_s, std::move(function)}),
               first_period);
    };
    add("heartbeat", options_.report_interval_s, [this] { heartbeat(); });
    add("update_available_resource", options_.update_resources_interval_s, [this] {
        warn_unless_ok(update_available_resource(), "the node's resources were not measured");
    });
    add("sync_power_states", options_.sync_power_state_interval_s, [this] { sync_power_states(); });
    add("poll_servers", kPollIntervalS, [this] { poll_servers(); });
    add("manage_image_cache", options_.image_cache_interval_s,
        [this] { services_.driver.manage_image_cache(); });
    if (services_.tasks != nullptr) {
        for (HostTasks::Periodic& task : services_.tasks->periodic_tasks()) {
            add(task.name.c_str(), task.interval_s, std::move(task.function));
        }
    }
}

// What is still waiting for a thread, or for a slow service, is not queued a second time.
void ComputeManager::repeat(EventLoop& loop, std::shared_ptr<Repeated> task, double periods) {
    const auto delay_ns =
        static_cast<int64_t>(periods * static_cast<double>(task->interval_s * kNanosPerSecond));
    loop.call_after(delay_ns, [this, &loop, task] {
        if (!task->waiting.exchange(true)) {
            const auto queued = housekeeping_.submit([task] {
                task->function();
                task->waiting = false;
            });
            if (!queued.ok()) {
                task->waiting = false;
            }
            warn_unless_ok(queued, "periodic work could not be queued: " + task->name);
        }
        repeat(loop, task, 1);
    });
}

}  // namespace kumoi::compute
