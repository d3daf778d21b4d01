// RemoteCompute: the verbs of one host, as casts and calls to its compute service, and RemoteMoves:
// what hosts are told of servers that go from one to another. Any thread; casts block until the
// broker has the message, calls until the host answered.
#pragma once

#include <string>

#include "api/amqp/rpc_client.h"
#include "api/cluster/conductor_endpoint.h"
#include "base/clock.h"
#include "base/random.h"
#include "compute/conductor/host_moves.h"
#include "compute/manager/compute_api.h"

namespace kumoi::cluster {

// What casts and calls to hosts are made of.
struct ComputeRpc {
    amqp::RpcClient& rpc;
    const ConductorEndpoint& records;  // servers as objects
    compute::Conductor& conductor;
    const Clock& clock;
    Random& random;

    Result<Json> server(const std::string& uuid) const;
    Result<void> cast(const std::string& host, const compute::RequestContext& context,
                      const std::string& method, Json args) const;
    Result<Json> call(const std::string& host, const compute::RequestContext& context,
                      const std::string& method, Json args, amqp::CallOptions options = {}) const;
};

class RemoteCompute : public compute::ComputeApi {
public:
    using Context = compute::RequestContext;
    RemoteCompute(std::string host, const ComputeRpc& rpc) : host_(std::move(host)), rpc_(rpc) {}

    Result<void> build_and_run_instance(compute::BuildRequest request) override;
    Result<void> terminate_instance(const Context& context, const std::string& uuid) override;
    Result<void> start_instance(const Context& context, const std::string& uuid) override;
    Result<void> stop_instance(const Context& context, const std::string& uuid,
                               bool clean_shutdown) override;
    Result<void> reboot_instance(const Context& context, const std::string& uuid,
                                 compute::RebootType type) override;
    Result<void> pause_instance(const Context& context, const std::string& uuid) override;
    Result<void> unpause_instance(const Context& context, const std::string& uuid) override;
    Result<void> suspend_instance(const Context& context, const std::string& uuid) override;
    Result<void> resume_instance(const Context& context, const std::string& uuid) override;
    Result<void> rescue_instance(compute::RescueRequest request) override;
    Result<void> unrescue_instance(const Context& context, const std::string& uuid) override;
    Result<void> rebuild_instance(compute::RebuildRequest request) override;
    Result<void> snapshot_instance(const Context& context, const std::string& uuid) override;
    Result<void> backup_instance(const Context& context, const std::string& uuid) override;
    // The chain of RemoteMoves takes their place.
    Result<void> resize_instance(const Context& context, const std::string& uuid) override;
    Result<void> confirm_resize(const Context& context, const std::string& uuid) override;
    Result<void> revert_resize(const Context& context, const std::string& uuid) override;
    Result<void> shelve_instance(const Context& context, const std::string& uuid) override;
    Result<void> shelve_offload_instance(const Context& context, const std::string& uuid) override;
    Result<void> unshelve_instance(const Context& context, const std::string& uuid) override;
    Result<void> soft_delete_instance(const Context& context, const std::string& uuid) override;
    Result<void> restore_instance(const Context& context, const std::string& uuid) override;
    Result<void> detach_interface(const Context& context, const std::string& uuid,
                                  const std::string& port_id) override;
    Result<void> attach_volume(const Context& context, const std::string& uuid,
                               const compute::BlockDevice& device) override;
    Result<void> detach_volume(const Context& context, const std::string& uuid,
                               const std::string& volume_id,
                               const std::string& attachment_id) override;
    Result<void> swap_volume(const compute::SwapVolumeRequest& request) override;
    Result<void> external_instance_event(const Context& context, const std::string& uuid,
                                         const compute::ServerEvent& event) override;
    Result<compute::VifInfo> attach_interface(
        const compute::AttachInterfaceRequest& request) override;
    Result<compute::BlockDevice> reserve_block_device_name(
        const compute::ReserveDeviceRequest& request) override;
    Result<void> remove_volume_connection(const Context& context, const std::string& uuid,
                                          const std::string& volume_id,
                                          bool delete_attachment) override;
    Result<void> set_admin_password(const compute::SetPasswordRequest& request) override;
    Result<std::string> get_console_output(const Context& context, const std::string& uuid,
                                           int64_t tail_lines) override;
    Result<compute::ConsoleConnection> get_vnc_console(const Context& context,
                                                       const std::string& uuid) override;
    Result<compute::ConsoleConnection> get_serial_console(const Context& context,
                                                          const std::string& uuid) override;
    Result<Json> get_instance_diagnostics(const Context& context, const std::string& uuid) override;
    Result<double> get_host_uptime() override;
    compute::ComputeNode compute_node() override;

private:
    Result<void> verb(const std::string& method, const Context& context, const std::string& uuid,
                      Json args = Json::object());

    const std::string host_;
    const ComputeRpc rpc_;
};

class RemoteMoves final : public compute::HostMoves {
public:
    using Context = compute::RequestContext;
    using Instance = compute::Instance;
    using MigrationRecord = compute::MigrationRecord;
    explicit RemoteMoves(const ComputeRpc& rpc) : rpc_(rpc) {}

    Result<Json> check_can_live_migrate_destination(const Context& context,
                                                    const Instance& instance,
                                                    const MigrationRecord& migration,
                                                    const std::optional<bool>& block_migration,
                                                    bool disk_over_commit) override;
    Result<void> live_migration(const Context& context, const Instance& instance,
                                const MigrationRecord& migration,
                                const Json& migrate_data) override;
    Result<void> live_migration_abort(const Context& context, const Instance& instance,
                                      const MigrationRecord& migration) override;
    Result<void> live_migration_force_complete(const Context& context, const Instance& instance,
                                               const MigrationRecord& migration) override;
    Result<void> prep_resize(const Context& context, const Instance& instance,
                             const MigrationRecord& migration,
                             const compute::Flavor& flavor) override;
    Result<void> confirm_resize(const Context& context, const Instance& instance,
                                const MigrationRecord& migration) override;
    Result<void> revert_resize(const Context& context, const Instance& instance,
                               const MigrationRecord& migration) override;
    Result<void> evacuate(const compute::EvacuateServer& request, const Instance& instance,
                          const MigrationRecord& migration) override;

private:
    Result<Json> arguments(const Instance& instance, const MigrationRecord& migration) const;

    const ComputeRpc rpc_;
};

}  // namespace kumoi::cluster
