// ReportClient: keeps one host's resource providers in Placement equal to what the host has, with
// as few requests as that takes. It remembers the tree with its generations; what was read more
// than `association_refresh_ns` ago is read again. When somebody else changed a provider in between
// (409), the tree is dropped and the whole update redone at once, up to `attempts_max` times.
// Thread safe: one update at a time, the others wait.
//
//     ReportClient report(placement, {clock, random, system_wait()});
//     TRY(report.update_from(caller, {{.uuid = node, .name = hostname, .inventories = ...,
//                                      .traits = capability_traits(...)}}));
//
// Traits that are not ours stay as they are (is_our_trait()); so do aggregates and providers that
// are not named, as Neutron and Cyborg hang their own below ours.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "compute/clients/placement_client.h"

namespace kumoi::clients {

struct WantedProvider {
    std::string uuid;
    std::string name;
    std::string parent_uuid = {};  // empty: the root
    Inventories inventories = {};  // classes with total 0 are left out
    Traits traits = {};
    std::optional<Aggregates> aggregates = {};  // nullopt: left alone
};

struct ReportOptions {
    int64_t association_refresh_ns = 300 * kNanosPerSecond;  // 0: never read again
    int attempts_max = 4;
};

// COMPUTE_ and CPU traits are set by this node alone, but for the state of the service, which has
// its own function below.
bool is_our_trait(const std::string& trait);

class ReportClient {
public:
    struct Parts {
        const Clock& clock;
        Random& random;
        Wait wait;
    };
    ReportClient(PlacementClient& placement, Parts parts, ReportOptions options = {})
        : placement_(placement), parts_(std::move(parts)), options_(options) {}

    // The first is the root, parents come before their children. `removed` are deleted, children
    // first. Errors: ResourceProviderSyncFailed after the last conflict; InventoryInUse when a
    // class that servers use would vanish.
    Result<void> update_from(const Caller& caller, const std::vector<WantedProvider>& wanted,
                             const std::vector<std::string>& removed = {});
    // What Placement has for this provider, read now if it is not known; nullopt: no such provider.
    Result<std::optional<ResourceProvider>> provider(const Caller& caller, const std::string& uuid);
    // COMPUTE_STATUS_DISABLED on or off: the scheduler avoids a host with it.
    Result<void> set_disabled(const Caller& caller, const std::string& uuid, bool disabled);
    // The provider with all allocations on it that are named, then itself. For a node that is gone.
    Result<void> delete_provider(const Caller& caller, const std::string& uuid,
                                 const std::vector<std::string>& consumers);
    void forget();  // the next update reads everything

    // Allocations. Writes are repeated with jitter when another writer was quicker, except when it
    // wrote the same consumer: then they fail, as somebody else decided about that server.
    Result<ConsumerAllocations> allocations(const Caller& caller, const std::string& consumer) {
        return placement_.allocations(caller, consumer);
    }
    Result<std::map<std::string, Resources>> allocations_on(const Caller& caller,
                                                            const std::string& provider_uuid) {
        return placement_.allocations_on(caller, provider_uuid);
    }
    Result<void> put_allocations(const Caller& caller, const std::string& consumer,
                                 const ConsumerAllocations& allocations);
    // `source` gives all it has to `target`, whose own are overwritten. False: source had none.
    Result<bool> move_allocations(const Caller& caller, const std::string& source,
                                  const std::string& target);
    // The consumer's part on this provider and the providers below it.
    Result<void> remove_provider_from(const Caller& caller, const std::string& consumer,
                                      const std::string& root_uuid);
    // Unless forced, fails when the consumer changes meanwhile. None is fine.
    Result<void> delete_allocations(const Caller& caller, const std::string& consumer, bool force);

private:
    Result<void> update_once(const Caller& caller, const std::vector<WantedProvider>& wanted,
                             const std::vector<std::string>& removed);
    Result<void> load_tree(const Caller& caller, const std::string& root_uuid);
    Result<void> ensure_provider(const Caller& caller, const WantedProvider& wanted,
                                 const std::string& root_uuid);
    Result<void> refresh_associations(const Caller& caller, ResourceProvider& provider);
    Result<void> flush_inventories(const Caller& caller, const WantedProvider& wanted);
    Result<void> flush_aggregates(const Caller& caller, const WantedProvider& wanted);
    Result<void> flush_traits(const Caller& caller, const WantedProvider& wanted);
    Result<void> write_traits(const Caller& caller, ResourceProvider& provider,
                              const Traits& traits);
    Result<void> repeat_write(const std::function<Result<void>()>& write);

    PlacementClient& placement_;
    const Parts parts_;
    const ReportOptions options_;
    std::mutex mutex_;
    ProviderTree tree_;
    std::set<std::string> classes_made_;  // custom resource classes that exist
};

}  // namespace kumoi::clients
