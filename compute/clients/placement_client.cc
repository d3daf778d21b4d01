#include "compute/clients/placement_client.h"

#include <algorithm>

#include "compute/clients/service_fault.h"

namespace kumoi::clients {
namespace {

constexpr const char* kConflict = "ResourceProviderUpdateConflict";

std::string provider_path(const std::string& uuid, std::string_view below = {}) {
    return fmt::format("/resource_providers/{}{}", url_escape(uuid), below);
}

Error placement_refusal(std::string_view what, const HttpReply& reply, std::string fault_class) {
    return refusal("Placement", what, reply, std::move(fault_class));
}

std::string joined(const std::set<std::string>& names) {
    std::string text;
    for (const std::string& name : names) {
        text += (text.empty() ? "" : ",") + name;
    }
    return text;
}

// Which exception a refused write of a provider's inventory, traits or aggregates is.
std::string update_fault(const HttpReply& reply) {
    if (is_generation_conflict(reply)) {
        return kConflict;
    }
    if (reply.status == 409 && parse_fault(reply).code == "placement.inventory.inuse") {
        return "InventoryInUse";
    }
    return "ResourceProviderUpdateFailed";
}

}  // namespace

bool is_generation_conflict(const HttpReply& reply) {
    if (reply.status != 409) {
        return false;
    }
    const ServiceFault fault = parse_fault(reply);
    // Before 1.23 there are no codes; Nova goes by the text there.
    if (fault.code.empty() || fault.code == "placement.undefined_code") {
        return fault.message.find("in use") == std::string::npos;
    }
    return fault.code == "placement.concurrent_update";
}

Result<HttpReply> PlacementClient::send(const Caller& caller, std::string method, std::string path,
                                        std::string microversion, std::optional<Json> body) {
    return service_.send(caller.as_service(), {.method = std::move(method),
                                               .path = std::move(path),
                                               .body = std::move(body),
                                               .microversion = std::move(microversion)});
}

Result<Json> PlacementClient::get_json(const Caller& caller, const std::string& path,
                                       const std::string& microversion,
                                       const std::string& fault_class) {
    const HttpReply reply = TRY(send(caller, "GET", path, microversion));
    if (!reply.ok()) {
        return placement_refusal("GET " + path, reply, fault_class);
    }
    return TRY_CONTEXT(reply.json(), "Placement's reply to GET {}", path);
}

Result<std::vector<ResourceProvider>> PlacementClient::tree_of(const Caller& caller,
                                                               const std::string& uuid) {
    const Json body = TRY(get_json(caller, "/resource_providers?in_tree=" + url_escape(uuid),
                                   "1.14", "ResourceProviderRetrievalFailed"));
    return parse_providers(body);
}

Result<ResourceProvider> PlacementClient::provider(const Caller& caller, const std::string& uuid) {
    const Json body =
        TRY(get_json(caller, provider_path(uuid), "1.14", "ResourceProviderRetrievalFailed"));
    return parse_provider(body);
}

Result<ResourceProvider> PlacementClient::create_provider(const Caller& caller,
                                                          const std::string& uuid,
                                                          const std::string& name,
                                                          const std::string& parent_uuid) {
    Json body = Json::object({{"uuid", uuid}, {"name", name}});
    if (!parent_uuid.empty()) {
        body.set("parent_provider_uuid", parent_uuid);
    }
    const HttpReply reply = TRY(send(caller, "POST", "/resource_providers", "1.20", body));
    if (reply.ok()) {
        const Json made = TRY_CONTEXT(reply.json(), "Placement's new provider {}", uuid);
        return parse_provider(made);
    }
    const bool name_taken =
        parse_fault(reply).message.find("Conflicting resource provider name:") != std::string::npos;
    if (reply.status == 409 && !name_taken) {
        return provider(caller, uuid);  // another thread or an earlier run made it
    }
    Error error = placement_refusal(fmt::format("make resource provider {} ({})", name, uuid),
                                    reply, "ResourceProviderCreationFailed");
    if (name_taken) {
        error.hint = fmt::format(
            "a provider of another uuid is called {}: the host was renamed or "
            "its compute_id lost; delete the old provider when it is unused",
            name);
    }
    return error;
}

Result<void> PlacementClient::delete_provider(const Caller& caller, const std::string& uuid) {
    const HttpReply reply = TRY(send(caller, "DELETE", provider_path(uuid), ""));
    if (reply.ok() || reply.status == 404) {
        return {};
    }
    return placement_refusal(
        "delete resource provider " + uuid, reply,
        reply.status == 409 ? "ResourceProviderInUse" : "ResourceProviderDeletionFailed");
}

Result<InventoriesReply> PlacementClient::inventories(const Caller& caller,
                                                      const std::string& uuid) {
    const Json body = TRY(get_json(caller, provider_path(uuid, "/inventories"), "",
                                   "ResourceProviderRetrievalFailed"));
    return parse_inventories(body);
}

Result<InventoriesReply> PlacementClient::set_inventories(const Caller& caller,
                                                          const std::string& uuid,
                                                          const Inventories& inventories,
                                                          int64_t generation) {
    const std::string path = provider_path(uuid, "/inventories");
    const HttpReply reply =
        TRY(send(caller, "PUT", path, "1.26", inventories_body(inventories, generation)));
    if (!reply.ok()) {
        return placement_refusal("PUT " + path, reply, update_fault(reply));
    }
    const Json body = TRY_CONTEXT(reply.json(), "Placement's reply to PUT {}", path);
    return parse_inventories(body);
}

Result<NamesReply> PlacementClient::traits(const Caller& caller, const std::string& uuid) {
    const Json body = TRY(get_json(caller, provider_path(uuid, "/traits"), "1.6",
                                   "ResourceProviderTraitRetrievalFailed"));
    return parse_names(body, "traits");
}

Result<NamesReply> PlacementClient::set_traits(const Caller& caller, const std::string& uuid,
                                               const Traits& traits, int64_t generation) {
    const std::string path = provider_path(uuid, "/traits");
    const Json wanted = Json::object(
        {{"resource_provider_generation", generation}, {"traits", Json::array_of(traits)}});
    const HttpReply reply = TRY(send(caller, "PUT", path, "1.6", wanted));
    if (!reply.ok()) {
        return placement_refusal("PUT " + path, reply, update_fault(reply));
    }
    const Json body = TRY_CONTEXT(reply.json(), "Placement's reply to PUT {}", path);
    return parse_names(body, "traits");
}

Result<NamesReply> PlacementClient::aggregates(const Caller& caller, const std::string& uuid) {
    const Json body = TRY(get_json(caller, provider_path(uuid, "/aggregates"), "1.19",
                                   "ResourceProviderAggregateRetrievalFailed"));
    return parse_names(body, "aggregates");
}

Result<NamesReply> PlacementClient::set_aggregates(const Caller& caller, const std::string& uuid,
                                                   const Aggregates& aggregates,
                                                   int64_t generation) {
    const std::string path = provider_path(uuid, "/aggregates");
    const Json wanted = Json::object(
        {{"aggregates", Json::array_of(aggregates)}, {"resource_provider_generation", generation}});
    const HttpReply reply = TRY(send(caller, "PUT", path, "1.19", wanted));
    if (!reply.ok()) {
        return placement_refusal("PUT " + path, reply, update_fault(reply));
    }
    const Json body = TRY_CONTEXT(reply.json(), "Placement's reply to PUT {}", path);
    return parse_names(body, "aggregates");
}

Result<void> PlacementClient::ensure_traits(const Caller& caller, const Traits& traits) {
    if (traits.empty()) {
        return {};
    }
    const Json body =
        TRY(get_json(caller, "/traits?name=in:" + joined(traits), "1.6", "TraitRetrievalFailed"));
    const NamesReply known = TRY(parse_names(body, "traits"));
    for (const std::string& trait : traits) {
        if (known.names.contains(trait)) {
            continue;
        }
        const HttpReply reply = TRY(send(caller, "PUT", "/traits/" + url_escape(trait), "1.6"));
        if (!reply.ok()) {
            return placement_refusal("make trait " + trait, reply, "TraitCreationFailed");
        }
    }
    return {};
}

Result<void> PlacementClient::ensure_resource_class(const Caller& caller,
                                                    const std::string& resource_class) {
    const HttpReply reply =
        TRY(send(caller, "PUT", "/resource_classes/" + url_escape(resource_class), "1.7"));
    if (!reply.ok()) {
        return placement_refusal("make resource class " + resource_class, reply,
                                 "InvalidResourceClass");
    }
    return {};
}

Result<ConsumerAllocations> PlacementClient::allocations(const Caller& caller,
                                                         const std::string& consumer) {
    const Json body = TRY(get_json(caller, "/allocations/" + url_escape(consumer), "1.28",
                                   "ConsumerAllocationRetrievalFailed"));
    return parse_consumer_allocations(body);
}

Result<void> PlacementClient::put_allocations(const Caller& caller, const std::string& consumer,
                                              const ConsumerAllocations& allocations) {
    const HttpReply reply = TRY(send(caller, "PUT", "/allocations/" + url_escape(consumer), "1.28",
                                     consumer_allocations_body(allocations)));
    if (!reply.ok()) {
        return placement_refusal("change the allocations of " + consumer, reply,
                                 "AllocationUpdateFailed");
    }
    return {};
}

Result<void> PlacementClient::post_allocations(
    const Caller& caller, const std::map<std::string, ConsumerAllocations>& consumers) {
    Json body = Json::object();
    std::string names;
    for (const auto& [consumer, allocations] : consumers) {
        body.set(consumer, consumer_allocations_body(allocations));
        names += (names.empty() ? "" : " and ") + consumer;
    }
    const HttpReply reply = TRY(send(caller, "POST", "/allocations", "1.28", body));
    if (!reply.ok()) {
        return placement_refusal("change the allocations of " + names, reply,
                                 "AllocationMoveFailed");
    }
    return {};
}

Result<bool> PlacementClient::delete_allocations(const Caller& caller,
                                                 const std::string& consumer) {
    const HttpReply reply = TRY(send(caller, "DELETE", "/allocations/" + url_escape(consumer), ""));
    if (reply.status == 404) {
        return false;
    }
    if (!reply.ok()) {
        return placement_refusal("delete the allocations of " + consumer, reply,
                                 "AllocationDeleteFailed");
    }
    return true;
}

Result<std::map<std::string, Resources>> PlacementClient::allocations_on(
    const Caller& caller, const std::string& provider_uuid) {
    const Json body = TRY(get_json(caller, provider_path(provider_uuid, "/allocations"), "",
                                   "ResourceProviderAllocationRetrievalFailed"));
    return parse_provider_allocations(body);
}

}  // namespace kumoi::clients
