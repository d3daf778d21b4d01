// The identity of a node across restarts: the file compute_id below state_path, equal to the uuid
// of its ComputeNode record and of its resource provider (NOVA-COMPUTE contract 4.3).
#pragma once

#include <string>

#include "api/nova/node_records.h"

namespace kumoi::nova {

// Before the manager reads the file: when conductor has a record of this node and there is no file,
// the file gets the record's uuid (this host took the place of a nova-compute). Refuses two
// identities for one name.
Result<void> settle_compute_id(NodeRecords& records, const std::string& state_path);

}  // namespace kumoi::nova
