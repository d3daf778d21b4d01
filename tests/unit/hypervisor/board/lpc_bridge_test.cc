#include "hypervisor/board/lpc_bridge.h"

#include <map>

#include <gtest/gtest.h>

#include "hypervisor/kvm/irq_lines.h"

namespace kumoi::hypervisor {
namespace {

TEST(LpcBridge, IsAnIch9WithItsPowerManagementAt0x600) {
    LpcBridge bridge([](uint32_t, uint32_t) {});
    EXPECT_EQ(bridge.config_read(0, 4), 0x2918'8086u);
    EXPECT_EQ(bridge.config_read(0x40, 4), 0x601u);
    bridge.config_write(0x40, 4, 0xb001);  // fixed
    EXPECT_EQ(bridge.config_read(0x40, 4), 0x601u);
    bridge.config_write(0x44, 1, 0x80);  // ACPI_EN
    EXPECT_EQ(bridge.config_read(0x44, 1), 0x80u);
    bridge.config_write(0xf0, 4, 0xfed1'c001);  // RCBA
    EXPECT_EQ(bridge.config_read(0xf0, 4), 0xfed1'c001u);
    bridge.reset();
    EXPECT_EQ(bridge.config_read(0x44, 1), 0u);
    EXPECT_EQ(bridge.config_read(0xf0, 4), 0u);
}

TEST(LpcBridge, RoutesPirqsToAllowedLinesOnly) {
    std::map<uint32_t, uint32_t> routes;
    LpcBridge bridge([&routes](uint32_t pirq, uint32_t irq) { routes[pirq] = irq; });
    EXPECT_EQ(routes[0], 0u);  // disabled at reset
    bridge.config_write(0x60, 4, 0x0b0b'0a0a);
    EXPECT_EQ(routes[0], 10u);
    EXPECT_EQ(routes[3], 11u);
    bridge.config_write(0x61, 1, 0x00);  // the timer's line
    EXPECT_EQ(routes[1], 0u);
    bridge.config_write(0x60, 1, 0x8a);  // disabled again
    EXPECT_EQ(routes[0], 0u);
    bridge.reset();
    EXPECT_EQ(routes[3], 0u);
}

TEST(SmiRegisters, SayThatSmmWasSetUpBefore) {
    SmiRegisters registers;
    uint8_t bytes[4];
    registers.io_read(0, bytes);
    EXPECT_EQ(bytes[0], 0x20);
    EXPECT_EQ(bytes[3], 0);
}

TEST(IrqLines, SharedLineIsUpWhileAnyHolderHoldsIt) {
    std::map<uint32_t, bool> levels;
    IrqLines lines([&levels](uint32_t gsi, bool up) { levels[gsi] = up; });
    auto one = lines.open(16).value();
    auto two = lines.open(16).value();
    one->set_level(true);
    two->set_level(true);
    one->set_level(false);
    EXPECT_TRUE(levels[16]);
    two.reset();  // a device that goes lets go
    EXPECT_FALSE(levels[16]);
    EXPECT_FALSE(lines.open(24).ok());
}

TEST(IrqLines, PciLinesReachTheirIsaLineAndFollowItsRoute) {
    std::map<uint32_t, bool> levels;
    IrqLines lines([&levels](uint32_t gsi, bool up) { levels[gsi] = up; });
    auto a = lines.open(16).value();
    auto b = lines.open(17).value();
    lines.route_pirq(0, 10);
    lines.route_pirq(1, 10);
    a->set_level(true);
    b->set_level(true);
    EXPECT_TRUE(levels[10]);
    a->set_level(false);
    EXPECT_TRUE(levels[10]);
    lines.route_pirq(1, 11);  // moves while asserted
    EXPECT_FALSE(levels[10]);
    EXPECT_TRUE(levels[11]);
    lines.route_pirq(1, 0);
    EXPECT_FALSE(levels[11]);
    EXPECT_TRUE(levels[17]);
    lines.route_pirq(9, 5);  // no such line
}

}  // namespace
}  // namespace kumoi::hypervisor
