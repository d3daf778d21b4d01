// SimulatedDriver, part two: servers that leave for another host, and come from one. There is
// nothing to carry: a guest is made again from its record wherever it starts.
#include "compute/driver/resize_rules.h"
#include "compute/driver/simulated_driver.h"
#include "compute/vm_states.h"

namespace kumoi::compute {

Result<std::string> SimulatedDriver::migrate_disk_away(const Instance& instance,
                                                       const Flavor& new_flavor,
                                                       const std::string& /*migration_uuid*/,
                                                       bool shared, int64_t /*timeout_s*/) {
    TRY(check_resize(instance.flavor, new_flavor));
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    if (shared) {
        guests_[instance.uuid].power_state = power_states::kShutdown;
    } else {
        guests_.erase(instance.uuid);
    }
    return std::string(R"({"format":"kumoi-simulated-1"})");
}

Result<void> SimulatedDriver::receive_disk(const Instance& /*instance*/,
                                           const std::string& /*disk_info*/) {
    delay(options_.operation_delay_ms);
    return {};
}

Result<void> SimulatedDriver::leave(const Instance& instance, bool keep_disks) {
    delay(options_.operation_delay_ms);
    const std::lock_guard lock(mutex_);
    gone_.erase(instance.uuid);
    if (!keep_disks) {
        guests_.erase(instance.uuid);
    } else if (const auto guest = guests_.find(instance.uuid); guest != guests_.end()) {
        guest->second.power_state = power_states::kShutdown;
    }
    return {};
}

}  // namespace kumoi::compute
