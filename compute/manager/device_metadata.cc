#include "compute/manager/device_metadata.h"

#include <algorithm>

#include "compute/manager/cloud_records.h"
#include "compute/manager/volume_api.h"
#include "compute/manager/volume_connections.h"
#include "compute/nic_slots.h"

namespace kumoi::compute {
namespace {

Result<std::vector<BlockDevice>> records_of(NodeServices& services, const RequestContext& context,
                                            const std::string& uuid) {
    if (services.volumes == nullptr) {
        return std::vector<BlockDevice>();
    }
    return services.volumes->records.block_devices(context, uuid);
}

}  // namespace

Result<std::vector<TaggedDevice>> tagged_devices(NodeServices& services, const Instance& instance,
                                                 const std::vector<BlockDevice>& records) {
    std::vector<VifInfo> vifs = instance.network_info;
    assign_nic_slots(vifs);
    std::vector<TaggedDevice> tagged = tagged_nics(vifs);
    const auto has_tag = [](const BlockDevice& device) { return !device.tag.empty(); };
    if (std::ranges::none_of(records, has_tag)) {
        return tagged;
    }
    std::vector<VolumeDisk> volumes;
    for (const BlockDevice& device : records) {
        if (device.is_volume() && !device.volume_id.empty()) {
            volumes.push_back(volume_disk(device, {}));
        }
    }
    const auto places = TRY(services.driver.disk_places(instance, volumes));
    for (TaggedDevice& disk : tagged_disks(records, places)) {
        tagged.push_back(std::move(disk));
    }
    return tagged;
}

Result<std::vector<TaggedDevice>> record_tagged_devices(NodeServices& services,
                                                        const RequestContext& context,
                                                        const Instance& instance) {
    const auto records = TRY(records_of(services, context, instance.uuid));
    return record_tagged_devices(services, context, instance, records);
}

Result<std::vector<TaggedDevice>> record_tagged_devices(NodeServices& services,
                                                        const RequestContext& context,
                                                        const Instance& instance,
                                                        const std::vector<BlockDevice>& records) {
    auto tagged = TRY(tagged_devices(services, instance, records));
    if (!tagged.empty() && services.cloud != nullptr) {
        TRY(services.cloud->save_devices(context, instance.uuid, tagged));
    }
    return tagged;
}

void renew_tagged_devices(NodeServices& services, const RequestContext& context,
                          const std::string& uuid, const std::string& tag) {
    if (tag.empty() || services.cloud == nullptr) {
        return;
    }
    const auto renewed = [&]() -> Result<void> {
        const Instance instance = TRY(services.conductor.instance_get(uuid));
        const auto records = TRY(records_of(services, context, uuid));
        const auto tagged = TRY(tagged_devices(services, instance, records));
        return services.cloud->save_devices(context, uuid, tagged);
    }();
    if (!renewed.ok() && !is_taken_over(renewed.error())) {
        warn_unless_ok(renewed, "the record does not say which devices have tags now");
    }
}

}  // namespace kumoi::compute
