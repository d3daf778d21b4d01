// Two hosts of one cloud for the fault matrix: a server with a port and a volume on the first, and
// all that the hosts say to each other. Who dies is started again.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "tests/support/fault_matrix.h"

namespace kumoi::nova::fault_matrix::two_hosts {

constexpr char kSource[] = "aaaaaaaa-0000-4000-8000-000000000001";  // providers
constexpr char kDestination[] = "aaaaaaaa-0000-4000-8000-000000000002";
constexpr char kMigration[] = "00000070-0000-4000-8000-000000000070";

inline std::string allocation(const char* consumer, const char* provider) {
    return std::string(consumer) + "@" + provider;
}

class TwoHosts {
public:
    explicit TwoHosts(bool with_volume = true) {
        database.nodes = {{source.host, kSource}, {destination.host, kDestination}};
        database.peers = [this](const std::string& to, const std::string& method, Json args) {
            return call(host(to), method, std::move(args));
        };
        source.driver.peer = &destination.driver;
        destination.driver.peer = &source.driver;
        for (NovaWorld* world : {&source, &destination}) {
            world->with_moves = true;
            world->start_node();
        }
        source.order();
        database.allocations = {allocation(NovaWorld::kUuid, kSource)};
        (void)source.build();
        if (with_volume) {
            attach(source);
            source.cinder.volumes[kFirst].status = "in-use";
        }
    }
    NovaWorld& host(const std::string& name) { return name == source.host ? source : destination; }
    NovaWorld* owner() {
        return database.text(NovaWorld::kUuid, "host").empty()
                   ? nullptr
                   : &host(database.text(NovaWorld::kUuid, "host"));
    }

    // A request of the control plane, and all that the hosts then say to each other. Who dies of it
    // is started again.
    void ask(NovaWorld& world, const std::string& method, Json args, const char* version = "6.0") {
        args.set("instance", database.primitive(NovaWorld::kUuid));
        args.set("migration", database.migrations.back());
        deliver(world, method, std::move(args), version);
        deliver_all();
    }
    void deliver_all() {
        for (int i = 0; i < 20 && !database.deliveries.empty(); ++i) {
            auto delivery = std::move(database.deliveries.front());
            database.deliveries.pop_front();
            deliver(host(delivery.host), delivery.method, std::move(delivery.args), "6.0");
        }
    }
    void let_time_pass() {
        for (int i = 0; i < 2; ++i) {
            for (NovaWorld* world : {&source, &destination}) {
                world->let_time_pass();
                world->tasks->cleanup_incomplete_migrations();
                deliver_all();
            }
        }
    }
    void restart(NovaWorld& world) {
        world.start_node();
        deliver_all();
    }

    std::shared_ptr<test::NovaCloud> cloud = std::make_shared<test::NovaCloud>();
    NovaWorld source{cloud, NovaWorld::kHost}, destination{cloud, "cmp2.example.org"};
    test::NovaDatabase& database = cloud->database;
    bool crashed = false;

    // The caller hears nothing of one that dies of it.
    Result<Json> call(NovaWorld& world, const std::string& method, Json args) {
        try {
            return world.request(method, std::move(args));
        } catch (const Crash&) {
            crashed = true;
            cloud->left = -1;
            world.start_node();
            return Error::timeout("{} does not answer", world.host).with_fault("MessagingTimeout");
        }
    }

private:
    void deliver(NovaWorld& world, const std::string& method, Json args, const char* version) {
        try {
            (void)world.request(method, std::move(args), version);
        } catch (const Crash&) {
            crashed = true;
            cloud->left = -1;
            cloud->clock.advance(kNanosPerSecond);
            world.start_node();
        }
    }
};

inline void add_migration(TwoHosts& hosts, const char* type, const char* status) {
    Json migration = *NovaWorld::arguments_of("compute.prep_resize").find("migration");
    Json& data = migration["nova_object.data"];
    data.set("migration_type", type);
    data.set("status", status);
    for (const char* field : {"dest_compute", "dest_node", "dest_host"}) {
        data.set(field, nullptr);
    }
    hosts.database.migrations = {migration};
}

inline void set_status(TwoHosts& hosts, const char* status) {
    hosts.database.migrations.back()["nova_object.data"].set("status", status);
}

inline void expect_no_guest(const NovaWorld& world) {
    EXPECT_EQ(world.driver.guest_count(), 0u) << world.host;
    EXPECT_TRUE(world.vifs.taps().empty()) << world.host;
    EXPECT_TRUE(world.volume_host.running.empty()) << world.host;
}

inline void expect_guest(const NovaWorld& world) {
    EXPECT_EQ(world.driver.power(NovaWorld::kUuid), power_states::kRunning) << world.host;
    EXPECT_EQ(world.vifs.taps().size(), 1u) << world.host;
    EXPECT_EQ(world.volume_host.running.size(), 1u) << world.host;
    EXPECT_EQ(world.network.bound_to(NovaWorld::kUuid), world.host);
}

inline void expect_volume_attached(const TwoHosts& hosts) {
    EXPECT_EQ(hosts.cloud->cinder.attached.size(), 1u);
    for (const auto& [id, attachment] : hosts.cloud->cinder.attached) {
        EXPECT_TRUE(attachment.connected && attachment.complete) << id;
        for (const auto& [key, device] : hosts.database.block_devices) {
            EXPECT_EQ(device.find("nova_object.data")->string_or("attachment_id"), id);
        }
    }
}

}  // namespace kumoi::nova::fault_matrix::two_hosts
