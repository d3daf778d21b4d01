// Between Nova's versioned objects and kumoi's records: Instance, Flavor, image, network requests
// as the manager knows them, and the manager's changes as fields of the Instance object.
#pragma once

#include <string>
#include <vector>

#include "api/nova/nova_object.h"
#include "compute/manager/conductor_api.h"
#include "compute/objects.h"

namespace kumoi::nova {

compute::Flavor flavor_from(const NovaObject& flavor);
// The server with its flavor(s), image (from system_metadata's image_* keys) and network_info.
// Refuses an object without uuid, and network_info that is not JSON.
Result<compute::Instance> instance_from(const NovaObject& instance);
// The image argument of build, rebuild and resize: a dictionary as Glance describes it; `{}` (boot
// from volume) gives an image without id.
compute::ImageMeta image_from_dict(const Json& image);
// NetworkRequestList. "none" is left out; an empty list, which asks for the project's only network,
// becomes one request that names nothing; "auto" stays a request for the network "auto".
Result<std::vector<compute::RequestedNetwork>> requested_networks_from(const NovaObject& list);

// What update changes of the instance's own fields, set and marked changed. Flavors are taken from
// those the object holds already; InvalidArgument when it holds no such flavor. network_info is not
// a field of it (InstanceInfoCache).
Result<void> apply_update(NovaObject& instance, const compute::InstanceUpdate& update);
// The server's InstanceInfoCache with this network_info, marked changed.
NovaObject info_cache_with(const ObjectTable& table, const std::string& uuid,
                           const std::vector<compute::VifInfo>& vifs);
// `kwargs` of Instance.save.
Json save_arguments(const compute::InstanceUpdate& update);

std::string date_time(int64_t wall_ns);  // field DateTime
}  // namespace kumoi::nova
