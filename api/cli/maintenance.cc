#include "api/cli/maintenance.h"

#include <algorithm>

#include "api/cli/find.h"

namespace kumoi::cli {
namespace {

constexpr std::string_view kDraining = "kumoi maintenance";
constexpr std::string_view kStopped = "kumoi maintenance (stopped)";
constexpr int64_t kParallelMax = 16;
constexpr int64_t kMeasureNs = 10 * kNanosPerSecond;
constexpr int64_t kReasonMax = 255;  // Nova's

const char* word(DrainItem::State state) {
    switch (state) {
        case DrainItem::State::Waiting: return "waiting";
        case DrainItem::State::Moving: return "moving";
        case DrainItem::State::Moved: return "moved";
        case DrainItem::State::Failed: return "failed";
    }
    return "";
}

const char* word(DrainItem::Plan plan) {
    switch (plan) {
        case DrainItem::Plan::Live: return "live migration";
        case DrainItem::Plan::Cold: return "cold migration";
        case DrainItem::Plan::Stays: return "stays";
    }
    return "";
}

DrainItem plan_for(const Json& server, bool leave_stopped) {
    DrainItem item;
    item.server = server;
    const auto kind = kind_of_move(server);
    if (!kind.ok()) {
        item.why = kind.error().message;
    } else if (*kind == MoveKind::Live) {
        item.plan = DrainItem::Plan::Live;
    } else if (leave_stopped) {
        item.why = "stopped servers are left";
    } else {
        item.plan = DrainItem::Plan::Cold;
    }
    return item;
}

}  // namespace

Json DrainItem::record() const {
    const bool stays = plan == Plan::Stays;
    return Json::object({{"id", server.string_or("id")},
                         {"name", server.string_or("name")},
                         {"status", server.string_or("status")},
                         {"plan", word(plan)},
                         {"state", stays ? "" : word(state)},
                         {"destination", destination},
                         {"why", why}});
}

void ParallelMoves::measured(int64_t running, int64_t bytes_s) {
    if (fixed_ > 0 || settled_ || bytes_s <= 0 || running < limit_) {
        return;  // with fewer than allowed the numbers say nothing about the limit
    }
    if (bytes_s * 10 >= best_bytes_s_ * 11) {
        best_bytes_s_ = bytes_s;
        limit_ = std::min(limit_ + 1, kParallelMax);
        return;
    }
    limit_ = std::max<int64_t>(1, limit_ - 1);  // the last one brought nothing
    settled_ = true;
}

Result<Json> find_compute_service(Cloud& cloud, const std::string& host) {
    const auto services =
        TRY(cloud.list("compute", "/os-services?binary=nova-compute", "services"));
    return find_one("host", services, host, "host", "host");
}

std::string maintenance_reason(const Json& service) {
    const std::string reason = service.string_or("disabled_reason");
    return service.string_or("status") == "disabled" && reason.starts_with(kDraining) ? reason : "";
}

bool is_stopped(const Json& service) {
    return maintenance_reason(service).starts_with(kStopped);
}

Result<void> disable_for_maintenance(Cloud& cloud, const std::string& service_id,
                                     const std::string& reason, bool stop) {
    std::string text(stop ? kStopped : kDraining);
    if (!reason.empty()) {
        text += ": " + reason;
    }
    TRY(cloud.put(
        "compute", "/os-services/" + service_id,
        Json::object({{"status", "disabled"}, {"disabled_reason", text.substr(0, kReasonMax)}})));
    return {};
}

Result<void> enable_service(Cloud& cloud, const std::string& service_id) {
    TRY(cloud.put("compute", "/os-services/" + service_id, Json::object({{"status", "enabled"}})));
    return {};
}

Result<Json::Array> servers_of_host(Cloud& cloud, const std::string& host) {
    return cloud.list("compute", "/servers/detail?all_tenants=1&host=" + host, "servers");
}

Result<void> Drain::plan() {
    const Json service = TRY(find_compute_service(borders_.cloud, options_.host));
    service_id_ = service.string_or("id");
    const std::string host = service.string_or("host");
    items_.clear();
    for (const Json& server : TRY(servers_of_host(borders_.cloud, host))) {
        items_.push_back(plan_for(server, options_.leave_stopped));
    }
    // Running ones first: they are what a host in trouble takes along.
    std::ranges::stable_sort(items_, {}, [](const DrainItem& item) { return item.plan; });
    return {};
}

Result<void> Drain::run() {
    if (service_id_.empty()) {
        TRY(plan());
    }
    TRY(disable_for_maintenance(borders_.cloud, service_id_, options_.reason, false));
    measured_ns_ = borders_.clock.monotonic_ns();
    for (;;) {
        TRY(look_at_moves());
        TRY(check_stop());
        if (!stopped_) {
            measure();
            TRY(start_moves());
        }
        borders_.progress(line());
        const bool waiting = !stopped_ && count(DrainItem::State::Waiting) > 0;
        if (!waiting && count(DrainItem::State::Moving) == 0) {
            return {};
        }
        borders_.pause();
    }
}

Result<void> Drain::look_at_moves() {
    for (DrainItem& item : items_) {
        if (item.state != DrainItem::State::Moving) {
            continue;
        }
        auto seen = item.move->look(true);
        if (!seen.ok() && seen.error().code == ErrorCode::NotFound) {
            item.state = DrainItem::State::Moved;  // deleted meanwhile
            item.destination = "deleted";
            continue;
        }
        const auto state = TRY(std::move(seen));
        if (state == ServerMove::State::Moved) {
            item.state = DrainItem::State::Moved;
            item.destination = item.move->host();
        } else if (state == ServerMove::State::Failed) {
            item.state = DrainItem::State::Failed;
            item.why = item.move->why();
        }
    }
    return {};
}

Result<void> Drain::check_stop() {
    const Json service = TRY(find_compute_service(borders_.cloud, options_.host));
    // Stopped, or enabled again: nobody wants the host empty any more.
    stopped_ = stopped_ || is_stopped(service) || service.string_or("status") != "disabled";
    return {};
}

Result<void> Drain::start_moves() {
    for (DrainItem& item : items_) {
        if (count(DrainItem::State::Moving) >= parallel_.limit()) {
            return {};
        }
        if (item.state != DrainItem::State::Waiting || item.plan == DrainItem::Plan::Stays) {
            continue;
        }
        const MoveKind kind = item.plan == DrainItem::Plan::Live ? MoveKind::Live : MoveKind::Cold;
        item.move = std::make_unique<ServerMove>(borders_.cloud, borders_.clock, item.server, kind);
        const auto started = item.move->start("");
        if (started.ok()) {
            item.state = DrainItem::State::Moving;
        } else {
            item.state = DrainItem::State::Failed;
            item.why = started.error().text();
        }
    }
    return {};
}

void Drain::measure() {
    const int64_t now_ns = borders_.clock.monotonic_ns();
    if (now_ns - measured_ns_ < kMeasureNs) {
        return;
    }
    measured_ns_ = now_ns;
    int64_t running = 0;
    int64_t bytes_s = 0;
    for (const DrainItem& item : items_) {
        if (item.state == DrainItem::State::Moving) {
            ++running;
            bytes_s += item.move->forecast().state().bandwidth.value_or(0);
        }
    }
    parallel_.measured(running, bytes_s);
}

int64_t Drain::count(DrainItem::State state) const {
    return std::ranges::count_if(items_, [&](const DrainItem& item) {
        return item.plan != DrainItem::Plan::Stays && item.state == state;
    });
}

std::string Drain::line() const {
    const auto total = std::ranges::count_if(
        items_, [](const DrainItem& item) { return item.plan != DrainItem::Plan::Stays; });
    std::string text =
        fmt::format(" {} of {} servers have left", count(DrainItem::State::Moved), total);
    if (const int64_t failed = count(DrainItem::State::Failed); failed > 0) {
        text += fmt::format(", {} failed", failed);
    }
    for (const DrainItem& item : items_) {
        if (item.state == DrainItem::State::Moving) {
            text += fmt::format("; {}: {}", item.move->name(), item.move->line());
        }
    }
    return text;
}

}  // namespace kumoi::cli
