// Kills a node at every border of every verb that changes what a server is made of, restarts it,
// and looks whether the server is whole, forward or back, and nothing is left behind.
#include <utility>

#include "tests/support/crash_world.h"

namespace kumoi::compute {
namespace {

using namespace crash;

Flavor large_flavor() {
    Flavor flavor;
    flavor.flavor_id = flavor.name = "large";
    flavor.vcpus = 2;
    flavor.memory_mb = 1024;
    return flavor;
}

// One verb: how the server comes into the state it starts from, and how it is cast.
struct Case {
    const char* name;
    std::function<void(World&)> prepare;  // may be empty: an active server
    std::function<void(World&)> act;
    std::function<void(World&)> expect;  // forward or back: both are fine where the verb says so
};

void set_task(World& world, const char* task_state,
              const std::function<void(Instance&)>& more = {}) {
    Instance instance = world.conductor.get(kUuid);
    instance.task_state = task_state;
    instance.task_arguments.old_vm_state = instance.vm_state;
    if (more) {
        more(instance);
    }
    world.conductor.add(instance);
}

std::string queue_image(World& world) {
    ImageMeta meta;
    meta.name = "made";
    // Made by the control plane, before the node is asked: no border of the node's.
    auto border = std::exchange(world.log.on_border, {});
    const std::string id = world.images.create(world.context, meta)->id;
    world.log.on_border = std::move(border);
    return id;
}

void expect_state(World& world, const char* vm_state, int power) {
    EXPECT_EQ(world.conductor.get(kUuid).vm_state, vm_state);
    EXPECT_EQ(world.driver.power(kUuid), power);
}

void expect_active(World& world) {
    expect_state(world, vm_states::kActive, power_states::kRunning);
    EXPECT_EQ(world.network.port_count(), 1u);
    EXPECT_EQ(world.vifs.taps().size(), 1u);
    EXPECT_EQ(world.driver.disk(kUuid).data, "data");
}

void suspend(World& world) {
    set_task(world, task_states::kSuspending);
    (void)world.manager->suspend_instance(world.context, kUuid);
}

void rescue(World& world) {
    set_task(world, task_states::kRescuing);
    (void)world.manager->rescue_instance({world.context, kUuid, "secret"});
}

void resize(World& world) {
    set_task(world, task_states::kResizePrep,
             [](Instance& instance) { instance.new_flavor = large_flavor(); });
    (void)world.manager->resize_instance(world.context, kUuid);
}

void shelve(World& world) {
    const std::string id = queue_image(world);
    set_task(world, task_states::kShelving,
             [&](Instance& instance) { instance.task_arguments.image_id = id; });
    (void)world.manager->shelve_instance(world.context, kUuid);
}

void expect_resized_or_back(World& world) {
    const Instance instance = world.conductor.get(kUuid);
    EXPECT_EQ(world.driver.power(kUuid), power_states::kRunning);
    EXPECT_EQ(world.driver.disk(kUuid).data, "data");
    if (instance.vm_state == vm_states::kResized) {
        EXPECT_EQ(instance.flavor.flavor_id, "large");
        EXPECT_EQ(world.driver.disk(kUuid).flavor_id, "large");
        EXPECT_NE(world.driver.disk(kUuid).old, nullptr);
        EXPECT_EQ(world.conductor.migration_status(kUuid), "finished");
        EXPECT_EQ(world.manager->compute_node().vcpus_used, 3);
        return;
    }
    EXPECT_EQ(instance.vm_state, vm_states::kActive);
    EXPECT_EQ(instance.flavor.flavor_id, "");
    EXPECT_FALSE(instance.new_flavor);
    EXPECT_EQ(world.driver.disk(kUuid).old, nullptr);
    EXPECT_EQ(world.manager->compute_node().vcpus_used, 1);
}

void expect_unshelved_or_back(World& world) {
    const Instance instance = world.conductor.get(kUuid);
    if (instance.vm_state == vm_states::kActive) {
        expect_state(world, vm_states::kActive, power_states::kRunning);
        EXPECT_FALSE(instance.system_metadata.contains("shelved_image_id"));
        EXPECT_EQ(world.manager->compute_node().running_vms, 1);
        return;
    }
    expect_state(world, vm_states::kShelvedOffloaded, 0);
    EXPECT_EQ(instance.host, "");
    EXPECT_TRUE(world.vifs.taps().empty());
    EXPECT_EQ(world.manager->compute_node().running_vms, 0);
    EXPECT_EQ(world.images.status(instance.system_metadata.at("shelved_image_id")), "active");
}

// Verbs after which the server is of the same size and on the same host.
std::vector<Case> stay_cases() {
    return {
        {"suspend",
         {},
         suspend,
         [](World& world) {
             expect_state(world, vm_states::kSuspended, power_states::kShutdown);
             EXPECT_TRUE(world.driver.disk(kUuid).saved_state);
             EXPECT_EQ(world.conductor.get(kUuid).system_metadata.at("old_vm_state"), "active");
         }},
        {"resume", suspend,
         [](World& world) {
             set_task(world, task_states::kResuming);
             (void)world.manager->resume_instance(world.context, kUuid);
         },
         expect_active},
        {"snapshot",
         {},
         [](World& world) {
             const std::string id = queue_image(world);
             set_task(world, task_states::kImageSnapshotPending,
                      [&](Instance& instance) { instance.task_arguments.image_id = id; });
             (void)world.manager->snapshot_instance(world.context, kUuid);
         },
         [](World& world) {
             expect_active(world);
             const auto images = world.images.list(world.context, {}).value();
             for (const ImageMeta& image : images) {
                 EXPECT_TRUE(image.id == "base" || image.status == "active") << image.status;
             }
         }},
        {"rescue",
         {},
         rescue,
         [](World& world) {
             expect_state(world, vm_states::kRescued, power_states::kRunning);
             EXPECT_TRUE(world.driver.disk(kUuid).rescued);
         }},
        {"unrescue", rescue,
         [](World& world) {
             set_task(world, task_states::kUnrescuing);
             (void)world.manager->unrescue_instance(world.context, kUuid);
         },
         [](World& world) {
             expect_active(world);
             EXPECT_FALSE(world.driver.disk(kUuid).rescued);
         }},
        {"rebuild",
         {},
         [](World& world) {
             set_task(world, task_states::kRebuilding,
                      [](Instance& instance) { instance.image_id = "another"; });
             (void)world.manager->rebuild_instance({world.context, kUuid, "secret"});
         },
         [](World& world) {
             expect_state(world, vm_states::kActive, power_states::kRunning);
             EXPECT_EQ(world.driver.disk(kUuid).image_id, "another");
         }},
    };
}

// Verbs that change its size or its host.
std::vector<Case> move_cases() {
    return {
        {"resize", {}, resize, expect_resized_or_back},
        {"confirm", resize,
         [](World& world) {
             set_task(world, task_states::kResizeConfirming);
             (void)world.manager->confirm_resize(world.context, kUuid);
         },
         [](World& world) {
             expect_active(world);
             EXPECT_EQ(world.driver.disk(kUuid).old, nullptr);
             EXPECT_EQ(world.conductor.get(kUuid).flavor.flavor_id, "large");
             EXPECT_FALSE(world.conductor.get(kUuid).old_flavor);
             EXPECT_EQ(world.manager->compute_node().vcpus_used, 2);
         }},
        {"revert", resize,
         [](World& world) {
             set_task(world, task_states::kResizeReverting);
             (void)world.manager->revert_resize(world.context, kUuid);
         },
         [](World& world) {
             expect_active(world);
             EXPECT_EQ(world.conductor.get(kUuid).flavor.flavor_id, "");
             EXPECT_FALSE(world.conductor.get(kUuid).old_flavor);
             EXPECT_EQ(world.manager->compute_node().vcpus_used, 1);
         }},
        {"shelve",
         {},
         shelve,
         [](World& world) {
             expect_state(world, vm_states::kShelvedOffloaded, 0);
             EXPECT_EQ(world.conductor.get(kUuid).host, "");
             EXPECT_EQ(world.driver.guest_count(), 0u);
             EXPECT_TRUE(world.vifs.taps().empty());
             EXPECT_EQ(world.manager->compute_node().running_vms, 0);
             const std::string id =
                 world.conductor.get(kUuid).system_metadata.at("shelved_image_id");
             EXPECT_EQ(world.images.status(id), "active");
             EXPECT_EQ(world.images.data(id), "disk of " + kUuid + "data");
         }},
        {"unshelve", shelve,
         [](World& world) {
             set_task(world, task_states::kUnshelving,
                      [](Instance& instance) { instance.host = "cn-1"; });
             (void)world.manager->unshelve_instance(world.context, kUuid);
         },
         expect_unshelved_or_back},
        {"soft delete",
         {},
         [](World& world) {
             set_task(world, task_states::kSoftDeleting);
             (void)world.manager->soft_delete_instance(world.context, kUuid);
         },
         [](World& world) {
             expect_state(world, vm_states::kSoftDeleted, power_states::kShutdown);
         }},
    };
}

void crash_everywhere(const std::vector<Case>& cases) {
    for (const Case& verb : cases) {
        bool crashed = true;
        int border = 1;
        const bool failed_before = testing::Test::HasFailure();
        for (; crashed && border < kBordersMax; ++border) {
            SCOPED_TRACE(fmt::format("{}, crash at border {}", verb.name, border));
            World world;
            ImageMeta base;
            base.id = "base";
            world.images.add(base, "bytes");
            world.start_node();
            world.build();
            Instance instance = world.conductor.get(kUuid);
            instance.image_id = "base";
            world.conductor.add(instance);
            world.driver.write(kUuid, "data");
            if (verb.prepare) {
                verb.prepare(world);
            }
            crashed = world.crashes(border, [&] { verb.act(world); });
            world.start_node();
            verb.expect(world);
            EXPECT_FALSE(world.conductor.get(kUuid).task_state)
                << *world.conductor.get(kUuid).task_state;
            EXPECT_TRUE(world.conductor.open_events().empty());
            world.manager.reset();
            EXPECT_EQ(world.open_operations(), 0u);
            if (testing::Test::HasFailure() && !failed_before) {
                break;  // the first of each verb tells enough
            }
        }
        EXPECT_TRUE(!crashed || testing::Test::HasFailure()) << verb.name;
        EXPECT_GT(border, 6) << verb.name << " was hardly tried";
    }
}

TEST(CrashLifecycle, EveryVerbThatStaysIsFinishedOrUndone) {
    crash_everywhere(stay_cases());
}

TEST(CrashLifecycle, EveryVerbThatMovesIsFinishedOrUndone) {
    crash_everywhere(move_cases());
}

TEST(CrashLifecycle, AGuestThatWasPausedForItsSnapshotGoesOn) {
    World world;
    world.start_node();
    world.build();
    const std::string id = queue_image(world);
    set_task(world, task_states::kImagePendingUpload,
             [&](Instance& instance) { instance.task_arguments.image_id = id; });
    world.driver.set_guest(kUuid, power_states::kPaused);  // died between pause and resume
    world.start_node();
    expect_state(world, vm_states::kActive, power_states::kRunning);
    EXPECT_FALSE(world.conductor.get(kUuid).task_state);
}

}  // namespace
}  // namespace kumoi::compute
