// AggregateStore: named sets of hosts with metadata. An aggregate whose metadata has
// availability_zone puts its hosts into that zone; all others are in "nova", and services that run
// no servers in "internal". In memory, written through to SQLite. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/objects.h"

namespace kumoi::compute {

constexpr char kDefaultZone[] = "nova";
constexpr char kInternalZone[] = "internal";

struct Aggregate {
    int64_t id = 0;
    std::string uuid;
    std::string name;
    Properties metadata;
    std::set<std::string> hosts;
    int64_t created_ns = 0;
    int64_t updated_ns = 0;  // 0: never
    std::optional<std::string> zone() const;
};

class AggregateStore {
public:
    AggregateStore(Database& database, const Clock& clock) : database_(database), clock_(clock) {}
    Result<void> load();

    std::vector<Aggregate> list() const;
    Result<Aggregate> get(int64_t id) const;  // NotFound: AggregateNotFound
    Result<Aggregate> create(Aggregate aggregate);
    Result<Aggregate> rename(int64_t id, const std::string& name);
    // A null value removes the key. Refuses to move hosts that have servers to another zone.
    Result<Aggregate> set_metadata(
        int64_t id, const std::map<std::string, std::optional<std::string>>& changes);
    Result<Aggregate> add_host(int64_t id, const std::string& host);
    Result<Aggregate> remove_host(int64_t id, const std::string& host);
    Result<void> remove(int64_t id);            // only without hosts
    void forget_host(const std::string& host);  // its rows are gone already

    std::string zone_of(const std::string& host) const;
    std::set<std::string> zones() const;  // those that aggregates name, and the default one

private:
    Result<Aggregate> change(int64_t id, const std::function<Result<void>(Aggregate&)>& change);
    Result<void> check_name(const std::string& name, int64_t own_id) const;
    Result<void> save(const Aggregate& aggregate);

    Database& database_;
    const Clock& clock_;
    mutable std::mutex mutex_;
    std::map<int64_t, Aggregate> aggregates_;
};

}  // namespace kumoi::compute
