// PlacementClient: Placement's REST calls that a compute node makes, one function a call, each with
// the microversion Nova uses. It keeps nothing: report_client.h holds what was read. Always in our
// own name ([placement]). Thread safe; blocks.
//
// Errors carry Nova's exception in `fault`: ResourceProviderRetrievalFailed,
// ResourceProviderCreationFailed, ResourceProviderUpdateConflict (somebody changed the provider:
// read again and redo), InventoryInUse, InvalidResourceClass, TraitRetrievalFailed,
// TraitCreationFailed, ResourceProviderInUse, ConsumerAllocationRetrievalFailed,
// AllocationUpdateFailed, AllocationMoveFailed, AllocationDeleteFailed.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compute/clients/allocations.h"
#include "compute/clients/provider_tree.h"
#include "compute/clients/service_client.h"

namespace kumoi::clients {

class PlacementClient {
public:
    explicit PlacementClient(ServiceClient& service) : service_(service) {}  // must outlive this

    // Providers. tree_of(): empty when Placement does not know the provider.
    Result<std::vector<ResourceProvider>> tree_of(const Caller& caller, const std::string& uuid);
    Result<ResourceProvider> provider(const Caller& caller, const std::string& uuid);
    // One that is there already is read instead. Its name taken by another: an error.
    Result<ResourceProvider> create_provider(const Caller& caller, const std::string& uuid,
                                             const std::string& name,
                                             const std::string& parent_uuid = {});
    Result<void> delete_provider(const Caller& caller, const std::string& uuid);  // absent is fine

    // Each reply holds the provider's generation.
    Result<InventoriesReply> inventories(const Caller& caller, const std::string& uuid);
    Result<InventoriesReply> set_inventories(const Caller& caller, const std::string& uuid,
                                             const Inventories& inventories, int64_t generation);
    Result<NamesReply> traits(const Caller& caller, const std::string& uuid);
    Result<NamesReply> set_traits(const Caller& caller, const std::string& uuid,
                                  const Traits& traits, int64_t generation);
    Result<NamesReply> aggregates(const Caller& caller, const std::string& uuid);
    Result<NamesReply> set_aggregates(const Caller& caller, const std::string& uuid,
                                      const Aggregates& aggregates, int64_t generation);

    // Makes what is missing; only CUSTOM_ names can be made, others must be Placement's own.
    Result<void> ensure_traits(const Caller& caller, const Traits& traits);
    Result<void> ensure_resource_class(const Caller& caller, const std::string& resource_class);

    // Allocations of one consumer; empty, with generation nullopt, when it has none.
    Result<ConsumerAllocations> allocations(const Caller& caller, const std::string& consumer);
    Result<void> put_allocations(const Caller& caller, const std::string& consumer,
                                 const ConsumerAllocations& allocations);
    // Several consumers in one transaction: all or nothing.
    Result<void> post_allocations(const Caller& caller,
                                  const std::map<std::string, ConsumerAllocations>& consumers);
    // Whatever the consumer has. False: it had nothing.
    Result<bool> delete_allocations(const Caller& caller, const std::string& consumer);
    // consumer → resources on this provider
    Result<std::map<std::string, Resources>> allocations_on(const Caller& caller,
                                                            const std::string& provider_uuid);

private:
    Result<HttpReply> send(const Caller& caller, std::string method, std::string path,
                           std::string microversion, std::optional<Json> body = {});
    Result<Json> get_json(const Caller& caller, const std::string& path,
                          const std::string& microversion, const std::string& fault_class);

    ServiceClient& service_;
};

// The 409 of a write: another writer was quicker, so reading again and redoing may help.
bool is_generation_conflict(const HttpReply& reply);

}  // namespace kumoi::clients
