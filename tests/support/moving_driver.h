// MovingDriver: a FakeDriver whose disks travel from host to host in disk_info, and whose guests go
// live to the driver of another host (`peer`), as a VMM does that outlives its daemon.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "compute/driver/live_migration.h"
#include "compute/driver/migration_fence.h"
#include "compute/vm_states.h"
#include "tests/support/compute_fakes.h"

namespace kumoi::compute::moving {

class MovingDriver final : public FakeDriver, public MigrationFence {
public:
    explicit MovingDriver(CallLog& log) : FakeDriver(log), log_(log) {}

    Result<std::string> migrate_disk_away(const Instance& instance, const Flavor& /*flavor*/,
                                          const std::string& /*migration*/, bool shared,
                                          int64_t /*timeout_s*/) override {
        TRY(log_.enter("driver.migrate_disk_away"));
        if (!kept.contains(instance.uuid)) {
            kept[instance.uuid] = disk(instance.uuid).data;
            if (shared) {
                set_guest(instance.uuid, power_states::kShutdown);
            } else {
                TRY(destroy(instance));
            }
        }
        log_.leave();
        return shared ? "shared" : "data:" + kept[instance.uuid];
    }
    Result<void> receive_disk(const Instance& instance, const std::string& disk_info) override {
        TRY(log_.enter("driver.receive_disk"));
        if (!disk_info.empty()) {
            wanted[instance.uuid] = disk_info;
        }
        if (!wanted.contains(instance.uuid)) {
            return Error::not_found("nobody said where the disks are");
        }
        const std::string from = wanted[instance.uuid];
        if (from != "shared") {
            set_data(instance.uuid, from.substr(5));
            if (power(instance.uuid) == power_states::kNoState) {
                set_guest(instance.uuid, power_states::kShutdown);
            }
        }
        log_.leave();
        return {};
    }
    Result<void> confirm_migration(const Instance& instance) override {
        TRY(log_.enter("driver.confirm_migration"));
        kept.erase(instance.uuid);
        log_.leave();
        return {};
    }
    Result<void> finish_revert_migration(const Instance& instance, bool power_on) override {
        TRY(log_.enter("driver.revert_migration"));
        if (kept.contains(instance.uuid)) {
            set_data(instance.uuid, kept[instance.uuid]);
        }
        set_guest(instance.uuid, power_on ? power_states::kRunning : power_states::kShutdown);
        kept.erase(instance.uuid);
        log_.leave();
        return {};
    }
    Result<void> leave(const Instance& instance, bool keep_disks) override {
        TRY(log_.enter("driver.leave"));
        owners.erase(instance.uuid);
        wanted.erase(instance.uuid);
        if (!keep_disks) {
            TRY(destroy(instance));
        } else if (power(instance.uuid) != power_states::kNoState) {
            set_guest(instance.uuid, power_states::kShutdown);
        }
        log_.leave();
        return {};
    }
    bool has_disks(const Instance& instance) override {
        return shared_disks || power(instance.uuid) != power_states::kNoState;
    }

    Result<std::vector<std::string>> list_kept_uuids() override {
        std::vector<std::string> uuids;
        for (const auto& [uuid, data] : kept) {
            uuids.push_back(uuid);
        }
        return uuids;
    }

    Result<std::string> make_probe() override { return std::string(has_probes ? "probe" : ""); }

    Result<std::string> live_migration_facts(const Instance&) override {
        TRY(log_.enter("driver.live_migration_facts"));
        log_.leave();
        return std::string("facts");
    }
    Result<LiveMigrationPlan> check_live_migration(const Instance&,
                                                   const LiveMigrationQuestion& question) override {
        TRY(log_.enter("driver.check_live_migration"));
        log_.leave();
        return LiveMigrationPlan{question.block_migration.value_or(!shared_disks), shared_disks};
    }
    Result<std::string> live_migration_disks(const Instance&) override {
        TRY(log_.enter("driver.live_migration_disks"));
        log_.leave();
        return std::string("disks");
    }
    Result<std::string> pre_live_migration(const LiveMigrationArrival& arrival) override {
        TRY(log_.enter("driver.pre_live_migration"));
        owners[arrival.instance.uuid] = GuestOwner::Incoming;
        arrived_volumes = arrival.volumes;
        arrived_vifs = arrival.instance.network_info;
        log_.leave();
        return std::string("door");
    }
    LiveMigrationOutcome live_migration(const Instance& instance,
                                        const LiveMigrationDeparture& departure,
                                        LiveMigrationObserver& observer) override {
        auto begun = log_.enter("driver.live_migration");
        told = departure;
        if (!begun.ok()) {
            return LiveMigrationOutcome::stayed(std::move(begun).error());
        }
        owners[instance.uuid] = GuestOwner::Departing;
        log_.leave();
        return go(instance, observer);
    }
    LiveMigrationOutcome follow_live_migration(const Instance& instance,
                                               const LiveMigrationOptions&,
                                               LiveMigrationObserver& observer) override {
        return go(instance, observer);
    }
    Result<void> abort_live_migration(const Instance& instance) override {
        TRY(log_.enter("driver.abort_live_migration"));
        abort = owners.contains(instance.uuid);
        log_.leave();
        return {};
    }
    Result<void> force_complete_live_migration(const Instance&) override {
        TRY(log_.enter("driver.force_complete_live_migration"));
        log_.leave();
        return {};
    }
    Result<void> finish_live_migration(const Instance& instance) override {
        TRY(log_.enter("driver.finish_live_migration"));
        if (power(instance.uuid) == power_states::kNoState) {
            return Error::conflict("the guest has not come").with_fault("InvalidMigrationState");
        }
        unfinished.erase(instance.uuid);
        log_.leave();
        return {};
    }
    Result<void> rollback_live_migration(const Instance& instance, bool) override {
        TRY(log_.enter("driver.rollback_live_migration"));
        if (power(instance.uuid) != power_states::kNoState) {
            return Error::conflict("the guest is here").with_fault("InvalidMigrationState");
        }
        owners.erase(instance.uuid);
        log_.leave();
        return {};
    }
    Result<std::vector<std::string>> list_arrival_uuids() override {
        std::vector<std::string> uuids(unfinished.begin(), unfinished.end());
        for (const auto& [uuid, owner] : owners) {
            if (owner == GuestOwner::Incoming) {
                uuids.push_back(uuid);
            }
        }
        return uuids;
    }
    Result<GuestOwner> live_migration_outcome(const Instance& instance) override {
        const auto found = owners.find(instance.uuid);
        if (found == owners.end()) {
            return power(instance.uuid) == power_states::kNoState ? GuestOwner::Absent
                                                                  : GuestOwner::Here;
        }
        if (found->second == GuestOwner::Undecided && --asks_until_decided <= 0) {
            decide(instance.uuid);
            return live_migration_outcome(instance);
        }
        return found->second;
    }

    Result<void> fence_live_migration(const Instance& instance) override {
        TRY(log_.enter("driver.fence_live_migration"));
        const auto found = owners.find(instance.uuid);
        if (found == owners.end() || found->second != GuestOwner::Undecided) {
            return Error::conflict("nothing is undecided").with_fault("InvalidMigrationState");
        }
        decide(instance.uuid);
        log_.leave();
        return {};
    }

    // The guest runs on there, unless the other host has lost what waited for it.
    LiveMigrationOutcome go(const Instance& instance, LiveMigrationObserver& observer) {
        LiveMigrationProgress progress;
        progress.phase = "copying";
        progress.memory_total = 1000;
        progress.memory_remaining = progress.memory_processed = 500;
        observer.progress(progress);
        if (on_copy) {
            on_copy();
        }
        if (abort) {
            abort = false;
            owners.erase(instance.uuid);
            return LiveMigrationOutcome::aborted(Error::cancelled("aborted"));
        }
        if (peer == nullptr || !peer->owners.contains(instance.uuid)) {
            owners.erase(instance.uuid);
            return LiveMigrationOutcome::stayed(Error::unavailable("nobody waits there"));
        }
        observer.switched_over();
        if (asks_until_decided > 0) {
            owners[instance.uuid] = GuestOwner::Undecided;
            return LiveMigrationOutcome::unknown(Error::unavailable("the host does not answer"));
        }
        hand_over(instance.uuid);
        log_.leave();
        return LiveMigrationOutcome::completed();
    }
    void hand_over(const std::string& uuid) {
        const auto border = std::exchange(log_.on_border, {});
        const auto fail = std::exchange(log_.fail, {});
        peer->owners.erase(uuid);
        peer->unfinished.insert(uuid);
        peer->set_guest(uuid, power(uuid));
        peer->write(uuid, disk(uuid).data);
        Instance server;
        server.uuid = uuid;
        (void)destroy(server);
        owners[uuid] = GuestOwner::Gone;
        log_.on_border = border;
        log_.fail = fail;
    }
    void decide(const std::string& uuid) {
        if (decides_to_go) {
            hand_over(uuid);
        } else {
            owners.erase(uuid);
        }
    }

    MovingDriver* peer = nullptr;
    std::map<std::string, GuestOwner> owners;  // while or after it is not simply here
    std::set<std::string> unfinished;
    bool abort = false;
    int asks_until_decided = 0;
    bool decides_to_go = true;
    std::function<void()> on_copy;
    LiveMigrationDeparture told;
    std::vector<VolumeDisk> arrived_volumes;
    std::vector<VifInfo> arrived_vifs;
    bool has_probes = false;  // its folders can be another host's too
    std::map<std::string, std::string> kept, wanted;
    bool shared_disks = false;  // of another host, here too

private:
    void set_data(const std::string& uuid, const std::string& data) {
        if (disk(uuid).data != data) {
            Instance server;
            server.uuid = uuid;
            (void)destroy(server);
            write(uuid, data);
        }
    }
    CallLog& log_;
};

}  // namespace kumoi::compute::moving
