#include "compute/network/ip_address.h"

#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

TEST(IpAddress, RefusesWhatIsNoAddress) {
    for (const char* text : {"", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.1 ", "::1%lo",
                             "1::2::3", "fe80::1/64", "10.0.0.1/24", "0x7f.1"}) {
        EXPECT_FALSE(IpAddress::parse(text)) << text;
    }
    EXPECT_FALSE(IpAddress::parse(std::string_view("10.0.0.1\0x", 10)));
    EXPECT_FALSE(IpAddress::parse(std::string(200, '1')));
}

TEST(IpAddress, WritesItselfCanonically) {
    EXPECT_EQ(IpAddress::parse("2001:DB8:0:0::1")->text(), "2001:db8::1");
    EXPECT_EQ(IpAddress::parse("10.0.0.1")->text(), "10.0.0.1");
}

TEST(IpAddress, AddsAcrossBytesAndStopsAtTheEnd) {
    EXPECT_EQ(IpAddress::parse("10.0.0.255")->plus(1)->text(), "10.0.1.0");
    EXPECT_EQ(IpAddress::parse("10.0.255.255")->plus(258)->text(), "10.1.1.1");
    EXPECT_EQ(IpAddress::parse("fd00::ffff")->plus(1)->text(), "fd00::1:0");
    EXPECT_FALSE(IpAddress::parse("255.255.255.255")->plus(1));
}

TEST(IpAddress, CountsRanges) {
    const auto count = [](const char* first, const char* last) {
        return address_count(*IpAddress::parse(first), *IpAddress::parse(last));
    };
    EXPECT_EQ(count("10.0.0.2", "10.0.0.254"), 253U);
    EXPECT_EQ(count("10.0.0.254", "10.0.1.1"), 4U);
    EXPECT_EQ(count("10.0.1.1", "10.0.0.254"), 0U);
    EXPECT_EQ(count("10.0.0.1", "fd00::1"), 0U);
    EXPECT_EQ(count("0.0.0.0", "255.255.255.255"), uint64_t{1} << 32);
    EXPECT_EQ(count("fd00::", "fd00::ffff:ffff:ffff:ffff"), UINT64_MAX);
}

TEST(IpNetwork, RefusesWhatIsNoBlock) {
    for (const char* text : {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/+8",
                             "10.0.0.0/8x", "10.0.0.0/0008", "/8", "fd00::/129", "10.0.0.0//8"}) {
        EXPECT_FALSE(IpNetwork::parse(text)) << text;
    }
}

TEST(IpNetwork, ClearsHostBitsAndKnowsItsMembers) {
    const auto network = *IpNetwork::parse("10.0.0.77/24");
    EXPECT_EQ(network.text(), "10.0.0.0/24");
    EXPECT_EQ(network.last().text(), "10.0.0.255");
    EXPECT_EQ(network.netmask().text(), "255.255.255.0");
    EXPECT_TRUE(network.contains(*IpAddress::parse("10.0.0.255")));
    EXPECT_FALSE(network.contains(*IpAddress::parse("10.0.1.0")));
    EXPECT_FALSE(network.contains(*IpAddress::parse("::ffff:10.0.0.1")));
    EXPECT_TRUE(network.overlaps(*IpNetwork::parse("10.0.0.0/8")));
    EXPECT_FALSE(network.overlaps(*IpNetwork::parse("10.0.1.0/24")));
}

TEST(Mac, AcceptsUnicastOnly) {
    EXPECT_EQ(parse_mac("FA-16-3E-00-00-0A"), "fa:16:3e:00:00:0a");
    for (const char* text :
         {"", "fa:16:3e:00:00", "fa:16:3e:00:00:0g", "fa:16:3e-00:00:01", "01:00:5e:00:00:01",
          "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "fa:16:3e:00:00:011"}) {
        EXPECT_FALSE(parse_mac(text)) << text;
    }
}

TEST(Mac, GivesTheModifiedEui64LinkLocalAddress) {
    EXPECT_EQ(link_local_address("fa:16:3e:01:02:03").text(), "fe80::f816:3eff:fe01:203");
}

}  // namespace
}  // namespace kumoi::compute
