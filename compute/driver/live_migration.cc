#include "compute/driver/live_migration.h"

#include "compute/driver/virt_driver.h"

namespace kumoi::compute {
namespace {

Error no_live_migration(const Instance& instance) {
    return migration_pre_check_error(
               {"the virt driver of this host has no live migration (server " + instance.uuid +
                ")"})
        .with_hint("Migrate it cold, or move it to a host with the kumoi driver.");
}

Error not_migrating(const Instance& instance) {
    return Error::conflict("Server {} is not being migrated by this host", instance.uuid)
        .with_fault("InvalidMigrationState");
}

}  // namespace

std::string_view to_string(GuestOwner owner) {
    switch (owner) {
        case GuestOwner::Here: return "here";
        case GuestOwner::Departing: return "departing";
        case GuestOwner::Gone: return "gone";
        case GuestOwner::Incoming: return "incoming";
        case GuestOwner::Undecided: return "undecided";
        case GuestOwner::Absent: return "absent";
    }
    return "?";
}

Error migration_pre_check_error(const std::vector<std::string>& reasons) {
    std::string all;
    for (const std::string& reason : reasons) {
        all += all.empty() ? reason : "; " + reason;
    }
    return Error::conflict("Migration pre-check error: {}", all)
        .with_fault("MigrationPreCheckError");
}

Result<std::string> VirtDriver::live_migration_facts(const Instance& instance) {
    return no_live_migration(instance);
}

void VirtDriver::discard_live_migration_facts(const std::string& facts) {
    (void)facts;
}

Result<LiveMigrationPlan> VirtDriver::check_live_migration(const Instance& instance,
                                                           const LiveMigrationQuestion& question) {
    (void)question;
    return no_live_migration(instance);
}

Result<std::string> VirtDriver::live_migration_disks(const Instance& instance) {
    return no_live_migration(instance);
}

Result<std::string> VirtDriver::pre_live_migration(const LiveMigrationArrival& arrival) {
    return no_live_migration(arrival.instance);
}

LiveMigrationOutcome VirtDriver::live_migration(const Instance& instance,
                                                const LiveMigrationDeparture& departure,
                                                LiveMigrationObserver& observer) {
    (void)departure, (void)observer;
    return LiveMigrationOutcome::stayed(no_live_migration(instance));
}

LiveMigrationOutcome VirtDriver::follow_live_migration(const Instance& instance,
                                                       const LiveMigrationOptions& options,
                                                       LiveMigrationObserver& observer) {
    (void)options, (void)observer;
    return LiveMigrationOutcome::stayed(not_migrating(instance));
}

Result<void> VirtDriver::abort_live_migration(const Instance& instance) {
    return not_migrating(instance);
}

Result<void> VirtDriver::force_complete_live_migration(const Instance& instance) {
    return not_migrating(instance);
}

Result<void> VirtDriver::finish_live_migration(const Instance& instance) {
    return not_migrating(instance);
}

Result<void> VirtDriver::rollback_live_migration(const Instance& instance, bool destroy_disks) {
    (void)instance, (void)destroy_disks;
    return {};
}

Result<GuestOwner> VirtDriver::live_migration_outcome(const Instance& instance) {
    const auto info = get_info(instance);
    if (info.ok()) {
        return GuestOwner::Here;
    }
    if (info.error().code == ErrorCode::NotFound) {
        return GuestOwner::Absent;
    }
    return info.error();
}

}  // namespace kumoi::compute
