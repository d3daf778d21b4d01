// ServiceStore: which services exist, who is alive, and what each compute node has. A service is up
// while its last heartbeat is younger than service_down_time and no operator forced it down. Kept
// in memory, written through to SQLite. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/objects.h"

namespace kumoi::compute {

struct ServiceRecord {
    int64_t id = 0;
    std::string uuid;
    std::string host;
    std::string binary;  // "nova-compute", "nova-conductor", "nova-scheduler"
    bool disabled = false;
    std::optional<std::string> disabled_reason;
    bool forced_down = false;
    int64_t created_ns = 0;
    int64_t last_seen_ns = 0;
    bool up = false;          // computed when it was read
    std::string down_reason;  // why not, with the seconds
};

struct ComputeNodeRecord {
    int64_t id = 0;
    ComputeNode node;
};

struct ServiceChange {
    std::optional<bool> disabled;
    std::optional<std::string> disabled_reason;
    std::optional<bool> forced_down;
};

class ServiceStore {
public:
    ServiceStore(Database& database, const Clock& clock, Random& random,
                 int64_t service_down_time_s)
        : database_(database),
          clock_(clock),
          random_(random),
          service_down_time_s_(service_down_time_s) {}
    Result<void> load();

    // Registers the service at its first heartbeat.
    Result<void> heartbeat(const std::string& host, const std::string& binary);
    Result<void> update_node(const ComputeNode& node);

    std::vector<ServiceRecord> services() const;  // by id
    std::optional<ServiceRecord> find_service(const std::string& uuid_or_id) const;
    std::optional<ServiceRecord> find_service(const std::string& host,
                                              const std::string& binary) const;
    Result<ServiceRecord> change(const std::string& uuid, const ServiceChange& change);
    // Removes the service and its compute node.
    Result<void> remove(const std::string& uuid);

    std::vector<ComputeNodeRecord> nodes() const;  // by id
    std::optional<ComputeNodeRecord> find_node(const std::string& host) const;
    // Moves when anything that a rendered server depends on changes (states, not heartbeats).
    uint64_t generation() const;

private:
    ServiceRecord judged(const ServiceRecord& record) const;
    Result<void> save(const ServiceRecord& record);

    Database& database_;
    const Clock& clock_;
    Random& random_;
    const int64_t service_down_time_s_;
    mutable std::mutex mutex_;  // guards the maps; held across SQLite writes, which are rare here
    std::map<int64_t, ServiceRecord> services_;
    std::map<std::string, ComputeNodeRecord> nodes_;  // by host
};

}  // namespace kumoi::compute
