// Every operation of a server in a Nova cloud, with a fault at every step it takes outwards: the
// daemon is killed there, or what it asks is refused, or nobody answers for a while, or the answer
// is lost. Afterwards the server is in a state its owner can go on from, nothing is left of what
// was not finished, and deleting it leaves nothing at all.
#include "tests/support/fault_matrix.h"

namespace kumoi::nova {
namespace {

using namespace fault_matrix;

void snapshot(NovaWorld& world) {
    const std::string image = world.queue_image();
    world.set_task(task_states::kImageSnapshotPending);
    (void)world.request("snapshot_instance", Json::object({{"image_id", image}}));
}

void shelve(NovaWorld& world) {
    const std::string image = world.queue_image();
    world.set_task(task_states::kShelving);
    (void)world.request("shelve_instance",
                        Json::object({{"image_id", image}, {"clean_shutdown", true}}));
}

void rebuild(NovaWorld& world) {
    Json args = NovaWorld::arguments_of("compute.rebuild_instance");
    world.set_task(task_states::kRebuilding);
    args.set("instance", world.database.primitive(NovaWorld::kUuid));
    args.set("recreate", false);
    (void)world.request("rebuild_instance", std::move(args), "6.1");
}

void unshelve(NovaWorld& world) {
    world.set_task(task_states::kUnshelving);
    world.database.allocations.insert(NovaWorld::kUuid);  // by the scheduler
    Json args = Json::object({{"image", Json::object()},
                              {"filter_properties", Json::object()},
                              {"node", NovaWorld::kHost}});
    (void)world.request("unshelve_instance", std::move(args));
}

std::vector<Case> cases() {
    const auto stop = verb(task_states::kPoweringOff, "stop_instance");
    const auto pause = verb(task_states::kPausing, "pause_instance");
    const auto suspend = verb(task_states::kSuspending, "suspend_instance");
    const auto rescue = verb(task_states::kRescuing, "rescue_instance",
                             Json::object({{"rescue_password", "secret"}}));
    return {
        {"build",
         [](NovaWorld& world) { world.order(); },
         [](NovaWorld& world) { (void)world.build(); },
         {"active", "error", "building"}},
        {"stop", build, stop, {"active", "stopped"}},
        {"start",
         [stop](NovaWorld& world) {
             build(world);
             stop(world);
         },
         verb(task_states::kPoweringOn, "start_instance"),
         {"active", "stopped"}},
        {"reboot",
         build,
         verb(task_states::kRebootingHard, "reboot_instance",
              Json::object({{"reboot_type", "HARD"}})),
         {"active", "error"}},
        {"pause", build, pause, {"active", "paused"}},
        {"unpause",
         [pause](NovaWorld& world) {
             build(world);
             pause(world);
         },
         verb(task_states::kUnpausing, "unpause_instance"),
         {"active", "paused"}},
        {"suspend", build, suspend, {"active", "suspended", "stopped"}},
        {"resume",
         [suspend](NovaWorld& world) {
             build(world);
             suspend(world);
         },
         verb(task_states::kResuming, "resume_instance"),
         {"active", "suspended", "error"}},
        {"rescue", build, rescue, {"active", "rescued", "error", "stopped"}},
        {"unrescue",
         [rescue](NovaWorld& world) {
             build(world);
             rescue(world);
         },
         verb(task_states::kUnrescuing, "unrescue_instance"),
         {"active", "rescued", "error"}},
        {"snapshot", build, snapshot, {"active"}},
        {"rebuild", build, rebuild, {"active", "error"}},
        {"shelve", build, shelve, {"active", "shelved", "shelved_offloaded", "stopped", "error"}},
        {"unshelve",
         [](NovaWorld& world) {
             build(world);
             shelve(world);
         },
         unshelve,
         {"active", "shelved_offloaded", "error"}},
        {"delete", build, terminate, {"error", "active"}},
        {"soft delete",
         build,
         verb(task_states::kSoftDeleting, "soft_delete_instance"),
         {"soft-delete", "active", "error"}},
    };
}

TEST(FaultMatrix, TheDaemonIsKilledAtEveryBorder) {
    strike_everywhere(cases(), NovaWorld::Fault::Crash, 8);
}

TEST(FaultMatrix, EveryStepFailsOnce) {
    strike_everywhere(cases(), NovaWorld::Fault::Refuse, 4);
}

TEST(FaultMatrix, NothingAnswersForAWhileFromEveryStepOn) {
    strike_everywhere(cases(), NovaWorld::Fault::Outage, 4);
}

TEST(FaultMatrix, EveryAnswerIsLostOnce) {
    strike_everywhere(cases(), NovaWorld::Fault::NoAnswer, 3);
}

}  // namespace
}  // namespace kumoi::nova
