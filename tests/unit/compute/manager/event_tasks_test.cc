// What the node makes of events that other services send about its servers.
#include "compute/manager/event_tasks.h"

#include "compute/nic_slots.h"
#include "tests/support/crash_world.h"

namespace kumoi::compute {
namespace {

using namespace crash;
using Kind = ServerEvent::Kind;

class Events : public testing::Test {
protected:
    void SetUp() override {
        world_.start_node();
        world_.build();
    }
    void tell(Kind kind, const std::string& port_id = "") {
        EXPECT_TRUE(
            world_.manager->external_instance_event(world_.context, kUuid, {kind, port_id}).ok());
    }
    std::vector<VifInfo> vifs() const { return world_.conductor.get(kUuid).network_info; }
    Instance server() const { return world_.conductor.get(kUuid); }

    World world_;
};

TEST_F(Events, ANewAddressIsRecordedAndTheCardStaysWhereItIs) {
    RequestedNetwork requested;
    requested.network_id = "net";
    const VifInfo second =
        world_.manager->attach_interface({world_.context, kUuid, requested}).value();
    world_.network.change_ports(kUuid, [](std::vector<VifInfo>& ports) {
        ports[1].fixed_ips[0].address = "10.0.0.77";
        std::swap(ports[0], ports[1]);
        ports.push_back({.port_id = "nobody attached this one"});
    });
    const size_t plugs = world_.log.count("vifs.plug");
    tell(Kind::NetworkChanged);
    ASSERT_EQ(vifs().size(), 2u);
    EXPECT_EQ(vifs()[1].fixed_ips[0].address, "10.0.0.77");
    EXPECT_EQ(vifs()[1].pci_slot, second.pci_slot);
    EXPECT_EQ(vifs()[1].tap_name, second.tap_name);
    EXPECT_EQ(vifs()[0].pci_slot, 3u);
    EXPECT_EQ(world_.log.count("vifs.plug"), plugs);
}

TEST_F(Events, APortThatNeutronDoesNotListStaysUntilItsDeletionIsTold) {
    const std::string port = vifs()[0].port_id;
    world_.network.change_ports(kUuid, [](std::vector<VifInfo>& ports) { ports.clear(); });
    tell(Kind::NetworkChanged);
    EXPECT_EQ(vifs().size(), 1u);
    EXPECT_EQ(world_.vifs.taps().size(), 1u);
    tell(Kind::VifDeleted, port);
    EXPECT_TRUE(vifs().empty());
    EXPECT_TRUE(world_.vifs.taps().empty());
    EXPECT_EQ(world_.log.count("driver.detach_interface"), 1u);
    tell(Kind::VifDeleted, port);  // as after a detach of our own
    EXPECT_EQ(world_.log.count("driver.detach_interface"), 1u);
    EXPECT_EQ(world_.conductor.fault_count(kUuid), 0u);
}

TEST_F(Events, AGuestThatKeepsTheCardLosesTheDeviceAllTheSame) {
    world_.log.fail = [](const std::string& call) {
        return call == "driver.detach_interface" ? Result<void>(Error::conflict("it stays"))
                                                 : Result<void>();
    };
    tell(Kind::VifDeleted, vifs()[0].port_id);
    EXPECT_TRUE(vifs().empty());
    EXPECT_TRUE(world_.vifs.taps().empty());
}

TEST_F(Events, PowerFollowsTheEventUnlessSomethingElseWorksOnTheServer) {
    world_.set_task(task_states::kRebooting);
    tell(Kind::PowerOff);
    EXPECT_EQ(server().vm_state, vm_states::kActive);
    EXPECT_EQ(server().task_state, task_states::kRebooting);
    Instance idle = server();
    idle.task_state = std::nullopt;
    world_.conductor.add(idle);
    tell(Kind::PowerOff);
    EXPECT_EQ(server().vm_state, vm_states::kStopped);
    EXPECT_EQ(world_.driver.power(kUuid), power_states::kShutdown);
    tell(Kind::PowerOff);
    EXPECT_EQ(world_.log.count("driver.power_off"), 1u);
    tell(Kind::PowerOn);
    EXPECT_EQ(server().vm_state, vm_states::kActive);
    EXPECT_EQ(world_.driver.power(kUuid), power_states::kRunning);
    EXPECT_FALSE(server().task_state);
    EXPECT_EQ(world_.open_operations(), 0u);
}

TEST_F(Events, AServerOfAnotherHostIsLeftAlone) {
    Instance moved = server();
    moved.host = "cn-2";
    world_.conductor.add(moved);
    world_.network.change_ports(kUuid, [](std::vector<VifInfo>& ports) { ports[0].mac = "x"; });
    tell(Kind::NetworkChanged);
    tell(Kind::VifDeleted, moved.network_info[0].port_id);
    tell(Kind::PowerOff);
    EXPECT_EQ(vifs()[0].mac, moved.network_info[0].mac);
    EXPECT_EQ(world_.vifs.taps().size(), 1u);
    EXPECT_EQ(world_.driver.power(kUuid), power_states::kRunning);
    EXPECT_TRUE(
        world_.manager->external_instance_event(world_.context, kOther, {Kind::PowerOff}).ok());
}

TEST(EventQueue, ManyChangesBeforeTheFirstLookMakeOneRefresh) {
    std::vector<std::function<void()>> waiting;
    World world;
    ManagerOptions options;
    options.host = "cn-1";
    options.state_path = world.directory.path();
    auto manager = ComputeManager::create({world.conductor, world.network, world.vifs, world.driver,
                                           world.clock, world.images},
                                          options, {},
                                          [&](std::function<void()> function) {
                                              waiting.push_back(std::move(function));
                                              return Result<void>();
                                          })
                       .value();
    Instance instance;
    instance.uuid = kUuid;
    instance.host = "cn-1";
    instance.vm_state = vm_states::kActive;
    instance.network_info = {{.port_id = "p"}};
    world.conductor.add(instance);
    for (int i = 0; i < 200; ++i) {  // more than a server's queue holds
        ASSERT_TRUE(
            manager->external_instance_event(world.context, kUuid, {Kind::NetworkChanged}).ok());
    }
    ASSERT_EQ(waiting.size(), 1u);
    world.network.change_ports(
        kUuid, [](std::vector<VifInfo>& ports) { ports = {{.port_id = "p", .mac = "new"}}; });
    waiting[0]();
    EXPECT_EQ(world.conductor.get(kUuid).network_info[0].mac, "new");
    ASSERT_TRUE(
        manager->external_instance_event(world.context, kUuid, {Kind::NetworkChanged}).ok());
    ASSERT_EQ(waiting.size(), 2u);
    waiting[1]();
}

}  // namespace
}  // namespace kumoi::compute
