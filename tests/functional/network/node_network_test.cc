// The node's network against the real kernel: leases, spoofing, security groups, clean removal.
#include "compute/network/node_network.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/subprocess.h"
#include "compute/network/device_names.h"
#include "tests/functional/network/namespace_lab.h"

namespace kumoi::test {
namespace {

using namespace compute;  // NOLINT: a test of that namespace
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kNetworkA = "aaaaaaaa-0000-4000-8000-000000000001";
constexpr const char* kNetworkB = "bbbbbbbb-0000-4000-8000-000000000002";
constexpr const char* kPort1 = "11111111-0000-4000-8000-000000000001";
constexpr const char* kPort2 = "22222222-0000-4000-8000-000000000002";
constexpr const char* kPort3 = "33333333-0000-4000-8000-000000000003";
constexpr const char* kMac1 = "fa:16:3e:00:00:01";
constexpr const char* kMac2 = "fa:16:3e:00:00:02";
constexpr const char* kMac3 = "fa:16:3e:00:00:03";

bool protocol_is_icmp(const SecurityRule& rule) {
    return rule.protocol == "icmp";
}

SecurityRule rule(bool ingress, std::optional<std::string> protocol = {},
                  std::optional<int64_t> port = {}) {
    SecurityRule result;
    result.ingress = ingress;
    result.protocol = std::move(protocol);
    result.port_min = port;
    result.port_max = protocol_is_icmp(result) ? std::nullopt : port;  // ICMP: any code
    return result;
}

#define ASSERT_OK(expression)                                                         \
    do {                                                                              \
        const auto& outcome_ = (expression);                                          \
        ASSERT_TRUE(outcome_.ok()) << (outcome_.ok() ? "" : outcome_.error().text()); \
    } while (false)

class NodeNetworkTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto folder = TemporaryDirectory::create("kumoi-network");
        ASSERT_TRUE(folder.ok());
        folder_ = std::make_unique<TemporaryDirectory>(std::move(*folder));
        add_network(kNetworkA, "10.9.0.0/24", "10.9.0.1");
        add_port(kPort1, kNetworkA, kMac1, "10.9.0.11");
        add_port(kPort2, kNetworkA, kMac2, "10.9.0.12");
        make_node();
    }
    void TearDown() override {
        guest1_.reset();
        guest2_.reset();
        ASSERT_OK(node_->reconcile({}));
        node_.reset();
        ASSERT_OK(Firewall::remove_tables());
    }
    void make_node(bool nat = false) {
        auto node = NodeNetwork::create({folder_->path() + "/dhcp", nat, -1}, records_);
        ASSERT_TRUE(node.ok()) << node.error().text();
        node_ = std::move(*node);
        ASSERT_OK(node_->reconcile(instances()));
    }
    void add_network(const std::string& id, const std::string& cidr, const std::string& gateway) {
        NetworkSpec network;
        network.id = id;
        network.mtu = 1442;
        SubnetSpec subnet;
        subnet.id = "s-" + id;
        subnet.cidr = cidr;
        subnet.gateway = gateway;
        subnet.host_address = gateway;
        subnet.dns_servers = {"9.9.9.9"};
        network.subnets = {subnet};
        records_.networks[id] = network;
    }
    void add_port(const std::string& id, const std::string& network_id, const std::string& mac,
                  const std::string& address) {
        PortSpec port;
        port.id = id;
        port.network_id = network_id;
        port.mac = mac;
        port.addresses = {address};
        port.security_group_ids = {"default"};
        port.rules = {rule(false)};
        records_.ports[id] = port;
        records_.networks[network_id].dhcp_hosts.push_back(
            {mac, address, "host-" + mac.substr(15)});
    }
    void plug(const std::string& port_id) {
        const auto outcome = node_->plug(instance_, vif(port_id));
        ASSERT_TRUE(outcome.ok()) << outcome.error().text();
        EXPECT_EQ(*outcome, tap_name(port_id));
        plugged_.push_back(port_id);
    }
    VifInfo vif(const std::string& port_id) {
        VifInfo result;
        result.port_id = port_id;
        result.network_id = records_.ports[port_id].network_id;
        return result;
    }
    std::vector<Instance> instances() {
        Instance instance;
        for (const std::string& port_id : plugged_) {
            instance.network_info.push_back(vif(port_id));
        }
        return {instance};
    }
    // Two guests of network A with addresses set by hand.
    void start_guests() {
        guest1_ = std::make_unique<Guest>("g1", tap_name(kPort1), kMac1);
        guest2_ = std::make_unique<Guest>("g2", tap_name(kPort2), kMac2);
        plug(kPort1);
        plug(kPort2);
        guest1_->set_address("10.9.0.11/24");
        guest2_->set_address("10.9.0.12/24");
    }
    void set_rules(const std::string& port_id, std::vector<SecurityRule> rules) {
        records_.ports[port_id].rules = std::move(rules);
        node_->port_changed(port_id);
    }

    std::unique_ptr<TemporaryDirectory> folder_;
    RecordsFake records_;
    std::unique_ptr<NodeNetwork> node_;
    std::unique_ptr<Guest> guest1_;
    std::unique_ptr<Guest> guest2_;
    std::vector<std::string> plugged_;
    Instance instance_;
};

std::string ruleset() {
    return run_checked({"nft", "list", "ruleset"}).value_or("failed");
}

TEST_F(NodeNetworkTest, GuestGetsItsLeaseWithRoutesAndMtu) {
    guest1_ = std::make_unique<Guest>("g1", tap_name(kPort1), kMac1);
    plug(kPort1);
    const std::string lease = guest1_->dhcp(folder_->path());
    EXPECT_THAT(lease, HasSubstr("ip=10.9.0.11 mask=24 router=10.9.0.1 dns=9.9.9.9 mtu=1442"));
    EXPECT_THAT(lease, HasSubstr("169.254.169.254/32 10.9.0.1"));
    EXPECT_THAT(lease, HasSubstr("0.0.0.0/0 10.9.0.1"));
    EXPECT_TRUE(guest1_->ping("10.9.0.1"));
}

TEST_F(NodeNetworkTest, UnknownMacGetsNoLease) {
    guest1_ = std::make_unique<Guest>("g1", tap_name(kPort1), "fa:16:3e:00:00:99");
    plug(kPort1);
    EXPECT_THAT(guest1_->dhcp(folder_->path()), Not(HasSubstr("ip=")));
}

TEST_F(NodeNetworkTest, AddressOfADeletedPortGoesToItsNextOwner) {
    guest1_ = std::make_unique<Guest>("g1", tap_name(kPort1), kMac1);
    plug(kPort1);
    ASSERT_THAT(guest1_->dhcp(folder_->path()), HasSubstr("ip=10.9.0.11"));
    records_.networks[kNetworkA].dhcp_hosts.clear();
    add_port(kPort2, kNetworkA, kMac2, "10.9.0.11");
    guest2_ = std::make_unique<Guest>("g2", tap_name(kPort2), kMac2);
    plug(kPort2);
    EXPECT_THAT(guest2_->dhcp(folder_->path()), HasSubstr("ip=10.9.0.11"));
}

TEST_F(NodeNetworkTest, NewPortOfARunningNetworkIsServedAfterReload) {
    guest1_ = std::make_unique<Guest>("g1", tap_name(kPort1), kMac1);
    plug(kPort1);
    add_port(kPort3, kNetworkA, kMac3, "10.9.0.13");
    guest2_ = std::make_unique<Guest>("g2", tap_name(kPort3), kMac3);
    plug(kPort3);
    EXPECT_THAT(guest2_->dhcp(folder_->path()), HasSubstr("ip=10.9.0.13"));
}

TEST_F(NodeNetworkTest, IngressIsClosedUntilARuleOpensIt) {
    start_guests();
    const TcpServer server(guest2_.get(), 80);
    EXPECT_FALSE(guest1_->ping("10.9.0.12"));
    EXPECT_FALSE(guest1_->tcp("10.9.0.12", 80));
    set_rules(kPort2, {rule(false), rule(true, "tcp", 80)});
    EXPECT_TRUE(guest1_->tcp("10.9.0.12", 80));
    EXPECT_FALSE(guest1_->ping("10.9.0.12"));
    set_rules(kPort2, {rule(false), rule(true, "icmp", 8)});
    EXPECT_TRUE(guest1_->ping("10.9.0.12"));
    EXPECT_FALSE(guest1_->tcp("10.9.0.12", 80));
}

TEST_F(NodeNetworkTest, AnswersPassWithoutIngressRule) {
    start_guests();
    const TcpServer server(guest2_.get(), 80);
    set_rules(kPort2, {rule(false), rule(true)});
    EXPECT_TRUE(guest1_->tcp("10.9.0.12", 80));  // kPort1 has no ingress rule at all
    EXPECT_FALSE(guest2_->ping("10.9.0.11"));
}

TEST_F(NodeNetworkTest, EgressRulesBindTheSender) {
    start_guests();
    set_rules(kPort2, {rule(false), rule(true)});
    EXPECT_TRUE(guest1_->ping("10.9.0.12"));
    set_rules(kPort1, {rule(false, "tcp", 80)});
    EXPECT_FALSE(guest1_->ping("10.9.0.12"));
    const TcpServer server(guest2_.get(), 80);
    EXPECT_TRUE(guest1_->tcp("10.9.0.12", 80));
}

TEST_F(NodeNetworkTest, RemoteGroupFollowsItsMembers) {
    start_guests();
    SecurityRule from_group = rule(true);
    from_group.remote_group_id = "web";
    set_rules(kPort2, {rule(false), from_group});
    EXPECT_FALSE(guest1_->ping("10.9.0.12"));
    records_.groups["web"] = {"10.9.0.11"};
    node_->security_group_changed("web");
    EXPECT_TRUE(guest1_->ping("10.9.0.12"));
    records_.groups["web"] = {"10.9.0.77"};
    node_->security_group_changed("web");
    EXPECT_FALSE(guest1_->ping("10.9.0.12"));
}

TEST_F(NodeNetworkTest, ForeignAddressIsDropped) {
    start_guests();
    set_rules(kPort2, {rule(false), rule(true)});
    ASSERT_TRUE(guest1_->ping("10.9.0.12"));
    guest1_->set_address("10.9.0.66/24");
    EXPECT_FALSE(guest1_->ping("10.9.0.12"));
    EXPECT_FALSE(guest1_->ping("10.9.0.1"));
}

TEST_F(NodeNetworkTest, ForeignMacIsDropped) {
    start_guests();
    set_rules(kPort2, {rule(false), rule(true)});
    guest1_->run({"ip", "link", "set", "eth0", "address", "fa:16:3e:00:00:66"});
    EXPECT_FALSE(guest1_->ping("10.9.0.12"));
    EXPECT_FALSE(guest1_->ping("10.9.0.1"));
    guest1_->run({"ip", "link", "set", "eth0", "address", kMac1});
    EXPECT_TRUE(guest1_->ping("10.9.0.12"));
}

TEST_F(NodeNetworkTest, AllowedAddressPairMayBeUsed) {
    start_guests();
    set_rules(kPort2, {rule(false), rule(true)});
    records_.ports[kPort1].allowed_address_pairs = {{"", "10.9.0.64/28"}};
    node_->port_changed(kPort1);
    guest1_->set_address("10.9.0.66/24");
    EXPECT_TRUE(guest1_->ping("10.9.0.12"));
}

TEST_F(NodeNetworkTest, PortWithoutSecurityPassesEverything) {
    start_guests();
    for (const char* port : {kPort1, kPort2}) {
        records_.ports[port].port_security = false;
        node_->port_changed(port);
    }
    guest1_->set_address("10.9.0.66/24");
    EXPECT_TRUE(guest1_->ping("10.9.0.12"));
}

TEST_F(NodeNetworkTest, AdministrativelyDownPortIsCut) {
    start_guests();
    ASSERT_TRUE(guest1_->ping("10.9.0.1"));
    records_.ports[kPort1].admin_state_up = false;
    node_->port_changed(kPort1);
    EXPECT_FALSE(guest1_->ping("10.9.0.1"));
}

// Sends one raw frame out of eth0; 0 when the kernel took it.
int send_frame(const std::vector<uint8_t>& frame) {
    const int fd = ::socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_ifindex = static_cast<int>(if_nametoindex("eth0"));
    const auto sent = ::sendto(fd, frame.data(), frame.size(), 0,
                               reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    return sent == static_cast<ssize_t>(frame.size()) ? 0 : 1;
}

std::vector<uint8_t> frame_from(const char* source_mac, uint16_t ether_type,
                                const std::vector<uint8_t>& payload) {
    std::vector<uint8_t> frame(6, 0xff);
    const auto mac = mac_bytes(source_mac);
    frame.insert(frame.end(), mac.begin(), mac.end());
    frame.push_back(static_cast<uint8_t>(ether_type >> 8));
    frame.push_back(static_cast<uint8_t>(ether_type));
    frame.insert(frame.end(), payload.begin(), payload.end());
    frame.resize(std::max<size_t>(frame.size(), 60));
    return frame;
}

// Frames that reached guest 2's eth0 so far.
int64_t received(const Guest& guest) {
    return std::stoll(guest.output({"cat", "/sys/class/net/eth0/statistics/rx_packets"}));
}

TEST_F(NodeNetworkTest, ForgedFramesReachNobody) {
    start_guests();
    set_rules(kPort2, {rule(false), rule(true)});
    std::vector<uint8_t> arp = {0,    1,    8,    0,    6,    4,    0,  2, 0xfa, 0x16,
                                0x3e, 0,    0,    1,    10,   9,    0,  1,  // "the gateway is me"
                                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 10, 9, 0,    12};
    std::vector<uint8_t> honest = arp;
    honest[17] = 11;
    std::vector<uint8_t> advertisement = {0x60, 0, 0, 0, 0, 16, 58, 255};
    const auto link_local = link_local_address(kMac1).bytes();
    advertisement.insert(advertisement.end(), link_local.begin(), link_local.end());
    const auto all_nodes = IpAddress::parse("ff02::1")->bytes();
    advertisement.insert(advertisement.end(), all_nodes.begin(), all_nodes.end());
    advertisement.insert(advertisement.end(), {134, 0, 0, 0, 64, 0, 7, 8});
    advertisement.resize(advertisement.size() + 8);
    std::vector<uint8_t> dhcp_offer = {0x45, 0,  0,   36,  0,   0,   0, 0,  64, 17, 0, 0,  10, 9,
                                       0,    11, 255, 255, 255, 255, 0, 67, 0,  68, 0, 16, 0,  0};
    dhcp_offer.resize(36);
    const auto reaches = [&](const std::vector<uint8_t>& frame) {
        const int64_t before = received(*guest2_);
        EXPECT_EQ(in_guest(*guest1_, [&] { return send_frame(frame); }), 0);
        return received(*guest2_) > before;
    };
    guest2_->run({"sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1"});
    guest1_->run({"sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1"});
    EXPECT_TRUE(reaches(frame_from(kMac1, 0x0806, honest)));
    EXPECT_FALSE(reaches(frame_from(kMac1, 0x0806, arp)));
    EXPECT_FALSE(reaches(frame_from(kMac2, 0x0806, honest)));
    EXPECT_FALSE(reaches(frame_from(kMac1, 0x86dd, advertisement)));
    EXPECT_FALSE(reaches(frame_from(kMac1, 0x0800, dhcp_offer)));
    EXPECT_FALSE(reaches(frame_from(kMac1, 0x88cc, {1, 2, 3})));  // LLDP: no business of guests
}

TEST_F(NodeNetworkTest, HostIsReachableAtItsGatewayAddressOnly) {
    ASSERT_OK(run_checked({"ip", "addr", "add", "192.0.2.1/32", "dev", "lo"}));
    start_guests();
    const TcpServer server(nullptr, 8080);
    guest1_->run({"ip", "route", "add", "default", "via", "10.9.0.1"});
    EXPECT_TRUE(guest1_->tcp("10.9.0.1", 8080));
    EXPECT_FALSE(guest1_->tcp("192.0.2.1", 8080));
    (void)run_checked({"ip", "addr", "del", "192.0.2.1/32", "dev", "lo"});
}

TEST_F(NodeNetworkTest, NetworksDoNotReachEachOtherThroughTheHost) {
    add_network(kNetworkB, "10.10.0.0/24", "10.10.0.1");
    add_port(kPort3, kNetworkB, kMac3, "10.10.0.13");
    start_guests();
    const Guest guest3("g3", tap_name(kPort3), kMac3);
    plug(kPort3);
    guest3.set_address("10.10.0.13/24");
    set_rules(kPort3, {rule(false), rule(true)});
    set_rules(kPort1, {rule(false), rule(true)});
    guest1_->run({"ip", "route", "add", "default", "via", "10.9.0.1"});
    guest3.run({"ip", "route", "add", "default", "via", "10.10.0.1"});
    ASSERT_OK(write_net_sysctl("ipv4/ip_forward", "1"));
    EXPECT_TRUE(guest3.ping("10.10.0.1"));
    EXPECT_FALSE(guest1_->ping("10.10.0.13"));
    EXPECT_FALSE(guest1_->ping("10.10.0.1"));
    ASSERT_OK(write_net_sysctl("ipv4/ip_forward", "0"));
}

TEST_F(NodeNetworkTest, OverlappingNetworksAreSeparate) {
    add_network(kNetworkB, "10.9.0.0/24", "10.9.0.1");
    add_port(kPort3, kNetworkB, kMac3, "10.9.0.11");
    start_guests();
    const Guest guest3("g3", tap_name(kPort3), kMac3);
    plug(kPort3);
    EXPECT_THAT(guest3.dhcp(folder_->path()), HasSubstr("ip=10.9.0.11"));
    set_rules(kPort2, {rule(false), rule(true)});
    EXPECT_TRUE(guest1_->ping("10.9.0.12"));
    EXPECT_FALSE(guest3.ping("10.9.0.12"));
}

TEST_F(NodeNetworkTest, NatLetsGuestsOut) {
    make_node(true);
    start_guests();
    const Guest outside("outside", "eth-out", "02:00:00:00:00:77");
    ASSERT_OK(run_checked({"ip", "addr", "add", "198.51.100.1/24", "dev", "eth-out"}));
    ASSERT_OK(run_checked({"ip", "link", "set", "eth-out", "up"}));
    outside.set_address("198.51.100.7/24");
    guest1_->run({"ip", "route", "add", "default", "via", "10.9.0.1"});
    const TcpServer server(&outside, 80);
    EXPECT_TRUE(guest1_->ping("198.51.100.7"));
    EXPECT_TRUE(guest1_->tcp("198.51.100.7", 80));
    outside.run({"ip", "route", "add", "10.9.0.0/24", "via", "198.51.100.1"});
    EXPECT_FALSE(outside.ping("10.9.0.11"));
    make_node(false);
    EXPECT_FALSE(guest1_->ping("198.51.100.7"));
}

TEST_F(NodeNetworkTest, UnplugLeavesNothing) {
    start_guests();
    for (const char* port : {kPort1, kPort2}) {
        ASSERT_OK(node_->unplug(instance_, vif(port)));
        ASSERT_OK(node_->unplug(instance_, vif(port)));  // absent is fine
        EXPECT_FALSE(records_.plugged[port]);
    }
    const auto links = list_links();
    ASSERT_OK(links);
    EXPECT_EQ(links->size(), 1U) << "only lo";
    EXPECT_THAT(ruleset(), Not(HasSubstr(kPort1)));
    EXPECT_TRUE(list_directory(folder_->path() + "/dhcp")->empty());
    EXPECT_FALSE(run_checked({"pgrep", "-f", folder_->path()}).ok()) << "dnsmasq still runs";
}

TEST_F(NodeNetworkTest, ReconcileRemovesLeftoversAndRepairsTheRest) {
    start_guests();
    set_rules(kPort2, {rule(false), rule(true)});
    // A daemon that died: the devices, tables and dnsmasq stay; port 1's server is gone meanwhile,
    // and somebody broke the filter and the address of the bridge.
    ASSERT_OK(Firewall::remove_tables());
    ASSERT_OK(run_checked({"ip", "addr", "flush", "dev", bridge_name(kNetworkA)}));
    ASSERT_OK(run_checked({"ip", "link", "add", "ktforeign", "type", "bridge"}));
    plugged_ = {kPort2};
    make_node();
    EXPECT_FALSE(find_link(tap_name(kPort1))->has_value());
    EXPECT_TRUE(find_link("ktforeign")->has_value()) << "not ours, not touched";
    EXPECT_TRUE(guest2_->ping("10.9.0.1"));
    EXPECT_THAT(ruleset(), HasSubstr(kPort2));
    EXPECT_THAT(ruleset(), Not(HasSubstr(kPort1)));
    (void)run_checked({"ip", "link", "del", "ktforeign"});
}

TEST_F(NodeNetworkTest, RestartKeepsConnectionsAndTheDhcpServer) {
    start_guests();
    const std::string pid =
        read_file(folder_->path() + "/dhcp/" + kNetworkA + "/pid").value_or("?");
    make_node();
    EXPECT_EQ(read_file(folder_->path() + "/dhcp/" + kNetworkA + "/pid").value_or("!"), pid);
    EXPECT_TRUE(guest1_->ping("10.9.0.1"));
}

TEST_F(NodeNetworkTest, FailedPlugLeavesNothing) {
    records_.ports[kPort1].network_id = kNetworkB;  // which the records do not know
    EXPECT_FALSE(node_->plug(instance_, vif(kPort1)).ok());
    EXPECT_EQ(list_links()->size(), 1U);
}

TEST_F(NodeNetworkTest, TapIsReadyForTheGuestProcess) {
    plug(kPort1);
    const auto link = find_link(tap_name(kPort1));
    ASSERT_TRUE(link.ok() && link->has_value());
    EXPECT_EQ((*link)->mtu, 1442);
    EXPECT_TRUE((*link)->up);
    EXPECT_EQ((*link)->alias, std::string("kumoi:") + kPort1);
    EXPECT_NE((*link)->master_index, 0);
}

}  // namespace
}  // namespace kumoi::test

int main(int argc, char** argv) {
    ::testing::InitGoogleTest(&argc, argv);
    const auto outcome = kumoi::test::enter_private_world();
    if (!outcome.ok()) {
        fmt::print("network functional tests skipped: {}\n", outcome.error().text());
        return 0;
    }
    return RUN_ALL_TESTS();
}
