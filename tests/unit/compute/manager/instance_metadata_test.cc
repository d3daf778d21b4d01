#include "compute/manager/instance_metadata.h"

#include <gtest/gtest.h>

#include "base/digest.h"

namespace kumoi::compute {
namespace {

Instance server() {
    Instance instance;
    instance.uuid = "11111111-2222-4333-8444-555555555555";
    instance.project_id = "p1";
    instance.display_name = "Web One";
    instance.hostname = "web-one";
    instance.availability_zone = "nova";
    instance.image_id = "aaaaaaaa-2222-4333-8444-555555555555";
    instance.flavor.name = "m1.tiny";
    instance.key_name = "mykey";
    instance.key_data = "ssh-ed25519 AAAA me";
    instance.user_data = base64_encode("#!/bin/sh\necho hi\n");
    instance.admin_password = "s3cret";
    instance.metadata = {{"role", "web"}};
    instance.security_groups = {"default", "web"};
    return instance;
}

VifInfo vif(bool dhcp) {
    VifInfo info;
    info.port_id = "99999999-aaaa-4bbb-8ccc-dddddddddddd";
    info.network_id = "net-1";
    info.mac = "fa:16:3e:00:00:01";
    info.mtu = 1450;
    FixedIp ip;
    ip.address = "10.0.0.5";
    ip.prefix_length = 24;
    ip.gateway = "10.0.0.1";
    ip.dns_servers = {"10.0.0.2"};
    ip.routes = {{"192.168.0.0/16", "10.0.0.9"}};
    ip.enable_dhcp = dhcp;
    info.fixed_ips = {ip};
    return info;
}

InstanceMetadata build(const Instance& instance, MetadataOptions options = {}, bool dhcp = true) {
    SeededRandom random(1);
    return InstanceMetadata::build(instance, {vif(dhcp)}, options, random);
}

Json parsed(const InstanceMetadata& metadata, const std::string& path) {
    auto json = Json::parse(metadata.files().at(path));
    EXPECT_TRUE(json.ok()) << path;
    return json.ok() ? *json : Json();
}

TEST(InstanceMetadata, KeepsTheAdminPasswordOffTheMetadataAddress) {
    EXPECT_FALSE(parsed(build(server()), "openstack/latest/meta_data.json").contains("admin_pass"));
    MetadataOptions options;
    options.with_admin_password = true;
    EXPECT_EQ(
        parsed(build(server(), options), "openstack/latest/meta_data.json").string_or("admin_pass"),
        "s3cret");
}

TEST(InstanceMetadata, DescribesTheServerAsNovaDoes) {
    const Json json = parsed(build(server()), "openstack/latest/meta_data.json");
    EXPECT_EQ(json.string_or("uuid"), server().uuid);
    EXPECT_EQ(json.string_or("hostname"), "web-one.novalocal");
    EXPECT_EQ(json.string_or("name"), "Web One");
    EXPECT_EQ(json.find_path({"public_keys", "mykey"})->as_string(), "ssh-ed25519 AAAA me");
    EXPECT_EQ(json.find("keys")->as_array().at(0).string_or("type"), "ssh");
    EXPECT_EQ(json.find_path({"meta", "role"})->as_string(), "web");
    EXPECT_EQ(base64_decode(json.string_or("random_seed"))->size(), 512u);
}

TEST(InstanceMetadata, OlderVersionsLackWhatTheyDidNotKnow) {
    const auto metadata = build(server());
    EXPECT_FALSE(metadata.files().contains("openstack/2012-08-10/network_data.json"));
    EXPECT_TRUE(metadata.files().contains("openstack/2015-10-15/network_data.json"));
    EXPECT_FALSE(parsed(metadata, "openstack/2012-08-10/meta_data.json").contains("random_seed"));
    EXPECT_TRUE(metadata.files().contains("openstack/2018-08-27/vendor_data2.json"));
}

TEST(InstanceMetadata, DhcpNetworksCarryNoAddress) {
    const Json json = parsed(build(server()), "openstack/latest/network_data.json");
    const Json& network = json.find("networks")->as_array().at(0);
    EXPECT_EQ(network.string_or("type"), "ipv4_dhcp");
    EXPECT_FALSE(network.contains("ip_address"));
    EXPECT_EQ(json.find("links")->as_array().at(0).string_or("id"), "tap99999999-aa");
    EXPECT_EQ(json.find("services")->as_array().at(0).string_or("address"), "10.0.0.2");
}

TEST(InstanceMetadata, StaticNetworksCarryAddressMaskAndRoutes) {
    const Json json = parsed(build(server(), {}, false), "openstack/latest/network_data.json");
    const Json& network = json.find("networks")->as_array().at(0);
    EXPECT_EQ(network.string_or("type"), "ipv4");
    EXPECT_EQ(network.string_or("netmask"), "255.255.255.0");
    const auto& routes = network.find("routes")->as_array();
    ASSERT_EQ(routes.size(), 2u);
    EXPECT_EQ(routes[0].string_or("netmask"), "0.0.0.0");
    EXPECT_EQ(routes[1].string_or("network"), "192.168.0.0");
    EXPECT_EQ(routes[1].string_or("netmask"), "255.255.0.0");
}

TEST(InstanceMetadata, InjectedFilesAreListedAndStored) {
    MetadataOptions options;
    options.injected_files = {{"/etc/motd", "hello"}};
    const auto metadata = build(server(), options);
    const Json json = parsed(metadata, "openstack/latest/meta_data.json");
    EXPECT_EQ(json.find("files")->as_array().at(0).string_or("content_path"), "/content/0000");
    EXPECT_EQ(metadata.files().at("openstack/content/0000"), "hello");
}

TEST(InstanceMetadata, AnswersUnknownPathsWithNothing) {
    const auto metadata = build(server());
    EXPECT_FALSE(metadata.lookup("/openstack/1999-01-01/meta_data.json"));
    EXPECT_FALSE(metadata.lookup("/latest/meta-data/no-such-key"));
    EXPECT_FALSE(metadata.lookup("/latest/dynamic"));
    EXPECT_FALSE(metadata.lookup("/etc/passwd"));
    EXPECT_FALSE(metadata.lookup("/openstack/../etc/passwd"));
    Instance plain = server();
    plain.user_data.clear();
    EXPECT_FALSE(build(plain).lookup("/latest/user-data"));
}

TEST(InstanceMetadata, AnswersEc2PathsAndListings) {
    const auto metadata = build(server());
    EXPECT_EQ(metadata.lookup("/latest/meta-data/instance-id"), "i-11111111");
    EXPECT_EQ(metadata.lookup("//2009-04-04/meta-data/local-ipv4"), "10.0.0.5");
    EXPECT_EQ(metadata.lookup("/latest/meta-data/public-keys/"), "0=mykey");
    EXPECT_EQ(metadata.lookup("/latest/meta-data/public-keys/0/"), "openssh-key");
    EXPECT_EQ(metadata.lookup("/latest/meta-data/public-keys/0/openssh-key"),
              "ssh-ed25519 AAAA me");
    EXPECT_EQ(metadata.lookup("/latest/user-data"), "#!/bin/sh\necho hi\n");
    EXPECT_EQ(metadata.lookup("/latest/meta-data/security-groups"), "default\nweb");
    const std::string listing = *metadata.lookup("/latest/meta-data/");
    EXPECT_NE(listing.find("placement/\n"), std::string::npos);
    EXPECT_NE(metadata.lookup("/openstack")->find("2018-08-27"), std::string::npos);
    EXPECT_NE(metadata.lookup("/openstack/latest/")->find("user_data"), std::string::npos);
}

}  // namespace
}  // namespace kumoi::compute
