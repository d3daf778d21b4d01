// kumoi host maintenance enter, status, stop and leave.
#include <poll.h>

#include "api/cli/command.h"
#include "api/cli/exit_code.h"
#include "api/cli/host_maintenance_command.h"
#include "api/cli/maintenance.h"

namespace kumoi::cli {
namespace {

constexpr int kPollMs = 1000;

const std::vector<Column> kColumns{{"SERVER", "id"},     {"NAME", "name"},
                                   {"STATUS", "status"}, {"PLAN", "plan"},
                                   {"STATE", "state"},   {"DESTINATION", "destination"},
                                   {"WHY", "why"}};

struct Arguments {
    DrainOptions drain;
    bool dry_run = false;
    bool force = false;
    bool abort = false;
};

Result<void> show_items(Session& session, const Drain& drain) {
    Json::Array records;
    for (const DrainItem& item : drain.items()) {
        records.push_back(item.record());
    }
    return session.out.list(kColumns, records);
}

Result<void> enter(Session& session, const Arguments& arguments) {
    std::string last;
    Drain drain({*TRY(session.cloud()), session.clock(), [] { poll(nullptr, 0, kPollMs); },
                 [&](const std::string& line) {
                     if (line != last) {
                         session.out.progress(line);
                         last = line;
                     }
                 }},
                arguments.drain);
    TRY(drain.plan());
    if (arguments.dry_run) {
        return show_items(session, drain);
    }
    TRY(drain.run());
    TRY(show_items(session, drain));
    const std::string& host = arguments.drain.host;
    const auto left = TRY(servers_of_host(*TRY(session.cloud()), host)).size();
    if (drain.stopped()) {
        session.out.say(fmt::format(" stopped; {} servers are on {}", left, host));
    } else {
        session.out.say(left == 0 ? fmt::format(" {} is empty and takes no new servers", host)
                                  : fmt::format(" {} servers are still on {}", left, host));
    }
    if (drain.count(DrainItem::State::Failed) > 0) {
        session.exit_code = kFailed;
    }
    return {};
}

Result<void> show_status(Session& session, const Arguments& arguments) {
    Cloud& cloud = *TRY(session.cloud());
    const Json service = TRY(find_compute_service(cloud, arguments.drain.host));
    Drain drain({cloud, session.clock(), {}, {}}, arguments.drain);
    TRY(drain.plan());
    const std::string reason = maintenance_reason(service);
    session.out.say(
        fmt::format(" {} is {}{}; {} servers are on it", service.string_or("host"),
                    reason.empty()        ? "not in maintenance"
                    : is_stopped(service) ? "in maintenance, and its drain was stopped"
                                          : "in maintenance",
                    reason.empty() ? " (" + service.string_or("status") + ")" : " (" + reason + ")",
                    drain.items().size()));
    return show_items(session, drain);
}

Result<void> stop(Session& session, const Arguments& arguments) {
    Cloud& cloud = *TRY(session.cloud());
    const Json service = TRY(find_compute_service(cloud, arguments.drain.host));
    if (maintenance_reason(service).empty()) {
        return Error::conflict("{} is not in maintenance.", service.string_or("host"));
    }
    TRY(disable_for_maintenance(cloud, service.string_or("id"), arguments.drain.reason, true));
    session.out.say(" no further server leaves; those on their way arrive");
    if (!arguments.abort) {
        return {};
    }
    for (const Json& server : TRY(servers_of_host(cloud, service.string_or("host")))) {
        const std::string id = server.string_or("id");
        if (server.string_or("status") != "MIGRATING") {
            continue;
        }
        for (const Json& migration : TRY(migrations_under_way(cloud, id))) {
            const auto aborted = cloud.remove(
                "compute",
                fmt::format("/servers/{}/migrations/{}", id, migration.integer_or("id")));
            session.out.say(fmt::format(" {}  {}", server.string_or("name"),
                                        aborted.ok() ? "is given up" : aborted.error().text()));
        }
    }
    return {};
}

Result<void> leave(Session& session, const Arguments& arguments) {
    Cloud& cloud = *TRY(session.cloud());
    const Json service = TRY(find_compute_service(cloud, arguments.drain.host));
    if (service.string_or("status") == "enabled") {
        return {};
    }
    if (maintenance_reason(service).empty() && !arguments.force) {
        return Error::conflict("{} was disabled by others: {}", service.string_or("host"),
                               service.string_or("disabled_reason", "without a reason"))
            .with_hint("--force enables it all the same.");
    }
    TRY(enable_service(cloud, service.string_or("id")));
    session.out.say(fmt::format(" {} takes servers again", service.string_or("host")));
    return {};
}

}  // namespace

void add_host_maintenance_verbs(CLI::App* noun, Session& session) {
    CLI::App* maintenance =
        noun->add_subcommand("maintenance", "Empty a host for work on it (administrators).");
    maintenance->fallthrough();
    maintenance->require_subcommand(1);
    auto arguments = std::make_shared<Arguments>();  // one verb runs: they may share it
    const auto add = [&](const char* name, const char* help,
                         Result<void> (*run)(Session&, const Arguments&)) {
        CLI::App* verb = add_verb(maintenance, name, help, session,
                                  [&session, arguments, run] { return run(session, *arguments); });
        verb->add_option("host", arguments->drain.host, "Name of the host.")->required();
        return verb;
    };
    CLI::App* verb = add("enter", "Give it no new servers and move those it has.", enter);
    verb->add_option("--parallel", arguments->drain.parallel,
                     "Moves at a time. Default: as many as the link carries.")
        ->check(CLI::Range(1, 64));
    verb->add_flag("--leave-stopped", arguments->drain.leave_stopped,
                   "Leave servers that do not run.");
    verb->add_option("--reason", arguments->drain.reason, "For other administrators.");
    verb->add_flag("--dry-run", arguments->dry_run, "Only show what would happen.");
    add("status", "Show how far it is.", show_status);
    verb = add("stop", "Let no further server leave; the host stays disabled.", stop);
    verb->add_flag("--abort", arguments->abort, "Give up live migrations under way, too.");
    verb = add("leave", "Let it take servers again.", leave);
    verb->add_flag("--force", arguments->force, "Also when others disabled it.");
}

}  // namespace kumoi::cli
