#include "compute/network/vif_plug.h"

#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

VifInfo vif(const std::string& type) {
    VifInfo info;
    info.port_id = "12345678-9abc-4def-8000-000000000001";
    info.vif_type = type;
    info.mac = "fa:16:3e:00:00:01";
    info.bridge = "brq0";
    return info;
}

TEST(VifPlug, WiringIsReadFromNeutronsDetails) {
    VifInfo info = vif("bridge");
    info.raw = R"({"network":{"meta":{"should_create_bridge":true}},"ovs_interfaceid":"other"})";
    VifWiring wiring = wiring_of(info);
    EXPECT_EQ(wiring.bridge, "brq0");
    EXPECT_TRUE(wiring.may_create_bridge);
    EXPECT_EQ(wiring.ovs_interface_id, "other");
    info.details = {{"bridge_name", "br-ex"}, {"ovs_hybrid_plug", "true"}};
    info.raw = "not json";
    wiring = wiring_of(info);
    EXPECT_EQ(wiring.bridge, "br-ex");
    EXPECT_TRUE(wiring.ovs_hybrid);
    EXPECT_FALSE(wiring.may_create_bridge);
    EXPECT_EQ(wiring.ovs_interface_id, info.port_id);
}

TEST(VifPlug, WhatThisHostCannotPlugIsRefused) {
    VifPlug plug({}, [](const std::vector<std::string>&) { return Result<std::string>(""); });
    for (const char* type : {"binding_failed", "unbound", "hw_veb", ""}) {
        const auto plugged = plug.plug({}, vif(type));
        ASSERT_FALSE(plugged.ok()) << type;
        EXPECT_EQ(plugged.error().fault, "VirtualInterfacePlugException");
    }
    VifInfo nowhere = vif("bridge");
    nowhere.bridge = "";
    EXPECT_EQ(plug.plug({}, nowhere).error().fault, "VirtualInterfacePlugException");
}

TEST(VifPlug, AnOvsPortIsTakenFromItsBridge) {
    std::vector<std::string> asked;
    VifPlug plug({}, [&](const std::vector<std::string>& argv) {
        asked = argv;
        return Result<std::string>("");
    });
    ASSERT_TRUE(plug.unplug({}, vif("ovs")).ok());
    EXPECT_EQ(asked, (std::vector<std::string>{"ovs-vsctl", "--timeout=120", "--", "--if-exists",
                                               "del-port", "brq0", "tap12345678-9a"}));
}

}  // namespace
}  // namespace kumoi::compute
