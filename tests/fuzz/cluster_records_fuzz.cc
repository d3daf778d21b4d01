// Any JSON as what nodes of a standalone cloud and their control plane tell each other
// (api/cluster): networks, ports and servers of the network service, and saved objects. What is
// taken must be the same after it was told on.
#include <cstdint>
#include <string_view>

#include "api/cluster/network_codec.h"
#include "api/cluster/records.h"
#include "base/assert.h"

using namespace kumoi;

namespace {

void network_service(const Json& json) {
    if (const auto network = cluster::network_from_json(json); network.ok()) {
        const Json told = cluster::network_to_json(*network);
        const auto again = cluster::network_from_json(told);
        KUMOI_ASSERT(again.ok());
        KUMOI_ASSERT(cluster::network_to_json(*again) == told);
    }
    if (const auto port = cluster::port_from_json(json); port.ok()) {
        const Json told = cluster::port_to_json(*port);
        const auto again = cluster::port_from_json(told);
        KUMOI_ASSERT(again.ok());
        KUMOI_ASSERT(cluster::port_to_json(*again) == told);
    }
    const Json told = cluster::server_to_json(cluster::server_from_json(json));
    KUMOI_ASSERT(cluster::server_to_json(cluster::server_from_json(told)) == told);
}

void saved_object(const Json& json) {
    const auto object = nova::NovaObject::parse(cluster::objects(), json);
    if (!object.ok()) {
        return;
    }
    (void)cluster::instance_update(*object, Json::object());
    (void)cluster::instance_update(*object, json);
    compute::MigrationRecord migration;  // as it is kept
    migration.id = 1;
    migration.uuid = "11111111-2222-3333-4444-555555555555";
    migration.instance_uuid = migration.uuid;
    migration.migration_type = "live-migration";
    migration.status = "running";
    cluster::apply_migration(*object, migration);
    (void)cluster::migration_primitive(migration);
    const compute::ComputeNode node = cluster::compute_node_from(*object);
    KUMOI_ASSERT(node.host.size() <= json.dump().size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto json = Json::parse({reinterpret_cast<const char*>(data), size});
    if (json.ok()) {
        network_service(*json);
        saved_object(*json);
    }
    return 0;
}
