// GET /os-migrations: every resize and cold migration there was; and the live migrations of one
// server, of which this service makes none.
#include "api/rest/compute/compute_api.h"
#include "api/rest/compute/resources.h"
#include "base/clock.h"

namespace kumoi::api {
namespace {

using compute::Migration;

std::string naive(int64_t wall_ns) {
    std::string text = iso8601_micros(wall_ns);
    text.pop_back();
    return text;
}

Json migration_view(const Call& call, const Migration& migration) {
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
    }
    if (call.at_least(59)) {
        view.set("uuid", migration.uuid);
    }
    if (call.at_least(80)) {
        view.set("user_id", migration.user_id);
        view.set("project_id", migration.project_id);
    }
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
    for (const Migration& migration : migrations) {
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
    return Reply::json(Json::object({{"migrations", Json::array()}}));
}

}  // namespace

void add_migration_routes(ComputeRoutes& routes) {
    routes.add("GET", "/os-migrations", list_migrations);
    routes.add("GET", "/servers/{server_id}/migrations", list_server_migrations, {23, 96});
}

}  // namespace kumoi::api
