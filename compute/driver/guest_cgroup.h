// GuestCgroups: a control group for each guest's kumoi-vmm, so that a guest has its flavor's share
// of the host and no more (docs/reference/resources.md).
//
// Where a group is, is noted in the server's folder: whatever becomes of the daemon, the next one
// removes it. A host that cannot do what a flavor asks for refuses the start;
// what we would only like (memory, process limits, default shares) is left out there, and told once
// in the log. Thread safe; blocks on files.
#pragma once

#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/cgroup.h"
#include "base/result.h"
#include "compute/driver/instance_folder.h"

namespace kumoi::compute {

struct GuestLimits {
    CgroupLimits required;  // asked for by the flavor
    CgroupLimits wished;
};

class GuestCgroups {
public:
    // `parent`: as Cgroup::create() takes names; empty: guests have no groups.
    explicit GuestCgroups(std::string parent);
    GuestCgroups(std::string parent, Result<CgroupHost> host);

    // The files in which a process joins the guest's group; none where there are no groups.
    Result<std::vector<std::string>> make(const InstanceFolder& folder, const std::string& name,
                                          const GuestLimits& limits);
    // After the process has ended; fine when there is none. A group that cannot be removed stays
    // noted in the folder.
    void remove(const InstanceFolder& folder);

private:
    Result<Cgroup> create(const InstanceFolder& folder, const std::string& name);
    void apply_wished(const Cgroup& group, const CgroupLimits& limits);
    void tell_once(const std::string& what, const std::string& why);

    const std::string parent_;
    const Result<CgroupHost> host_;
    std::mutex mutex_;  // guards told_
    std::set<std::string> told_;
};

}  // namespace kumoi::compute
