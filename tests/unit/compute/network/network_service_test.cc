#include "compute/network/network_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <thread>

namespace kumoi::compute {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

// Told by every thread that changes something.
class ListenerFake final : public NetworkListener {
public:
    void network_changed(const std::string& id) override { keep(networks, id); }
    void port_changed(const std::string& id) override { keep(ports, id); }
    void security_group_changed(const std::string& id) override { keep(groups, id); }
    void clear() {
        networks.clear();
        ports.clear();
        groups.clear();
    }
    std::vector<std::string> networks;
    std::vector<std::string> ports;
    std::vector<std::string> groups;

private:
    void keep(std::vector<std::string>& list, const std::string& id) {
        const std::lock_guard lock(mutex_);
        list.push_back(id);
    }
    std::mutex mutex_;
};

class NetworkServiceTest : public ::testing::Test {
protected:
    void SetUp() override {
        auto database = Database::open(":memory:");
        ASSERT_TRUE(database.ok()) << database.error().text();
        database_ = std::move(*database);
        auto service = NetworkService::create(*database_, clock_, random_);
        ASSERT_TRUE(service.ok()) << service.error().text();
        service_ = std::move(*service);
        service_->set_listener(&listener_);
    }
    Network make_network(const RequestContext& who, bool shared = false) {
        NetworkCreate request;
        request.project_id = who.project_id;
        request.values.name = "net";
        if (shared) {
            request.values.shared = true;
        }
        return service_->create_networks(who, {request}).value()[0];
    }
    Result<Subnet> try_subnet(const RequestContext& who, const Network& network,
                              const std::string& cidr, SubnetUpdate values = {}) {
        SubnetCreate request;
        request.project_id = who.project_id;
        request.network_id = network.id;
        request.cidr = cidr;
        request.ip_version = cidr.find(':') == std::string::npos ? 4 : 6;
        request.values = std::move(values);
        auto created = service_->create_subnets(who, {request});
        return created.ok() ? Result<Subnet>((*created)[0]) : Result<Subnet>(created.error());
    }
    Subnet make_subnet(const RequestContext& who, const Network& network,
                       const std::string& cidr = "10.0.0.0/24") {
        return try_subnet(who, network, cidr).value();
    }
    Result<Port> try_port(const RequestContext& who, const Network& network,
                          PortUpdate values = {}) {
        PortCreate request;
        request.project_id = who.project_id;
        request.network_id = network.id;
        request.values = std::move(values);
        auto created = service_->create_ports(who, {request});
        return created.ok() ? Result<Port>((*created)[0]) : Result<Port>(created.error());
    }
    Port make_port(const RequestContext& who, const Network& network, PortUpdate values = {}) {
        return try_port(who, network, std::move(values)).value();
    }
    static PortUpdate with_address(const std::string& address) {
        PortUpdate update;
        update.fixed_ips = {FixedIpRequest{{}, address}};
        return update;
    }
    Instance server(const std::string& uuid, const std::string& project) {
        Instance instance;
        instance.uuid = uuid;
        instance.project_id = project;
        instance.host = "host1";
        return instance;
    }
    static RequestedNetwork on_network(const Network& network) {
        RequestedNetwork request;
        request.network_id = network.id;
        return request;
    }

    ManualClock clock_;
    SeededRandom random_{7};
    std::unique_ptr<Database> database_;
    std::unique_ptr<NetworkService> service_;
    ListenerFake listener_;
    const RequestContext alice_{"req-1", "alice", "project-a", false};
    const RequestContext bob_{"req-2", "bob", "project-b", false};
    const RequestContext admin_{"req-3", "admin", "project-admin", true};
};

template <class T>
std::string fault(const Result<T>& result) {
    return result.ok() ? "no error" : result.error().fault;
}

TEST_F(NetworkServiceTest, AnotherProjectsObjectsDoNotExist) {
    const Network network = make_network(alice_);
    const Subnet subnet = make_subnet(alice_, network);
    const Port port = make_port(alice_, network);
    const std::string group = port.security_group_ids.at(0);
    EXPECT_TRUE(service_->list_networks(bob_, {})->empty());
    EXPECT_TRUE(service_->list_subnets(bob_, {})->empty());
    EXPECT_TRUE(service_->list_ports(bob_, {})->empty());
    EXPECT_TRUE(service_->list_security_groups(bob_, {.ids = {group}})->empty());
    EXPECT_EQ(fault(service_->update_network(bob_, network.id, {})), "NetworkNotFound");
    EXPECT_EQ(fault(service_->delete_network(bob_, network.id)), "NetworkNotFound");
    EXPECT_EQ(fault(service_->delete_subnet(bob_, subnet.id)), "SubnetNotFound");
    EXPECT_EQ(fault(service_->delete_port(bob_, port.id)), "PortNotFound");
    EXPECT_EQ(fault(service_->update_port(bob_, port.id, {})), "PortNotFound");
    EXPECT_EQ(fault(service_->delete_security_group(bob_, group)), "SecurityGroupNotFound");
    EXPECT_EQ(fault(try_port(bob_, network)), "NetworkNotFound");
    EXPECT_EQ(fault(try_subnet(bob_, network, "10.1.0.0/24")), "NetworkNotFound");
    EXPECT_EQ(fault(service_->set_tags(bob_, "ports", port.id, {"x"})), "PortNotFound");
    EXPECT_EQ(service_->list_ports(admin_, {})->size(), 1U);
}

TEST_F(NetworkServiceTest, SharedNetworkIsUsableButNotChangeable) {
    const Network network = make_network(admin_, true);
    const Subnet subnet = make_subnet(admin_, network);
    EXPECT_EQ(service_->list_networks(bob_, {})->size(), 1U);
    EXPECT_EQ(service_->list_subnets(bob_, {})->size(), 1U);
    EXPECT_EQ(fault(service_->update_network(bob_, network.id, {})), "PolicyNotAuthorized");
    EXPECT_EQ(fault(try_subnet(bob_, network, "10.1.0.0/24")), "PolicyNotAuthorized");
    EXPECT_EQ(fault(service_->delete_subnet(bob_, subnet.id)), "PolicyNotAuthorized");
    EXPECT_TRUE(try_port(bob_, network).ok());
    EXPECT_EQ(fault(try_port(bob_, network, with_address("10.0.0.9"))), "PolicyNotAuthorized");
    PortUpdate open;
    open.port_security = false;
    EXPECT_EQ(fault(try_port(bob_, network, open)), "PolicyNotAuthorized");
    NetworkUpdate unshare;
    unshare.shared = false;
    EXPECT_EQ(fault(service_->update_network(admin_, network.id, unshare)), "InvalidSharedSetting");
}

TEST_F(NetworkServiceTest, OnlyAdminsShareAndBind) {
    NetworkCreate request;
    request.project_id = alice_.project_id;
    request.values.shared = true;
    EXPECT_EQ(fault(service_->create_networks(alice_, {request})), "PolicyNotAuthorized");
    const Network network = make_network(alice_);
    PortUpdate bind;
    bind.host_id = "host1";
    EXPECT_EQ(fault(try_port(alice_, network, bind)), "PolicyNotAuthorized");
}

TEST_F(NetworkServiceTest, SubnetRefusesNonsense) {
    const Network network = make_network(alice_);
    for (const char* cidr : {"10.0.0.0/31", "10.0.0.0/33", "10.0.0.0", "224.0.0.0/24",
                             "127.0.0.0/24", "0.0.0.0/8", "169.254.0.0/24", "x"}) {
        EXPECT_EQ(fault(try_subnet(alice_, network, cidr)), "InvalidInput") << cidr;
    }
    SubnetUpdate values;
    values.gateway_ip = std::optional<std::string>("10.1.0.1");
    EXPECT_EQ(fault(try_subnet(alice_, network, "10.0.0.0/24", values)), "InvalidInput");
    values = {};
    values.allocation_pools = std::vector{AllocationPool{"10.0.0.9", "10.0.0.20"},
                                          AllocationPool{"10.0.0.20", "10.0.0.30"}};
    EXPECT_EQ(fault(try_subnet(alice_, network, "10.0.0.0/24", values)),
              "OverlappingAllocationPools");
    values.allocation_pools = std::vector{AllocationPool{"10.0.0.1", "10.0.0.20"}};
    EXPECT_EQ(fault(try_subnet(alice_, network, "10.0.0.0/24", values)),
              "GatewayConflictWithAllocationPools");
    values.allocation_pools = std::vector{AllocationPool{"10.0.0.9", "10.0.1.1"}};
    EXPECT_EQ(fault(try_subnet(alice_, network, "10.0.0.0/24", values)),
              "OutOfBoundsAllocationPool");
    values.allocation_pools = std::vector{AllocationPool{"10.0.0.9", "10.0.0.8"}};
    EXPECT_EQ(fault(try_subnet(alice_, network, "10.0.0.0/24", values)), "InvalidAllocationPool");
    values = {};
    values.dns_nameservers = std::vector<std::string>{"2001:db8::1"};
    EXPECT_EQ(fault(try_subnet(alice_, network, "10.0.0.0/24", values)), "InvalidInput");
    make_subnet(alice_, network, "10.0.0.0/24");
    EXPECT_EQ(fault(try_subnet(alice_, network, "10.0.0.128/25")), "InvalidInput") << "overlap";
}

TEST_F(NetworkServiceTest, SubnetDefaultsAreNeutrons) {
    const Network network = make_network(alice_);
    const Subnet subnet = make_subnet(alice_, network, "10.0.0.77/24");
    EXPECT_EQ(subnet.cidr, "10.0.0.0/24");
    EXPECT_EQ(subnet.gateway_ip, "10.0.0.1");
    EXPECT_THAT(subnet.allocation_pools, ElementsAre(AllocationPool{"10.0.0.2", "10.0.0.254"}));
    SubnetUpdate middle;
    middle.gateway_ip = std::optional<std::string>("10.1.0.100");
    EXPECT_THAT(try_subnet(alice_, network, "10.1.0.0/24", middle)->allocation_pools,
                ElementsAre(AllocationPool{"10.1.0.1", "10.1.0.99"},
                            AllocationPool{"10.1.0.101", "10.1.0.254"}));
    const Subnet ipv6 = make_subnet(alice_, network, "fd00:1::/64");
    EXPECT_EQ(ipv6.gateway_ip, "fd00:1::1");
    EXPECT_THAT(ipv6.allocation_pools,
                ElementsAre(AllocationPool{"fd00:1::2", "fd00:1::ffff:ffff:ffff:ffff"}));
}

TEST_F(NetworkServiceTest, PortTakesEachAddressOnceAndThenSaysFull) {
    const Network network = make_network(alice_);
    make_subnet(alice_, network, "10.0.0.0/29");  // 5 addresses beside the gateway
    std::set<std::string> addresses;
    std::set<std::string> macs;
    for (int i = 0; i < 5; ++i) {
        const Port port = make_port(alice_, network);
        addresses.insert(port.fixed_ips.at(0).ip_address);
        macs.insert(port.mac_address);
        EXPECT_TRUE(port.mac_address.starts_with("fa:16:3e:"));
    }
    EXPECT_THAT(addresses,
                UnorderedElementsAre("10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"));
    EXPECT_EQ(macs.size(), 5U);
    EXPECT_EQ(fault(try_port(alice_, network)), "IpAddressGenerationFailure");
}

TEST_F(NetworkServiceTest, ConcurrentPortsNeverShareAnAddress) {
    const Network network = make_network(alice_);
    make_subnet(alice_, network, "10.0.0.0/26");
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int j = 0; j < 15; ++j) {
                EXPECT_TRUE(try_port(alice_, network).ok());
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    std::set<std::string> addresses;
    const auto ports = service_->list_ports(alice_, {});
    for (const Port& port : *ports) {
        addresses.insert(port.fixed_ips.at(0).ip_address);
    }
    EXPECT_EQ(ports->size(), 60U);
    EXPECT_EQ(addresses.size(), 60U);
}

TEST_F(NetworkServiceTest, RequestedAddressIsCheckedAndHeld) {
    const Network network = make_network(alice_);
    const Subnet subnet = make_subnet(alice_, network);
    EXPECT_EQ(make_port(alice_, network, with_address("10.0.0.50")).fixed_ips.at(0).ip_address,
              "10.0.0.50");
    EXPECT_EQ(fault(try_port(alice_, network, with_address("10.0.0.50"))),
              "IpAddressAlreadyAllocated");
    EXPECT_EQ(fault(try_port(alice_, network, with_address("10.0.1.50"))), "InvalidIpForNetwork");
    EXPECT_EQ(fault(try_port(alice_, network, with_address("10.0.0.0"))), "InvalidIpForNetwork");
    EXPECT_EQ(fault(try_port(alice_, network, with_address("10.0.0.255"))), "InvalidIpForNetwork");
    EXPECT_EQ(fault(try_port(alice_, network, with_address("banana"))), "InvalidInput");
    PortUpdate twice;
    twice.fixed_ips = {FixedIpRequest{subnet.id, "10.0.0.60"},
                       FixedIpRequest{subnet.id, "10.0.0.60"}};
    EXPECT_EQ(fault(try_port(alice_, network, twice)), "IpAddressAlreadyAllocated");
    PortUpdate none;
    none.fixed_ips.emplace();
    EXPECT_TRUE(make_port(alice_, network, none).fixed_ips.empty());
}

TEST_F(NetworkServiceTest, MacIsUniquePerNetwork) {
    const Network network = make_network(alice_);
    PortUpdate update;
    update.mac_address = "FA:16:3E:00:00:01";
    EXPECT_EQ(make_port(alice_, network, update).mac_address, "fa:16:3e:00:00:01");
    EXPECT_EQ(fault(try_port(alice_, network, update)), "MacAddressInUse");
    EXPECT_TRUE(try_port(alice_, make_network(alice_), update).ok());
    update.mac_address = "01:00:5e:00:00:01";
    EXPECT_EQ(fault(try_port(alice_, network, update)), "InvalidInput");
}

TEST_F(NetworkServiceTest, BulkIsAllOrNothing) {
    const Network network = make_network(alice_);
    make_subnet(alice_, network);
    PortCreate good;
    good.project_id = alice_.project_id;
    good.network_id = network.id;
    PortCreate bad = good;
    bad.values = with_address("192.0.2.1");
    EXPECT_FALSE(service_->create_ports(alice_, {good, good, bad}).ok());
    EXPECT_TRUE(service_->list_ports(alice_, {})->empty());
}

TEST_F(NetworkServiceTest, InUseThingsStay) {
    const Network network = make_network(alice_);
    const Subnet subnet = make_subnet(alice_, network);
    const Port port = make_port(alice_, network);
    EXPECT_EQ(fault(service_->delete_subnet(alice_, subnet.id)), "SubnetInUse");
    EXPECT_EQ(fault(service_->delete_network(alice_, network.id)), "NetworkInUse");
    EXPECT_EQ(fault(service_->delete_security_group(admin_, port.security_group_ids[0])),
              "SecurityGroupInUse");
    ASSERT_TRUE(service_->delete_port(alice_, port.id).ok());
    EXPECT_TRUE(service_->delete_subnet(alice_, subnet.id).ok());
    EXPECT_TRUE(service_->delete_network(alice_, network.id).ok());
    EXPECT_TRUE(service_->list_networks(admin_, {})->empty());
}

TEST_F(NetworkServiceTest, DefaultGroupAppearsOnceWithNeutronsRules) {
    const auto groups = service_->list_security_groups(alice_, {});
    ASSERT_EQ(groups->size(), 1U);
    const SecurityGroup group = (*groups)[0];
    EXPECT_EQ(group.name, "default");
    ASSERT_EQ(group.rules.size(), 4U);
    int from_itself = 0;
    for (const SecurityGroupRule& rule : group.rules) {
        EXPECT_EQ(rule.remote_group_id == group.id, rule.ingress);
        from_itself += rule.ingress ? 1 : 0;
    }
    EXPECT_EQ(from_itself, 2);
    EXPECT_EQ(service_->list_security_groups(alice_, {})->size(), 1U);
    SecurityGroup again;
    again.project_id = alice_.project_id;
    again.name = "default";
    EXPECT_EQ(fault(service_->create_security_groups(alice_, {again})),
              "SecurityGroupDefaultAlreadyExists");
    EXPECT_EQ(fault(service_->update_security_group(alice_, group.id, "x", {})),
              "SecurityGroupCannotUpdateDefault");
    EXPECT_EQ(fault(service_->delete_security_group(alice_, group.id)),
              "SecurityGroupCannotRemoveDefault");
}

TEST_F(NetworkServiceTest, RulesAreChecked) {
    const std::string group = (*service_->list_security_groups(alice_, {}))[0].id;
    const auto attempt = [&](auto change) {
        SecurityGroupRule rule;
        rule.security_group_id = group;
        change(rule);
        return fault(service_->create_rules(alice_, {rule}));
    };
    EXPECT_EQ(attempt([](auto& r) { r.port_min = 80; }), "SecurityGroupProtocolRequiredWithPorts");
    EXPECT_EQ(attempt([](auto& r) { r.protocol = "nonsense"; }),
              "SecurityGroupRuleInvalidProtocol");
    EXPECT_EQ(attempt([](auto& r) { r.protocol = "256"; }), "SecurityGroupRuleInvalidProtocol");
    EXPECT_EQ(attempt([](auto& r) { r.protocol = "gre", r.port_min = 1, r.port_max = 1; }),
              "SecurityGroupInvalidProtocolForPort");
    EXPECT_EQ(attempt([](auto& r) { r.protocol = "tcp", r.port_min = 90, r.port_max = 80; }),
              "SecurityGroupInvalidPortRange");
    EXPECT_EQ(attempt([](auto& r) { r.protocol = "tcp", r.port_min = 0, r.port_max = 80; }),
              "SecurityGroupInvalidPortRange");
    EXPECT_EQ(attempt([](auto& r) { r.protocol = "icmp", r.port_min = 256; }),
              "SecurityGroupInvalidIcmpValue");
    EXPECT_EQ(attempt([](auto& r) { r.protocol = "icmp", r.port_max = 0; }),
              "SecurityGroupMissingIcmpType");
    EXPECT_EQ(attempt([](auto& r) { r.protocol = "ipv6-icmp"; }),
              "SecurityGroupEthertypeConflictWithProtocol");
    EXPECT_EQ(attempt([](auto& r) { r.remote_prefix = "fd00::/8"; }),
              "SecurityGroupRuleParameterConflict");
    EXPECT_EQ(attempt([](auto& r) { r.remote_prefix = "10.0.0.0/99"; }), "InvalidInput");
    EXPECT_EQ(attempt([&](auto& r) { r.remote_prefix = "10.0.0.0/8", r.remote_group_id = group; }),
              "SecurityGroupRemoteGroupAndRemoteIpPrefix");
    EXPECT_EQ(attempt([](auto& r) { r.remote_group_id = "missing"; }), "SecurityGroupNotFound");
    EXPECT_EQ(attempt([](auto& r) { r.protocol = "tcp", r.port_min = 80, r.port_max = 80; }),
              "no error");
    EXPECT_EQ(attempt([](auto& r) { r.protocol = "tcp", r.port_min = 80, r.port_max = 80; }),
              "SecurityGroupRuleExists");
    EXPECT_THAT(listener_.groups, ElementsAre(group));
}

TEST_F(NetworkServiceTest, QuotaStopsAndNamesTheResource) {
    ASSERT_TRUE(service_->set_quotas(alice_.project_id, {{"network", 1}}).ok());
    make_network(alice_);
    NetworkCreate request;
    request.project_id = alice_.project_id;
    const auto refused = service_->create_networks(alice_, {request});
    EXPECT_EQ(fault(refused), "OverQuota");
    EXPECT_THAT(refused.error().message, HasSubstr("['network']"));
    ASSERT_TRUE(service_->reset_quotas(alice_.project_id).ok());
    EXPECT_TRUE(service_->create_networks(alice_, {request}).ok());
}

TEST_F(NetworkServiceTest, AllocationGivesPortsWithEverythingANodeNeeds) {
    const Network network = make_network(alice_);
    make_subnet(alice_, network);
    const auto vifs =
        service_->allocate_for_instance(alice_, server("s1", "project-a"), {on_network(network)});
    ASSERT_TRUE(vifs.ok()) << vifs.error().text();
    ASSERT_EQ(vifs->size(), 1U);
    const VifInfo& vif = (*vifs)[0];
    EXPECT_EQ(vif.network_name, "net");
    EXPECT_EQ(vif.fixed_ips.at(0).gateway, "10.0.0.1");
    EXPECT_EQ(vif.fixed_ips.at(0).prefix_length, 24);
    EXPECT_TRUE(vif.created_by_nova);
    EXPECT_THAT(vif.security_group_names, ElementsAre("default"));
    const Port port = (*service_->list_ports(alice_, {}))[0];
    EXPECT_EQ(port.device_owner, "compute:nova");
    EXPECT_EQ(port.status, "BUILD");
    ASSERT_TRUE(service_->port_plugged(port.id, true).ok());
    EXPECT_EQ((*service_->list_ports(alice_, {}))[0].status, "ACTIVE");
    EXPECT_EQ(*service_->server_at(network.id, vif.fixed_ips[0].address), "s1");
    EXPECT_FALSE(service_->server_at("other", vif.fixed_ips[0].address).ok());
    const auto again =
        service_->allocate_for_instance(alice_, server("s1", "project-a"), {on_network(network)});
    EXPECT_EQ((*again)[0].port_id, vif.port_id) << "a repeated build finds what is there";
}

TEST_F(NetworkServiceTest, FailedAllocationLeavesNothing) {
    const Network network = make_network(alice_);
    make_subnet(alice_, network);
    RequestedNetwork taken = on_network(network);
    taken.fixed_ip = make_port(alice_, network).fixed_ips[0].ip_address;
    const auto refused = service_->allocate_for_instance(alice_, server("s1", "project-a"),
                                                         {on_network(network), taken});
    EXPECT_EQ(fault(refused), "FixedIpAlreadyInUse");
    EXPECT_EQ(service_->list_ports(alice_, {})->size(), 1U);
}

TEST_F(NetworkServiceTest, PortOfTheUserIsUnboundNotDeleted) {
    const Network network = make_network(alice_);
    make_subnet(alice_, network);
    RequestedNetwork own;
    own.port_id = make_port(alice_, network).id;
    ASSERT_TRUE(service_->allocate_for_instance(alice_, server("s1", "project-a"), {own}).ok());
    EXPECT_EQ(fault(service_->allocate_for_instance(alice_, server("s2", "project-a"), {own})),
              "PortInUse");
    ASSERT_TRUE(service_->deallocate_for_instance(alice_, server("s1", "project-a")).ok());
    const auto ports = service_->list_ports(alice_, {});
    ASSERT_EQ(ports->size(), 1U);
    EXPECT_EQ((*ports)[0].device_id, "");
    EXPECT_EQ((*ports)[0].status, "DOWN");
    EXPECT_TRUE(service_->deallocate_for_instance(alice_, server("s1", "project-a")).ok());
}

TEST_F(NetworkServiceTest, OnePortMoreForAServerAndOneLess) {
    const Network network = make_network(alice_);
    make_subnet(alice_, network);
    const Instance first = server("s1", "project-a");
    ASSERT_TRUE(service_->allocate_for_instance(alice_, first, {on_network(network)}).ok());
    RequestedNetwork wanted = on_network(network);
    wanted.fixed_ip = "10.0.0.77";
    const auto made = service_->allocate_port_for_instance(alice_, first, wanted);
    ASSERT_TRUE(made.ok()) << made.error().text();
    EXPECT_EQ(made->fixed_ips.at(0).address, "10.0.0.77");
    EXPECT_THAT(made->security_group_names, ElementsAre("default"));
    RequestedNetwork own;
    own.port_id = make_port(alice_, network).id;
    EXPECT_EQ(service_->allocate_port_for_instance(alice_, first, own)->port_id, *own.port_id);
    EXPECT_EQ(service_->network_info("s1")->size(), 3U);
    EXPECT_EQ(fault(service_->allocate_port_for_instance(alice_, server("s2", "project-a"), own)),
              "PortInUse");
    EXPECT_EQ(fault(service_->allocate_port_for_instance(alice_, first, wanted)),
              "FixedIpAlreadyInUse");
    const auto release = [&](const Instance& instance, const std::string& port_id) {
        return service_->deallocate_port_for_instance(alice_, instance, port_id).ok();
    };
    EXPECT_TRUE(release(server("s2", "project-a"), made->port_id));  // not its port: left alone
    EXPECT_EQ(service_->network_info("s1")->size(), 3U);
    for (int twice = 0; twice < 2; ++twice) {
        EXPECT_TRUE(release(first, made->port_id));
        EXPECT_TRUE(release(first, *own.port_id));
    }
    EXPECT_EQ(service_->network_info("s1")->size(), 1U);
    EXPECT_EQ(service_->list_ports(alice_, {})->size(), 2U) << "the user's own port stays";
}

TEST_F(NetworkServiceTest, AutomaticChoiceNeedsExactlyOneNetwork) {
    EXPECT_TRUE(service_->validate_networks(alice_, {}, true, {})->empty());
    const Network network = make_network(alice_);
    make_subnet(alice_, network);
    EXPECT_EQ(service_->validate_networks(alice_, {}, true, {})->at(0).network_id, network.id);
    make_network(admin_, true);
    EXPECT_EQ(fault(service_->validate_networks(alice_, {}, true, {})), "NetworkAmbiguous");
    EXPECT_TRUE(service_->validate_networks(alice_, {}, false, {})->empty());
}

TEST_F(NetworkServiceTest, ValidationNamesWhatIsWrong) {
    const Network network = make_network(alice_);
    const auto check = [&](RequestedNetwork request) {
        return fault(service_->validate_networks(alice_, {std::move(request)}, false, {}));
    };
    EXPECT_EQ(check(on_network(network)), "SecurityGroupCannotBeApplied") << "no subnet";
    make_subnet(alice_, network);
    EXPECT_EQ(check(on_network(network)), "no error");
    EXPECT_EQ(check(on_network(make_network(bob_))), "NetworkNotFound");
    RequestedNetwork port;
    port.port_id = "missing";
    EXPECT_EQ(check(port), "PortNotFound");
    EXPECT_EQ(fault(service_->validate_networks(alice_, {}, false, {"nope"})),
              "SecurityGroupNotFound");
    EXPECT_EQ(fault(service_->validate_networks(alice_, {}, false, {"default"})), "no error");
}

TEST_F(NetworkServiceTest, HostTakesTheGatewayUnlessAPortHoldsIt) {
    const Network network = make_network(alice_);
    const Subnet subnet = make_subnet(alice_, network);
    EXPECT_EQ(service_->node_network(network.id)->subnets.at(0).host_address, "10.0.0.1");
    make_port(alice_, network, with_address("10.0.0.1"));
    const auto spec = service_->node_network(network.id);
    const std::string address = spec->subnets.at(0).host_address.value_or("");
    EXPECT_NE(address, "10.0.0.1");
    EXPECT_TRUE(address.starts_with("10.0.0."));
    EXPECT_EQ(service_->node_network(network.id)->subnets.at(0).host_address, address);
    EXPECT_EQ(spec->dhcp_hosts.size(), 1U) << "the DHCP port itself is no client";
    EXPECT_EQ(spec->dhcp_hosts[0].host_name, "host-10-0-0-1");
}

TEST_F(NetworkServiceTest, SubnetWithoutNameserversGetsTheConfiguredOnes) {
    auto service = NetworkService::create(*database_, clock_, random_,
                                          {.dns_servers = {"9.9.9.9", "2620:fe::fe", "junk"}});
    const Network network = make_network(alice_);
    make_subnet(alice_, network);
    EXPECT_THAT((*service)->node_network(network.id)->subnets.at(0).dns_servers,
                ElementsAre("9.9.9.9"));
    EXPECT_TRUE(service_->node_network(network.id)->subnets.at(0).dns_servers.empty());
}

TEST_F(NetworkServiceTest, NodePortCarriesRulesOfItsGroupsAndGroupsKnowTheirMembers) {
    const Network network = make_network(alice_);
    make_subnet(alice_, network);
    PortUpdate update = with_address("10.0.0.7");
    update.allowed_address_pairs = std::vector{AddressPair{"", "10.0.0.128/25"}};
    const Port port = make_port(alice_, network, update);
    const auto spec = service_->node_port(port.id);
    EXPECT_EQ(spec->rules.size(), 4U);
    EXPECT_THAT(spec->addresses, ElementsAre("10.0.0.7"));
    EXPECT_THAT(*service_->security_group_addresses(port.security_group_ids[0]),
                ElementsAre("10.0.0.7", "10.0.0.128/25"));
}

TEST_F(NetworkServiceTest, ListenerHearsOfChangesAndNotOfFailures) {
    const Network network = make_network(alice_);
    make_subnet(alice_, network);
    listener_.clear();
    const Port port = make_port(alice_, network);
    EXPECT_THAT(listener_.networks, ElementsAre(network.id));
    EXPECT_THAT(listener_.ports, ElementsAre(port.id));
    EXPECT_EQ(listener_.groups, port.security_group_ids);
    listener_.clear();
    EXPECT_FALSE(try_port(alice_, network, with_address("192.0.2.1")).ok());
    EXPECT_TRUE(listener_.networks.empty());
}

TEST_F(NetworkServiceTest, PortSecurityOffExcludesGroupsAndPairs) {
    const Network network = make_network(alice_);
    make_subnet(alice_, network);
    PortUpdate off;
    off.port_security = false;
    EXPECT_TRUE(make_port(alice_, network, off).security_group_ids.empty());
    const Port port = make_port(alice_, network);
    EXPECT_EQ(fault(service_->update_port(alice_, port.id, off)),
              "PortSecurityPortHasSecurityGroup");
    off.security_group_ids.emplace();
    EXPECT_TRUE(service_->update_port(alice_, port.id, off).ok());
}

TEST_F(NetworkServiceTest, UpdateKeepsAddressesThatAreAskedForAgain) {
    const Network network = make_network(alice_);
    const Subnet subnet = make_subnet(alice_, network);
    const Port port = make_port(alice_, network, with_address("10.0.0.7"));
    PortUpdate update;
    update.fixed_ips = {FixedIpRequest{subnet.id, {}}, FixedIpRequest{{}, "10.0.0.8"}};
    const auto changed = service_->update_port(alice_, port.id, update);
    ASSERT_TRUE(changed.ok()) << changed.error().text();
    EXPECT_THAT(changed->fixed_ips, ElementsAre(PortAddress{subnet.id, "10.0.0.7"},
                                                PortAddress{subnet.id, "10.0.0.8"}));
    EXPECT_EQ(changed->revision, 2);
}

}  // namespace
}  // namespace kumoi::compute
