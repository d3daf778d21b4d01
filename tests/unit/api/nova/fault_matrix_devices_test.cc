// The fault matrix (fault_matrix_test.cc) for what comes to a server and leaves it: interfaces and
// volumes, and for servers that have volumes or boot from one. Afterwards Cinder, the records, the
// host and the guest say the same of each volume, and Neutron, the record and the guest of each
// port.
#include "tests/support/fault_matrix.h"

namespace kumoi::nova {
namespace {

using namespace fault_matrix;

constexpr char kSecond[] = "vol-2";

void build_with_volume(NovaWorld& world) {
    build(world);
    attach(world);
    world.cinder.volumes[kFirst].status = "in-use";
}

void detach(NovaWorld& world) {
    world.cinder.volumes[kFirst].status = "detaching";
    (void)world.request("detach_volume",
                        Json::object({{"volume_id", kFirst}, {"attachment_id", "of-vol-1"}}));
}

void swap(NovaWorld& world) {
    world.cinder.volumes[kFirst].status = "detaching";
    world.cinder.volumes[kSecond] = {.id = kSecond, .status = "reserved", .size_gb = 2};
    world.cinder.attached["of-vol-2"] = {kSecond, NovaWorld::kUuid, false, false};
    (void)world.request("swap_volume", Json::object({{"old_volume_id", kFirst},
                                                     {"new_volume_id", kSecond},
                                                     {"new_attachment_id", "of-vol-2"}}));
}

void extend(NovaWorld& world) {
    world.cinder.volumes[kFirst].size_gb = 3;
    (void)world.request("extend_volume", Json::object({{"extended_volume_id", kFirst}}));
}

// A server whose root disk is a volume that is made of its image and goes with it.
void order_from_volume(NovaWorld& world) {
    world.order();
    Json device = NovaWorld::build_arguments()
                      .find_path({"block_device_mapping", "nova_object.data", "objects"})
                      ->as_array()[0];
    Json& data = device["nova_object.data"];
    data.set("destination_type", "volume");
    data.set("volume_size", 1);
    world.database.block_devices[data.integer_or("id")] = device;
}

void build_from_volume(NovaWorld& world) {
    Json args = NovaWorld::build_arguments();
    args.set("instance", world.database.primitive(NovaWorld::kUuid));
    Json devices = Json::array();
    for (const auto& [id, device] : world.database.block_devices) {
        devices.push_back(device);
    }
    args["block_device_mapping"]["nova_object.data"].set("objects", std::move(devices));
    (void)world.request("build_and_run_instance", std::move(args));
}

void make_from_volume(NovaWorld& world) {
    order_from_volume(world);
    build_from_volume(world);
}

void rebuild_from_volume(NovaWorld& world) {
    Json args = NovaWorld::arguments_of("compute.rebuild_instance");
    world.set_task(task_states::kRebuilding);
    args.set("instance", world.database.primitive(NovaWorld::kUuid));
    args.set("recreate", false);
    args.set("reimage_boot_volume", true);
    (void)world.request("rebuild_instance", std::move(args), "6.1");
}

void shelve(NovaWorld& world) {
    const std::string image = world.queue_image();
    world.set_task(task_states::kShelving);
    (void)world.request("shelve_instance",
                        Json::object({{"image_id", image}, {"clean_shutdown", true}}));
}

void shelve_offload(NovaWorld& world) {
    world.set_task(task_states::kShelvingOffloading);
    (void)world.request("shelve_offload_instance", Json::object({{"clean_shutdown", true}}));
}

void unshelve(NovaWorld& world) {
    world.set_task(task_states::kUnshelving);
    world.database.allocations.insert(NovaWorld::kUuid);
    (void)world.request("unshelve_instance", Json::object({{"image", Json::object()},
                                                           {"filter_properties", Json::object()},
                                                           {"node", NovaWorld::kHost}}));
}

void attach_interface(NovaWorld& world) {
    (void)world.request("attach_interface",
                        Json::object({{"network_id", "00000091-0000-4000-8000-000000000091"}}));
}

void detach_interface(NovaWorld& world) {
    const auto ports = world.network.network_info(NovaWorld::kUuid).value();
    (void)world.request("detach_interface", Json::object({{"port_id", ports.back().port_id}}));
}

struct VolumeFacts {
    size_t records = 0;
    size_t attachments = 0;
    bool in_guest = false;
    bool served = false;
    bool connected = true;  // all of its attachments
};

VolumeFacts facts_of(const NovaWorld& world, const std::string& volume) {
    VolumeFacts facts;
    for (const auto& [id, device] : world.database.block_devices) {
        facts.records += device.find("nova_object.data")->string_or("volume_id") == volume ? 1 : 0;
    }
    for (const auto& [id, attachment] : world.cinder.attached) {
        if (attachment.volume_id == volume) {
            ++facts.attachments;
            facts.connected = facts.connected && attachment.connected && attachment.complete;
        }
    }
    facts.in_guest = world.driver.volumes(NovaWorld::kUuid).contains(volume);
    facts.served = world.volume_host.running.contains({NovaWorld::kUuid, volume});
    return facts;
}

// Attached everywhere, or nowhere.
bool expect_agreement(const NovaWorld& world, const std::string& volume) {
    const VolumeFacts facts = facts_of(world, volume);
    const size_t count = facts.in_guest ? 1 : 0;
    EXPECT_EQ(facts.served, facts.in_guest) << volume;
    EXPECT_EQ(facts.records, count) << volume;
    EXPECT_EQ(facts.attachments, count) << volume;
    EXPECT_TRUE(facts.connected) << volume;
    if (facts.in_guest && world.cinder.volumes.contains(volume)) {
        EXPECT_NE(world.cinder.volumes.at(volume).status, "detaching") << volume;
    }
    return facts.in_guest;
}

void check_attached(NovaWorld& world) {
    EXPECT_TRUE(expect_agreement(world, kFirst));
}

void check_either(NovaWorld& world) {
    expect_agreement(world, kFirst);
}

void check_one_of_two(NovaWorld& world) {
    const bool first = expect_agreement(world, kFirst);
    EXPECT_NE(expect_agreement(world, kSecond), first);
}

// Reserved where no guest is, connected where one runs.
void check_follows(NovaWorld& world) {
    const std::string vm_state = world.vm_state();
    const VolumeFacts facts = facts_of(world, kFirst);
    if (vm_state == "error") {
        return;
    }
    EXPECT_EQ(facts.records, 1u);
    EXPECT_EQ(facts.attachments, 1u);
    const bool here = vm_state != "shelved_offloaded";
    EXPECT_EQ(facts.served, here);
    EXPECT_EQ(facts.in_guest, here);
    EXPECT_EQ(facts.connected, here);
}

void check_root(NovaWorld& world) {
    const bool guest = world.driver.guest_count() == 1;
    if (world.vm_state() == "active") {
        EXPECT_TRUE(guest);
        EXPECT_EQ(world.cinder.volumes.size(), 1u);
        EXPECT_TRUE(expect_agreement(world, world.cinder.volumes.begin()->first));
    } else if (!guest) {
        EXPECT_TRUE(world.volume_host.running.empty());
        for (const auto& [id, attachment] : world.cinder.attached) {
            EXPECT_FALSE(attachment.connected) << id;
        }
    }
}

void check_ports(NovaWorld& world) {
    const auto ports = world.network.network_info(NovaWorld::kUuid).value();
    const auto server = world.conductor->instance_get(NovaWorld::kUuid);
    ASSERT_TRUE(server.ok());
    EXPECT_EQ(server->network_info.size(), ports.size());
    EXPECT_EQ(world.vifs.taps().size(), ports.size());
    for (const compute::VifInfo& vif : server->network_info) {
        EXPECT_FALSE(vif.detaching) << vif.port_id;
    }
    EXPECT_LE(world.driver.cards(NovaWorld::kUuid).size(), ports.size());
    EXPECT_GE(world.driver.cards(NovaWorld::kUuid).size() + 1, ports.size());
}

std::vector<Case> cases() {
    return {
        {"attach an interface", build, attach_interface, {"active"}, check_ports},
        {"detach an interface",
         [](NovaWorld& world) {
             build(world);
             attach_interface(world);
         },
         detach_interface,
         {"active"},
         check_ports},
        {"attach a volume", build, attach, {"active"}, check_either},
        {"detach a volume", build_with_volume, detach, {"active"}, check_either},
        {"swap a volume", build_with_volume, swap, {"active"}, check_one_of_two},
        {"extend a volume", build_with_volume, extend, {"active"}, check_attached},
        {"stop with a volume",
         build_with_volume,
         verb(task_states::kPoweringOff, "stop_instance"),
         {"active", "stopped"},
         check_follows},
        {"reboot with a volume",
         build_with_volume,
         verb(task_states::kRebootingHard, "reboot_instance",
              Json::object({{"reboot_type", "HARD"}})),
         {"active", "error"},
         check_follows},
        {"shelve with a volume",
         build_with_volume,
         shelve,
         {"active", "shelved", "shelved_offloaded", "stopped", "error"},
         check_follows},
        {"offload with a volume",
         [](NovaWorld& world) {
             build_with_volume(world);
             world.periodic.shelved_offload_time_s = -1;
             world.start_node();
             shelve(world);
         },
         shelve_offload,
         {"shelved", "shelved_offloaded", "error"},
         check_follows},
        {"unshelve with a volume",
         [](NovaWorld& world) {
             build_with_volume(world);
             shelve(world);
         },
         unshelve,
         {"active", "shelved_offloaded", "error"},
         check_follows},
        {"delete with a volume", build_with_volume, terminate, {"error", "active"}},
        {"boot from a volume",
         order_from_volume,
         build_from_volume,
         {"active", "error", "building"},
         check_root},
        {"delete one that boots from a volume", make_from_volume, terminate, {"error", "active"}},
        {"reimage", make_from_volume, rebuild_from_volume, {"active", "error"}, check_root},
        {"shelve one that boots from a volume",
         make_from_volume,
         shelve_offload,
         {"active", "shelved_offloaded", "error"}},
    };
}

TEST(FaultMatrixOfDevices, TheDaemonIsKilledAtEveryBorder) {
    strike_everywhere(cases(), NovaWorld::Fault::Crash, 4);
}

TEST(FaultMatrixOfDevices, EveryStepFailsOnce) {
    strike_everywhere(cases(), NovaWorld::Fault::Refuse, 2);
}

TEST(FaultMatrixOfDevices, NothingAnswersForAWhileFromEveryStepOn) {
    strike_everywhere(cases(), NovaWorld::Fault::Outage, 2);
}

TEST(FaultMatrixOfDevices, EveryAnswerIsLostOnce) {
    strike_everywhere(cases(), NovaWorld::Fault::NoAnswer, 1);
}

}  // namespace
}  // namespace kumoi::nova
