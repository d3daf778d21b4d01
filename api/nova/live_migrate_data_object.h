// LibvirtLiveMigrateData, which nova-conductor knows, and LiveMigrateData, which the manager knows.
// What two kumoi nodes tell each other besides travels in fields that conductor passes on unread:
// the destination's facts in `filename`, the way to it in `target_connect_addr`.
#pragma once

#include "api/nova/nova_object.h"
#include "compute/manager/live_migrate_data.h"

namespace kumoi::nova {

Result<compute::LiveMigrateData> live_migrate_data_from(const NovaObject& object);
// Starts from data.wire where there is one. `migration`: a primitive; null: none.
Result<NovaObject> live_migrate_data_object(const ObjectTable& table,
                                            const compute::LiveMigrateData& data,
                                            const Json& migration);

}  // namespace kumoi::nova
