#include "compute/network/firewall_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

SecurityRule rule(bool ingress, int version = 4) {
    SecurityRule result;
    result.ingress = ingress;
    result.ip_version = version;
    return result;
}

FirewallPort port() {
    FirewallPort result;
    result.device = "kt11111111-00";
    result.port.id = "p1";
    result.port.mac = "fa:16:3e:00:00:01";
    result.port.addresses = {"10.0.0.5"};
    return result;
}

TEST(SecurityRuleText, RuleThatCanNeverMatchIsLeftOut) {
    SecurityRule mixed = rule(true, 4);
    mixed.remote_prefix = "fd00::/64";
    EXPECT_EQ(render_security_rule(mixed), "");
    mixed.remote_prefix = "nonsense";
    EXPECT_EQ(render_security_rule(mixed), "");
}

TEST(SecurityRuleText, SaysProtocolPortsAndRemote) {
    SecurityRule ssh = rule(true);
    ssh.protocol = "tcp";
    ssh.port_min = 22;
    ssh.port_max = 22;
    ssh.remote_prefix = "192.0.2.0/24";
    EXPECT_EQ(render_security_rule(ssh),
              "ether type ip ip saddr 192.0.2.0/24 meta l4proto 6 th dport 22");
    ssh.port_max = 25;
    ssh.ingress = false;
    EXPECT_EQ(render_security_rule(ssh),
              "ether type ip ip daddr 192.0.2.0/24 meta l4proto 6 th dport 22-25");
    ssh.remote_prefix = "0.0.0.0/0";
    EXPECT_EQ(render_security_rule(ssh), "ether type ip meta l4proto 6 th dport 22-25");
}

TEST(SecurityRuleText, IcmpMatchesTypeAndCode) {
    SecurityRule echo = rule(true);
    echo.protocol = "icmp";
    EXPECT_EQ(render_security_rule(echo), "ether type ip meta l4proto 1");
    echo.port_min = 8;
    EXPECT_EQ(render_security_rule(echo), "ether type ip meta l4proto 1 icmp type 8");
    echo.port_max = 0;
    EXPECT_EQ(render_security_rule(echo), "ether type ip meta l4proto 1 icmp type 8 icmp code 0");
    echo.ip_version = 6;
    EXPECT_EQ(render_security_rule(echo),
              "ether type ip6 meta l4proto 58 icmpv6 type 8 icmpv6 code 0");
}

TEST(SecurityRuleText, RemoteGroupIsANamedSetOfItsFamily) {
    SecurityRule group = rule(true, 6);
    group.remote_group_id = "g-1";
    EXPECT_EQ(render_security_rule(group), "ether type ip6 ip6 saddr @group6-g-1");
    EXPECT_THAT(render_group("g-1", {"10.0.0.5", "fd00::5", "10.1.0.0/24", "bad"}),
                ::testing::AllOf(HasSubstr("group4-g-1 { 10.0.0.5, 10.1.0.0/24 }"),
                                 HasSubstr("group6-g-1 { fd00::5 }"), Not(HasSubstr("bad"))));
}

TEST(SecurityRuleText, ProtocolNamesBecomeNumbers) {
    SecurityRule other = rule(true);
    for (const auto& [name, number] :
         std::map<std::string, std::string>{{"gre", "47"}, {"vrrp", "112"}, {"89", "89"}}) {
        other.protocol = name;
        EXPECT_EQ(render_security_rule(other), "ether type ip meta l4proto " + number);
    }
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    for (size_t at = text.find(from); at != std::string::npos;
         at = text.find(from, at + to.size())) {
        text.replace(at, from.size(), to);
    }
    return text;
}

// So that a rule fits on a line.
std::string shortened(std::string text) {
    text = replaced(std::move(text), "add rule bridge kumoi ", "");
    text = replaced(std::move(text), "fa:16:3e:00:00:01", "MAC");
    text = replaced(std::move(text), "fe80::f816:3eff:fe00:1", "LOCAL");
    return replaced(std::move(text), "fe80000000000000f8163efffe000001", "LOCAL");
}

// The whole text of one port, as an operator will see it with `nft list table bridge kumoi`.
TEST(PortChains, Golden) {
    FirewallPort subject = port();
    SecurityRule web = rule(true);
    web.protocol = "tcp";
    web.port_min = 80;
    web.port_max = 80;
    subject.port.rules = {rule(false), web};
    EXPECT_EQ(shortened(render_port(subject)), R"(add chain bridge kumoi spoof-p1
flush chain bridge kumoi spoof-p1
spoof-p1 ip protocol udp udp sport 67 counter drop
spoof-p1 ip6 nexthdr udp udp sport 547 counter drop
spoof-p1 icmpv6 type { 134, 137 } counter drop
spoof-p1 ether saddr MAC arp saddr ether MAC arp saddr ip 0.0.0.0 accept
spoof-p1 ether saddr MAC ether type 0x8035 accept
spoof-p1 ether saddr MAC ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
spoof-p1 ether saddr MAC arp saddr ether MAC arp saddr ip { 10.0.0.5 } accept
spoof-p1 ether saddr MAC ip saddr { 10.0.0.5 } accept
spoof-p1 ether saddr MAC ip6 saddr { LOCAL } icmpv6 type 136 @th,64,128 0xLOCAL accept
spoof-p1 ether saddr MAC icmpv6 type 136 drop
spoof-p1 ether saddr MAC ip6 saddr { LOCAL } accept
spoof-p1 ether saddr MAC ip6 saddr :: icmpv6 type { 131, 132, 135, 143 } accept
spoof-p1 counter drop
add chain bridge kumoi from-p1
flush chain bridge kumoi from-p1
from-p1 meta mark & 0x01000000 == 0x01000000 return
from-p1 ether type { arp, 0x8035 } return
from-p1 ip protocol udp udp sport 68 udp dport 67 return
from-p1 ip daddr 169.254.169.254 tcp dport 80 return
from-p1 icmpv6 type { 131, 132, 133, 135, 136, 143 } return
from-p1 ip6 saddr fe80::/10 udp sport 546 udp dport 547 return
from-p1 ether type ip return
from-p1 counter drop
add chain bridge kumoi to-p1
flush chain bridge kumoi to-p1
to-p1 meta mark & 0x01000000 == 0x01000000 accept
to-p1 ether type arp accept
to-p1 ip protocol udp udp sport 67 udp dport 68 accept
to-p1 ip saddr 169.254.169.254 tcp sport 80 accept
to-p1 icmpv6 type { 130, 131, 132, 134, 135, 136 } accept
to-p1 ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
to-p1 ether type ip meta l4proto 6 th dport 80 accept
to-p1 counter drop
add element bridge kumoi spoof_map { "kt11111111-00" : goto spoof-p1 }
add element bridge kumoi from_map { "kt11111111-00" : goto from-p1 }
add element bridge kumoi to_map { "kt11111111-00" : goto to-p1 }
)");
}

TEST(PortChains, DownPortPassesNothingEvenWithoutSecurity) {
    FirewallPort subject = port();
    subject.port.port_security = false;
    subject.port.admin_state_up = false;
    EXPECT_THAT(render_port(subject), Not(HasSubstr("accept")));
}

TEST(PortChains, AllowedPairWithItsOwnMacGetsItsOwnSender) {
    FirewallPort subject = port();
    subject.port.allowed_address_pairs = {{"", "10.0.0.64/28"}, {"fa:16:3e:00:00:77", "10.0.0.9"}};
    const std::string text = render_port(subject);
    EXPECT_THAT(text,
                HasSubstr("ether saddr fa:16:3e:00:00:01 ip saddr { 10.0.0.5, 10.0.0.64/28 }"));
    EXPECT_THAT(text, HasSubstr("ether saddr fa:16:3e:00:00:77 ip saddr { 10.0.0.9 } accept"));
}

FirewallModel model_with_bridge() {
    FirewallModel model;
    model.bridges["n1"] = {"kbaaaaaaaa-00", "02:00:00:00:00:01", {"10.0.0.1"}, {"10.0.0.0/24"}, 7};
    return model;
}

TEST(HostRules, StateLivesWhereTheKernelTracksConnections) {
    FirewallModel model = model_with_bridge();
    EXPECT_THAT(render_host(model), HasSubstr("inet kumoi track-state iifname \"kb*\" ct state"));
    model.mode = StatefulMode::BridgeConntrack;
    EXPECT_THAT(render_host(model),
                HasSubstr("bridge kumoi track-state meta ibrname \"kb*\" ct state"));
    EXPECT_THAT(render_host(model), Not(HasSubstr("inet kumoi track-state")));
}

TEST(HostRules, NatOnlyWhenAsked) {
    FirewallModel model = model_with_bridge();
    EXPECT_THAT(render_host(model), Not(HasSubstr("masquerade")));
    model.nat = true;
    EXPECT_THAT(render_host(model), HasSubstr("ip saddr 10.0.0.0/24 oifname != \"kb*\""));
}

TEST(HostRules, GuestsReachOnlyTheirOwnGateway) {
    EXPECT_THAT(
        render_host(model_with_bridge()),
        HasSubstr("input iifname \"kbaaaaaaaa-00\" ip daddr { 169.254.169.254, 10.0.0.1 } accept\n"
                  "add rule inet kumoi input counter drop"));
}

// The gateway is on every node: nothing of it passes between them.
TEST(TunnelRules, EachNodeKeepsItsGatewayAndDhcpServer) {
    FirewallModel model;
    FirewallBridge bridge;
    bridge.name = "kbn1";
    bridge.mac = "02:00:00:00:00:01";
    bridge.host_addresses = {"10.0.0.1", "fd00::1"};
    model.bridges["n1"] = bridge;
    const std::string text = render_host(model);
    for (const char* rule :
         {"iifname \"kxn1\" ether saddr 02:00:00:00:00:01 drop",
          "iifname \"kxn1\" arp saddr ip { 169.254.169.254, 10.0.0.1 } drop",
          "iifname \"kxn1\" arp daddr ip { 169.254.169.254, 10.0.0.1 } drop",
          "iifname \"kx*\" ip protocol udp udp dport { 67, 68 } drop",
          "bridge kumoi input iifname \"kx*\" drop", "bridge kumoi output oifname \"kx*\" drop"}) {
        EXPECT_THAT(text, HasSubstr(rule));
    }
}

}  // namespace
}  // namespace kumoi::compute
