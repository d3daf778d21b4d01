#include "compute/clients/allocations.h"

namespace kumoi::clients {
namespace {

Result<Resources> parse_resources(const JsonView& holder) {
    Resources resources;
    const JsonView members = TRY(holder.object("resources"));
    for (const auto& [resource_class, amount] : members.json().as_object()) {
        const auto value = amount.to_int64();
        if (!value || *value < 0) {
            return members.error(fmt::format("{} is no amount", resource_class));
        }
        resources[resource_class] = *value;
    }
    return resources;
}

// A map keyed by uuid; Placement writes an empty one as {} and, in old versions, as [].
Result<std::map<std::string, Resources>> parse_map(const Json& body) {
    std::map<std::string, Resources> map;
    const Json* members = body.find("allocations");
    if (members != nullptr && members->is_array() && members->size() == 0) {
        return map;
    }
    const JsonView view = TRY(JsonView(body).object("allocations"));
    for (const auto& [uuid, holder] : view.json().as_object()) {
        map[uuid] = TRY(parse_resources(JsonView(holder, "allocations." + uuid)));
    }
    return map;
}

}  // namespace

Result<ConsumerAllocations> parse_consumer_allocations(const Json& body) {
    ConsumerAllocations allocations;
    allocations.by_provider = TRY(parse_map(body));
    allocations.project_id = body.string_or("project_id");
    allocations.user_id = body.string_or("user_id");
    if (JsonView(body).has("consumer_generation")) {
        allocations.consumer_generation = TRY(JsonView(body).integer("consumer_generation"));
    }
    return allocations;
}

Json consumer_allocations_body(const ConsumerAllocations& allocations) {
    Json by_provider = Json::object();
    for (const auto& [uuid, resources] : allocations.by_provider) {
        Json amounts = Json::object();
        for (const auto& [resource_class, amount] : resources) {
            amounts.set(resource_class, amount);
        }
        by_provider.set(uuid, Json::object({{"resources", std::move(amounts)}}));
    }
    return Json::object({{"allocations", std::move(by_provider)},
                         {"project_id", allocations.project_id},
                         {"user_id", allocations.user_id},
                         {"consumer_generation", Json(allocations.consumer_generation)}});
}

Result<std::map<std::string, Resources>> parse_provider_allocations(const Json& body) {
    return parse_map(body);
}

}  // namespace kumoi::clients
