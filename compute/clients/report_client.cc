#include "compute/clients/report_client.h"

#include <algorithm>

#include "base/log.h"

namespace kumoi::clients {
namespace {

constexpr const char* kUpdateConflict = "ResourceProviderUpdateConflict";
constexpr const char* kDisabledTrait = "COMPUTE_STATUS_DISABLED";

Inventories without_empty(const Inventories& inventories) {
    Inventories kept;
    for (const auto& [resource_class, inventory] : inventories) {
        if (inventory.total > 0) {
            kept[resource_class] = inventory;
        }
    }
    return kept;
}

bool is_conflict(const Result<void>& outcome) {
    return !outcome.ok() && outcome.error().fault == kUpdateConflict;
}

}  // namespace

bool is_our_trait(const std::string& trait) {
    return (trait.starts_with("COMPUTE_") && trait != kDisabledTrait) ||
           trait.starts_with("HW_CPU_") || trait.starts_with("HW_ARCH_") || trait == "OWNER_NOVA";
}

Result<void> ReportClient::update_from(const Caller& caller,
                                       const std::vector<WantedProvider>& wanted,
                                       const std::vector<std::string>& removed) {
    if (wanted.empty()) {
        return Error::invalid("An update of Placement names no provider");
    }
    const std::lock_guard lock(mutex_);
    Result<void> outcome;
    for (int attempt = 1; attempt <= options_.attempts_max; ++attempt) {
        outcome = update_once(caller, wanted, removed);
        if (!is_conflict(outcome)) {
            return outcome;
        }
        log_info("clients", "somebody else changed our resource provider; reading it again",
                 {{"provider", wanted.front().uuid}, {"attempt", attempt}});
        tree_.clear();
    }
    return Error::conflict("Resource provider {} was changed by others {} times in a row: {}",
                           wanted.front().uuid, options_.attempts_max, outcome.error().message)
        .with_fault("ResourceProviderSyncFailed");
}

Result<void> ReportClient::update_once(const Caller& caller,
                                       const std::vector<WantedProvider>& wanted,
                                       const std::vector<std::string>& removed) {
    const std::string& root = wanted.front().uuid;
    TRY(load_tree(caller, root));
    for (const WantedProvider& one : wanted) {
        TRY(ensure_provider(caller, one, root));
    }
    for (auto uuid = removed.rbegin(); uuid != removed.rend(); ++uuid) {
        TRY(placement_.delete_provider(caller, *uuid));
        tree_.drop(*uuid);
    }
    for (auto one = wanted.rbegin(); one != wanted.rend(); ++one) {
        TRY(refresh_associations(caller, *tree_.find(one->uuid)));
        TRY(flush_inventories(caller, *one));
        TRY(flush_aggregates(caller, *one));
        TRY(flush_traits(caller, *one));
    }
    return {};
}

Result<void> ReportClient::load_tree(const Caller& caller, const std::string& root_uuid) {
    if (tree_.find(root_uuid) != nullptr) {
        return {};
    }
    for (ResourceProvider& provider : TRY(placement_.tree_of(caller, root_uuid))) {
        tree_.put(std::move(provider));
    }
    return {};
}

Result<void> ReportClient::ensure_provider(const Caller& caller, const WantedProvider& wanted,
                                           const std::string& root_uuid) {
    if (tree_.find(wanted.uuid) != nullptr) {
        return {};
    }
    ResourceProvider made =
        TRY(placement_.create_provider(caller, wanted.uuid, wanted.name, wanted.parent_uuid));
    if (made.root_uuid.empty()) {
        made.root_uuid = root_uuid;
    }
    if (made.generation == 0) {  // nobody can have written anything to it
        made.inventories.emplace();
        made.traits.emplace();
        made.aggregates.emplace();
        made.read_ns = parts_.clock.monotonic_ns();
    }
    log_info("clients", "made a resource provider",
             {{"provider", wanted.uuid}, {"name", wanted.name}});
    tree_.put(std::move(made));
    return {};
}

Result<void> ReportClient::refresh_associations(const Caller& caller, ResourceProvider& provider) {
    const int64_t now_ns = parts_.clock.monotonic_ns();
    const bool known = provider.inventories && provider.traits && provider.aggregates;
    const bool stale = options_.association_refresh_ns > 0 &&
                       now_ns - provider.read_ns >= options_.association_refresh_ns;
    if (known && !stale) {
        return {};
    }
    InventoriesReply inventories = TRY(placement_.inventories(caller, provider.uuid));
    NamesReply aggregates = TRY(placement_.aggregates(caller, provider.uuid));
    NamesReply traits = TRY(placement_.traits(caller, provider.uuid));
    provider.inventories = std::move(inventories.inventories);
    provider.aggregates = std::move(aggregates.names);
    provider.traits = std::move(traits.names);
    // The oldest of the three, so that a change between the reads becomes a conflict, not a loss.
    provider.generation =
        std::min({inventories.generation, aggregates.generation, traits.generation});
    provider.read_ns = now_ns;
    return {};
}

Result<void> ReportClient::flush_inventories(const Caller& caller, const WantedProvider& wanted) {
    ResourceProvider& provider = *tree_.find(wanted.uuid);
    const Inventories inventories = without_empty(wanted.inventories);
    if (inventories == provider.inventories) {
        return {};
    }
    for (const auto& [resource_class, inventory] : inventories) {
        if (resource_class.starts_with("CUSTOM_") && !classes_made_.contains(resource_class)) {
            TRY(placement_.ensure_resource_class(caller, resource_class));
            classes_made_.insert(resource_class);
        }
    }
    InventoriesReply reply =
        TRY(placement_.set_inventories(caller, provider.uuid, inventories, provider.generation));
    provider.generation = reply.generation;
    provider.inventories = inventories;
    return {};
}

Result<void> ReportClient::flush_aggregates(const Caller& caller, const WantedProvider& wanted) {
    ResourceProvider& provider = *tree_.find(wanted.uuid);
    if (!wanted.aggregates || wanted.aggregates == provider.aggregates) {
        return {};
    }
    const NamesReply reply = TRY(
        placement_.set_aggregates(caller, provider.uuid, *wanted.aggregates, provider.generation));
    provider.generation = reply.generation;
    provider.aggregates = wanted.aggregates;
    return {};
}

Result<void> ReportClient::flush_traits(const Caller& caller, const WantedProvider& wanted) {
    ResourceProvider& provider = *tree_.find(wanted.uuid);
    Traits traits = wanted.traits;
    std::copy_if(provider.traits->begin(), provider.traits->end(),
                 std::inserter(traits, traits.end()),
                 [](const std::string& trait) { return !is_our_trait(trait); });
    return traits == provider.traits ? Result<void>() : write_traits(caller, provider, traits);
}

Result<void> ReportClient::write_traits(const Caller& caller, ResourceProvider& provider,
                                        const Traits& traits) {
    Traits added;
    std::set_difference(traits.begin(), traits.end(), provider.traits->begin(),
                        provider.traits->end(), std::inserter(added, added.end()));
    TRY(placement_.ensure_traits(caller, added));
    const NamesReply reply =
        TRY(placement_.set_traits(caller, provider.uuid, traits, provider.generation));
    provider.generation = reply.generation;
    provider.traits = traits;
    return {};
}

Result<std::optional<ResourceProvider>> ReportClient::provider(const Caller& caller,
                                                               const std::string& uuid) {
    const std::lock_guard lock(mutex_);
    TRY(load_tree(caller, uuid));
    ResourceProvider* provider = tree_.find(uuid);
    if (provider == nullptr) {
        return std::optional<ResourceProvider>();
    }
    TRY(refresh_associations(caller, *provider));
    return std::optional(*provider);
}

Result<void> ReportClient::set_disabled(const Caller& caller, const std::string& uuid,
                                        bool disabled) {
    const std::lock_guard lock(mutex_);
    Result<void> outcome;
    for (int attempt = 1; attempt <= options_.attempts_max; ++attempt) {
        NamesReply now = TRY(placement_.traits(caller, uuid));
        if (now.names.contains(kDisabledTrait) == disabled) {
            return {};
        }
        ResourceProvider fresh{.uuid = uuid, .generation = now.generation, .traits = now.names};
        Traits traits = now.names;
        disabled ? void(traits.insert(kDisabledTrait)) : void(traits.erase(kDisabledTrait));
        outcome = write_traits(caller, fresh, traits);
        if (outcome.ok()) {
            if (ResourceProvider* known = tree_.find(uuid)) {
                known->generation = fresh.generation;
                known->traits = fresh.traits;
            }
            return {};
        }
        if (!is_conflict(outcome)) {
            return outcome;
        }
    }
    return outcome;
}

Result<void> ReportClient::delete_provider(const Caller& caller, const std::string& uuid,
                                           const std::vector<std::string>& consumers) {
    for (const std::string& consumer : consumers) {
        TRY(remove_provider_from(caller, consumer, uuid));
    }
    const std::lock_guard lock(mutex_);
    TRY(load_tree(caller, uuid));
    std::vector<std::string> uuids = tree_.uuids_in(uuid);
    for (auto one = uuids.rbegin(); one != uuids.rend(); ++one) {
        TRY(placement_.delete_provider(caller, *one));
    }
    tree_.drop(uuid);
    return {};
}

void ReportClient::forget() {
    const std::lock_guard lock(mutex_);
    tree_.clear();
}

}  // namespace kumoi::clients
