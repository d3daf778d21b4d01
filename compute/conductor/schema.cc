#include "compute/conductor/schema.h"

namespace kumoi::compute {
namespace {

// What a live migration tells of itself, and the migrations that are not at their end.
constexpr char kMigrationProgress[] =
    "ALTER TABLE migrations ADD COLUMN memory_total INTEGER;"
    "ALTER TABLE migrations ADD COLUMN memory_processed INTEGER;"
    "ALTER TABLE migrations ADD COLUMN memory_remaining INTEGER;"
    "ALTER TABLE migrations ADD COLUMN disk_total INTEGER;"
    "ALTER TABLE migrations ADD COLUMN disk_processed INTEGER;"
    "ALTER TABLE migrations ADD COLUMN disk_remaining INTEGER;"
    "CREATE INDEX migrations_open ON migrations(id) WHERE status NOT IN ('confirmed', "
    "'reverted', 'error', 'failed', 'done', 'completed', 'cancelled')";

}  // namespace

const std::vector<std::string>& conductor_schema() {
    static const std::vector<std::string> statements = {
        // A server: what is searched by SQL has columns, the rest is two documents
        // (instance_codec.h).
        "CREATE TABLE instances("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, project_id TEXT NOT NULL,"
        "user_id TEXT NOT NULL, host TEXT NOT NULL, created_ns INTEGER NOT NULL,"
        "updated_ns INTEGER NOT NULL, deleted_ns INTEGER NOT NULL DEFAULT 0,"
        "definition TEXT NOT NULL, state TEXT NOT NULL)",
        "CREATE INDEX instances_deleted ON instances(deleted_ns, project_id)",
        // The journal of creates: a row lives from the request until the server left BUILD.
        "CREATE TABLE build_requests(instance_uuid TEXT PRIMARY KEY, body TEXT NOT NULL)",
        "CREATE TABLE instance_actions("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, instance_uuid TEXT NOT NULL, action TEXT NOT NULL,"
        "request_id TEXT NOT NULL, user_id TEXT NOT NULL, project_id TEXT NOT NULL,"
        "start_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, message TEXT)",
        "CREATE INDEX instance_actions_server ON instance_actions(instance_uuid, request_id)",
        "CREATE TABLE instance_action_events("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, action_id INTEGER NOT NULL REFERENCES "
        "instance_actions(id) ON DELETE CASCADE, event TEXT NOT NULL, host TEXT NOT NULL,"
        "start_ns INTEGER NOT NULL, finish_ns INTEGER NOT NULL DEFAULT 0, result TEXT,"
        "details TEXT, traceback TEXT)",
        "CREATE INDEX instance_action_events_action ON instance_action_events(action_id)",
        "CREATE TABLE services("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, host TEXT NOT NULL,"
        "binary TEXT NOT NULL, disabled INTEGER NOT NULL DEFAULT 0, disabled_reason TEXT,"
        "forced_down INTEGER NOT NULL DEFAULT 0, created_ns INTEGER NOT NULL,"
        "last_seen_ns INTEGER NOT NULL, UNIQUE(host, binary))",
        "CREATE TABLE compute_nodes("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, host TEXT NOT NULL UNIQUE, body TEXT NOT NULL)",
        "CREATE TABLE flavors("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, flavor_id TEXT NOT NULL UNIQUE,"
        "name TEXT NOT NULL UNIQUE, body TEXT NOT NULL)",
        "CREATE TABLE flavor_access(flavor_id TEXT NOT NULL REFERENCES flavors(flavor_id) ON "
        "DELETE "
        "CASCADE, project_id TEXT NOT NULL, PRIMARY KEY(flavor_id, project_id))",
        "CREATE TABLE keypairs("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL, name TEXT NOT NULL,"
        "type TEXT NOT NULL, fingerprint TEXT NOT NULL, public_key TEXT NOT NULL,"
        "created_ns INTEGER NOT NULL, UNIQUE(user_id, name))",
        // project_id '' holds the default quota class.
        "CREATE TABLE quotas(project_id TEXT NOT NULL, resource TEXT NOT NULL,"
        "hard_limit INTEGER NOT NULL, PRIMARY KEY(project_id, resource))",
        "CREATE TABLE server_groups("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, project_id TEXT NOT NULL,"
        "user_id TEXT NOT NULL, name TEXT NOT NULL, policy TEXT NOT NULL,"
        "servers_per_host_max INTEGER NOT NULL DEFAULT 0)",
        "CREATE TABLE server_group_members(group_uuid TEXT NOT NULL REFERENCES server_groups(uuid) "
        "ON DELETE CASCADE, instance_uuid TEXT NOT NULL UNIQUE)",
        "CREATE TABLE aggregates("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, name TEXT NOT NULL "
        "UNIQUE,"
        "metadata TEXT NOT NULL, created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL)",
        "CREATE TABLE aggregate_hosts(aggregate_id INTEGER NOT NULL REFERENCES aggregates(id) ON "
        "DELETE CASCADE, host TEXT NOT NULL, PRIMARY KEY(aggregate_id, host))",
        "CREATE TABLE migrations("
        "id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, instance_uuid TEXT NOT "
        "NULL, migration_type TEXT NOT NULL, status TEXT NOT NULL, source_compute TEXT NOT NULL,"
        "source_node TEXT NOT NULL, dest_compute TEXT NOT NULL, dest_node TEXT NOT NULL,"
        "dest_host TEXT NOT NULL, old_flavor INTEGER NOT NULL, new_flavor INTEGER NOT NULL,"
        "user_id TEXT NOT NULL, project_id TEXT NOT NULL, created_ns INTEGER NOT NULL,"
        "updated_ns INTEGER NOT NULL)",
        "CREATE INDEX migrations_server ON migrations(instance_uuid, id)",
        kMigrationProgress,
    };
    return statements;
}

}  // namespace kumoi::compute
