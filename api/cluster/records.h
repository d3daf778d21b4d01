// The control plane's records as Nova's versioned objects, as nova-conductor would send them, and
// the changes a node sends back. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "api/nova/nova_object.h"
#include "compute/conductor/migration_store.h"
#include "compute/conductor/service_store.h"
#include "compute/manager/conductor_api.h"
#include "compute/objects.h"

namespace kumoi::cluster {

// All objects of a cluster are of this release: both ends are ours.
const nova::ObjectTable& objects();

// What an instance's object holds beyond the record: numbers of its flavors, and the context of a
// move as its destination made it (null: none).
struct InstanceFacts {
    int64_t flavor_number = 0;
    int64_t old_flavor_number = 0;
    int64_t new_flavor_number = 0;
    Json migration_context;
};

Json instance_primitive(const compute::Instance& instance, const InstanceFacts& facts);
Json flavor_primitive(const compute::Flavor& flavor, int64_t number);
Json migration_primitive(const compute::MigrationRecord& migration);
Json service_primitive(const compute::ServiceRecord& service);
Json compute_node_primitive(const compute::ComputeNodeRecord& record);
Json list_primitive(const std::string& name, Json::Array members);
Json requested_networks_primitive(const std::vector<compute::RequestedNetwork>& networks);

// The fields of an Instance's save() that the control plane keeps.
compute::InstanceUpdate instance_update(const nova::NovaObject& saved, const Json& kwargs);
void apply_migration(const nova::NovaObject& saved, compute::MigrationRecord& migration);
compute::ComputeNode compute_node_from(const nova::NovaObject& saved);

}  // namespace kumoi::cluster
