// What `kumoi server launch` fills in by itself: the smallest flavor the image fits into, and the
// only network. Pure choices; launch_server() does the work and shows it.
#pragma once

#include <string>
#include <vector>

#include "api/cli/session.h"
#include "base/json.h"
#include "base/result.h"

namespace kumoi::cli {

struct LaunchOptions {
    std::string image;
    std::string name;
    std::string flavor;                 // empty: chosen
    std::vector<std::string> networks;  // empty: the only one, or none
    std::string key_name;
    std::string availability_zone;
    std::string user_data_file;
    bool config_drive = false;
};

Result<Json> choose_flavor(const Json::Array& flavors, const Json& image);
// The "networks" member of the request: a list, or "none" when the project has no network.
Result<Json> choose_network(const Json::Array& networks);

Result<void> launch_server(Session& session, const LaunchOptions& options);

}  // namespace kumoi::cli
