// The devices of a server with tags as Nova keeps them: InstanceDeviceMetadata. Pure.
#pragma once

#include <vector>

#include "api/nova/object_table.h"
#include "base/json.h"
#include "compute/device_tags.h"

namespace kumoi::nova {

// The primitive; null without any, as Nova has it.
Json device_metadata(const ObjectTable& table, const std::vector<compute::TaggedDevice>& devices);

}  // namespace kumoi::nova
