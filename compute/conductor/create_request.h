// What a create asks for, after the REST layer checked its shape, and what a build needs besides
// the server's record. Plain values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"
#include "compute/manager/conductor_api.h"
#include "compute/objects.h"

namespace kumoi::compute {

enum class NetworkChoice { None, Automatic, Listed };

struct CreateServers {
    RequestContext context;
    std::string name;
    std::optional<std::string> hostname;
    std::optional<std::string> description;
    std::string image_id;
    std::string flavor_id;
    int64_t min_count = 1;
    int64_t max_count = 1;
    std::string key_name;   // empty: none
    std::string user_data;  // base64, checked
    Properties metadata;
    std::vector<std::string> tags;
    std::vector<std::string> security_groups = {"default"};
    bool config_drive = false;
    bool auto_disk_config = false;
    std::string access_ip_v4;
    std::string access_ip_v6;
    std::string admin_password;
    std::map<std::string, std::string> injected_files;
    NetworkChoice network_choice = NetworkChoice::Automatic;
    std::vector<RequestedNetwork> networks;
    std::optional<std::string> availability_zone;
    std::string requested_host;  // forced: filters still apply, so a full host refuses
    std::string requested_node;
    std::string server_group;  // scheduler hint "group"; empty: none
};

struct CreatedServers {
    std::string reservation_id;
    std::vector<Instance> servers;  // never empty
};

// What a rebuild may change besides the disk. Unset: stays as it is.
struct RebuildServer {
    RequestContext context;
    std::string uuid;
    std::string image_id;
    std::string admin_password;
    bool preserve_ephemeral = false;
    std::optional<std::string> name;
    std::optional<std::string> hostname;
    std::optional<std::optional<std::string>> description;  // inner nullopt: none
    std::optional<Properties> metadata;
    std::optional<std::optional<std::string>> key_name;
    std::optional<std::optional<std::string>> user_data;  // base64, checked
    std::optional<bool> auto_disk_config;
    std::optional<std::string> access_ip_v4;
    std::optional<std::string> access_ip_v6;
    std::map<std::string, std::string> injected_files;
};

// Where an offloaded server is to come back.
struct UnshelveTarget {
    std::optional<std::optional<std::string>> availability_zone;  // inner nullopt: pinned no more
    std::optional<std::string> host;
};

// The part of a build that is not in the server's record; journalled in build_requests, all but the
// password, until the build ends.
struct BuildInputs {
    std::vector<RequestedNetwork> networks;
    std::map<std::string, std::string> injected_files;
    std::string admin_password;  // memory only
    std::string requested_host;
    std::string requested_node;
    std::string server_group;
    std::set<std::string> tried_hosts;  // not to be asked again
    int64_t attempts = 0;               // builds that failed
};

Json build_inputs_to_json(const BuildInputs& inputs);
BuildInputs build_inputs_from_json(const Json& json);

}  // namespace kumoi::compute
