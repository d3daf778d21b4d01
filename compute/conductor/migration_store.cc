#include "compute/conductor/migration_store.h"

#include "base/uuid.h"

namespace kumoi::compute {
namespace {

constexpr char kColumns[] =
    "SELECT id, uuid, instance_uuid, migration_type, status, source_compute, source_node, "
    "dest_compute, dest_node, dest_host, old_flavor, new_flavor, user_id, project_id, created_ns, "
    "updated_ns, memory_total, memory_processed, memory_remaining, disk_total, disk_processed, "
    "disk_remaining FROM migrations ";
// Nova's statuses from which a migration moves no more; as in the index of schema.cc.
constexpr char kNotEnded[] =
    "status NOT IN ('confirmed', 'reverted', 'error', 'failed', 'done', 'completed', 'cancelled')";

std::optional<int64_t> optional_integer(const SqlRow& row, size_t column) {
    return row.is_null(column) ? std::nullopt : std::optional(row.integer(column));
}

MigrationRecord migration_from(const SqlRow& row) {
    MigrationRecord migration;
    migration.id = row.integer(0);
    migration.uuid = row.text(1);
    migration.instance_uuid = row.text(2);
    migration.migration_type = row.text(3);
    migration.status = row.text(4);
    migration.source_compute = row.text(5);
    migration.source_node = row.text(6);
    migration.dest_compute = row.text(7);
    migration.dest_node = row.text(8);
    migration.dest_host = row.text(9);
    migration.old_flavor = row.integer(10);
    migration.new_flavor = row.integer(11);
    migration.user_id = row.text(12);
    migration.project_id = row.text(13);
    migration.created_ns = row.integer(14);
    migration.updated_ns = row.integer(15);
    MigrationProgress& progress = migration.progress;
    progress.memory_total = optional_integer(row, 16);
    progress.memory_processed = optional_integer(row, 17);
    progress.memory_remaining = optional_integer(row, 18);
    progress.disk_total = optional_integer(row, 19);
    progress.disk_processed = optional_integer(row, 20);
    progress.disk_remaining = optional_integer(row, 21);
    return migration;
}

}  // namespace

bool is_ended(const std::string& status) {
    return status == "confirmed" || status == "reverted" || status == "error" ||
           status == "failed" || status == "done" || status == "completed" || status == "cancelled";
}

Result<void> MigrationStore::create(SqlSession& sql, Migration& migration) {
    migration.uuid = Uuid::generate(random_).text();
    migration.created_ns = clock_.wall_ns();
    migration.updated_ns = migration.created_ns;
    TRY(sql.run(
        "INSERT INTO migrations(uuid, instance_uuid, migration_type, status, source_compute, "
        "source_node, dest_compute, dest_node, dest_host, old_flavor, new_flavor, user_id, "
        "project_id, created_ns, updated_ns) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        migration.uuid, migration.instance_uuid, migration.migration_type, migration.status,
        migration.source_compute, migration.source_node, migration.dest_compute,
        migration.dest_node, migration.dest_host, migration.old_flavor, migration.new_flavor,
        migration.user_id, migration.project_id, migration.created_ns, migration.updated_ns));
    migration.id = sql.last_insert_id();
    return {};
}

Result<void> MigrationStore::set_status(SqlSession& sql, const std::string& instance_uuid,
                                        const std::string& status) {
    TRY(sql.run(std::string("UPDATE migrations SET status = ?, updated_ns = ? WHERE "
                            "instance_uuid = ? AND ") +
                    kNotEnded,
                status, clock_.wall_ns(), instance_uuid));
    return {};
}

Result<void> MigrationStore::set_status(const std::string& instance_uuid,
                                        const std::string& status) {
    // The server's record, which follows, is what a power cut must find; this is a log.
    return database_.write_relaxed(
        [&](SqlSession& sql) { return set_status(sql, instance_uuid, status); });
}

Result<void> MigrationStore::update(SqlSession& sql, MigrationRecord& migration) {
    migration.updated_ns = clock_.wall_ns();
    const MigrationProgress& progress = migration.progress;
    TRY(sql.run(
        "UPDATE migrations SET status = ?, source_compute = ?, source_node = ?, dest_compute = ?, "
        "dest_node = ?, dest_host = ?, memory_total = ?, memory_processed = ?, memory_remaining = "
        "?, disk_total = ?, disk_processed = ?, disk_remaining = ?, updated_ns = ? WHERE id = ?",
        migration.status, migration.source_compute, migration.source_node, migration.dest_compute,
        migration.dest_node, migration.dest_host, progress.memory_total, progress.memory_processed,
        progress.memory_remaining, progress.disk_total, progress.disk_processed,
        progress.disk_remaining, migration.updated_ns, migration.id));
    return {};
}

Result<void> MigrationStore::update(MigrationRecord& migration) {
    return database_.write_relaxed([&](SqlSession& sql) { return update(sql, migration); });
}

Result<std::vector<MigrationRecord>> MigrationStore::select(const std::string& where,
                                                            std::vector<SqlValue> values) const {
    return database_.read([&](SqlSession& sql) -> Result<std::vector<MigrationRecord>> {
        std::vector<MigrationRecord> result;
        for (const SqlRow& row : TRY(sql.query_values(std::string(kColumns) + where, values))) {
            result.push_back(migration_from(row));
        }
        return result;
    });
}

Result<std::optional<MigrationRecord>> MigrationStore::find(const std::string& instance_uuid,
                                                            const std::string& status) const {
    auto found = TRY(select("WHERE instance_uuid = ? AND status = ? ORDER BY id DESC LIMIT 1",
                            {instance_uuid, status}));
    return found.empty() ? std::nullopt : std::optional(std::move(found.front()));
}

Result<std::optional<MigrationRecord>> MigrationStore::find(int64_t id) const {
    auto found = TRY(select("WHERE id = ?", {id}));
    return found.empty() ? std::nullopt : std::optional(std::move(found.front()));
}

Result<std::optional<MigrationRecord>> MigrationStore::find_by_uuid(const std::string& uuid) const {
    auto found = TRY(select("WHERE uuid = ?", {uuid}));
    return found.empty() ? std::nullopt : std::optional(std::move(found.front()));
}

Result<std::vector<MigrationRecord>> MigrationStore::under_way() const {
    return select(std::string("WHERE ") + kNotEnded +
                      " AND dest_compute != source_compute AND dest_compute != '' ORDER BY id",
                  {});
}

Result<std::vector<MigrationRecord>> MigrationStore::list(const MigrationQuery& query) const {
    std::string where = "WHERE updated_ns >= ? AND updated_ns <= ?";
    std::vector<SqlValue> values = {query.changes_since_ns, query.changes_before_ns};
    const auto add = [&](const char* condition, const std::optional<std::string>& value) {
        if (value) {
            where += condition;
            values.emplace_back(*value);
        }
    };
    add(" AND instance_uuid = ?", query.instance_uuid);
    add(" AND source_compute = ?", query.source_compute);
    add(" AND status = ?", query.status);
    add(" AND migration_type = ?", query.migration_type);
    add(" AND user_id = ?", query.user_id);
    add(" AND project_id = ?", query.project_id);
    add(" AND ? IN (source_compute, dest_compute)", query.host);
    add(" AND id < (SELECT id FROM migrations WHERE uuid = ?)", query.marker_uuid);
    where += " ORDER BY id DESC LIMIT ?";
    values.emplace_back(static_cast<int64_t>(query.count_max));
    if (query.marker_uuid && !TRY(find_by_uuid(*query.marker_uuid))) {
        return Error::invalid("Marker {} could not be found.", *query.marker_uuid)
            .with_fault("MarkerNotFound");
    }
    return select(where, std::move(values));
}

}  // namespace kumoi::compute
