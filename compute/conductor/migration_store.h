// MigrationStore: the record of every move of a server: resizes, cold and live migrations,
// evacuations; for GET /os-migrations and for the operator who asks what happened. Straight to
// SQLite; kept after the server is deleted. Any thread.
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

// Bytes a live migration has to carry, as its source reported last.
struct MigrationProgress {
    std::optional<int64_t> memory_total;
    std::optional<int64_t> memory_processed;
    std::optional<int64_t> memory_remaining;
    std::optional<int64_t> disk_total;
    std::optional<int64_t> disk_processed;
    std::optional<int64_t> disk_remaining;

    bool operator==(const MigrationProgress&) const = default;
};

struct MigrationRecord : Migration {
    MigrationProgress progress;
};

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

// Whether nothing more will happen to a migration of this status.
bool is_ended(const std::string& status);

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
    // Status, ends and progress of the one with this id; moves updated_at.
    Result<void> update(SqlSession& sql, MigrationRecord& migration);
    Result<void> update(MigrationRecord& migration);
    // The newest of this server with that status.
    Result<std::optional<MigrationRecord>> find(const std::string& instance_uuid,
                                                const std::string& status) const;
    Result<std::optional<MigrationRecord>> find(int64_t id) const;
    Result<std::optional<MigrationRecord>> find_by_uuid(const std::string& uuid) const;
    // Those between two hosts that are not at their end, oldest first.
    Result<std::vector<MigrationRecord>> under_way() const;
    Result<std::vector<MigrationRecord>> list(const MigrationQuery& query) const;

private:
    Result<std::vector<MigrationRecord>> select(const std::string& where,
                                                std::vector<SqlValue> values) const;

    Database& database_;
    const Clock& clock_;
    Random& random_;
};

}  // namespace kumoi::compute
