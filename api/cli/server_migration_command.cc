// kumoi server migrate, and kumoi server migration list, show, abort, force-complete and settle.
#include <poll.h>

#include "api/cli/command.h"
#include "api/cli/find.h"
#include "api/cli/server_lifecycle_command.h"
#include "api/cli/server_migration.h"
#include "api/cli/server_waiting.h"
#include "api/cli/settle_migration.h"

namespace kumoi::cli {
namespace {

constexpr int kPollMs = 500;

const std::vector<Column> kColumns{{"ID", "id"},
                                   {"STATUS", "status"},
                                   {"SOURCE", "source_compute"},
                                   {"DESTINATION", "dest_compute"},
                                   {"MEMORY", "memory_total_bytes", true},
                                   {"MEMORY_LEFT", "memory_remaining_bytes", true},
                                   {"DISK", "disk_total_bytes", true},
                                   {"DISK_LEFT", "disk_remaining_bytes", true},
                                   {"STARTED", "created_at"}};

const std::vector<Column> kHistoryColumns{{"ID", "id"},
                                          {"TYPE", "migration_type"},
                                          {"STATUS", "status"},
                                          {"SOURCE", "source_compute"},
                                          {"DESTINATION", "dest_compute"},
                                          {"SERVER", "instance_uuid"},
                                          {"STARTED", "created_at"},
                                          {"UPDATED", "updated_at"}};

struct MigrateOptions {
    std::string server;
    std::string host;
    bool live = false;
    bool cold = false;
    bool confirm = false;
};

// Waits as long as something happens; session.options.wait_seconds without any news give up.
Result<void> follow(Session& session, ServerMove& move, bool confirm) {
    const int64_t began_ns = session.clock().monotonic_ns();
    int64_t news_ns = began_ns;
    std::string advised;
    for (;;) {
        const auto state = TRY(move.look(confirm));
        const int64_t now_ns = session.clock().monotonic_ns();
        if (state == ServerMove::State::Moved) {
            session.out.say(fmt::format(" {}  is on {} after {:.1f} s", move.name(),
                                        move.host().empty() ? "another host" : move.host(),
                                        static_cast<double>(now_ns - began_ns) / kNanosPerSecond));
            return {};
        }
        if (state == ServerMove::State::Failed) {
            return Error::internal("Server {} was not moved: {}", move.name(), move.why());
        }
        if (move.has_news()) {
            news_ns = now_ns;
            session.out.progress(fmt::format(" {}  {}", move.name(), move.line()));
        }
        const std::string verdict = move.forecast().verdict();
        if (!verdict.empty() && advised.empty()) {
            session.out.say(fmt::format(" {}  {}", move.name(), verdict));
        }
        advised = verdict.empty() ? advised : verdict;
        if (now_ns - news_ns > session.options.wait_seconds * kNanosPerSecond) {
            return Error::timeout("Nothing was heard of the move of {} for {} s.", move.name(),
                                  session.options.wait_seconds)
                .with_hint("It goes on; look with: kumoi server migration list " + move.name());
        }
        poll(nullptr, 0, kPollMs);
    }
}

Result<void> migrate(Session& session, const MigrateOptions& options) {
    const Json server = TRY(find_server(session, options.server));
    MoveKind kind = options.cold ? MoveKind::Cold : MoveKind::Live;
    if (!options.live && !options.cold) {
        const auto fitting = kind_of_move(server);
        if (!fitting.ok()) {
            return Error::conflict("Server {} stays where it is: {}.", server.string_or("name"),
                                   fitting.error().message);
        }
        kind = *fitting;
    }
    ServerMove move(*TRY(session.cloud()), session.clock(), server, kind);
    TRY(move.start(options.host));
    if (session.options.no_wait) {
        return {};
    }
    TRY(follow(session, move, options.confirm));
    if (kind == MoveKind::Cold && !options.confirm) {
        session.out.say(fmt::format("   kumoi server confirm {0}    or    kumoi server revert {0}",
                                    move.name()));
    }
    return {};
}

// The one asked for, or the only one under way.
Result<Json> find_migration(Session& session, const std::string& server_id, int64_t wanted) {
    const auto all = TRY(migrations_under_way(*TRY(session.cloud()), server_id));
    for (const Json& migration : all) {
        if (wanted == 0 || migration.integer_or("id") == wanted) {
            return migration;
        }
    }
    return Error::not_found("No live migration of this server is under way{}.",
                            wanted == 0 ? "" : fmt::format(" with id {}", wanted))
        .with_hint("What there was: kumoi server migration list --all");
}

struct MigrationOptions {
    std::string server;
    int64_t id = 0;
    bool all = false;
    std::string fenced;
};

Result<void> list_migrations(Session& session, const MigrationOptions& options) {
    Cloud* cloud = TRY(session.cloud());
    std::string server_id;
    if (!options.server.empty()) {
        server_id = TRY(find_server(session, options.server)).string_or("id");
    }
    if (!options.all && !server_id.empty()) {
        return session.out.list(kColumns, TRY(migrations_under_way(*cloud, server_id)));
    }
    const std::string query = server_id.empty() ? "" : "?instance_uuid=" + server_id;
    return session.out.list(kHistoryColumns,
                            TRY(cloud->list("compute", "/os-migrations" + query, "migrations")));
}

Result<void> show_migration(Session& session, const MigrationOptions& options) {
    const std::string server_id = TRY(find_server(session, options.server)).string_or("id");
    MigrationForecast forecast;
    Json migration = TRY(find_migration(session, server_id, options.id));
    forecast.add(session.clock().monotonic_ns(), migration);
    if (session.out.options.format == Format::Table) {  // a second look tells the rates
        poll(nullptr, 0, 2 * kPollMs);
        const auto again = find_migration(session, server_id, migration.integer_or("id"));
        if (again.ok()) {
            migration = *again;
            forecast.add(session.clock().monotonic_ns(), migration);
        }
        session.out.say(" " + forecast.line());
    }
    return session.out.record(kColumns, migration);
}

Result<void> abort_migration(Session& session, const MigrationOptions& options) {
    const std::string server_id = TRY(find_server(session, options.server)).string_or("id");
    const Json migration = TRY(find_migration(session, server_id, options.id));
    return TRY(session.cloud())
        ->remove("compute",
                 fmt::format("/servers/{}/migrations/{}", server_id, migration.integer_or("id")));
}

Result<void> force_migration(Session& session, const MigrationOptions& options) {
    const std::string server_id = TRY(find_server(session, options.server)).string_or("id");
    const Json migration = TRY(find_migration(session, server_id, options.id));
    TRY(TRY(session.cloud())
            ->post("compute",
                   fmt::format("/servers/{}/migrations/{}/action", server_id,
                               migration.integer_or("id")),
                   Json::object({{"force_complete", Json()}})));
    return {};
}

Result<void> settle_migration(Session& session, const MigrationOptions& options) {
    const Json server = TRY(find_server(session, options.server));
    Cloud* cloud = TRY(session.cloud());
    TRY(fence_host_of_migration(*cloud, server, options.fenced));
    if (session.options.no_wait) {
        return {};
    }
    const int64_t end_ns =
        session.clock().monotonic_ns() + session.options.wait_seconds * kNanosPerSecond;
    for (;;) {
        const std::string host = TRY(settled_host(*cloud, server.string_or("id")));
        if (!host.empty()) {
            session.out.say(
                host == options.fenced
                    ? fmt::format(" {0}  was last on {1}; bring it back with: openstack "
                                  "server evacuate {0}",
                                  server.string_or("name"), host)
                    : fmt::format(" {}  is on {}", server.string_or("name"), host));
            return {};
        }
        if (session.clock().monotonic_ns() > end_ns) {
            return Error::timeout("The other host has not decided for {} s.",
                                  session.options.wait_seconds)
                .with_hint("It does with its next sign of life; see that its service is up.");
        }
        poll(nullptr, 0, kPollMs);
    }
}

}  // namespace

void add_server_migration_verbs(CLI::App* noun, Session& session) {
    auto move = std::make_shared<MigrateOptions>();  // shared with the callback
    CLI::App* verb =
        add_verb(noun, "migrate", "Move a server to another host; without a stop while it runs.",
                 session, [&session, move] { return migrate(session, *move); });
    verb->add_option("server", move->server, "Name or id.")->required();
    verb->add_option("--host", move->host, "Where to. Default: the scheduler's choice.");
    CLI::Option* live = verb->add_flag("--live", move->live, "While it runs, or not at all.");
    verb->add_flag("--cold", move->cold, "Turned off meanwhile.")->excludes(live);
    verb->add_flag("--confirm", move->confirm, "Confirm a cold move at once.");

    CLI::App* migrations = noun->add_subcommand("migration", "Moves of servers.");
    migrations->fallthrough();
    migrations->require_subcommand(1);
    auto options = std::make_shared<MigrationOptions>();  // one verb runs: they may share it
    verb = add_verb(migrations, "list", "List live migrations under way, or all moves there were.",
                    session, [&session, options] { return list_migrations(session, *options); });
    verb->add_option("server", options->server, "Name or id. Default: of all servers.");
    verb->add_flag("--all", options->all, "Those that ended too, and cold ones.");
    const auto add_one = [&](const char* name, const char* help,
                             Result<void> (*run)(Session&, const MigrationOptions&)) {
        CLI::App* one = add_verb(migrations, name, help, session,
                                 [&session, options, run] { return run(session, *options); });
        one->add_option("server", options->server, "Name or id.")->required();
        one->add_option("--id", options->id, "Which one. Default: the one under way.");
    };
    add_one("show", "Show one that is under way: phase, bytes, rates, time left.", show_migration);
    add_one("abort", "Cancel it; the server stays where it is.", abort_migration);
    add_one("force-complete", "End it with a longer pause of the guest.", force_migration);
    verb = add_verb(migrations, "settle",
                    "Decide one whose other host is off for good, and nobody can ask it.", session,
                    [&session, options] { return settle_migration(session, *options); });
    verb->add_option("server", options->server, "Name or id.")->required();
    verb->add_option("--fenced", options->fenced,
                     "The host that is off: its compute service is forced down.")
        ->required();
}

}  // namespace kumoi::cli
