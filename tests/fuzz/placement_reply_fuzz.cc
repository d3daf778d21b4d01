// Any JSON as each of Placement's replies; inventories that parse must survive the way back.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "compute/clients/allocations.h"
#include "compute/clients/provider_tree.h"

using namespace kumoi;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto json = Json::parse(std::string_view(reinterpret_cast<const char*>(data), size));
    if (!json.ok()) {
        return 0;
    }
    if (const auto reply = clients::parse_inventories(*json); reply.ok()) {
        const Json body = clients::inventories_body(reply->inventories, reply->generation);
        if (!clients::parse_inventories(body).ok()) {
            std::abort();
        }
    }
    if (auto providers = clients::parse_providers(*json); providers.ok()) {
        clients::ProviderTree tree;
        for (clients::ResourceProvider& provider : *providers) {
            tree.put(std::move(provider));
        }
        for (const std::string& uuid : tree.uuids_top_down()) {
            (void)tree.uuids_in(uuid);
            tree.drop(uuid);
        }
        if (!tree.empty()) {
            std::abort();
        }
    }
    (void)clients::parse_names(*json, "traits").ok();
    (void)clients::parse_names(*json, "aggregates").ok();
    (void)clients::parse_provider_allocations(*json).ok();
    if (const auto allocations = clients::parse_consumer_allocations(*json); allocations.ok()) {
        (void)clients::consumer_allocations_body(*allocations);
    }
    return 0;
}
