#include "compute/clients/provider_tree.h"

#include <algorithm>

namespace kumoi::clients {
namespace {

constexpr size_t kItemsMax = 100'000;
constexpr int64_t kUnitMax = 2'147'483'647;  // Placement's own limit of a number

Result<Inventory> parse_inventory(const JsonView& view) {
    Inventory inventory;
    inventory.total = TRY(view.integer("total", {0, kUnitMax}));
    inventory.reserved = TRY(view.integer_or("reserved", 0, {0, kUnitMax}));
    inventory.min_unit = TRY(view.integer_or("min_unit", 1, {0, kUnitMax}));
    inventory.max_unit = TRY(view.integer_or("max_unit", kUnitMax, {0, kUnitMax}));
    inventory.step_size = TRY(view.integer_or("step_size", 1, {0, kUnitMax}));
    if (view.has("allocation_ratio")) {
        inventory.allocation_ratio = TRY(view.number("allocation_ratio"));
    }
    return inventory;
}

Json inventory_json(const Inventory& inventory) {
    return Json::object({{"total", inventory.total},
                         {"reserved", inventory.reserved},
                         {"min_unit", inventory.min_unit},
                         {"max_unit", inventory.max_unit},
                         {"step_size", inventory.step_size},
                         {"allocation_ratio", inventory.allocation_ratio}});
}

}  // namespace

const ResourceProvider* ProviderTree::find(const std::string& uuid) const {
    const auto found = providers_.find(uuid);
    return found == providers_.end() ? nullptr : &found->second;
}

ResourceProvider* ProviderTree::find(const std::string& uuid) {
    const auto found = providers_.find(uuid);
    return found == providers_.end() ? nullptr : &found->second;
}

ResourceProvider& ProviderTree::put(ResourceProvider provider) {
    std::string uuid = provider.uuid;
    return providers_.insert_or_assign(std::move(uuid), std::move(provider)).first->second;
}

void ProviderTree::drop(const std::string& uuid) {
    std::vector<std::string> doomed = {uuid};
    for (size_t i = 0; i < doomed.size(); ++i) {
        for (const auto& [child_uuid, child] : providers_) {
            if (child.parent_uuid == doomed[i] &&
                std::find(doomed.begin(), doomed.end(), child_uuid) == doomed.end()) {
                doomed.push_back(child_uuid);
            }
        }
    }
    for (const std::string& one : doomed) {
        providers_.erase(one);
    }
}

int ProviderTree::depth_of(const ResourceProvider& provider) const {
    int depth = 0;
    const ResourceProvider* one = &provider;
    // A ring of parents in a reply must not hold us: no path is longer than the tree.
    while (!one->parent_uuid.empty() && depth <= static_cast<int>(providers_.size())) {
        one = find(one->parent_uuid);
        if (one == nullptr) {
            break;
        }
        ++depth;
    }
    return depth;
}

std::vector<std::string> ProviderTree::uuids_top_down() const {
    std::vector<std::pair<int, std::string>> order;
    for (const auto& [uuid, provider] : providers_) {
        order.emplace_back(depth_of(provider), uuid);
    }
    std::sort(order.begin(), order.end());
    std::vector<std::string> uuids;
    for (auto& [depth, uuid] : order) {
        uuids.push_back(std::move(uuid));
    }
    return uuids;
}

std::vector<std::string> ProviderTree::uuids_in(const std::string& root_uuid) const {
    std::vector<std::string> uuids = uuids_top_down();
    std::erase_if(uuids, [&](const std::string& uuid) {
        return uuid != root_uuid && find(uuid)->root_uuid != root_uuid;
    });
    return uuids;
}

Result<ResourceProvider> parse_provider(const Json& json) {
    const JsonView view(json, "resource_provider");
    ResourceProvider provider;
    provider.uuid = TRY(view.string("uuid"));
    provider.name = TRY(view.string_or("name", ""));
    provider.generation = TRY(view.integer_or("generation", 0));
    provider.parent_uuid = json.string_or("parent_provider_uuid");
    provider.root_uuid = json.string_or("root_provider_uuid", provider.uuid);
    return provider;
}

Result<std::vector<ResourceProvider>> parse_providers(const Json& body) {
    const auto items = TRY(JsonView(body).array("resource_providers"));
    if (items.size() > kItemsMax) {
        return Error::too_large("Placement names {} resource providers", items.size());
    }
    std::vector<ResourceProvider> providers;
    for (const JsonView& item : items) {
        providers.push_back(TRY(parse_provider(item.json())));
    }
    return providers;
}

Result<InventoriesReply> parse_inventories(const Json& body) {
    InventoriesReply reply;
    reply.generation = TRY(JsonView(body).integer("resource_provider_generation"));
    const JsonView inventories = TRY(JsonView(body).object("inventories"));
    for (const auto& [resource_class, json] : inventories.json().as_object()) {
        reply.inventories[resource_class] =
            TRY(parse_inventory(JsonView(json, "inventories." + resource_class)));
    }
    return reply;
}

Json inventories_body(const Inventories& inventories, int64_t generation) {
    Json members = Json::object();
    for (const auto& [resource_class, inventory] : inventories) {
        members.set(resource_class, inventory_json(inventory));
    }
    return Json::object(
        {{"resource_provider_generation", generation}, {"inventories", std::move(members)}});
}

Result<NamesReply> parse_names(const Json& body, std::string_view member) {
    NamesReply reply;
    reply.generation = TRY(JsonView(body).integer_or("resource_provider_generation", 0));
    const auto items = TRY(JsonView(body).array(member));
    if (items.size() > kItemsMax) {
        return Error::too_large("Placement names {} {}", items.size(), member);
    }
    for (const JsonView& item : items) {
        reply.names.insert(TRY(item.as_string()));
    }
    return reply;
}

}  // namespace kumoi::clients
