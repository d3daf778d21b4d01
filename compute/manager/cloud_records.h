// CloudRecords: what a cloud keeps of its servers and tells others about them, beyond ConductorApi:
// devices with tags, groups, what volumes did. The manager owns the interface, api/nova implements
// it; standalone there is none. Any thread; may block.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "compute/device_tags.h"
#include "compute/manager/conductor_api.h"

namespace kumoi::compute {

// A volume comes, goes, or takes another's place.
struct VolumeNews {
    enum class Action { Attach, Detach, Swap } action = Action::Attach;
    std::string volume_id;
    std::string new_volume_id = {};  // of Swap
};

class CloudRecords {
public:
    virtual ~CloudRecords() = default;
    virtual Result<void> save_devices(const RequestContext& context, const std::string& uuid,
                                      const std::vector<TaggedDevice>& devices) = 0;
    // Whether the server may be on this host by the rule of its group, now that others were placed
    // at the same time; GroupAffinityViolation when not (Nova's late check). `on_build`: the
    // request names the group.
    virtual Result<void> check_group(const RequestContext& context, const std::string& uuid,
                                     bool on_build) = 0;
    // For those who listen.
    virtual void volume_started(const RequestContext& context, const std::string& uuid,
                                const VolumeNews& news) = 0;
    virtual void volume_ended(const RequestContext& context, const std::string& uuid,
                              const VolumeNews& news, const Result<void>& result) = 0;
};

}  // namespace kumoi::compute
