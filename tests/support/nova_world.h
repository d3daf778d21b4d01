// NovaWorld: a compute host in a Nova cloud that survives its daemon: nova-conductor's records,
// Placement, Neutron, Glance, Cinder, guests, devices and the state folder stay; start_node() makes
// the daemon anew, from the RPC endpoint down to the manager. Faults strike at the k-th border.
// Several hosts may share a NovaCloud.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "api/nova/block_devices.h"
#include "api/nova/compute_endpoint.h"
#include "api/nova/nova_live_migrations.h"
#include "api/nova/nova_moves.h"
#include "api/nova/periodic_tasks.h"
#include "api/nova/vif_records.h"
#include "compute/manager/compute_manager.h"
#include "compute/vm_states.h"
#include "tests/support/golden_messages.h"
#include "tests/support/moving_driver.h"
#include "tests/support/nova_database.h"
#include "tests/support/volume_fakes.h"

namespace kumoi::test {

struct Crash {};  // what no code of ours catches

class NoConsoles final : public nova::ConsolePorts {
public:
    Result<Json> connect(const Json&, const std::string&, const std::string&) override {
        return Json::object();
    }
    bool is_valid(const std::string&, const std::string&, const std::string&) override {
        return false;
    }
};

// What all hosts have in common, and the fault that is to strike one of them.
class NovaCloud {
public:
    // What happens at the border that is counted down to.
    enum class Fault {
        Crash,    // the daemon dies there: before or after the thing was done
        Refuse,   // the thing is not done and fails
        Outage,   // neither it nor the next ones
        NoAnswer  // a record is kept, and the answer is lost
    };

    NovaCloud() {
        log.on_border = [this] {
            if (fault == Fault::Crash && left > 0 && --left == 0) {
                throw Crash();
            }
        };
        log.fail = [this](const std::string& call) -> Result<void> {
            const bool strikes = (fault == Fault::Refuse && left > 0 && --left == 0) ||
                                 (fault == Fault::Outage && left > 0 && --left < kOutageLength);
            if (!strikes) {
                return {};
            }
            struck += call + " ";
            return Error::timeout("{} did not answer", call).with_fault("MessagingTimeout");
        };
        database.answer = [this](const std::string& call) -> Result<void> {
            if (fault != Fault::NoAnswer || left <= 0 || --left != 0) {
                return {};
            }
            struck += call + " ";
            return Error::timeout("the answer to {} was lost", call).with_fault("MessagingTimeout");
        };
    }
    void arm(Fault what, int border) {
        fault = what;
        left = what == Fault::Outage ? border + kOutageLength - 1 : border;
        struck.clear();
    }
    bool disarm() {  // whether it is still to come
        const bool reached = left <= 0 || (fault == Fault::Outage && left < kOutageLength);
        left = -1;
        return !reached;
    }

    static constexpr int kOutageLength = 4;

    ManualClock clock{1'767'323'045'000'000'000};
    SeededRandom random{1, "nova world"};
    compute::CallLog log;
    NovaDatabase database{log, clock};
    compute::FakeNetwork network{log};
    compute::FakeImages images{log};
    compute::FakeCinder cinder{log};
    Fault fault = Fault::Crash;
    int left = -1;
    std::string struck;  // the calls that failed
};

class NovaWorld {
public:
    using Fault = NovaCloud::Fault;

    explicit NovaWorld(std::shared_ptr<NovaCloud> shared = std::make_shared<NovaCloud>(),
                       std::string name = kHost)
        : cloud(std::move(shared)), host(std::move(name)) {}

    void arm(Fault what, int border) { cloud->arm(what, border); }
    bool disarm() { return cloud->disarm(); }

    void start_node() {
        endpoint.reset();
        manager.reset();
        tasks.reset();
        live.reset();
        moves.reset();
        volumes.reset();
        block_devices.reset();
        records.reset();
        conductor.reset();
        objects = std::make_unique<nova::ObjectClient>(database,
                                                       nova::ObjectTable::of(nova::Release::Zed));
        scheduler = std::make_unique<nova::SchedulerNews>(database, objects->table(), host, clock,
                                                          random, schedulers_hear);
        node = std::make_unique<nova::NodeRecords>(
            *objects, clock, random, nova::NodeOptions{host, host, nova::Release::Zed},
            [](const compute::ComputeNode&, bool) { return Result<void>(); });
        conductor = std::make_unique<nova::NovaConductor>(
            nova::NovaConductor::Borders{*objects, database, *node, *scheduler, clock, random});
        tasks = std::make_unique<nova::PeriodicTasks>(
            nova::PeriodicTasks::Borders{*objects, *conductor, *node, driver, clock, random},
            periodic);
        block_devices = std::make_unique<nova::BlockDevices>(*objects, clock, random);
        volumes.emplace(compute::VolumeServices{*block_devices, cinder, volume_host});
        moves = std::make_unique<nova::NovaMoves>(
            nova::NovaMoves::Borders{*conductor, *objects, database, *node, clock, random});
        live = std::make_unique<nova::NovaLiveMigrations>(nova::NovaLiveMigrations::Borders{
            *conductor, *objects, database, *node, clock, random});
        records = std::make_unique<nova::VifRecords>(network, *objects, clock, random);
        compute::ManagerOptions options;
        options.host = host;
        options.state_path = directory.path();
        options.vif_plugging_timeout_s = 0;
        options.builds_max = 1;  // few threads: worlds are many
        options.shelved_offload_time_s = periodic.shelved_offload_time_s;
        compute::JournalOptions journal;
        journal.sync = false;
        journal.on_write = [this] { log.on_border(); };
        auto created = compute::ComputeManager::create(
            {*conductor, *records, vifs, driver, clock, images, nullptr, std::nullopt, &*volumes,
             tasks.get(), with_moves ? moves.get() : nullptr, nullptr,
             with_moves ? live.get() : nullptr},
            options, journal, [](std::function<void()> function) {
                function();
                return Result<void>();
            });
        ASSERT_TRUE(created.ok()) << created.error().text();
        manager = std::move(*created);
        tasks->set_manager(*manager);
        endpoint = std::make_unique<nova::ComputeEndpoint>(nova::ComputeEndpoint::Borders{
            *manager, *conductor, *objects, *node, events, consoles});
        compute::ImageMeta base;
        base.id = "00000005-0000-4000-8000-000000000005";
        images.add(base, "bytes");
        const auto ready = manager->init_host();
        ASSERT_TRUE(ready.ok()) << ready.error().text();
    }

    // What the node does by itself within some minutes.
    void let_time_pass() {
        for (int minute = 0; minute < 3; ++minute) {
            clock.advance(60 * kNanosPerSecond);
            manager->heartbeat();
            manager->poll_servers();
            (void)manager->update_available_resource();
            manager->sync_power_states();
            tasks->run_pending_deletes();
            tasks->cleanup_running_deleted_instances();
        }
    }

    // A request of nova-api or nova-conductor; "instance" is the record as it is now.
    Result<Json> request(const std::string& method, Json args = Json::object(),
                         const std::string& version = "6.0") {
        amqp::RpcRequest request;
        request.method = method;
        request.version = version;
        if (!args.contains("instance")) {
            args.set("instance", database.primitive(kUuid));
        }
        request.args = std::move(args);
        request.context = Json::object({{"request_id", "req-1"},
                                        {"user_id", "user"},
                                        {"project_id", "project"},
                                        {"read_deleted", "no"},
                                        {"roles", Json::array()}});
        return endpoint->handle(request);
    }

    // A new server's record, and its share in Placement.
    void order() {
        Json args = build_arguments();
        database.add(*args.find("instance"));
        database.allocations.insert(kUuid);
    }
    Result<Json> build() {
        Json args = build_arguments();
        args.set("instance", database.primitive(kUuid));
        return request("build_and_run_instance", std::move(args));
    }
    static Json build_arguments() { return arguments_of("compute.build_and_run_instance"); }
    // Of a message that Nova's own clients sent.
    static Json arguments_of(const std::string& message) {
        static std::map<std::string, Json> known;  // reading them takes longer than a test
        auto [entry, is_new] = known.try_emplace(message);
        if (is_new) {
            entry->second = *golden_message(nova::Release::Zed, message).find("args");
        }
        return entry->second;
    }

    void set_task(const char* task) { database.set(kUuid, "task_state", task); }
    std::string vm_state() const { return database.text(kUuid, "vm_state"); }
    std::string task_state() const { return database.text(kUuid, "task_state"); }
    // A queued image, as nova-api makes it before it asks for a snapshot.
    std::string queue_image() {
        compute::ImageMeta meta;
        meta.name = "made";
        meta.properties = {{"instance_uuid", kUuid}, {"image_type", "snapshot"}};
        const auto border = std::exchange(log.on_border, {});
        const auto fail = std::exchange(log.fail, {});
        const std::string id = images.create({"req-1", "user", "project", false}, meta)->id;
        log.on_border = border;
        log.fail = fail;
        return id;
    }
    size_t open_operations() const {
        return (*compute::Journal::open(directory.path() + "/journal", clock))
            ->open_operations()
            .size();
    }

    static constexpr char kHost[] = "cmp1.example.org";
    static constexpr char kUuid[] = "00000001-0000-4000-8000-000000000001";

    const std::shared_ptr<NovaCloud> cloud;
    const std::string host;
    ManualClock& clock = cloud->clock;
    SeededRandom& random = cloud->random;
    compute::CallLog& log = cloud->log;
    NovaDatabase& database = cloud->database;
    compute::FakeNetwork& network = cloud->network;
    compute::FakeImages& images = cloud->images;
    compute::FakeCinder& cinder = cloud->cinder;
    int& left = cloud->left;
    std::string& struck = cloud->struck;

    TemporaryDirectory directory = TemporaryDirectory::create("nova").value();
    compute::FakeVifs vifs{log};
    compute::moving::MovingDriver driver{log};
    compute::FakeVolumeHost volume_host{log};
    compute::ExternalEvents events;
    NoConsoles consoles;
    compute::PeriodicOptions periodic;
    bool schedulers_hear = false;
    bool with_moves = false;  // servers go from host to host

    std::unique_ptr<nova::ObjectClient> objects;
    std::unique_ptr<nova::SchedulerNews> scheduler;
    std::unique_ptr<nova::NodeRecords> node;
    std::unique_ptr<nova::NovaConductor> conductor;
    std::unique_ptr<nova::PeriodicTasks> tasks;
    std::unique_ptr<nova::BlockDevices> block_devices;
    std::optional<compute::VolumeServices> volumes;
    std::unique_ptr<nova::NovaMoves> moves;
    std::unique_ptr<nova::NovaLiveMigrations> live;
    std::unique_ptr<nova::VifRecords> records;
    std::unique_ptr<compute::ComputeManager> manager;
    std::unique_ptr<nova::ComputeEndpoint> endpoint;
};

}  // namespace kumoi::test
