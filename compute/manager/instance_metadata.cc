#include "compute/manager/instance_metadata.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <set>

#include "base/digest.h"
#include "compute/instance_properties.h"

namespace kumoi::compute {
namespace {

// Nova's OPENSTACK_VERSIONS. A guest asks for the newest it knows, so each is served.
struct OpenstackVersion {
    const char* name;
    int number;
};
constexpr int kHavana = 3;     // vendor_data.json
constexpr int kLiberty = 4;    // network_data.json
constexpr int kNewtonTwo = 6;  // vendor_data2.json
constexpr int kRocky = 8;      // a device's vf_trusted
constexpr int kVictoria = 9;   // dedicated_cpus
constexpr OpenstackVersion kOpenstackVersions[] = {
    {"2012-08-10", 1},        {"2013-04-04", 2},      {"2013-10-17", kHavana},
    {"2015-10-15", kLiberty}, {"2016-06-30", 5},      {"2016-10-06", kNewtonTwo},
    {"2017-02-22", 7},        {"2018-08-27", kRocky}, {"2020-10-14", kVictoria},
    {"latest", kVictoria}};
constexpr const char* kEc2Versions[] = {"1.0",        "2007-01-19", "2007-03-01", "2007-08-29",
                                        "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
                                        "2009-04-04", "latest"};
constexpr size_t kRandomSeedBytes = 512;

std::string full_host_name(const Instance& instance, const MetadataOptions& options) {
    if (options.dhcp_domain.empty()) {
        return instance.hostname;
    }
    return instance.hostname + "." + options.dhcp_domain;
}

// Nova numbers servers for EC2 from its database; we have no such numbers and take 32 bits of the
// uuid.
std::string ec2_id(std::string_view prefix, std::string_view uuid) {
    return fmt::format("{}-{}", prefix, uuid.substr(0, 8));
}

Json properties_json(const Properties& properties) {
    Json json = Json::object();
    for (const auto& [key, value] : properties) {
        json.set(key, value);
    }
    return json;
}

std::string random_seed(Random& random) {
    std::array<std::byte, kRandomSeedBytes> seed{};
    random.fill(seed);
    return base64_encode({reinterpret_cast<const char*>(seed.data()), seed.size()});
}

struct Content {
    Json files = Json::array();                  // meta_data.json's list
    std::map<std::string, std::string> by_path;  // "openstack/content/0000"
};

Content injected_content(const std::map<std::string, std::string>& injected_files) {
    Content content;
    int index = 0;
    for (const auto& [path, bytes] : injected_files) {
        const std::string name = fmt::format("content/{:04}", index++);
        content.files.push_back(Json::object({{"path", path}, {"content_path", "/" + name}}));
        content.by_path["openstack/" + name] = bytes;
    }
    return content;
}

// In the order Nova builds it; every version sees the members it knew.
Json meta_data(const Instance& instance, const MetadataOptions& options, int version,
               const Content& content, const std::string& seed) {
    Json json = Json::object({{"uuid", instance.uuid}});
    if (options.with_admin_password && !instance.admin_password.empty()) {
        json.set("admin_pass", instance.admin_password);
    }
    if (!instance.metadata.empty()) {
        json.set("meta", properties_json(instance.metadata));
    }
    if (content.files.size() > 0) {
        json.set("files", content.files);
    }
    if (!instance.key_name.empty()) {
        json.set("public_keys", properties_json({{instance.key_name, instance.key_data}}));
        Json key = Json::object(
            {{"name", instance.key_name}, {"type", "ssh"}, {"data", instance.key_data}});
        json.set("keys", Json::array_of(std::vector<Json>{std::move(key)}));
    }
    json.set("hostname", full_host_name(instance, options));
    json.set("name", instance.display_name);
    json.set("launch_index", instance.launch_index);
    json.set("availability_zone", instance.availability_zone);
    if (version >= 2) {
        json.set("random_seed", seed);
    }
    if (version >= kLiberty) {
        json.set("project_id", instance.project_id);
    }
    if (version >= 5) {
        json.set("devices", devices_json(options.devices, version >= kRocky));
    }
    if (version >= kVictoria) {
        json.set("dedicated_cpus", Json::array());
    }
    return json;
}

std::string netmask(int prefix_length, int ip_version) {
    std::array<uint8_t, 16> bytes{};
    for (size_t bit = 0; bit < static_cast<size_t>(prefix_length) && bit < 128; ++bit) {
        bytes[bit / 8] |= static_cast<uint8_t>(0x80u >> (bit % 8));
    }
    char text[INET6_ADDRSTRLEN] = {};
    ::inet_ntop(ip_version == 6 ? AF_INET6 : AF_INET, bytes.data(), text, sizeof(text));
    return text;
}

// "10.1.0.0/16" -> network and netmask members of a route.
Json route(std::string_view cidr, const std::string& gateway, int ip_version) {
    const size_t slash = cidr.find('/');
    int prefix = ip_version == 6 ? 128 : 32;
    if (slash != std::string_view::npos) {
        prefix = std::atoi(std::string(cidr.substr(slash + 1)).c_str());
    }
    return Json::object({{"network", cidr.substr(0, slash)},
                         {"netmask", netmask(prefix, ip_version)},
                         {"gateway", gateway}});
}

std::string link_id(const VifInfo& vif) {
    return vif.tap_name.empty() ? "tap" + vif.port_id.substr(0, 11) : vif.tap_name;
}

Json dns_service(const std::string& address) {
    return Json::object({{"type", "dns"}, {"address", address}});
}

Json network_entry(const VifInfo& vif, const FixedIp& ip, size_t index) {
    const std::string family = ip.ip_version == 6 ? "ipv6" : "ipv4";
    const std::string dhcp = ip.ip_version == 6 ? "ipv6_dhcpv6-stateful" : "ipv4_dhcp";
    Json json = Json::object({{"id", fmt::format("network{}", index)},
                              {"type", ip.enable_dhcp ? dhcp : family},
                              {"link", link_id(vif)},
                              {"network_id", vif.network_id}});
    if (ip.enable_dhcp) {
        return json;
    }
    json.set("ip_address", ip.address);
    json.set("netmask", netmask(ip.prefix_length, ip.ip_version));
    Json routes = Json::array();
    if (ip.gateway) {
        routes.push_back(
            route(ip.ip_version == 6 ? "::/0" : "0.0.0.0/0", *ip.gateway, ip.ip_version));
    }
    for (const auto& [destination, next_hop] : ip.routes) {
        routes.push_back(route(destination, next_hop, ip.ip_version));
    }
    json.set("routes", std::move(routes));
    Json services = Json::array();
    for (const std::string& server : ip.dns_servers) {
        services.push_back(dns_service(server));
    }
    json.set("services", std::move(services));
    return json;
}

std::string first_ipv4(const std::vector<VifInfo>& vifs) {
    for (const VifInfo& vif : vifs) {
        for (const FixedIp& ip : vif.fixed_ips) {
            if (ip.ip_version == 4) {
                return ip.address;
            }
        }
    }
    return "";
}

std::string joined(const std::vector<std::string>& lines) {
    return fmt::format("{}", fmt::join(lines, "\n"));
}

std::map<std::string, std::string> ec2_tree(const Instance& instance,
                                            const std::vector<VifInfo>& vifs,
                                            const MetadataOptions& options) {
    const std::string host_name = full_host_name(instance, options);
    std::map<std::string, std::string> tree = {
        {"ami-id", ec2_id("ami", instance.image_id)},
        {"ami-launch-index", std::to_string(instance.launch_index)},
        {"ami-manifest-path", "FIXME"},  // the word Nova answers; EC2 tools expect the member
        {"block-device-mapping/ami", root_device_name(instance).substr(5)},  // without /dev/
        {"block-device-mapping/root", root_device_name(instance)},
        {"hostname", host_name},
        {"instance-action", "none"},
        {"instance-id", ec2_id("i", instance.uuid)},
        {"instance-type", instance.flavor.name},
        {"local-hostname", host_name},
        {"local-ipv4", first_ipv4(vifs)},
        {"placement/availability-zone", instance.availability_zone},
        {"public-hostname", host_name},
        {"public-ipv4", ""},
        {"reservation-id", instance.reservation_id},
        {"security-groups", joined(instance.security_groups)},
    };
    if (!instance.key_name.empty()) {
        tree["public-keys/0/openssh-key"] = instance.key_data;
    }
    for (const auto& [property, member] :
         {std::pair{"kernel_id", "kernel-id"}, {"ramdisk_id", "ramdisk-id"}}) {
        const auto found = instance.image.properties.find(property);
        if (found != instance.image.properties.end() && !found->second.empty()) {
            tree[member] = ec2_id(property[0] == 'k' ? "aki" : "ari", found->second);
        }
    }
    return tree;
}

// The tree again as one nested JSON object, for the config drive.
Json ec2_json(const std::map<std::string, std::string>& tree, const Instance& instance) {
    Json json = Json::object();
    for (const auto& [path, value] : tree) {
        Json* at = &json;
        size_t start = 0;
        for (size_t slash = path.find('/'); slash != std::string::npos;
             slash = path.find('/', start)) {
            at = &(*at)[path.substr(start, slash - start)];
            start = slash + 1;
        }
        at->set(path.substr(start), value);
    }
    json.set("ami-launch-index", instance.launch_index);
    json.set("security-groups", Json::array_of(instance.security_groups));
    if (!instance.key_name.empty()) {
        Json key =
            Json::object({{"_name", "0=" + instance.key_name}, {"openssh-key", instance.key_data}});
        json.set("public-keys", Json::object({{"0", std::move(key)}}));
    }
    return json;
}

// Names directly below `directory` ("" or "a/b/"); directories end in "/". Empty: no such
// directory.
std::set<std::string> children(const std::map<std::string, std::string>& tree,
                               const std::string& directory) {
    std::set<std::string> names;
    for (auto entry = tree.lower_bound(directory); entry != tree.end(); ++entry) {
        if (!entry->first.starts_with(directory)) {
            break;
        }
        const std::string rest = entry->first.substr(directory.size());
        const size_t slash = rest.find('/');
        names.insert(slash == std::string::npos ? rest : rest.substr(0, slash + 1));
    }
    return names;
}

std::optional<std::string> file_or_listing(const std::map<std::string, std::string>& tree,
                                           std::string path, bool slash_in_listing) {
    while (path.ends_with('/')) {
        path.pop_back();
    }
    const auto file = tree.find(path);
    if (file != tree.end()) {
        return file->second;
    }
    std::vector<std::string> lines;
    for (std::string name : children(tree, path.empty() ? path : path + "/")) {
        if (!slash_in_listing && name.ends_with('/')) {
            name.pop_back();
        }
        lines.push_back(std::move(name));
    }
    if (lines.empty()) {
        return std::nullopt;
    }
    return joined(lines);
}

std::string without_slashes_before(std::string_view path) {
    const size_t start = path.find_first_not_of('/');
    return start == std::string_view::npos ? std::string() : std::string(path.substr(start));
}

void add_vendor_and_network(std::map<std::string, std::string>& files, const std::string& directory,
                            int version, const std::vector<VifInfo>& vifs,
                            const MetadataOptions& options) {
    if (version >= kHavana) {
        files[directory + "vendor_data.json"] = options.vendor_data_json;
    }
    if (version >= kLiberty) {
        files[directory + "network_data.json"] = network_data(vifs).dump();
    }
    if (version >= kNewtonTwo) {
        files[directory + "vendor_data2.json"] =
            fmt::format("{{\"static\":{}}}", options.vendor_data_json);
    }
}

}  // namespace

Json network_data(const std::vector<VifInfo>& vifs) {
    Json links = Json::array();
    Json networks = Json::array();
    Json services = Json::array();
    std::set<std::string> dns_seen;
    size_t network_index = 0;
    for (const VifInfo& vif : vifs) {
        links.push_back(Json::object({{"id", link_id(vif)},
                                      {"vif_id", vif.port_id},
                                      {"type", "bridge"},
                                      {"mtu", vif.mtu},
                                      {"ethernet_mac_address", vif.mac}}));
        for (const FixedIp& ip : vif.fixed_ips) {
            networks.push_back(network_entry(vif, ip, network_index++));
            for (const std::string& server : ip.dns_servers) {
                if (dns_seen.insert(server).second) {
                    services.push_back(dns_service(server));
                }
            }
        }
    }
    return Json::object({{"links", std::move(links)},
                         {"networks", std::move(networks)},
                         {"services", std::move(services)}});
}

InstanceMetadata InstanceMetadata::build(const Instance& instance, const std::vector<VifInfo>& vifs,
                                         const MetadataOptions& options, Random& random) {
    InstanceMetadata metadata;
    const Content content = injected_content(options.injected_files);
    const std::string seed = random_seed(random);
    if (!instance.user_data.empty()) {
        metadata.user_data_ = base64_decode(instance.user_data).value_or(instance.user_data);
    }
    auto& files = metadata.files_;
    for (const OpenstackVersion& version : kOpenstackVersions) {
        const std::string directory = fmt::format("openstack/{}/", version.name);
        files[directory + "meta_data.json"] =
            meta_data(instance, options, version.number, content, seed).dump();
        if (metadata.user_data_) {
            files[directory + "user_data"] = *metadata.user_data_;
        }
        add_vendor_and_network(files, directory, version.number, vifs, options);
    }
    files.insert(content.by_path.begin(), content.by_path.end());
    metadata.key_listing_ = instance.key_name.empty() ? "" : "0=" + instance.key_name;
    metadata.ec2_tree_ = ec2_tree(instance, vifs, options);
    for (const char* version : {"2009-04-04", "latest"}) {
        files[fmt::format("ec2/{}/meta-data.json", version)] =
            ec2_json(metadata.ec2_tree_, instance).dump();
        if (metadata.user_data_) {
            files[fmt::format("ec2/{}/user-data", version)] = *metadata.user_data_;
        }
    }
    return metadata;
}

std::optional<std::string> InstanceMetadata::lookup(std::string_view url_path) const {
    const std::string path = without_slashes_before(url_path);
    if (path.empty()) {
        return joined({std::begin(kEc2Versions), std::end(kEc2Versions)});
    }
    if (path == "openstack" || path.starts_with("openstack/")) {
        return file_or_listing(files_, path, false);
    }
    const size_t slash = path.find('/');
    const std::string version = path.substr(0, slash);
    if (std::find(std::begin(kEc2Versions), std::end(kEc2Versions), version) ==
        std::end(kEc2Versions)) {
        return std::nullopt;
    }
    return ec2_lookup(slash == std::string::npos ? "" : without_slashes_before(path.substr(slash)));
}

// `path` below the version.
std::optional<std::string> InstanceMetadata::ec2_lookup(const std::string& path) const {
    if (path.empty()) {
        return std::string(user_data_ ? "meta-data/\nuser-data" : "meta-data/");
    }
    if (path == "user-data" || path == "user-data/") {
        return user_data_;
    }
    if (path != "meta-data" && !path.starts_with("meta-data/")) {
        return std::nullopt;
    }
    const std::string below = without_slashes_before(path.substr(std::strlen("meta-data")));
    if ((below == "public-keys" || below == "public-keys/") && !key_listing_.empty()) {
        return key_listing_;
    }
    return file_or_listing(ec2_tree_, below, true);
}

std::string_view InstanceMetadata::content_type(std::string_view url_path) {
    return url_path.ends_with(".json") ? "application/json" : "text/plain; charset=UTF-8";
}

}  // namespace kumoi::compute
