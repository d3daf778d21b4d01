#include "compute/conductor/action_store.h"

namespace kumoi::compute {
namespace {

constexpr char kActionColumns[] =
    "SELECT id, instance_uuid, action, request_id, user_id, project_id, start_ns, updated_ns, "
    "message FROM instance_actions ";
constexpr char kNewestAction[] =
    "(SELECT MAX(id) FROM instance_actions WHERE instance_uuid = ? AND request_id = ?)";

InstanceAction action_from_row(const SqlRow& row) {
    return {row.integer(0), row.text(1),    row.text(2),    row.text(3),        row.text(4),
            row.text(5),    row.integer(6), row.integer(7), row.text_or_null(8)};
}

}  // namespace

Result<void> ActionStore::start(SqlSession& sql, const RequestContext& context,
                                const std::string& uuid, const std::string& action) {
    const int64_t now = clock_.wall_ns();
    TRY(
        sql.run("INSERT INTO instance_actions(instance_uuid, action, request_id, user_id, "
                "project_id, start_ns, updated_ns) VALUES(?, ?, ?, ?, ?, ?, ?)",
                uuid, action, context.request_id, context.user_id, context.project_id, now, now));
    return {};
}

Result<void> ActionStore::start(const RequestContext& context, const std::string& uuid,
                                const std::string& action) {
    return database_.write([&](SqlSession& sql) { return start(sql, context, uuid, action); });
}

Result<void> ActionStore::event_start(const RequestContext& context, const std::string& uuid,
                                      const std::string& event, const std::string& host) {
    const int64_t now = clock_.wall_ns();
    return database_.write_relaxed([&](SqlSession& sql) -> Result<void> {
        // An event of a request that recorded no action (a periodic task) has nowhere to go.
        TRY(
            sql.run("INSERT INTO instance_action_events(action_id, event, host, start_ns) "
                    "SELECT id, ?, ?, ? FROM instance_actions WHERE id = " +
                        std::string(kNewestAction),
                    event, host, now, uuid, context.request_id));
        return {};
    });
}

Result<void> ActionStore::event_finish(const RequestContext& context, const std::string& uuid,
                                       const std::string& event,
                                       const std::optional<Error>& failure) {
    const int64_t now = clock_.wall_ns();
    return database_.write_relaxed([&](SqlSession& sql) -> Result<void> {
        const std::optional<std::string> details =
            failure ? std::optional(failure->text()) : std::nullopt;
        TRY(sql.run(
            "UPDATE instance_action_events SET finish_ns = ?, result = ?, details = ? WHERE "
            "id = (SELECT MAX(id) FROM instance_action_events WHERE event = ? AND "
            "action_id = " +
                std::string(kNewestAction) + ")",
            now, failure ? "Error" : "Success", details, event, uuid, context.request_id));
        TRY(
            sql.run("UPDATE instance_actions SET updated_ns = ?, message = COALESCE(?, message) "
                    "WHERE id = " +
                        std::string(kNewestAction),
                    now, failure ? std::optional<std::string>("Error") : std::nullopt, uuid,
                    context.request_id));
        return {};
    });
}

Result<void> ActionStore::fail(const RequestContext& context, const std::string& uuid,
                               const std::string& event, const Error& failure) {
    TRY(event_start(context, uuid, event, ""));
    return event_finish(context, uuid, event, failure);
}

Result<std::vector<InstanceAction>> ActionStore::list(const std::string& uuid,
                                                      const ActionQuery& query) const {
    int64_t below_id = INT64_MAX;
    if (query.marker_request_id) {
        const auto marker = TRY(find(uuid, *query.marker_request_id));
        if (!marker) {
            return Error::invalid("Marker {} could not be found.", *query.marker_request_id)
                .with_fault("MarkerNotFound");
        }
        below_id = marker->id;
    }
    const auto rows = TRY(database_.read([&](SqlSession& sql) {
        return sql.query(std::string(kActionColumns) +
                             "WHERE instance_uuid = ? AND id < ? AND updated_ns >= ? AND "
                             "updated_ns <= ? ORDER BY id DESC LIMIT ?",
                         uuid, below_id, query.changes_since_ns, query.changes_before_ns,
                         query.count_max);
    }));
    std::vector<InstanceAction> actions;
    for (const SqlRow& row : rows) {
        actions.push_back(action_from_row(row));
    }
    return actions;
}

Result<std::optional<InstanceAction>> ActionStore::find(const std::string& uuid,
                                                        const std::string& request_id) const {
    const auto row = TRY(database_.read([&](SqlSession& sql) {
        return sql.query_one(std::string(kActionColumns) + "WHERE id = " + kNewestAction, uuid,
                             request_id);
    }));
    return row ? std::optional(action_from_row(*row)) : std::nullopt;
}

Result<std::vector<InstanceActionEvent>> ActionStore::events(int64_t action_id) const {
    const auto rows = TRY(database_.read([&](SqlSession& sql) {
        return sql.query(
            "SELECT event, host, start_ns, finish_ns, result, details, traceback FROM "
            "instance_action_events WHERE action_id = ? ORDER BY id DESC",
            action_id);
    }));
    std::vector<InstanceActionEvent> events;
    for (const SqlRow& row : rows) {
        events.push_back({row.text(0), row.text(1), row.integer(2), row.integer(3),
                          row.text_or_null(4), row.text_or_null(5), row.text_or_null(6)});
    }
    return events;
}

}  // namespace kumoi::compute
