// HostMovesFake: hosts as the control plane reaches them for moves; keeps what was asked.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compute/conductor/host_moves.h"

namespace kumoi::compute::conductor_fakes {

class HostMovesFake final : public HostMoves {
public:
    std::vector<std::string> calls;         // "check cn-2", "live cn-1", ...
    std::map<std::string, Error> refusals;  // of the check, by destination
    std::optional<Error> cast_failure;

    Result<Json> check_can_live_migrate_destination(const RequestContext&, const Instance&,
                                                    const MigrationRecord& migration,
                                                    const std::optional<bool>& block_migration,
                                                    bool) override {
        calls.push_back("check " + migration.dest_compute +
                        (block_migration ? *block_migration ? " block" : " shared" : " auto"));
        const auto refused = refusals.find(migration.dest_compute);
        if (refused != refusals.end()) {
            return refused->second;
        }
        return Json::object({{"checked by", migration.dest_compute}});
    }
    Result<void> live_migration(const RequestContext&, const Instance&,
                                const MigrationRecord& migration,
                                const Json& migrate_data) override {
        return cast("live " + migration.source_compute + " to " +
                    migrate_data.string_or("checked by"));
    }
    Result<void> live_migration_abort(const RequestContext&, const Instance&,
                                      const MigrationRecord& migration) override {
        return cast("abort " + migration.source_compute);
    }
    Result<void> live_migration_force_complete(const RequestContext&, const Instance&,
                                               const MigrationRecord& migration) override {
        return cast("force " + migration.source_compute);
    }
    Result<void> prep_resize(const RequestContext&, const Instance&,
                             const MigrationRecord& migration, const Flavor& flavor) override {
        return cast("prep " + migration.dest_compute + " " + flavor.name);
    }
    Result<void> confirm_resize(const RequestContext&, const Instance&,
                                const MigrationRecord& migration) override {
        return cast("confirm " + migration.source_compute);
    }
    Result<void> revert_resize(const RequestContext&, const Instance&,
                               const MigrationRecord& migration) override {
        return cast("revert " + migration.dest_compute);
    }
    Result<void> evacuate(const EvacuateServer& request, const Instance&,
                          const MigrationRecord& migration) override {
        return cast("evacuate " + migration.dest_compute +
                    (request.leave_stopped ? " stopped" : ""));
    }

private:
    Result<void> cast(std::string what) {
        calls.push_back(std::move(what));
        return cast_failure ? Result<void>(*cast_failure) : Result<void>();
    }
};

}  // namespace kumoi::compute::conductor_fakes
