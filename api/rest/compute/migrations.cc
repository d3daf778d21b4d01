// GET /os-migrations: every move of a server there was; and the live migrations of one server that
// are under way, which may be cancelled or brought to their end.
#include <charconv>

#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"
#include "api/rest/schema.h"
#include "base/clock.h"

namespace kumoi::api {
namespace {

using compute::MigrationRecord;

std::string naive(int64_t wall_ns) {
    std::string text = iso8601_micros(wall_ns);
    text.pop_back();
    return text;
}

bool is_live_and_under_way(const MigrationRecord& migration) {
    return migration.migration_type == "live-migration" &&
           (migration.status == "queued" || migration.status == "preparing" ||
            migration.status == "running" || migration.status == "post-migrating");
}

void add_uuid_and_owner(const Call& call, const MigrationRecord& migration, Json& view) {
    if (call.at_least(59)) {
        view.set("uuid", migration.uuid);
    }
    if (call.at_least(80)) {
        view.set("user_id", migration.user_id);
        view.set("project_id", migration.project_id);
    }
}

Json migration_view(const Call& call, const MigrationRecord& migration) {
    Json view = Json::object({{"id", migration.id},
                              {"source_node", migration.source_node},
                              {"source_compute", migration.source_compute},
                              {"dest_node", migration.dest_node},
                              {"dest_compute", migration.dest_compute},
                              {"dest_host", migration.dest_host},
                              {"status", migration.status},
                              {"instance_uuid", migration.instance_uuid},
                              {"old_instance_type_id", migration.old_flavor},
                              {"new_instance_type_id", migration.new_flavor},
                              {"created_at", naive(migration.created_ns)},
                              {"updated_at", naive(migration.updated_ns)}});
    if (call.at_least(23)) {
        view.set("migration_type", migration.migration_type);
        if (is_live_and_under_way(migration)) {
            view.set("links", call.links("servers/" + migration.instance_uuid + "/migrations",
                                         std::to_string(migration.id)));
        }
    }
    add_uuid_and_owner(call, migration, view);
    return view;
}

Json server_migration_view(const Call& call, const MigrationRecord& migration) {
    const compute::MigrationProgress& progress = migration.progress;
    Json view = Json::object({{"id", migration.id},
                              {"server_uuid", migration.instance_uuid},
                              {"status", migration.status},
                              {"source_compute", migration.source_compute},
                              {"source_node", migration.source_node},
                              {"dest_compute", migration.dest_compute},
                              {"dest_node", migration.dest_node},
                              {"dest_host", migration.dest_host},
                              {"memory_total_bytes", Json(progress.memory_total)},
                              {"memory_processed_bytes", Json(progress.memory_processed)},
                              {"memory_remaining_bytes", Json(progress.memory_remaining)},
                              {"disk_total_bytes", Json(progress.disk_total)},
                              {"disk_processed_bytes", Json(progress.disk_processed)},
                              {"disk_remaining_bytes", Json(progress.disk_remaining)},
                              {"created_at", naive(migration.created_ns)},
                              {"updated_at", naive(migration.updated_ns)}});
    add_uuid_and_owner(call, migration, view);
    return view;
}

Result<compute::MigrationQuery> parse_query(const Call& call, const Page& page) {
    const QueryMap& parameters = call.request.query;
    compute::MigrationQuery query;
    query.host = parameters.first("host");
    query.instance_uuid = parameters.first("instance_uuid");
    query.source_compute = parameters.first("source_compute");
    query.status = parameters.first("status");
    query.migration_type = parameters.first("migration_type");
    query.count_max = page.limit;
    query.marker_uuid = page.marker;
    if (call.at_least(80)) {
        query.user_id = parameters.first("user_id");
        query.project_id = parameters.first("project_id");
    }
    const auto time = [&](const char* name, int64_t& value) -> Result<void> {
        if (const auto text = parameters.first(name)) {
            const auto parsed = parse_iso8601(*text);
            if (!parsed) {
                return Error::invalid(
                    "Invalid input for query parameters {}. Value: {}. It is not a 'date-time'",
                    name, *text);
            }
            value = *parsed;
        }
        return {};
    };
    if (call.at_least(59)) {
        TRY(time("changes-since", query.changes_since_ns));
    }
    if (call.at_least(66)) {
        TRY(time("changes-before", query.changes_before_ns));
    }
    return query;
}

Result<Reply> list_migrations(Call& call) {
    TRY(call.authorize("os_compute_api:os-migrations:index"));
    Page page;
    if (call.at_least(59)) {
        page = TRY(page_of(call.request, call.services.osapi_max_limit));
    }
    const auto migrations = TRY(call.conductor().migrations().list(TRY(parse_query(call, page))));
    Json views = Json::array();
    for (const MigrationRecord& migration : migrations) {
        views.push_back(migration_view(call, migration));
    }
    Json body = Json::object({{"migrations", std::move(views)}});
    if (call.at_least(59) && !migrations.empty() && migrations.size() == page.limit) {
        body.set("migrations_links",
                 next_links(call.request, call.versioned_url() + "/os-migrations", page,
                            migrations.back().uuid));
    }
    return Reply::json(body);
}

Result<Reply> list_server_migrations(Call& call) {
    TRY(call.server("os_compute_api:servers:migrations:index"));
    compute::MigrationQuery query;
    query.instance_uuid = call.parameter("server_id");
    query.migration_type = "live-migration";
    Json views = Json::array();
    for (const auto& migration : TRY(call.conductor().migrations().list(query))) {
        if (is_live_and_under_way(migration)) {
            views.push_back(server_migration_view(call, migration));
        }
    }
    return Reply::json(Json::object({{"migrations", std::move(views)}}));
}

// The number in the path; Nova answers 404 to what is none.
Result<int64_t> migration_id(const Call& call) {
    const std::string& text = call.parameter("migration_id");
    int64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size()) {
        return Error::not_found("Migration {} not found for instance {}", text,
                                call.parameter("server_id"));
    }
    return id;
}

Result<Reply> show_server_migration(Call& call) {
    TRY(call.server("os_compute_api:servers:migrations:show"));
    const std::string& server = call.parameter("server_id");
    const int64_t id = TRY(migration_id(call));
    const auto migration = TRY(call.conductor().migrations().find(id));
    if (!migration || migration->instance_uuid != server) {
        return Error::not_found("Migration {} not found for instance {}", id, server);
    }
    if (migration->migration_type != "live-migration") {
        return Error::not_found("Migration {} for server {} is not live-migration.", id, server);
    }
    if (!is_live_and_under_way(*migration)) {
        return Error::not_found("Migration {} for server {} is not in progress.", id, server);
    }
    return Reply::json(Json::object({{"migration", server_migration_view(call, *migration)}}));
}

Result<Reply> abort_server_migration(Call& call) {
    TRY(call.server("os_compute_api:servers:migrations:delete"));
    TRY(call.conductor().abort_live_migration(call.context(), call.parameter("server_id"),
                                              TRY(migration_id(call)), call.at_least(65)));
    return Reply::accepted();
}

Result<Reply> act_on_server_migration(Call& call) {
    TRY(call.server("os_compute_api:servers:migrations:force_complete"));
    const Json body = TRY(call.body());
    const Json* argument = body.find("force_complete");
    if (argument == nullptr || body.size() != 1) {
        return Error::invalid("There is no such action; force_complete is the only one.");
    }
    if (!argument->is_null()) {
        return invalid_input("force_complete", *argument, "It is not of type 'null'");
    }
    TRY(call.conductor().force_live_migration(call.context(), call.parameter("server_id"),
                                              TRY(migration_id(call))));
    return Reply::accepted();
}

}  // namespace

void add_migration_routes(ComputeRoutes& routes) {
    const std::string one = "/servers/{server_id}/migrations/{migration_id}";
    routes.add("GET", "/os-migrations", list_migrations);
    routes.add("GET", "/servers/{server_id}/migrations", list_server_migrations, {23, 96});
    routes.add("GET", one, show_server_migration, {23, 96});
    routes.add("DELETE", one, abort_server_migration, {24, 96});
    routes.add("POST", one + "/action", act_on_server_migration, {22, 96});
}

}  // namespace kumoi::api
