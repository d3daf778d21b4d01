// ServerRecords: compute::CloudRecords with nova-conductor: the devices of a server that have tags,
// the late check of server groups, and the notifications about volumes. Thread safe; blocks.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "api/nova/instance_notifications.h"
#include "api/nova/nova_conductor.h"
#include "compute/manager/cloud_records.h"

namespace kumoi::nova {

class ServerRecords final : public compute::CloudRecords {
public:
    struct Borders {
        NovaConductor& conductor;
        ObjectClient& objects;
        NodeRecords& node;
        const Clock& clock;
        Random& random;
        // Not [workarounds] disable_group_policy_check_upcall: conductors of a cell may be cut off
        // from the API's database, where groups are.
        bool checks_groups = true;
        const InstanceNotifications* notifications = nullptr;
    };
    explicit ServerRecords(const Borders& borders) : borders_(borders) {}

    Result<void> save_devices(const compute::RequestContext& context, const std::string& uuid,
                              const std::vector<compute::TaggedDevice>& devices) override;
    Result<void> check_group(const compute::RequestContext& context, const std::string& uuid,
                             bool on_build) override;
    void volume_started(const compute::RequestContext& context, const std::string& uuid,
                        const compute::VolumeNews& news) override;
    void volume_ended(const compute::RequestContext& context, const std::string& uuid,
                      const compute::VolumeNews& news, const Result<void>& result) override;

private:
    Result<std::optional<NovaObject>> group_of(const Json& context, const std::string& uuid,
                                               bool on_build);
    Result<void> check_apart(const Json& context, const std::string& uuid, const NovaObject& group);
    Result<void> check_together(const Json& context, const std::string& uuid, NovaObject group);

    const Borders borders_;
    std::mutex group_mutex_;  // two servers of a group are looked at one after the other
};

}  // namespace kumoi::nova
