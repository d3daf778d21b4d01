// Block device records as Nova has them: BlockDeviceMapping objects, read and written through
// nova-conductor (compute::BlockDeviceStore). Thread safe; blocks for round trips.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "api/nova/nova_object.h"
#include "api/nova/object_client.h"
#include "base/clock.h"
#include "base/random.h"
#include "compute/manager/volume_api.h"

namespace kumoi::nova {

// A value the table does not allow (of an enumeration) is left out.
NovaObject block_device_object(const ObjectTable& table, const compute::BlockDevice& device);
compute::BlockDevice block_device_from(const NovaObject& object);
// The members of a BlockDeviceMappingList.
Result<std::vector<compute::BlockDevice>> block_devices_from(const NovaObject& list);

class BlockDevices final : public compute::BlockDeviceStore {
public:
    BlockDevices(ObjectClient& objects, const Clock& clock, Random& random)
        : objects_(objects), clock_(clock), random_(random) {}

    Result<std::vector<compute::BlockDevice>> block_devices(
        const compute::RequestContext& context, const std::string& instance_uuid) override;
    Result<compute::BlockDevice> block_device_create(const compute::RequestContext& context,
                                                     const compute::BlockDevice& device) override;
    Result<void> block_device_save(const compute::RequestContext& context,
                                   const compute::BlockDevice& device) override;
    Result<void> block_device_destroy(const compute::RequestContext& context,
                                      const compute::BlockDevice& device) override;

private:
    Json wire(const compute::RequestContext& context);
    void remember(const compute::BlockDevice& device);

    static constexpr size_t kKnownMax = 4096;
    ObjectClient& objects_;
    const Clock& clock_;
    Random& random_;
    std::mutex mutex_;                               // guards what follows
    std::map<int64_t, compute::BlockDevice> known_;  // as last read or saved: a save names changes
};

}  // namespace kumoi::nova
