#include "compute/manager/agent_tasks.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <sstream>

#include "base/encoding.h"
#include "base/log.h"
#include "compute/manager/nova_rules.h"
#include "compute/manager/volume_api.h"
#include "compute/server_password.h"
#include "compute/ssh_key.h"
#include "compute/vm_states.h"

namespace kumoi::compute {
namespace {

constexpr char kRsaType[] = "ssh-rsa";
constexpr int64_t kSnapshotsWaitMs = 300'000;
constexpr int64_t kSnapshotsLookMs = 500;

// What Nova's API passes on to whoever asked.
bool is_for_the_caller(const Error& error) {
    constexpr std::array<std::string_view, 3> kFaults = {
        "InstanceAgentNotEnabled", "QemuGuestAgentNotEnabled", "SetAdminPasswdNotSupported"};
    return std::ranges::find(kFaults, error.fault) != kFaults.end() || is_taken_over(error);
}

Error password_failure(const std::string& uuid, std::string_view reason) {
    return Error::conflict("Failed to set admin password on {} because {}", uuid, reason)
        .with_fault("InstancePasswordSetFailed");
}

Error for_the_caller(const Instance& instance, const Error& error) {
    if (is_for_the_caller(error)) {
        return error;
    }
    log_warn("compute", "the password was not set", {{"why", error.text()}});
    if (error.fault == "NotImplementedError") {
        return Error::unsupported(
                   "set_admin_password is not implemented by this driver or guest instance.")
            .with_hint(error.hint)
            .with_fault("NotImplementedError");
    }
    return password_failure(instance.uuid, "error setting admin password");
}

// Nobody can read it without the private key; a key of another kind keeps it from being kept.
std::optional<Properties> kept_password(const Instance& instance, const std::string& password) {
    if (!instance.key_data.starts_with(kRsaType)) {
        return std::nullopt;
    }
    const auto secret = encrypt_for_ssh_key(instance.key_data, password);
    if (!secret.ok() || secret->size() > kStoredPasswordMax) {
        log_warn("compute", "the password is not kept",
                 {{"why", secret.ok() ? "the server's key is too long" : secret.error().text()}});
        return std::nullopt;
    }
    Properties metadata = instance.system_metadata;
    for (auto& [key, piece] : password_pieces(*secret)) {
        metadata[key] = piece;
    }
    return metadata;
}

}  // namespace

Result<void> set_password_task(NodeServices& services, const Operation& operation,
                               const std::string& password) {
    const Instance instance = TRY(services.conductor.instance_get(operation.uuid));
    if (power_state_of(services.driver, instance) != power_states::kRunning) {
        return password_failure(instance.uuid,
                                fmt::format("instance {} is not running", instance.uuid));
    }
    services.journal.step(operation.journal_id, "password");
    const auto set = services.driver.set_admin_password(instance, password);
    if (!set.ok()) {
        return for_the_caller(instance, set.error());
    }
    InstanceUpdate update = to_task_state(std::nullopt, {task_states::kUpdatingPassword});
    update.system_metadata = kept_password(instance, password);
    return services.conductor.instance_save(instance.uuid, update);
}

Result<void> give_up_password(NodeServices& services, const Operation& operation) {
    TRY(services.conductor.instance_save(
        operation.uuid, to_task_state(std::nullopt, {task_states::kUpdatingPassword})));
    return node_was_restarted("set this server's password");
}

void wait_for_snapshots(NodeServices& services, const RequestContext& context,
                        const std::vector<std::string>& snapshot_ids) {
    if (services.volumes == nullptr) {
        return;
    }
    int64_t left_ms = kSnapshotsWaitMs;
    for (const std::string& id : snapshot_ids) {
        auto status = services.volumes->volumes.snapshot_status(context, id);
        while (status.ok() && *status == "creating" && left_ms > 0) {
            services.volumes->sleep(kSnapshotsLookMs);
            left_ms -= kSnapshotsLookMs;
            status = services.volumes->volumes.snapshot_status(context, id);
        }
        if (!status.ok() || *status == "creating") {
            log_warn("compute", "a snapshot of a volume is not waited for",
                     {{"snapshot", id}, {"why", status.ok() ? *status : status.error().text()}});
        }
    }
}

void thaw_after_restart(NodeServices& services, const Instance& instance) {
    if (instance.vm_state != vm_states::kActive) {
        return;
    }
    const auto thawed = services.driver.unquiesce(instance);
    if (!thawed.ok() && thawed.error().fault != "QemuGuestAgentNotEnabled" &&
        thawed.error().fault != "InstanceQuiesceNotSupported") {
        log_warn("compute", "the guest's file systems may stand still",
                 {{"server", instance.uuid}, {"why", thawed.error().text()}});
    }
}

}  // namespace kumoi::compute
