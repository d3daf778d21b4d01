#include "compute/conductor/create_request.h"

#include "compute/conductor/instance_codec.h"

namespace kumoi::compute {

Json build_inputs_to_json(const BuildInputs& inputs) {
    Json networks = Json::array();
    for (const RequestedNetwork& network : inputs.networks) {
        networks.push_back(requested_network_to_json(network));
    }
    return Json::object({{"networks", std::move(networks)},
                         {"injected_files", properties_to_json(inputs.injected_files)},
                         {"requested_host", inputs.requested_host},
                         {"requested_node", inputs.requested_node},
                         {"server_group", inputs.server_group},
                         {"tried_hosts", Json::array_of(inputs.tried_hosts)},
                         {"attempts", inputs.attempts}});
}

BuildInputs build_inputs_from_json(const Json& json) {
    BuildInputs inputs;
    if (const Json* networks = json.find("networks"); networks != nullptr && networks->is_array()) {
        for (const Json& network : networks->as_array()) {
            inputs.networks.push_back(requested_network_from_json(network));
        }
    }
    inputs.injected_files = properties_from_json(json.find("injected_files"));
    inputs.requested_host = json.string_or("requested_host");
    inputs.requested_node = json.string_or("requested_node");
    inputs.server_group = json.string_or("server_group");
    inputs.attempts = json.integer_or("attempts");
    if (const Json* hosts = json.find("tried_hosts"); hosts != nullptr && hosts->is_array()) {
        for (const Json& host : hosts->as_array()) {
            if (host.is_string()) {
                inputs.tried_hosts.insert(host.as_string());
            }
        }
    }
    return inputs;
}

}  // namespace kumoi::compute
