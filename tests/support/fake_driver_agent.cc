// FakeDriver's agent in its guests.
#include "tests/support/compute_fakes.h"

namespace kumoi::compute {

Result<void> FakeDriver::set_admin_password(const Instance& instance, const std::string& password) {
    TRY(log_.enter("driver.set_admin_password"));
    {
        const std::lock_guard lock(mutex_);
        passwords_[instance.uuid] = password;
    }
    log_.leave();
    return {};
}

Result<void> FakeDriver::quiesce(const Instance& instance) {
    TRY(log_.enter("driver.quiesce"));
    {
        const std::lock_guard lock(mutex_);
        frozen_.insert(instance.uuid);
    }
    log_.leave();
    return {};
}

Result<void> FakeDriver::unquiesce(const Instance& instance) {
    TRY(log_.enter("driver.unquiesce"));
    {
        const std::lock_guard lock(mutex_);
        frozen_.erase(instance.uuid);
    }
    log_.leave();
    return {};
}

std::string FakeDriver::admin_password(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    const auto found = passwords_.find(uuid);
    return found == passwords_.end() ? "" : found->second;
}

bool FakeDriver::frozen(const std::string& uuid) const {
    const std::lock_guard lock(mutex_);
    return frozen_.contains(uuid);
}

}  // namespace kumoi::compute
