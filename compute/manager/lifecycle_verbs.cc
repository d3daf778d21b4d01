// ComputeManager, part two: the verbs that change what a server is made of.
#include "compute/manager/compute_manager.h"
#include "compute/manager/power_tasks.h"
#include "compute/manager/rebuild_task.h"
#include "compute/manager/rescue_task.h"
#include "compute/manager/resize_task.h"
#include "compute/manager/shelve_task.h"
#include "compute/manager/snapshot_task.h"
#include "compute/manager/suspend_task.h"

namespace kumoi::compute {
namespace {

constexpr auto kDiskWork = ServerQueue::Lane::Build;

}  // namespace

Result<void> ComputeManager::suspend_instance(const RequestContext& context,
                                              const std::string& uuid) {
    return submit(verbs::kSuspend, context, uuid, suspend_task);
}

Result<void> ComputeManager::resume_instance(const RequestContext& context,
                                             const std::string& uuid) {
    return submit(verbs::kResume, context, uuid, resume_task);
}

Result<void> ComputeManager::rescue_instance(RescueRequest request) {
    return submit(verbs::kRescue, request.context, request.uuid,
                  [password = request.admin_password](auto& services, const auto& operation) {
                      return RescueTask(services, operation, password).execute();
                  });
}

Result<void> ComputeManager::unrescue_instance(const RequestContext& context,
                                               const std::string& uuid) {
    return submit(verbs::kUnrescue, context, uuid, unrescue_task);
}

Result<void> ComputeManager::rebuild_instance(RebuildRequest request) {
    return submit(
        verbs::kRebuild, request.context, request.uuid,
        [password = request.admin_password](auto& services, const auto& operation) {
            return RebuildTask(services, operation, password).execute();
        },
        kDiskWork);
}

Result<void> ComputeManager::snapshot_instance(const RequestContext& context,
                                               const std::string& uuid) {
    return submit(
        verbs::kSnapshot, context, uuid,
        [](auto& services, const auto& operation) {
            return SnapshotTask(services, operation, SnapshotKind::Image).execute();
        },
        kDiskWork);
}

Result<void> ComputeManager::backup_instance(const RequestContext& context,
                                             const std::string& uuid) {
    return submit(
        verbs::kBackup, context, uuid,
        [](auto& services, const auto& operation) {
            return SnapshotTask(services, operation, SnapshotKind::Backup).execute();
        },
        kDiskWork);
}

Result<void> ComputeManager::resize_instance(const RequestContext& context,
                                             const std::string& uuid) {
    return submit(
        verbs::kResize, context, uuid,
        [](auto& services, const auto& operation) {
            return ResizeTask(services, operation).execute();
        },
        kDiskWork);
}

Result<void> ComputeManager::confirm_resize(const RequestContext& context,
                                            const std::string& uuid) {
    return submit(verbs::kConfirmResize, context, uuid, confirm_resize_task);
}

Result<void> ComputeManager::revert_resize(const RequestContext& context, const std::string& uuid) {
    return submit(verbs::kRevertResize, context, uuid, revert_resize_task);
}

Result<void> ComputeManager::shelve_instance(const RequestContext& context,
                                             const std::string& uuid) {
    return submit(
        verbs::kShelve, context, uuid,
        [](auto& services, const auto& operation) {
            return ShelveTask(services, operation).execute();
        },
        kDiskWork);
}

Result<void> ComputeManager::shelve_offload_instance(const RequestContext& context,
                                                     const std::string& uuid) {
    return submit(verbs::kShelveOffload, context, uuid, shelve_offload_task);
}

Result<void> ComputeManager::unshelve_instance(const RequestContext& context,
                                               const std::string& uuid) {
    return submit(
        verbs::kUnshelve, context, uuid,
        [](auto& services, const auto& operation) {
            return UnshelveTask(services, operation).execute();
        },
        kDiskWork);
}

Result<void> ComputeManager::soft_delete_instance(const RequestContext& context,
                                                  const std::string& uuid) {
    return submit(verbs::kSoftDelete, context, uuid, soft_delete_task);
}

Result<void> ComputeManager::restore_instance(const RequestContext& context,
                                              const std::string& uuid) {
    return submit(verbs::kRestore, context, uuid, restore_task);
}

}  // namespace kumoi::compute
