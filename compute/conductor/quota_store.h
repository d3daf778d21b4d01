// QuotaStore: how much of each resource a project may use: Nova's resources and defaults, the
// default class, and per-project limits (-1: unlimited). Usage is counted by whoever owns the
// records; the caller checks and creates under one lock. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"
#include "compute/conductor/database.h"

namespace kumoi::compute {

// Nova's names, in its order: instances, cores, ram, metadata_items, ...
const std::vector<std::pair<std::string, int64_t>>& quota_defaults();

class QuotaStore {
public:
    explicit QuotaStore(Database& database) : database_(database) {}
    Result<void> load();

    std::map<std::string, int64_t> defaults() const;  // with the default class applied
    std::map<std::string, int64_t> limits(const std::string& project_id) const;
    int64_t limit(const std::string& project_id, const std::string& resource) const;
    // An empty project changes the default class. Unknown resources: InvalidArgument.
    Result<void> set(const std::string& project_id, const std::map<std::string, int64_t>& limits);
    Result<void> reset(const std::string& project_id);

private:
    Database& database_;
    mutable std::mutex mutex_;
    std::map<std::string, std::map<std::string, int64_t>>
        overrides_;  // project -> resource -> limit
};

}  // namespace kumoi::compute
