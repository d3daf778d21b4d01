// InstanceMetadata: what a guest may learn about itself, exactly as Nova publishes it: the files of
// a config drive (cloud-init's OpenStack layout) and the answers of http://169.254.169.254. A pure
// value built from the server's record and its network; any thread. Sources: Nova's metadata
// formats (docs.openstack.org/nova/latest/user/metadata.html), the EC2 metadata tree 2009-04-04,
// cloud-init's ConfigDrive and OpenStack data sources.
//
//     auto metadata = InstanceMetadata::build(instance, vifs, options, random);
//     metadata.files();                                     // "openstack/latest/meta_data.json" ->
//     "{...}" metadata.lookup("/openstack/latest/meta_data.json");  // the body, or nullopt for 404
//     metadata.lookup("/latest/meta-data/");                // listings work as in EC2
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "compute/device_tags.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct MetadataOptions {
    std::string dhcp_domain = "novalocal";  // appended to the host name; may be empty
    // The admin password is only for the config drive, never for the metadata address.
    bool with_admin_password = false;
    std::map<std::string, std::string> injected_files;  // path in the guest -> content
    std::vector<TaggedDevice> devices = {};
    std::string vendor_data_json = "{}";  // operator's static vendor data, a JSON object
};

class InstanceMetadata {
public:
    static InstanceMetadata build(const Instance& instance, const std::vector<VifInfo>& vifs,
                                  const MetadataOptions& options, Random& random);

    // Every file of the config drive, by path without a leading slash.
    const std::map<std::string, std::string>& files() const { return files_; }
    // The body for one path of the metadata address. A directory answers with its listing, one name
    // a line, as cloud-init and EC2 tools expect; nullopt: no such path.
    std::optional<std::string> lookup(std::string_view url_path) const;
    // Content-Type that goes with lookup() of the same path.
    static std::string_view content_type(std::string_view url_path);

private:
    std::map<std::string, std::string> files_;  // config drive
    std::map<std::string, std::string>
        ec2_tree_;  // "instance-id" -> text; "public-keys/0/openssh-key"
    std::optional<std::string> ec2_lookup(const std::string& path) const;
    std::string key_listing_;  // "0=name", what EC2 lists under public-keys
    std::optional<std::string> user_data_;
};

// network_data.json of these interfaces (links, networks, services).
Json network_data(const std::vector<VifInfo>& vifs);

}  // namespace kumoi::compute
