#include "compute/driver/guest_cgroup.h"

#include <poll.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

namespace kumoi::compute {
namespace {

// Each limit by itself: one that the host cannot give takes no other with it.
std::vector<CgroupLimits> one_by_one(const CgroupLimits& limits) {
    std::vector<CgroupLimits> parts;
    if (limits.cpu_shares) {
        parts.emplace_back().cpu_shares = limits.cpu_shares;
    }
    if (limits.memory_bytes) {
        parts.emplace_back().memory_bytes = limits.memory_bytes;
    }
    if (limits.pids) {
        parts.emplace_back().pids = limits.pids;
    }
    return parts;
}

// The machine has ended; the launcher that waited for it may take a moment more.
Result<void> remove_when_empty(const std::vector<std::string>& folders) {
    constexpr int kTries = 50;
    constexpr int kStepMs = 10;
    for (int left = kTries;; --left) {
        auto removed = remove_cgroup_folders(folders);
        if (removed.ok() || removed.error().code != ErrorCode::Conflict || left == 0) {
            return removed;
        }
        ::poll(nullptr, 0, kStepMs);
    }
}

bool asks_for_anything(const CgroupLimits& limits) {
    return limits.cpu_shares || limits.cpu_period_us || limits.cpu_quota_us || limits.cpus ||
           limits.memory_nodes || limits.memory_bytes || limits.pids;
}

}  // namespace

GuestCgroups::GuestCgroups(std::string parent)
    : GuestCgroups(std::move(parent), CgroupHost::detect()) {}

GuestCgroups::GuestCgroups(std::string parent, Result<CgroupHost> host)
    : parent_(std::move(parent)), host_(std::move(host)) {}

Result<std::vector<std::string>> GuestCgroups::make(const InstanceFolder& folder,
                                                    const std::string& name,
                                                    const GuestLimits& limits) {
    const bool required = asks_for_anything(limits.required);
    if (parent_.empty() && !required) {
        return std::vector<std::string>();  // as the operator wants it
    }
    auto made = [&]() -> Result<std::vector<std::string>> {
        const Cgroup group = TRY(create(folder, name));
        TRY(group.apply(limits.required));
        apply_wished(group, limits.wished);
        return group.procs_files();
    }();
    if (made.ok()) {
        return made;
    }
    remove(folder);
    if (required) {
        Error error = made.error();
        return std::move(error)
            .with_context("limiting the guest's CPU time as its flavor asks for")
            .with_hint(
                "Take the quota:cpu_* extra specs from the flavor, or give kumoi-compute a "
                "control group that it may divide ([kumoi] cgroup_parent).");
    }
    tell_once("guests run without control groups", made.error().text());
    return std::vector<std::string>();
}

Result<Cgroup> GuestCgroups::create(const InstanceFolder& folder, const std::string& name) {
    if (parent_.empty()) {
        return Error::unsupported("[kumoi] cgroup_parent is empty: guests have no control groups");
    }
    if (!host_.ok()) {
        return host_.error();
    }
    if (host_->controllers.empty()) {
        return Error::unsupported("this host has mounted no control groups");
    }
    Cgroup group = TRY(Cgroup::create(*host_, parent_ + "/" + name));
    TRY(write_file_atomic(folder.cgroups(), Json::array_of(group.folders()).dump(), 0600));
    return group;
}

void GuestCgroups::apply_wished(const Cgroup& group, const CgroupLimits& limits) {
    for (const CgroupLimits& part : one_by_one(limits)) {
        if (const auto applied = group.apply(part); !applied.ok()) {
            tell_once("a limit of guests is left out", applied.error().text());
        }
    }
}

void GuestCgroups::remove(const InstanceFolder& folder) {
    if (!path_exists(folder.cgroups())) {
        return;
    }
    const auto removed = [&]() -> Result<void> {
        const Json list = TRY(Json::parse(TRY(read_file(folder.cgroups()))));
        std::vector<std::string> folders;
        if (list.is_array()) {
            for (const Json& item : list.as_array()) {
                folders.push_back(item.is_string() ? item.as_string() : "");
            }
        }
        TRY(remove_when_empty(folders));
        return remove_file(folder.cgroups());
    }();
    if (!removed.ok()) {
        log_warn("driver", "a guest's control group stays",
                 {{"folder", folder.path()}, {"why", removed.error().text()}});
    }
}

void GuestCgroups::tell_once(const std::string& what, const std::string& why) {
    const std::lock_guard lock(mutex_);
    if (told_.insert(what + why).second) {
        log_warn("driver", what, {{"why", why}});
    }
}

}  // namespace kumoi::compute
