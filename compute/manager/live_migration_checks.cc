// The two checks before a live migration: can it go there at all, and how. Nothing is changed.
#include "compute/manager/block_device_build.h"
#include "compute/manager/cloud_records.h"
#include "compute/manager/live_migration_records.h"
#include "compute/manager/live_migration_tasks.h"
#include "compute/manager/volume_api.h"
#include "compute/manager/volume_connections.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

// The other host's back end opens a qcow2 file before this one has written the last of it, and
// would go by tables that it read then.
std::vector<std::string> volumes_that_stay(const std::vector<BlockDevice>& devices) {
    std::vector<std::string> reasons;
    for (const BlockDevice& device : devices) {
        const Json* data = device.connection_info.find("data");
        if (device.is_volume() && data != nullptr && data->is_object() &&
            data->string_or("format", "raw") != "raw") {
            reasons.push_back(fmt::format(
                "its volume {} is a file of the format {} (after a snapshot Cinder's NFS driver "
                "makes one), which cannot be open on two hosts; migrate the server cold",
                device.volume_id, data->string_or("format").substr(0, 32)));
        }
    }
    return reasons;
}

}  // namespace

Result<LiveMigrateData> check_live_destination_task(NodeServices& services,
                                                    const Operation& operation,
                                                    const LiveMigrationCheck& request) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    if (instance.host == services.options.host) {
        return Error::conflict("Unable to migrate instance ({}) to current host ({}).",
                               instance.uuid, instance.host)
            .with_fault("UnableToMigrateToSelf");
    }
    if (services.cloud != nullptr) {
        TRY(services.cloud->check_group(operation.context, instance.uuid, false));
    }
    LiveMigrateData data;
    data.facts = TRY(services.driver.live_migration_facts(instance));
    data.block_migration = request.block_migration;
    data.disk_over_commit = request.disk_over_commit;
    auto answer = services.live->check_can_live_migrate_source(operation.context, instance.uuid,
                                                               instance.host, data);
    services.driver.discard_live_migration_facts(data.facts);
    if (answer.ok()) {
        answer->vifs = instance.network_info;
    }
    return answer;
}

Result<LiveMigrateData> check_live_source_task(NodeServices& services, const Operation& operation,
                                               LiveMigrateData data) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    if (instance.vm_state != vm_states::kActive && instance.vm_state != vm_states::kPaused) {
        return migration_pre_check_error({"server " + instance.uuid + " is " + instance.vm_state +
                                          ", and only active and paused ones go live"});
    }
    std::vector<std::string> reasons;
    LiveMigrationQuestion question;
    question.facts = data.facts;
    question.block_migration = data.block_migration;
    question.disk_over_commit = data.disk_over_commit;
    if (services.volumes != nullptr) {
        const auto devices =
            TRY(services.volumes->records.block_devices(operation.context, instance.uuid));
        question.is_volume_backed = is_volume_backed(devices);
        reasons = volumes_that_stay(devices);
        question.volumes = TRY(connected_disks(services, operation.context, instance));
    }
    auto checked = services.driver.check_live_migration(instance, question);
    if (!reasons.empty()) {
        if (!checked.ok()) {
            reasons.push_back(checked.error().message);
        }
        return migration_pre_check_error(reasons);
    }
    const LiveMigrationPlan plan = TRY(std::move(checked));
    data.is_volume_backed = question.is_volume_backed;
    data.block_migration = plan.block_migration;
    data.is_shared_instance_path = plan.shared_instance_path;
    return data;
}

}  // namespace kumoi::compute
