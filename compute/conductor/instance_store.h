// InstanceStore: all servers that are not deleted, in memory for readers and in SQLite for ever.
// Each version of a server is an immutable value; a change writes the database first and then swaps
// the pointer (write-through), so a reader sees what a crash of this process would keep. Changes
// that somebody is promised also wait for the disk, outside of every lock. Readers never wait for
// SQLite.
//
// It also keeps what follows from the records, in the same step: how much each project uses and how
// much is claimed on each host (every server with a host claims its flavor there, and both flavors
// while a resize waits to be confirmed).
//
// Any thread. Changes are serialised; `change` functions run under that lock and must not call
// back.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/objects.h"

namespace kumoi::compute {

// Text a reader derived from exactly one version of a server (the REST layer: its JSON), so that a
// list of 1000 servers is copied, not rendered. One text is kept, for the key used last.
class DerivedText {
public:
    // Empty when nothing is kept for this key.
    std::shared_ptr<const std::string> find(const std::string& key) const;
    std::shared_ptr<const std::string> keep(std::string key, std::string text) const;

private:
    mutable std::mutex mutex_;
    mutable std::string key_;
    mutable std::shared_ptr<const std::string> text_;  // shared: outlives a swap while it is copied
};

struct StoredInstance {
    explicit StoredInstance(Instance value) : instance(std::move(value)) {}
    const Instance instance;
    DerivedText derived;
};

// Shared because readers keep a version while writers replace it.
using InstancePtr = std::shared_ptr<const StoredInstance>;

struct ProjectUsage {
    int64_t instances = 0;
    int64_t cores = 0;
    int64_t ram_mb = 0;
};

struct HostClaims {
    int64_t servers = 0;
    int64_t vcpus = 0;
    int64_t memory_mb = 0;
    int64_t disk_gb = 0;
    int64_t busy = 0;  // servers with a task or in BUILD: Nova's current_workload
};

// Root, ephemeral and swap disk of a flavor, in GiB, rounded up.
int64_t flavor_disk_gb(const Flavor& flavor);

enum class Durability {
    PowerCut,  // returns when the disk has it
    Process,   // survives our death only: progress of a task
};

class InstanceStore {
public:
    using Change = std::function<Result<void>(Instance& instance)>;
    using Extra = std::function<Result<void>(SqlSession& sql)>;  // in the same transaction

    InstanceStore(Database& database, const Clock& clock) : database_(database), clock_(clock) {}
    Result<void> load();

    InstancePtr find(const std::string& uuid) const;         // nullptr when absent
    Result<InstancePtr> get(const std::string& uuid) const;  // NotFound: InstanceNotFound
    std::vector<InstancePtr> all() const;                    // newest first
    std::vector<InstancePtr> of_project(const std::string& project_id) const;  // newest first
    std::vector<InstancePtr> of_host(const std::string& host) const;
    // From the database: deleted at or after `since_ns`, newest first. Empty project: all.
    Result<std::vector<InstancePtr>> deleted(const std::string& project_id, int64_t since_ns,
                                             size_t count_max) const;
    Result<InstancePtr> find_deleted(const std::string& uuid) const;  // nullptr when absent

    ProjectUsage usage(const std::string& project_id) const;
    HostClaims claims(const std::string& host) const;

    // Sets the ids. All or none. Durable after the next sync(), so that the caller may leave its
    // own lock first.
    Result<void> insert(std::vector<Instance>& instances, const Extra& extra);
    Result<InstancePtr> update(const std::string& uuid, const Change& change,
                               const Extra& extra = {},
                               Durability durability = Durability::PowerCut);
    Result<void> sync() { return database_.sync(); }
    Result<void> destroy(const std::string& uuid);  // marks deleted; gone from memory

private:
    // Newest first: created_at descending, then id descending (Nova's default order).
    using Order = std::pair<int64_t, int64_t>;
    using Ordered = std::map<Order, InstancePtr, std::greater<>>;

    static Order order_of(const Instance& instance) { return {instance.created_ns, instance.id}; }
    Result<InstancePtr> apply(const std::string& uuid, const Change& change, const Extra& extra);
    Result<void> apply_destroy(const std::string& uuid);
    void put(Instance instance);  // inserts or replaces; call with map_mutex_ held
    void remove(const Instance& instance);
    void account(const Instance& instance, int sign);

    Database& database_;
    const Clock& clock_;
    std::mutex write_mutex_;               // one change at a time, database and memory together
    mutable std::shared_mutex map_mutex_;  // guards what follows; never held across SQLite
    std::unordered_map<std::string, InstancePtr> by_uuid_;
    Ordered ordered_;
    std::unordered_map<std::string, Ordered> by_project_;
    std::unordered_map<std::string, ProjectUsage> usage_;
    std::unordered_map<std::string, HostClaims> claims_;
};

}  // namespace kumoi::compute
