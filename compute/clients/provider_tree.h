// ProviderTree: what Placement knows of this host's resource providers (a root and its children),
// with generations, as far as it was read. Values and the parsing of Placement's replies; the
// exchange is placement_client.h's, the syncing report_client.h's. Not thread safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json.h"

namespace kumoi::clients {

struct Inventory {
    int64_t total = 0;
    int64_t reserved = 0;
    int64_t min_unit = 1;
    int64_t max_unit = 1;
    int64_t step_size = 1;
    double allocation_ratio = 1.0;

    bool operator==(const Inventory&) const = default;
};
using Inventories = std::map<std::string, Inventory>;  // by resource class
using Traits = std::set<std::string>;
using Aggregates = std::set<std::string>;

struct ResourceProvider {
    std::string uuid;
    std::string name;
    std::string parent_uuid;  // empty: a root
    std::string root_uuid;
    int64_t generation = 0;
    std::optional<Inventories> inventories;  // nullopt: not read yet
    std::optional<Traits> traits;
    std::optional<Aggregates> aggregates;
    int64_t read_ns = 0;  // when the three were read (monotonic)
};

class ProviderTree {
public:
    const ResourceProvider* find(const std::string& uuid) const;
    ResourceProvider* find(const std::string& uuid);
    ResourceProvider& put(ResourceProvider provider);  // replaces one of the same uuid
    void drop(const std::string& uuid);                // and its children
    void clear() { providers_.clear(); }
    bool empty() const { return providers_.empty(); }
    // Parents before their children.
    std::vector<std::string> uuids_top_down() const;
    std::vector<std::string> uuids_in(const std::string& root_uuid) const;

private:
    int depth_of(const ResourceProvider& provider) const;

    std::map<std::string, ResourceProvider> providers_;
};

// {"uuid", "name", "generation", "parent_provider_uuid", "root_provider_uuid"}
Result<ResourceProvider> parse_provider(const Json& json);
Result<std::vector<ResourceProvider>> parse_providers(const Json& body);
struct InventoriesReply {
    int64_t generation = 0;
    Inventories inventories;
};
Result<InventoriesReply> parse_inventories(const Json& body);
Json inventories_body(const Inventories& inventories, int64_t generation);
struct NamesReply {
    int64_t generation = 0;
    std::set<std::string> names;
};
// `member` is "traits" or "aggregates".
Result<NamesReply> parse_names(const Json& body, std::string_view member);

}  // namespace kumoi::clients
