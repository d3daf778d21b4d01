#include "compute/conductor/migration_store.h"

#include "base/uuid.h"

namespace kumoi::compute {
namespace {

constexpr char kColumns[] =
    "SELECT id, uuid, instance_uuid, migration_type, status, source_compute, source_node, "
    "dest_compute, dest_node, dest_host, old_flavor, new_flavor, user_id, project_id, created_ns, "
    "updated_ns FROM migrations ";
// Nova's statuses from which a migration moves no more.
constexpr char kNotEnded[] = "status NOT IN ('confirmed', 'reverted', 'error', 'failed', 'done')";

Migration migration_from(const SqlRow& row) {
    Migration migration;
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
    return migration;
}

}  // namespace

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

Result<std::optional<Migration>> MigrationStore::find(const std::string& instance_uuid,
                                                      const std::string& status) const {
    const auto row = TRY(database_.read([&](SqlSession& sql) {
        return sql.query_one(
            std::string(kColumns) + "WHERE instance_uuid = ? AND status = ? ORDER BY id DESC",
            instance_uuid, status);
    }));
    return row ? std::optional(migration_from(*row)) : std::nullopt;
}

Result<std::vector<Migration>> MigrationStore::list(const MigrationQuery& query) const {
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
    return database_.read([&](SqlSession& sql) -> Result<std::vector<Migration>> {
        if (query.marker_uuid &&
            !TRY(sql.query_one("SELECT id FROM migrations WHERE uuid = ?", *query.marker_uuid))) {
            return Error::invalid("Marker {} could not be found.", *query.marker_uuid)
                .with_fault("MarkerNotFound");
        }
        std::vector<Migration> result;
        for (const SqlRow& row : TRY(sql.query_values(std::string(kColumns) + where, values))) {
            result.push_back(migration_from(row));
        }
        return result;
    });
}

}  // namespace kumoi::compute
