// The frame of the fault matrix: an operation on a NovaWorld, a fault at each border it crosses,
// and what must be true afterwards of any server.
#pragma once

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/support/nova_world.h"

namespace kumoi::nova::fault_matrix {

using test::Crash;
using test::NovaWorld;
namespace vm_states = compute::vm_states;
namespace task_states = compute::task_states;
namespace power_states = compute::power_states;

constexpr int kBordersMax = 300;  // far beyond any operation: the loops end by themselves

struct Case {
    const char* name;
    std::function<void(NovaWorld&)> prepare;  // none: a running server
    std::function<void(NovaWorld&)> act;
    std::set<std::string> ends;                  // vm_states that are fine afterwards
    std::function<void(NovaWorld&)> check = {};  // what else must hold then
};

inline void build(NovaWorld& world) {
    world.order();
    (void)world.build();
}

inline std::function<void(NovaWorld&)> verb(const char* task, const char* method,
                                            Json args = Json::object()) {
    return [=](NovaWorld& world) {
        world.set_task(task);
        (void)world.request(method, args);
    };
}

inline void terminate(NovaWorld& world) {
    world.set_task(task_states::kDeleting);
    (void)world.request("terminate_instance", Json::object({{"bdms", Json::array()}}));
}

constexpr char kFirst[] = "vol-1";

// What others do before they ask us is not struck.
template <typename Function>
void undisturbed(NovaWorld& world, const Function& function) {
    const auto border = std::exchange(world.log.on_border, {});
    const auto fail = std::exchange(world.log.fail, {});
    const auto answer = std::exchange(world.database.answer, {});
    function();
    world.log.on_border = border;
    world.log.fail = fail;
    world.database.answer = answer;
}

// As nova-api: a record with a reservation, named by us.
inline Json reserve(NovaWorld& world, const std::string& volume) {
    Json primitive;
    undisturbed(world, [&] {
        world.cinder.volumes[volume] = {.id = volume, .status = "reserved", .size_gb = 2};
        const auto reserved =
            world.request("reserve_block_device_name", Json::object({{"volume_id", volume}}));
        ASSERT_TRUE(reserved.ok()) << reserved.error().text();
        Json& record = world.database.block_devices.rbegin()->second["nova_object.data"];
        world.cinder.attached["of-" + volume] = {volume, NovaWorld::kUuid, false, false};
        record.set("attachment_id", "of-" + volume);
        primitive = world.database.block_devices.rbegin()->second;
    });
    return primitive;
}

inline void attach(NovaWorld& world) {
    (void)world.request("attach_volume", Json::object({{"bdm", reserve(world, kFirst)}}));
}

inline void expect_nothing_here(const NovaWorld& world, size_t ports) {
    EXPECT_EQ(world.driver.guest_count(), 0u);
    EXPECT_TRUE(world.vifs.taps().empty());
    EXPECT_EQ(world.network.port_count(), ports);
    EXPECT_TRUE(world.database.allocations.empty());
    EXPECT_TRUE(world.volume_host.running.empty()) << "a back end serves nobody";
}

inline void expect_whole(const NovaWorld& world, const std::string& vm_state) {
    EXPECT_EQ(world.driver.guest_count(), 1u);
    const auto server = world.conductor->instance_get(NovaWorld::kUuid);
    ASSERT_TRUE(server.ok());
    EXPECT_GE(world.network.port_count(), 1u);
    EXPECT_EQ(world.network.port_count(), server->network_info.size());
    if (vm_state != "shelved") {  // about to leave: plugged again when it is started
        EXPECT_EQ(world.vifs.taps().size(), world.network.port_count());
    }
    EXPECT_EQ(world.database.allocations.size(), 1u);
    EXPECT_EQ(world.database.text(NovaWorld::kUuid, "host"), NovaWorld::kHost);
    const int power = world.driver.power(NovaWorld::kUuid);
    if (vm_state == "active" || vm_state == "rescued") {
        EXPECT_EQ(power, power_states::kRunning);
    } else if (vm_state == "paused") {
        EXPECT_EQ(power, power_states::kPaused);
    } else {
        EXPECT_EQ(power, power_states::kShutdown);
    }
}

inline void expect_correct(NovaWorld& world, const Case& one) {
    EXPECT_EQ(world.task_state(), world.vm_state() == "building" ? "scheduling" : "");
    EXPECT_TRUE(world.database.open_events.empty()) << *world.database.open_events.begin();
    const std::string vm_state = world.vm_state();
    if (world.database.is_deleted(NovaWorld::kUuid)) {
        expect_nothing_here(world, 0);
        return;
    }
    EXPECT_TRUE(one.ends.contains(vm_state)) << vm_state;
    const bool placed = !world.database.text(NovaWorld::kUuid, "host").empty();
    if (vm_state == "shelved_offloaded") {
        expect_nothing_here(world, 1);
    } else if (vm_state == "building") {  // another host has it now
        expect_nothing_here(world, 0);
        EXPECT_EQ(std::ranges::count(world.database.casts, "build_instances"), 1);
    } else if (vm_state != "error") {
        expect_whole(world, vm_state);
    } else if (!placed) {
        expect_nothing_here(world, 0);
    }
    if (one.check) {
        one.check(world);
    }
    EXPECT_TRUE(vm_state != "error" || world.database.faults[NovaWorld::kUuid] > 0);
    for (const compute::ImageMeta& image : world.images.list({}, {}).value()) {
        const bool kept = world.struck.find("images.remove") != std::string::npos;
        EXPECT_TRUE(image.status == "active" || kept) << image.status;
    }
}

inline void expect_deletable(NovaWorld& world) {
    if (world.database.is_deleted(NovaWorld::kUuid)) {
        return;
    }
    if (world.database.text(NovaWorld::kUuid, "host").empty()) {
        return;  // nova-api deletes it without us
    }
    terminate(world);
    EXPECT_TRUE(world.database.is_deleted(NovaWorld::kUuid));
    expect_nothing_here(world, 0);
    for (const auto& [id, attachment] : world.cinder.attached) {
        ADD_FAILURE() << "attachment " << id << " of volume " << attachment.volume_id;
    }
}

inline bool strike(NovaWorld& world, const Case& one, NovaWorld::Fault fault, int border) {
    world.start_node();
    (one.prepare ? one.prepare : build)(world);
    world.arm(fault, border);
    try {
        one.act(world);
    } catch (const Crash&) {
        world.left = -1;
        world.clock.advance(kNanosPerSecond);
        world.start_node();
        return true;
    }
    return !world.disarm();
}

inline void strike_everywhere(const std::vector<Case>& cases, NovaWorld::Fault fault,
                              int least_borders) {
    for (const Case& one : cases) {
        const bool failed_before = testing::Test::HasFailure();
        int border = 1;
        for (bool struck = true; struck && border < kBordersMax; ++border) {
            NovaWorld world;
            struck = strike(world, one, fault, border);
            SCOPED_TRACE(fmt::format("{}, border {}: {}", one.name, border, world.struck));
            world.let_time_pass();
            expect_correct(world, one);
            expect_deletable(world);
            world.manager.reset();
            EXPECT_EQ(world.open_operations(), 0u);
            if (testing::Test::HasFailure() && !failed_before) {
                break;  // the first of each operation tells enough
            }
        }
        EXPECT_TRUE(border > least_borders || testing::Test::HasFailure())
            << one.name << " was hardly tried";
        EXPECT_LT(border, kBordersMax) << one.name;
    }
}

}  // namespace kumoi::nova::fault_matrix
