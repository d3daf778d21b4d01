// KumoiVmmDriver, part six: guests that go on in the kumoi-vmm that is installed now
// (docs/reference/live-upgrade.md).
#include "base/file.h"
#include "base/log.h"
#include "compute/driver/guest_upgrade.h"
#include "compute/driver/kumoi_vmm_driver.h"

namespace kumoi::compute {

Result<UpgradeReport> KumoiVmmDriver::upgrade_guest(const std::string& uuid, bool dry_run) {
    const InstanceFolder folder(options_.instances_path, uuid);
    if (!folder.exists()) {
        return Error::not_found("Server {} is not on this host", uuid);
    }
    GuestUpgrade upgrade(options_.process, folder, uuid, clock_, random_);
    const auto older = TRY(upgrade.is_older());
    if (!older) {
        return UpgradeReport{UpgradeReport::Kind::NotRunning, -1, ""};
    }
    if (!*older) {
        return UpgradeReport{UpgradeReport::Kind::Current, -1, ""};
    }
    if (dry_run) {
        return UpgradeReport{UpgradeReport::Kind::Older, -1, ""};
    }
    monitor_.remove(uuid);  // the end of the older process is no news
    UpgradeReport report = upgrade.run(noted_cgroup_procs(folder));
    log_info("driver", "a live upgrade",
             {{"server", uuid},
              {"end", to_string(report.kind)},
              {"stop_ms", static_cast<int64_t>(report.stop_ms)},
              {"reason", report.reason}});
    if (auto watched =
            monitor_.add(uuid, folder.control_socket(), options_.process.control_timeout_ms);
        !watched.ok()) {
        monitor_.ended_early(uuid, false);
    }
    return report;
}

// Those that a daemon before this one has begun.
void KumoiVmmDriver::settle_upgrade(const InstanceFolder& folder, const std::string& uuid) {
    GuestUpgrade upgrade(options_.process, folder, uuid, clock_, random_);
    (void)upgrade.settle();  // it logs
}

}  // namespace kumoi::compute
