// What an operator adds to this host's resource provider by files (Nova's provider.yaml, [compute]
// provider_config_location): custom resource classes with their inventories, and custom traits.
// Read once at start; merged into every update of Placement.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/clients/report_client.h"

namespace kumoi::clients {

struct ProviderConfig {
    std::string identification;  // a uuid, a name, or "$COMPUTE_NODE"
    std::string file;            // its name, for messages
    Inventories inventories;
    Traits traits;
};
using ProviderConfigs = std::vector<ProviderConfig>;

// All *.yaml files of the folder, in their order; no folder, none. Whatever does not fit the format
// is an error that names the file, as in Nova, whose nova-compute does not start then
// (ProviderConfigException): another schema than 1.x, unknown members where none may be, a class or
// trait that is not CUSTOM_, a provider described twice.
Result<ProviderConfigs> load_provider_configs(const std::string& folder);
// One file's text.
Result<ProviderConfigs> parse_provider_config(std::string_view text, const std::string& file);

// Those meant for this provider: by its uuid or name, or as $COMPUTE_NODE where neither is there.
// Both uuid and name is an error. Returns those that name no provider of ours, which are ignored.
Result<std::set<std::string>> merge_provider_configs(const ProviderConfigs& configs,
                                                     WantedProvider& provider);

}  // namespace kumoi::clients
