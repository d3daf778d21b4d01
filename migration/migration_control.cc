#include "migration/migration_control.h"

#include <algorithm>

#include "migration/destination/destination_migration.h"
#include "migration/source/source_migration.h"
#include "migration/upgrade/upgrade_destination.h"
#include "migration/upgrade/upgrade_request.h"
#include "migration/upgrade/upgrade_source.h"

namespace kumoi::migration {

using hypervisor::ControlRequest;
using hypervisor::VmState;

namespace {

bool is_ours(std::string_view method) {
    return method == "migrate" || method.starts_with("migrate_") || method == "upgrade" ||
           method == "upgrade_incoming";
}

}  // namespace

std::optional<Result<Json>> MigrationControl::handle(hypervisor::Vmm& vmm,
                                                     const ControlRequest& request) {
    if (!is_ours(request.method)) {
        return std::nullopt;
    }
    if (!port_) {
        port_.emplace(vmm);
    }
    return handle_migration(request);
}

// What would change the machine under a migration, or wake one that must not run.

std::optional<Error> MigrationControl::refusal(const hypervisor::Vmm& vmm,
                                               const std::string& method) const {
    constexpr std::string_view kHarmless[] = {"state", "statistics", "save_status"};
    if (is_ours(method) || std::ranges::find(kHarmless, method) != std::ranges::end(kHarmless)) {
        return std::nullopt;
    }
    if (vmm.state() == VmState::Incoming || vmm.state() == VmState::Moved) {
        return Error::conflict("the machine's guest {}", vmm.state() == VmState::Moved
                                                             ? "runs elsewhere now"
                                                             : "has not come yet");
    }
    if (end_ && !end_->ended()) {
        return Error::conflict("the guest is being migrated")
            .with_hint("wait for the migration, or call migrate_cancel");
    }
    return std::nullopt;
}

Result<Json> MigrationControl::handle_migration(const ControlRequest& request) {
    if (request.method == "migrate" || request.method == "migrate_incoming") {
        return begin(request);
    }
    if (request.method == "upgrade" || request.method == "upgrade_incoming") {
        return begin_upgrade(request);
    }
    if (request.method == "migrate_status") {
        return end_ ? end_->status() : Json::object({{"phase", "none"}});
    }
    if (request.method == "migrate_forecast") {
        return begin_forecast(request.params);
    }
    const JsonView view(request.params, "params");
    if (request.method == "migrate_cancel") {
        TRY(view.only({}));
        TRY(TRY(current())->cancel());
    } else if (request.method == "migrate_force") {
        TRY(view.only({"how"}));
        TRY(TRY(current())->force(TRY(view.string_or("how", "pause"))));
    } else if (request.method == "migrate_connect") {
        const auto reconnect = TRY(ReconnectRequest::parse(request.params));
        auto sockets = TRY(take_connections(port_->files(), reconnect.connections));
        TRY(TRY(current())->reconnect(std::move(sockets)));
    } else if (request.method == "migrate_verdict") {
        TRY(TRY(current())->verdict(TRY(VerdictRequest::parse(request.params))));
    } else {
        return Error::unsupported("there is no method \"{}\"", request.method)
            .with_hint("see docs/reference/vmm-control.md");
    }
    return end_->status();
}

Result<Json> MigrationControl::begin_forecast(const Json& params) {
    if ((end_ && !end_->ended()) || (probe_ && !probe_->ended())) {
        return Error::conflict("a migration or a forecast is under way");
    }
    probe_.reset();
    probe_ = TRY(ForecastProbe::begin(*port_, params, [this](const Json& forecast) {
        process_.publish({"migration_forecast", forecast});
    }));
    return Json::object({{"state", "sampling"}});
}

Result<MigrationEnd*> MigrationControl::current() {
    if (!end_) {
        return Error::conflict("there is no migration");
    }
    return end_.get();
}

Result<Json> MigrationControl::begin(const ControlRequest& request) {
    if (end_ && !end_->ended()) {
        return Error::conflict("a migration is under way")
            .with_hint("wait for it, or call migrate_cancel");
    }
    const bool source = request.method == "migrate";
    const auto params = TRY(MigrationRequest::parse(
        request.params, source ? HandoverRole::Source : HandoverRole::Destination));
    end_.reset();
    probe_.reset();
    if (source) {
        end_ = TRY(SourceMigration::begin(*port_, params, events()));
    } else {
        end_ = TRY(DestinationMigration::begin(*port_, params, events()));
    }
    return end_->status();
}

Result<Json> MigrationControl::begin_upgrade(const ControlRequest& request) {
    if (end_ && !end_->ended()) {
        return Error::conflict("a migration is under way")
            .with_hint("wait for it, or call migrate_cancel");
    }
    const auto params = TRY(parse_upgrade_request(request.params));
    end_.reset();
    probe_.reset();
    MigrationEnd::Events events = this->events();
    if (request.method == "upgrade") {
        events.finish = [this] { process_.given_away(); };
        end_ = TRY(UpgradeSource::begin(*port_, params, events));
    } else {
        end_ = TRY(UpgradeDestination::begin(*port_, params, events));
    }
    return end_->status();
}

MigrationEnd::Events MigrationControl::events() {
    MigrationEnd::Events events;
    events.changed = [this](const Json& status) {
        const std::string phase = status.string_or("phase");
        if (status.string_or("role") == "destination" &&
            (phase == "completed" || phase == "post_copy")) {
            process_.decided();
        }
        process_.publish({"migration", status});
    };
    events.finish = [this] { process_.fail(); };
    return events;
}

}  // namespace kumoi::migration
