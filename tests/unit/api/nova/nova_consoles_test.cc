#include "api/nova/nova_consoles.h"

#include <gtest/gtest.h>

namespace kumoi::nova {
namespace {

TEST(NovaConsoles, PortRangesAreNovas) {
    EXPECT_EQ(parse_port_range("10000:20000"), std::pair(uint16_t{10000}, uint16_t{19999}));
    EXPECT_EQ(parse_port_range("1:65536"), std::pair(uint16_t{1}, uint16_t{65535}));
    for (const auto* wrong : {"", "10000", "20000:10000", "5:5", "0:10", "1:65537", "a:9", "1:9x",
                              "1:99999999999999999999", ":", "1:2:3"}) {
        EXPECT_FALSE(parse_port_range(wrong)) << wrong;
    }
}

TEST(NovaConsoles, AddressesKeepTheQueryTheyHave) {
    EXPECT_EQ(console_url("http://h/vnc_auto.html", "novnc", "t"),
              "http://h/vnc_auto.html?path=%3Ftoken%3Dt");
    EXPECT_EQ(console_url("http://h/vnc.html?scale=1", "novnc", "t"),
              "http://h/vnc.html?scale=1&path=%3Ftoken%3Dt");
    EXPECT_EQ(console_url("ws://h:6083/", "serial", "t"), "ws://h:6083/?token=t");
}

}  // namespace
}  // namespace kumoi::nova
