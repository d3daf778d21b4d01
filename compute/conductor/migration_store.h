// MigrationStore: the record of every resize and cold migration, for GET /os-migrations and for the
// operator who asks what happened. Straight to SQLite; kept after the server is deleted. Any
// thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"
#include "compute/conductor/database.h"
#include "compute/objects.h"

namespace kumoi::compute {

// Bounds of a listing, newest first.
struct MigrationQuery {
    std::optional<std::string> host;  // source or destination
    std::optional<std::string> instance_uuid;
    std::optional<std::string> source_compute;
    std::optional<std::string> status;
    std::optional<std::string> migration_type;
    std::optional<std::string> user_id;
    std::optional<std::string> project_id;
    int64_t changes_since_ns = 0;
    int64_t changes_before_ns = INT64_MAX;
    std::optional<std::string> marker_uuid;
    size_t count_max = 1000;
};

class MigrationStore {
public:
    MigrationStore(Database& database, const Clock& clock, Random& random)
        : database_(database), clock_(clock), random_(random) {}

    // In a transaction of the caller; sets id, uuid and times.
    Result<void> create(SqlSession& sql, Migration& migration);
    // The one of the server that is not at its end; none is fine. `sql`: of the caller.
    Result<void> set_status(SqlSession& sql, const std::string& instance_uuid,
                            const std::string& status);
    Result<void> set_status(const std::string& instance_uuid, const std::string& status);
    // The newest of this server with that status.
    Result<std::optional<Migration>> find(const std::string& instance_uuid,
                                          const std::string& status) const;
    Result<std::vector<Migration>> list(const MigrationQuery& query) const;

private:
    Database& database_;
    const Clock& clock_;
    Random& random_;
};

}  // namespace kumoi::compute
