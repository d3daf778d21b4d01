// MovingDriver: a FakeDriver whose disks travel from host to host in disk_info.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compute/vm_states.h"
#include "tests/support/compute_fakes.h"

namespace kumoi::compute::moving {

class MovingDriver final : public FakeDriver {
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
