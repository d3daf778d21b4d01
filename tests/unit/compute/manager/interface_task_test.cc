// Network cards that come to and leave a server: what is recorded, what a failure leaves, and what
// a node that is killed at any border finds and finishes.
#include "compute/nic_slots.h"
#include "tests/support/crash_world.h"

namespace kumoi::compute {
namespace {

using namespace crash;

RequestedNetwork on_network() {
    RequestedNetwork requested;
    requested.network_id = "net";
    return requested;
}

class Interfaces : public testing::Test {
protected:
    void SetUp() override {
        world_.start_node();
        world_.build();
    }
    Result<VifInfo> attach() {
        return world_.manager->attach_interface({world_.context, kUuid, on_network()});
    }
    Result<void> detach(const std::string& port_id) {
        Instance instance = world_.conductor.get(kUuid);  // as the conductor records it
        for (VifInfo& vif : instance.network_info) {
            vif.detaching = vif.detaching || vif.port_id == port_id;
        }
        world_.conductor.add(instance);
        return world_.manager->detach_interface(world_.context, kUuid, port_id);
    }
    std::vector<VifInfo> vifs() const { return world_.conductor.get(kUuid).network_info; }
    void fail(const std::string& call, Error error) {
        world_.log.fail = [call, error](const std::string& now) {
            return now == call ? Result<void>(error) : Result<void>();
        };
    }

    World world_;
};

TEST_F(Interfaces, ACardComesIntoTheNextSlotAndNoneMovesWhenOneGoes) {
    const std::string first = vifs()[0].port_id;
    const VifInfo second = attach().value();
    const VifInfo third = attach().value();
    EXPECT_EQ(second.pci_slot, 4u);
    EXPECT_EQ(third.pci_slot, 5u);
    ASSERT_TRUE(detach(second.port_id).ok());
    ASSERT_EQ(vifs().size(), 2u);
    EXPECT_EQ(vifs()[0].pci_slot, 3u);
    EXPECT_EQ(vifs()[1].pci_slot, 5u);
    EXPECT_EQ(attach()->pci_slot, 4u);
    ASSERT_TRUE(detach(first).ok());
    EXPECT_EQ(vifs()[0].pci_slot, 5u);
    EXPECT_EQ(world_.vifs.taps().size(), 2u);
    EXPECT_EQ(world_.network.port_count(), 2u);
    EXPECT_TRUE(world_.conductor.open_events().empty());
    EXPECT_EQ(world_.open_operations(), 0u);
}

TEST_F(Interfaces, ACardWithATagIsInTheServersRecordWhileItIsThere) {
    RequestedNetwork requested = on_network();
    requested.tag = "backup";
    const auto vif = world_.manager->attach_interface({world_.context, kUuid, requested});
    ASSERT_TRUE(vif.ok());
    ASSERT_EQ(world_.cloud.devices[kUuid].size(), 1u);
    EXPECT_EQ(world_.cloud.devices[kUuid][0].tag, "backup");
    EXPECT_EQ(world_.cloud.devices[kUuid][0].address, "0000:00:04.0");
    EXPECT_EQ(world_.cloud.devices[kUuid][0].mac, vif->mac);
    ASSERT_TRUE(detach(vif->port_id).ok());
    EXPECT_TRUE(world_.cloud.devices[kUuid].empty());
}

TEST_F(Interfaces, TheNinthCardIsRefused) {
    for (size_t i = 1; i < kNicsMax; ++i) {
        ASSERT_TRUE(attach().ok());
    }
    const auto ninth = attach();
    ASSERT_FALSE(ninth.ok());
    EXPECT_EQ(ninth.error().fault, "InterfaceAttachFailed");
    EXPECT_NE(ninth.error().message.find("8 interfaces"), std::string::npos);
    EXPECT_EQ(world_.network.port_count(), kNicsMax);
}

TEST_F(Interfaces, AFailedAttachLeavesNothingAndTouchesNoTask) {
    for (const char* call : {"network.allocate_port", "vifs.plug", "driver.attach_interface"}) {
        world_.set_task(task_states::kPoweringOff);  // accepted while the attach was queued
        fail(call, Error::unavailable("no"));
        const auto attached = attach();
        ASSERT_FALSE(attached.ok()) << call;
        EXPECT_EQ(vifs().size(), 1u);
        EXPECT_EQ(world_.vifs.taps().size(), 1u);
        EXPECT_EQ(world_.network.port_count(), 1u);
        EXPECT_TRUE(world_.driver.cards(kUuid).empty());
        EXPECT_EQ(world_.conductor.get(kUuid).task_state, task_states::kPoweringOff);
    }
    EXPECT_EQ(world_.conductor.fault_count(kUuid), 3u);
}

TEST_F(Interfaces, AGuestThatKeepsItsCardKeepsThePort) {
    const VifInfo added = attach().value();
    fail("driver.detach_interface", Error::conflict("the guest did not release it"));
    (void)detach(added.port_id);
    ASSERT_EQ(vifs().size(), 2u);
    EXPECT_FALSE(vifs()[1].detaching);
    EXPECT_EQ(world_.vifs.taps().size(), 2u);
    EXPECT_EQ(world_.conductor.fault_count(kUuid), 1u);
    world_.log.fail = {};
    (void)detach(added.port_id);
    EXPECT_EQ(vifs().size(), 1u);
}

TEST_F(Interfaces, WhatIsNotAttachedIsNotFound) {
    (void)detach("nope");
    EXPECT_EQ(world_.conductor.fault_count(kUuid), 0u);
    EXPECT_EQ(vifs().size(), 1u);
    world_.set_task(task_states::kDeleting);
    EXPECT_EQ(attach().error().fault, "UnexpectedDeletingTaskStateError");
}

void expect_agreement(World& world, size_t cards) {
    const auto vifs = world.conductor.get(kUuid).network_info;
    EXPECT_EQ(world.network.port_count(), vifs.size());
    EXPECT_EQ(world.vifs.taps().size(), vifs.size());
    EXPECT_EQ(vifs.size(), cards);
    EXPECT_EQ(world.driver.cards(kUuid).size(), cards - 1);
    for (const VifInfo& vif : vifs) {
        EXPECT_FALSE(vif.detaching);
    }
    EXPECT_TRUE(world.conductor.open_events().empty());
    EXPECT_EQ(world.open_operations(), 0u);
    EXPECT_EQ(world.conductor.get(kUuid).vm_state, vm_states::kActive);
}

TEST(InterfaceCrash, AnAttachIsFinishedOrWasNeverBegun) {
    int forward = 0;
    for (int border = 1; border < kBordersMax; ++border) {
        World world;
        world.start_node();
        world.build();
        const bool crashed = world.crashes(border, [&] {
            (void)world.manager->attach_interface({world.context, kUuid, on_network()});
        });
        if (!crashed) {
            EXPECT_GT(border, 10);
            EXPECT_GT(forward, 5);
            return;
        }
        const bool bound = world.network.port_count() == 2;
        forward += bound ? 1 : 0;
        world.start_node();
        SCOPED_TRACE(border);
        expect_agreement(world, bound ? 2 : 1);
    }
    FAIL() << "no end of borders";
}

TEST(InterfaceCrash, ADetachThatWasAcceptedIsFinished) {
    for (int border = 1; border < kBordersMax; ++border) {
        World world;
        world.start_node();
        world.build();
        const std::string port =
            world.manager->attach_interface({world.context, kUuid, on_network()}).value().port_id;
        Instance instance = world.conductor.get(kUuid);
        instance.network_info.back().detaching = true;
        world.conductor.add(instance);
        const bool crashed = world.crashes(
            border, [&] { (void)world.manager->detach_interface(world.context, kUuid, port); });
        if (crashed) {
            world.start_node();
        }
        SCOPED_TRACE(border);
        expect_agreement(world, 1);
        if (!crashed) {
            EXPECT_GT(border, 10);
            return;
        }
    }
    FAIL() << "no end of borders";
}

TEST(NicSlots, OldRecordsAreNumberedByTheirOrder) {
    std::vector<VifInfo> vifs(3);
    vifs[1].pci_slot = 3;
    assign_nic_slots(vifs);
    EXPECT_EQ(vifs[0].pci_slot, 4u);
    EXPECT_EQ(vifs[1].pci_slot, 3u);
    EXPECT_EQ(vifs[2].pci_slot, 5u);
    EXPECT_EQ(nic_id(vifs[2]), "net2");
    vifs.resize(9);
    assign_nic_slots(vifs);
    EXPECT_EQ(vifs[7].pci_slot, 10u);
    EXPECT_EQ(vifs[8].pci_slot, 0u);
}

}  // namespace
}  // namespace kumoi::compute
