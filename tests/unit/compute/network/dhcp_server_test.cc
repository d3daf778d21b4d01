#include "compute/network/dhcp_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kumoi::compute {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

NetworkSpec network() {
    NetworkSpec result;
    result.id = "n1";
    result.mtu = 1450;
    SubnetSpec subnet;
    subnet.id = "s1";
    subnet.cidr = "10.0.0.0/22";
    subnet.gateway = "10.0.0.1";
    subnet.host_address = "10.0.0.1";
    subnet.dns_servers = {"9.9.9.9", "1.1.1.1"};
    subnet.host_routes = {{"192.0.2.0/24", "10.0.0.9"}};
    result.subnets = {subnet};
    result.dhcp_hosts = {{"fa:16:3e:00:00:01", "10.0.0.5", "host-10-0-0-5"}};
    return result;
}

TEST(DhcpFiles, AnswerOneBridgeAndKnownPortsOnly) {
    const DhcpFiles files = render_dhcp_files(network(), "kbx", "/run/k/n1", false);
    EXPECT_EQ(
        files.conf,
        "port=0\ninterface=kbx\nexcept-interface=lo\nbind-interfaces\nno-hosts\nno-resolv\n"
        "no-ping\nquiet-dhcp\nquiet-dhcp6\ndhcp-authoritative\ndhcp-ignore=tag:!known\n"
        "dhcp-hostsfile=/run/k/n1/hosts\ndhcp-optsfile=/run/k/n1/opts\n"
        "dhcp-leasefile=/run/k/n1/leases\npid-file=/run/k/n1/pid\nlog-facility=/run/k/n1/log\n"
        "dhcp-lease-max=65536\ndhcp-range=set:subnet-s1,10.0.0.0,static,255.255.252.0,86400s\n");
    EXPECT_EQ(files.hosts, "fa:16:3e:00:00:01,10.0.0.5,host-10-0-0-5\n");
    EXPECT_EQ(files.options,
              "tag:subnet-s1,option:router,10.0.0.1\n"
              "tag:subnet-s1,option:dns-server,9.9.9.9,1.1.1.1\n"
              "tag:subnet-s1,option:mtu,1450\n"
              "tag:subnet-s1,option:classless-static-route,169.254.169.254/32,10.0.0.1,192.0.2.0/"
              "24,10.0.0.9,0.0.0.0/0,10.0.0.1\n"
              "tag:subnet-s1,249,169.254.169.254/32,10.0.0.1,192.0.2.0/24,10.0.0.9,0.0.0.0/"
              "0,10.0.0.1\n");
}

TEST(DhcpFiles, SubnetWithoutGatewayOffersNoDefaultRoute) {
    NetworkSpec subject = network();
    subject.subnets[0].gateway.reset();
    subject.subnets[0].host_address = "10.0.0.2";
    const DhcpFiles files = render_dhcp_files(subject, "kbx", "/k", true);
    EXPECT_THAT(files.options, HasSubstr("tag:subnet-s1,option:router\n"));
    EXPECT_THAT(files.options, Not(HasSubstr("0.0.0.0/0")));
    EXPECT_THAT(files.conf, HasSubstr("user=root"));
}

TEST(DhcpFiles, NothingIsServedWithoutDhcpOrHostAddress) {
    NetworkSpec subject = network();
    EXPECT_TRUE(serves_dhcp(subject));
    subject.subnets[0].dhcp = false;
    EXPECT_FALSE(serves_dhcp(subject));
    subject.subnets[0].dhcp = true;
    subject.subnets[0].host_address.reset();
    EXPECT_FALSE(serves_dhcp(subject));
    EXPECT_EQ(render_dhcp_files(subject, "kbx", "/k", false).options, "");
}

TEST(DhcpLeases, LeaseOfAnotherMacIsForgottenAndAllElseKept) {
    const std::string leases =
        "1795426724 fa:16:3e:00:00:99 10.0.0.5 host-10-0-0-5 *\n"
        "1795426724 fa:16:3e:00:00:02 10.0.0.6 host-10-0-0-6 ff:01\n"
        "duid 00:01:02\n";
    EXPECT_EQ(without_stale_leases(leases, network().dhcp_hosts),
              "1795426724 fa:16:3e:00:00:02 10.0.0.6 host-10-0-0-6 ff:01\nduid 00:01:02\n");
    EXPECT_EQ(without_stale_leases("", network().dhcp_hosts), "");
}

}  // namespace
}  // namespace kumoi::compute
