// Two hosts with one control plane, for tests of moves between them: each has its own driver, TAPs,
// journal and node daemon; what hosts cast to each other waits until the test delivers it, as in a
// broker. A node can be killed at every border it crosses (by an exception that nobody catches) and
// started again.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "compute/manager/compute_manager.h"
#include "compute/manager/move_records.h"
#include "compute/vm_states.h"
#include "tests/support/compute_fakes.h"
#include "tests/support/moving_driver.h"
#include "tests/support/volume_fakes.h"

namespace kumoi::compute::moving {

inline const std::string kServer = "11111111-2222-4333-8444-555555555555";

struct Crash {};

struct PendingCast {
    std::string host;
    MoveRequest request;
};

// What both hosts' MoveRecords have in common.
struct Cloud {
    std::map<std::string, Migration> migrations;  // by server; the newest
    std::deque<PendingCast> casts;
    std::map<std::string, std::string> allocations;  // server or migration -> host
    std::vector<EvacuatedServer> evacuated;
    std::vector<std::string> completed;
    std::vector<std::string> rescheduled;
    bool may_reschedule = false;
    bool shared_storage = false;
};

class FakeMoves final : public MoveRecords {
public:
    FakeMoves(CallLog& log, Cloud& cloud, FakeConductor& conductor, std::string host)
        : log_(log), cloud_(cloud), conductor_(conductor), host_(std::move(host)) {}

    Result<Migration> migration(const std::string& uuid, bool /*fresh*/) override {
        if (!cloud_.migrations.contains(uuid)) {
            return Error::not_found("no migration");
        }
        Migration migration = cloud_.migrations[uuid];
        if (const std::string status = conductor_.migration_status(uuid); !status.empty()) {
            migration.status = status;
        }
        return migration;
    }
    Result<void> check_peer(const std::string&, const std::string&) override {
        return change("moves.check_peer", [] {});
    }
    Result<void> prepare(const std::string& uuid, const InstanceUpdate& update,
                         const std::string& host, const std::string&) override {
        InstanceUpdate all = update;
        if (new_flavor) {
            all.new_flavor = std::optional(*new_flavor);
        }
        TRY(conductor_.instance_save(uuid, all));
        return change("moves.prepare", [&] {
            cloud_.migrations[uuid].dest_compute = host;
            cloud_.migrations[uuid].dest_node = host;
        });
    }
    Result<void> save_host(const std::string& uuid, const InstanceUpdate& update,
                           MoveEnd end) override {
        const Migration& migration = cloud_.migrations[uuid];
        InstanceUpdate all = update;
        all.host = all.node =
            end == MoveEnd::Source ? migration.source_compute : migration.dest_compute;
        TRY(log_.enter("moves.save_host"));
        return conductor_.instance_save(uuid, all);
    }
    Result<void> drop_context(const std::string&) override {
        return change("moves.drop_context", [] {});
    }
    Result<void> cast(const std::string& uuid, MoveCast what,
                      const std::string& disk_info) override {
        return change("moves.cast", [&] {
            const Migration& migration = cloud_.migrations[uuid];
            MoveRequest request;
            request.uuid = uuid;
            request.context.request_id = "req-1";
            request.disk_info = disk_info;
            request.step = what == MoveCast::ResizeInstance ? MoveStep::ResizeInstance
                           : what == MoveCast::FinishResize ? MoveStep::FinishResize
                                                            : MoveStep::FinishRevertResize;
            cloud_.casts.push_back(
                {what == MoveCast::FinishResize ? migration.dest_compute : migration.source_compute,
                 request});
        });
    }
    Result<void> reschedule(const RequestContext&, const std::string& uuid, const Error&) override {
        if (!cloud_.may_reschedule) {
            return Error::unsupported("nowhere else");
        }
        return change("moves.reschedule", [&] { cloud_.rescheduled.push_back(uuid); });
    }
    Result<bool> sees_file(const std::string&, const std::string&, const std::string&) override {
        TRY(change("moves.sees_file", [] {}));
        return cloud_.shared_storage;
    }
    Result<void> return_allocations(const std::string& uuid) override {
        return change("moves.return_allocations", [&] {
            const std::string& migration = cloud_.migrations[uuid].uuid;
            if (cloud_.allocations.contains(migration)) {
                cloud_.allocations[uuid] = cloud_.allocations[migration];
                cloud_.allocations.erase(migration);
            }
        });
    }
    Result<void> drop_allocations(const std::string& uuid) override {
        return change("moves.drop_allocations",
                      [&] { cloud_.allocations.erase(cloud_.migrations[uuid].uuid); });
    }
    Result<void> drop_allocation_here(const std::string& uuid) override {
        return change("moves.drop_here", [&] { cloud_.allocations.erase(uuid + "@" + host_); });
    }
    Result<std::vector<EvacuatedServer>> evacuated_from_here() override { return cloud_.evacuated; }
    Result<void> evacuation_completed(const EvacuatedServer& server) override {
        cloud_.completed.push_back(server.uuid);
        return {};
    }
    Result<void> count_moves(std::vector<Instance>&) override { return {}; }

    std::optional<Flavor> new_flavor;  // of the request

private:
    Result<void> change(const std::string& call, const std::function<void()>& what) {
        TRY(log_.enter(call));
        what();
        log_.leave();
        return {};
    }
    CallLog& log_;
    Cloud& cloud_;
    FakeConductor& conductor_;
    const std::string host_;
};

class Host {
public:
    Host(std::string name, CallLog& log, Cloud& cloud, FakeConductor& conductor,
         FakeNetwork& network)
        : name_(std::move(name)),
          conductor_(conductor),
          network_(network),
          log(log),
          moves(log, cloud, conductor, name_) {}
    void start(const std::function<void()>& on_write) {
        manager.reset();
        ManagerOptions options;
        options.host = name_;
        options.state_path = directory.path();
        JournalOptions journal;
        journal.sync = false;
        journal.on_write = on_write;
        auto created = ComputeManager::create({.conductor = conductor_,
                                               .network = network_,
                                               .vifs = vifs,
                                               .driver = driver,
                                               .clock = clock,
                                               .images = images,
                                               .volumes = &volumes,
                                               .moves = &moves},
                                              options, journal, [](std::function<void()> function) {
                                                  function();
                                                  return Result<void>();
                                              });
        ASSERT_TRUE(created.ok());
        manager = std::move(*created);
        ASSERT_TRUE(manager->init_host().ok());
    }

private:
    const std::string name_;
    FakeConductor& conductor_;
    FakeNetwork& network_;

public:
    CallLog& log;
    TemporaryDirectory directory = TemporaryDirectory::create("move").value();
    ManualClock clock;
    FakeVifs vifs{log};
    FakeImages images{log};
    MovingDriver driver{log};
    FakeMoves moves;
    FakeBlockDevices devices{log};
    FakeCinder cinder{log};
    FakeVolumeHost volume_host{log};
    VolumeServices volumes{devices, cinder, volume_host};
    std::unique_ptr<ComputeManager> manager;
};

class World {
public:
    World() {
        log.on_border = [this] { at_border(); };
        small.flavor_id = "small";
        small.vcpus = 1;
        small.memory_mb = 512;
        large = small;
        large.flavor_id = "large";
        large.memory_mb = 1024;
    }
    Host& host(const std::string& name) { return name == "cn-1" ? source : destination; }
    void start(const std::string& name) {
        host(name).start([this] { at_border(); });
    }
    // A server that runs (or not) on cn-1, with something on its disk.
    void make_server(const char* vm_state = vm_states::kActive) {
        start("cn-1");
        start("cn-2");
        Instance server;
        server.uuid = kServer;
        server.host = server.node = "cn-1";
        server.vm_state = vm_state;
        server.flavor = small;
        const bool runs = server.vm_state == vm_states::kActive;
        server.power_state = runs ? power_states::kRunning : power_states::kShutdown;
        conductor.add(server);
        source.driver.set_guest(kServer, server.power_state);
        source.driver.write(kServer, "precious");
        Migration& migration = cloud.migrations[kServer];
        migration.uuid = "move-1";
        migration.migration_type = "migration";
        migration.source_compute = migration.source_node = "cn-1";
        cloud.allocations = {{"move-1", "cn-1"}, {kServer, "cn-2"}};
    }
    MoveRequest request(MoveStep step) const {
        MoveRequest request;
        request.uuid = kServer;
        request.context.request_id = "req-1";
        request.step = step;
        request.flavor = large;
        return request;
    }
    void set_task(const char* task_state) {
        Instance server = conductor.get(kServer);
        server.task_state = task_state;
        conductor.add(server);
    }
    // As nova-api and conductor begin it.
    void ask_for_move() {
        set_task(task_states::kResizePrep);
        (void)conductor.migration_save(kServer, "pre-migrating");
        source.moves.new_flavor = destination.moves.new_flavor = large;
        cloud.casts.push_back({"cn-2", request(MoveStep::PrepResize)});
    }
    void ask(const std::string& name, MoveStep step) {
        cloud.casts.push_back({name, request(step)});
    }
    void deliver_one() {
        const PendingCast cast = cloud.casts.front();
        cloud.casts.pop_front();
        (void)host(cast.host).manager->move_instance(cast.request);
    }
    void deliver_all() {
        for (int i = 0; i < 20 && !cloud.casts.empty(); ++i) {
            deliver_one();
        }
    }
    // Delivers all; the host at work dies at that border and is started again. False: no such
    // border.
    bool deliver_with_crash(int border) {
        borders_left_ = border;
        bool crashed = false;
        for (int i = 0; i < 20 && !cloud.casts.empty(); ++i) {
            const std::string name = cloud.casts.front().host;
            try {
                deliver_one();
            } catch (const Crash&) {
                crashed = true;
                borders_left_ = -1;
                start(name);
            }
        }
        borders_left_ = -1;
        return crashed;
    }
    Instance server() const { return conductor.get(kServer); }
    std::string status() const { return conductor.migration_status(kServer); }
    int running() const {
        return (source.driver.power(kServer) == power_states::kRunning ? 1 : 0) +
               (destination.driver.power(kServer) == power_states::kRunning ? 1 : 0);
    }

    CallLog log;
    Cloud cloud;
    FakeConductor conductor{log};
    FakeNetwork network{log};
    Flavor small, large;
    Host source{"cn-1", log, cloud, conductor, network};
    Host destination{"cn-2", log, cloud, conductor, network};

private:
    void at_border() {
        if (borders_left_ > 0 && --borders_left_ == 0) {
            throw Crash();
        }
    }
    int borders_left_ = -1;
};

}  // namespace kumoi::compute::moving
