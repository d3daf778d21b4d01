#include "api/cli/server_migration.h"

#include <algorithm>

#include "api/cli/server_waiting.h"

namespace kumoi::cli {
namespace {

std::string task_of(const Json& server) {
    return server.string_or("OS-EXT-STS:task_state");
}

}  // namespace

Result<MoveKind> kind_of_move(const Json& server) {
    const std::string status = server.string_or("status");
    if (!task_of(server).empty()) {
        return Error::conflict("it is busy: {}", phase_of(server));
    }
    if (status == "ACTIVE" || status == "PAUSED") {
        return MoveKind::Live;
    }
    if (status == "SHUTOFF") {
        return MoveKind::Cold;
    }
    return Error::conflict("a server that is {} cannot be moved", phase_of(server));
}

Result<std::optional<std::string>> failed_action(Cloud& cloud, const std::string& server_id) {
    const std::string path = "/servers/" + server_id + "/os-instance-actions";
    const Json answer = TRY(cloud.get("compute", path));
    const Json* actions = answer.find("instanceActions");
    if (actions == nullptr || !actions->is_array() || actions->size() == 0) {
        return std::optional<std::string>();
    }
    const Json& newest = actions->as_array().front();
    if (newest.string_or("message") != "Error") {
        return std::optional<std::string>();
    }
    const Json shown = TRY(cloud.get("compute", path + "/" + newest.string_or("request_id")));
    const Json* events = shown.find_path({"instanceAction", "events"});
    std::string reason;
    if (events != nullptr && events->is_array()) {
        for (const Json& event : events->as_array()) {
            if (event.string_or("result") == "Error" && reason.empty()) {
                reason = event.string_or("details");
            }
        }
    }
    return std::optional(reason.empty() ? "an administrator can see why" : reason);
}

Result<Json::Array> migrations_under_way(Cloud& cloud, const std::string& server_id) {
    const Json answer = TRY(cloud.get("compute", "/servers/" + server_id + "/migrations"));
    const Json* all = answer.find("migrations");
    Json::Array migrations = all != nullptr && all->is_array() ? all->as_array() : Json::Array();
    std::ranges::sort(migrations, [](const Json& a, const Json& b) {
        return a.integer_or("id") > b.integer_or("id");
    });
    return migrations;
}

ServerMove::ServerMove(Cloud& cloud, const Clock& clock, const Json& server, MoveKind kind)
    : cloud_(cloud),
      clock_(clock),
      id_(server.string_or("id")),
      name_(server.string_or("name")),
      left_host_id_(server.string_or("hostId")),
      kind_(kind),
      host_(server.string_or("OS-EXT-SRV-ATTR:host")) {}

Result<void> ServerMove::start(const std::string& host) {
    Json body = Json::object();
    const Json wanted = host.empty() ? Json() : Json(host);
    if (kind_ == MoveKind::Live) {
        body.set("os-migrateLive", Json::object({{"host", wanted}, {"block_migration", "auto"}}));
    } else {
        body.set("migrate", host.empty() ? Json() : Json::object({{"host", wanted}}));
    }
    TRY(cloud_.post("compute", "/servers/" + id_ + "/action", body));
    return {};
}

Result<void> ServerMove::read_progress() {
    const auto migrations = migrations_under_way(cloud_, id_);
    if (!migrations.ok()) {  // who may move a server need not be allowed to see how it goes
        const ErrorCode code = migrations.error().code;
        return code == ErrorCode::Forbidden || code == ErrorCode::NotFound
                   ? Result<void>()
                   : Result<void>(migrations.error());
    }
    if (!migrations->empty()) {
        forecast_.add(clock_.monotonic_ns(), migrations->front());
    }
    return {};
}

Result<std::string> ServerMove::reason() {
    if (const auto failed = TRY(failed_action(cloud_, id_))) {
        return *failed;
    }
    // Hosts that give up among themselves say so in the migration's record only; it is for
    // administrators.
    const auto all = cloud_.list("compute", "/os-migrations?instance_uuid=" + id_, "migrations");
    const auto newest = all.ok()
                            ? std::ranges::max_element(
                                  *all, {}, [](const Json& one) { return one.integer_or("id"); })
                            : Json::Array::const_iterator();
    if (all.ok() && newest != all->end()) {
        const std::string status = newest->string_or("status");
        return status == "cancelled"
                   ? "it was cancelled"
                   : fmt::format(
                         "the hosts gave it up (migration {} is {}); the log of {} says why",
                         newest->integer_or("id"), status, newest->string_or("source_compute"));
    }
    return std::string("it stayed where it was; an administrator can see why");
}

Result<ServerMove::State> ServerMove::look(bool confirm_cold) {
    const Json answer = TRY(cloud_.get("compute", "/servers/" + id_));
    const Json* server = answer.find("server");
    if (server == nullptr) {
        return Error::corrupt("The Compute API answered without a server.");
    }
    host_ = server->string_or("OS-EXT-SRV-ATTR:host");
    phase_ = phase_of(*server);
    if (server->string_or("status") == "ERROR") {
        why_ = fault_of(*server).text();
        return State::Failed;
    }
    if (kind_ == MoveKind::Cold) {
        return look_cold(*server, confirm_cold);
    }
    if (!task_of(*server).empty()) {
        TRY(read_progress());
        return State::Moving;
    }
    if (server->string_or("hostId") != left_host_id_) {
        return State::Moved;
    }
    why_ = TRY(reason());
    return State::Failed;
}

Result<ServerMove::State> ServerMove::look_cold(const Json& server, bool confirm) {
    const std::string status = server.string_or("status");
    if (!task_of(server).empty()) {
        return State::Moving;
    }
    if (status == "VERIFY_RESIZE" && confirm && !confirmed_) {
        TRY(cloud_.post("compute", "/servers/" + id_ + "/action",
                        Json::object({{"confirmResize", Json()}})));
        confirmed_ = true;
        return State::Moving;
    }
    if (status == "VERIFY_RESIZE" && confirm) {
        return State::Moving;
    }
    if (server.string_or("hostId") != left_host_id_) {
        return State::Moved;
    }
    why_ = TRY(reason());
    return State::Failed;
}

std::string ServerMove::line() const {
    return kind_ == MoveKind::Live && phase_ == "migrating" ? forecast_.line() : phase_;
}

bool ServerMove::has_news() {
    std::string now = line();
    const bool changed = now != seen_;
    seen_ = std::move(now);
    return changed;
}

}  // namespace kumoi::cli
