// Records, node and metadata service together: a guest in a namespace asks 169.254.169.254.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "api/rest/metadata/metadata_service.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "compute/network/device_names.h"
#include "tests/functional/network/namespace_lab.h"

namespace kumoi::test {
namespace {

using namespace compute;  // NOLINT: a test of that namespace
using ::testing::HasSubstr;
using ::testing::Not;

// Holds servers; nothing else of the conductor is asked.
class ConductorFake final : public ConductorApi {
public:
    Result<Instance> instance_get(const std::string& uuid) override {
        const auto found = servers.find(uuid);
        return found == servers.end() ? Result<Instance>(Error::not_found("no server"))
                                      : found->second;
    }
    Result<std::vector<Instance>> instances_by_host(const std::string&) override {
        return std::vector<Instance>();
    }
    Result<void> instance_save(const std::string& uuid, const InstanceUpdate& update) override {
        servers[uuid].system_metadata = update.system_metadata.value_or(Properties());
        return {};
    }
    Result<void> instance_destroy(const std::string&) override { return {}; }
    Result<void> fault_create(const std::string&, const Fault&) override { return {}; }
    Result<void> action_event_start(const RequestContext&, const std::string&, const std::string&,
                                    const std::string&) override {
        return {};
    }
    Result<void> action_event_finish(const RequestContext&, const std::string&, const std::string&,
                                     const std::optional<Error>&) override {
        return {};
    }
    Result<void> reschedule_build(const RequestContext&, const std::string&,
                                  const Error&) override {
        return {};
    }
    Result<void> migration_save(const std::string&, const std::string&) override { return {}; }
    Result<void> poll_servers(const std::string&) override { return {}; }
    Result<void> service_heartbeat(const std::string&) override { return {}; }
    Result<void> compute_node_update(const ComputeNode&) override { return {}; }

    std::map<std::string, Instance> servers;
};

class MetadataTest : public ::testing::Test {
protected:
    void SetUp() override {
        folder_ = std::make_unique<TemporaryDirectory>(
            TemporaryDirectory::create("kumoi-metadata").value());
        database_ = Database::open(":memory:").value();
        records_ = NetworkService::create(*database_, clock_, random_).value();
        metadata_ = api::MetadataService::create({conductor_, *records_, clock_, random_, metrics_},
                                                 {.requests_per_second = 10})
                        .value();
        auto node = NodeNetwork::create({folder_->path() + "/dhcp", false, -1}, *records_);
        ASSERT_TRUE(node.ok()) << node.error().text();
        node_ = std::move(*node);
        node_->set_bridge_listener(metadata_.get());
        records_->set_listener(node_.get());
        ASSERT_TRUE(node_->reconcile({}).ok());
    }
    void TearDown() override {
        guests_.clear();
        ASSERT_TRUE(node_->reconcile({}).ok());
        records_->set_listener(nullptr);
        node_.reset();
        ASSERT_TRUE(Firewall::remove_tables().ok());
    }
    std::string make_network(const std::string& cidr) {
        NetworkCreate request;
        request.project_id = "p";
        const std::string id = records_->create_networks(who_, {request}).value()[0].id;
        SubnetCreate subnet;
        subnet.project_id = "p";
        subnet.network_id = id;
        subnet.cidr = cidr;
        EXPECT_TRUE(records_->create_subnets(who_, {subnet}).ok());
        return id;
    }
    // A server with one port, and its guest with the address DHCP gave it.
    const Guest& launch(const std::string& uuid, const std::string& network_id,
                        const std::string& address) {
        Instance instance;
        instance.uuid = uuid;
        instance.project_id = "p";
        instance.display_name = "name-of-" + uuid;
        instance.hostname = "host-" + uuid;
        instance.host = "here";
        RequestedNetwork request;
        request.network_id = network_id;
        request.fixed_ip = address;
        instance.network_info = records_->allocate_for_instance(who_, instance, {request}).value();
        const VifInfo& vif = instance.network_info.at(0);
        conductor_.servers[uuid] = instance;
        guests_.push_back(std::make_unique<Guest>("m-" + uuid, tap_name(vif.port_id), vif.mac));
        EXPECT_TRUE(node_->plug(instance, vif).ok());
        EXPECT_THAT(guests_.back()->dhcp(folder_->path()), HasSubstr("ip=" + address));
        guests_.back()->run({"ip", "route", "add", "169.254.169.254", "via", "10.9.0.1"});
        return *guests_.back();
    }
    static std::string get(const Guest& guest, const std::string& path,
                           const std::vector<std::string>& more = {}) {
        std::vector<std::string> argv = {"curl", "-sS", "-m", "5", "-w", "\n%{http_code}"};
        argv.insert(argv.end(), more.begin(), more.end());
        argv.push_back("http://169.254.169.254" + path);
        return guest.output(argv);
    }

    SystemClock clock_;
    SeededRandom random_{5};
    Metrics metrics_;
    const RequestContext who_{"req-1", "u", "p", true};
    ConductorFake conductor_;
    std::unique_ptr<TemporaryDirectory> folder_;
    std::unique_ptr<Database> database_;
    std::unique_ptr<NetworkService> records_;
    std::unique_ptr<api::MetadataService> metadata_;
    std::unique_ptr<NodeNetwork> node_;
    std::vector<std::unique_ptr<Guest>> guests_;
};

TEST_F(MetadataTest, GuestReadsItsOwnMetadata) {
    const Guest& guest = launch("s1", make_network("10.9.0.0/24"), "10.9.0.11");
    EXPECT_THAT(get(guest, "/openstack/latest/meta_data.json"), HasSubstr("\"uuid\":\"s1\""));
    EXPECT_THAT(get(guest, "/openstack/latest/network_data.json"), HasSubstr("ipv4_dhcp"));
    EXPECT_THAT(get(guest, "/latest/meta-data/local-ipv4"), HasSubstr("10.9.0.11"));
    EXPECT_THAT(get(guest, "/latest/meta-data/"), HasSubstr("instance-id"));
    EXPECT_THAT(get(guest, "/openstack"), HasSubstr("latest"));
    EXPECT_THAT(get(guest, "/latest/no-such-thing"), HasSubstr("404"));
}

TEST_F(MetadataTest, HeadersOfTheGuestDoNotMakeItAnother) {
    const std::string network = make_network("10.9.0.0/24");
    launch("s1", network, "10.9.0.11");
    const Guest& second = launch("s2", network, "10.9.0.12");
    const std::string answer = get(second, "/openstack/latest/meta_data.json",
                                   {"-H", "X-Forwarded-For: 10.9.0.11", "-H", "X-Instance-ID: s1"});
    EXPECT_THAT(answer, HasSubstr("\"uuid\":\"s2\""));
    EXPECT_THAT(answer, Not(HasSubstr("s1")));
}

TEST_F(MetadataTest, EqualAddressesOnTwoNetworksAreTwoServers) {
    const Guest& first = launch("s1", make_network("10.9.0.0/24"), "10.9.0.11");
    const Guest& second = launch("s2", make_network("10.9.0.0/24"), "10.9.0.11");
    for (int i = 0; i < 3; ++i) {
        EXPECT_THAT(get(first, "/openstack/latest/meta_data.json"), HasSubstr("\"uuid\":\"s1\""));
        EXPECT_THAT(get(second, "/openstack/latest/meta_data.json"), HasSubstr("\"uuid\":\"s2\""));
    }
}

TEST_F(MetadataTest, ForgedSourceAddressGetsNothing) {
    const std::string network = make_network("10.9.0.0/24");
    launch("s1", network, "10.9.0.11");
    const Guest& second = launch("s2", network, "10.9.0.12");
    second.set_address("10.9.0.11/24");
    second.run({"ip", "route", "add", "169.254.169.254", "via", "10.9.0.1"});
    EXPECT_THAT(get(second, "/openstack/latest/meta_data.json", {"--connect-timeout", "2"}),
                Not(HasSubstr("uuid")));
}

TEST_F(MetadataTest, PasswordIsSetOnce) {
    const Guest& guest = launch("s1", make_network("10.9.0.0/24"), "10.9.0.11");
    EXPECT_EQ(get(guest, "/openstack/latest/password"), "\n200");
    EXPECT_THAT(get(guest, "/openstack/latest/password", {"-d", "secret"}), HasSubstr("200"));
    EXPECT_EQ(get(guest, "/openstack/latest/password"), "secret\n200");
    EXPECT_THAT(get(guest, "/openstack/latest/password", {"-d", "other"}), HasSubstr("409"));
    EXPECT_THAT(get(guest, "/openstack/latest/password", {"-d", std::string(1021, 'x')}),
                HasSubstr("400"));
}

TEST_F(MetadataTest, GreedyGuestIsSlowedAndOthersAreServed) {
    const std::string network = make_network("10.9.0.0/24");
    const Guest& greedy = launch("s1", network, "10.9.0.11");
    const Guest& modest = launch("s2", network, "10.9.0.12");
    // One connection, 60 requests; 20 are a burst, 10 a second come after.
    const std::string answers =
        greedy.output({"curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code} ",
                       "http://169.254.169.254/latest/meta-data/instance-id?[1-60]"});
    EXPECT_THAT(answers, HasSubstr("200"));
    EXPECT_THAT(answers, HasSubstr("429"));
    EXPECT_THAT(get(modest, "/latest/meta-data/instance-id"), HasSubstr("200"));
}

TEST_F(MetadataTest, BridgeMadeAnewIsServedAnew) {
    const std::string network = make_network("10.9.0.0/24");
    launch("s1", network, "10.9.0.11");
    Instance& server = conductor_.servers["s1"];
    ASSERT_TRUE(node_->unplug(server, server.network_info[0]).ok());
    guests_.clear();
    ASSERT_TRUE(records_->deallocate_for_instance(who_, server).ok());
    const Guest& again = launch("s2", network, "10.9.0.11");
    EXPECT_THAT(get(again, "/openstack/latest/meta_data.json"), HasSubstr("\"uuid\":\"s2\""));
}

}  // namespace
}  // namespace kumoi::test
