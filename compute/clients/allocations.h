// What a consumer (a server, or a migration that holds a server's old place) takes from which
// providers, and the way it travels in Placement's bodies. Values and parsing, no exchange.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/json.h"

namespace kumoi::clients {

using Resources = std::map<std::string, int64_t>;            // by resource class
using ProviderResources = std::map<std::string, Resources>;  // by provider's uuid

struct ConsumerAllocations {
    ProviderResources by_provider;
    std::string project_id;
    std::string user_id;
    std::optional<int64_t>
        consumer_generation;  // nullopt: Placement does not know the consumer yet

    bool empty() const { return by_provider.empty(); }
};

Result<ConsumerAllocations> parse_consumer_allocations(const Json& body);
Json consumer_allocations_body(const ConsumerAllocations& allocations);
// GET /resource_providers/{uuid}/allocations: consumer → resources.
Result<std::map<std::string, Resources>> parse_provider_allocations(const Json& body);

}  // namespace kumoi::clients
