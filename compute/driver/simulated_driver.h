// SimulatedDriver: the virt driver contract in memory: no processes, files or devices, thousands of
// servers, with the delays and the share of failing spawns that the section [simulated] gives. For
// tests of everything above the driver, and for load tests. Forgets its guests with the process.
// Any thread; calls sleep for their configured delay without holding the lock.
#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>

#include "base/clock.h"
#include "base/config.h"
#include "base/random.h"
#include "compute/driver/live_migration.h"
#include "compute/driver/virt_driver.h"

namespace kumoi::compute {

struct SimulatedOptions {
    int64_t vcpus = 64;
    int64_t memory_mb = 262144;
    int64_t local_gb = 4096;
    int64_t spawn_delay_ms = 0;
    int64_t operation_delay_ms = 0;
    double failure_rate = 0;  // of spawns, 0 to 1
    int64_t migration_bandwidth_mib_s = 8192;
    int64_t dirty_rate_mib_s = 0;       // that each guest writes while it is migrated
    double migration_failure_rate = 0;  // of live migrations, 0 to 1
    bool shared_storage = false;        // as if all hosts used the same folder of servers

    static SimulatedOptions from_config(const Config& config);
};

class SimulatedDriver final : public VirtDriver {
public:
    using Sleep = std::function<void(int64_t nanoseconds)>;

    // `sleep`: how a delay passes; none: the calling thread sleeps.
    SimulatedDriver(SimulatedOptions options, const Clock& clock, Random& random, Sleep sleep = {});

    Result<void> init_host(const std::string& host) override;
    void set_event_listener(std::function<void(const LifecycleEvent&)> listener) override;
    void recall_guests(const std::vector<Instance>& instances) override;
    Result<void> spawn(const SpawnRequest& request) override;
    Result<void> destroy(const Instance& instance) override;
    Result<void> power_on(const Instance& instance) override;
    Result<void> power_off(const Instance& instance, int64_t timeout_s) override;
    Result<void> reboot(const Instance& instance, RebootType type) override;
    Result<void> pause(const Instance& instance) override;
    Result<void> unpause(const Instance& instance) override;
    Result<void> suspend(const Instance& instance) override;
    Result<void> resume(const Instance& instance) override;
    Result<std::unique_ptr<DiskSnapshot>> snapshot(const Instance& instance) override;
    Result<void> rescue(const RescueSpec& spec) override;
    Result<void> unrescue(const Instance& instance, bool power_on) override;
    Result<void> rebuild(const SpawnRequest& request, bool preserve_ephemeral) override;
    Result<void> migrate_disk_and_power_off(const Instance& instance, const Flavor& new_flavor,
                                            int64_t timeout_s) override;
    Result<void> finish_migration(const Instance& instance, bool power_on) override;
    Result<void> confirm_migration(const Instance& instance) override;
    Result<void> finish_revert_migration(const Instance& instance, bool power_on) override;
    Result<std::string> migrate_disk_away(const Instance& instance, const Flavor& new_flavor,
                                          const std::string& migration_uuid, bool shared,
                                          int64_t timeout_s) override;
    Result<void> receive_disk(const Instance& instance, const std::string& disk_info) override;
    Result<void> leave(const Instance& instance, bool keep_disks) override;
    Result<void> attach_interface(const Instance& instance, const VifInfo& vif) override;
    Result<void> detach_interface(const Instance& instance, const VifInfo& vif) override;
    Result<void> set_volumes(const Instance& instance,
                             const std::vector<VolumeDisk>& volumes) override;
    Result<void> attach_volume(const Instance& instance, const VolumeDisk& volume) override;
    Result<void> detach_volume(const Instance& instance, const std::string& volume_id) override;
    Result<void> reconnect_volume(const Instance& instance, const std::string& volume_id) override;
    Result<void> rename_volume(const Instance& instance, const std::string& volume_id,
                               const std::string& new_volume_id) override;
    Result<InstanceInfo> get_info(const Instance& instance) override;
    Result<std::vector<std::string>> list_instance_uuids() override;
    Result<std::string> get_console_output(const Instance& instance, int64_t tail_lines) override;
    Result<std::string> get_vnc_console(const Instance& instance) override;
    Result<std::string> get_serial_console(const Instance& instance) override;
    Result<Json> get_instance_diagnostics(const Instance& instance) override;
    Result<HostResources> get_available_resource() override;
    Result<std::string> live_migration_facts(const Instance& instance) override;
    Result<LiveMigrationPlan> check_live_migration(const Instance& instance,
                                                   const LiveMigrationQuestion& question) override;
    Result<std::string> live_migration_disks(const Instance& instance) override;
    Result<std::string> pre_live_migration(const LiveMigrationArrival& arrival) override;
    LiveMigrationOutcome live_migration(const Instance& instance,
                                        const LiveMigrationDeparture& departure,
                                        LiveMigrationObserver& observer) override;
    Result<void> abort_live_migration(const Instance& instance) override;
    Result<void> force_complete_live_migration(const Instance& instance) override;
    Result<void> finish_live_migration(const Instance& instance) override;
    Result<void> rollback_live_migration(const Instance& instance, bool destroy_disks) override;
    Result<std::vector<std::string>> list_arrival_uuids() override;
    Result<GuestOwner> live_migration_outcome(const Instance& instance) override;

    // What a guest may do by itself: changes its state and tells the listener.
    void guest_event(const std::string& uuid, LifecycleEvent::Kind kind, const std::string& detail);

private:
    struct Guest {
        int power_state = 0;
        bool suspended = false;
        int64_t started_ns = 0;
        int64_t memory_mb = 0;
        int64_t root_gb = 0;
        int64_t vcpus = 0;
        std::vector<std::string> macs;
        std::string console;
    };
    struct Asked {
        bool abort = false;
        bool force = false;
    };
    struct Copy;
    void delay(int64_t milliseconds) const;
    LiveMigrationOutcome run_copy(const Instance& instance, Copy& copy,
                                  LiveMigrationObserver& observer);
    Result<void> set_running(const Instance& instance, bool power_on);
    Result<void> set_power(const Instance& instance, int from, int to, std::string_view verb);
    static void start(Guest& guest, const Instance& instance, int64_t now_ns);

    const SimulatedOptions options_;
    const Clock& clock_;
    Random& random_;
    const Sleep sleep_;
    mutable std::mutex mutex_;  // guards everything below
    std::unordered_map<std::string, Guest> guests_;
    std::unordered_map<std::string, Asked> leaving_;  // in live_migration()
    std::set<std::string> arriving_, gone_;
    std::function<void(const LifecycleEvent&)> listener_;
};

}  // namespace kumoi::compute
