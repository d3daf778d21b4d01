// Fakes of what the conductor talks to: nodes, images, networks. Everything happens at once and on
// the caller's thread; what was asked is kept for the test to look at.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <fmt/ranges.h>

#include "base/clock.h"
#include "compute/manager/compute_api.h"
#include "compute/manager/image_api.h"
#include "compute/manager/network_api.h"
#include "compute/vm_states.h"

namespace kumoi::compute::conductor_fakes {

class ImageApiFake final : public ImageApi {
public:
    std::map<std::string, ImageMeta> images;

    ImageMeta& add(const std::string& id, const std::string& name = "tiny") {
        ImageMeta& image = images[id];
        image.id = id;
        image.name = name;
        image.status = "active";
        image.disk_format = "raw";
        image.container_format = "bare";
        image.size = 1 << 20;
        return image;
    }
    Result<ImageMeta> show(const RequestContext&, const std::string& id) override {
        const auto found = images.find(id);
        if (found == images.end()) {
            return Error::not_found("No image {}", id).with_fault("ImageNotFound");
        }
        return found->second;
    }
    Result<void> download(const RequestContext&, const std::string&,
                          const std::function<Result<void>(std::span<const std::byte>)>&) override {
        return Error::unsupported("not in tests");
    }
    Result<ImageMeta> create(const RequestContext& context, const ImageMeta& meta) override {
        ImageMeta image = meta;
        image.id = fmt::format("5a5a5a5a-0f31-4bb7-a985-{:012}", ++made);
        image.status = "queued";
        image.owner = context.project_id;
        images[image.id] = image;
        return image;
    }
    Result<void> upload(const RequestContext&, const std::string&, const ImageMeta&,
                        const Source&) override {
        return Error::unsupported("not in tests");
    }
    Result<void> remove(const RequestContext&, const std::string& id) override {
        images.erase(id);
        return {};
    }
    Result<std::vector<ImageMeta>> list(const RequestContext&, const Properties&) override {
        return std::vector<ImageMeta>();
    }
    int made = 0;
};

class NetworkApiFake final : public NetworkApi {
public:
    std::vector<std::string> deallocated;
    std::vector<RequestedNetwork> validated;  // what the last create asked for
    bool automatic = false;
    std::optional<Error> validation_failure;

    Result<std::vector<RequestedNetwork>> validate_networks(
        const RequestContext&, std::vector<RequestedNetwork> requested, bool pick_one,
        const std::vector<std::string>&) override {
        if (validation_failure) {
            return *validation_failure;
        }
        validated = requested;
        automatic = pick_one;
        return requested;
    }
    Result<std::vector<VifInfo>> allocate_for_instance(
        const RequestContext&, const Instance&, const std::vector<RequestedNetwork>&) override {
        return std::vector<VifInfo>();
    }
    Result<void> deallocate_for_instance(const RequestContext&, const Instance& instance) override {
        deallocated.push_back(instance.uuid);
        return {};
    }
    Result<VifInfo> allocate_port_for_instance(const RequestContext&, const Instance&,
                                               const RequestedNetwork&) override {
        return VifInfo();
    }
    Result<void> deallocate_port_for_instance(const RequestContext&, const Instance&,
                                              const std::string&) override {
        return {};
    }
    Result<std::vector<VifInfo>> network_info(const std::string&) override {
        return std::vector<VifInfo>();
    }
};

// A node. finish_at_once: every cast is carried out before it returns, as a manager would report
// it.
class ComputeApiFake final : public ComputeApi {
public:
    explicit ComputeApiFake(std::string host) : host_(std::move(host)) {}

    ConductorApi* conductor = nullptr;
    const Clock* clock = nullptr;  // tells when a resize or a rescue was done
    bool finish_at_once = true;
    std::optional<Error> refusal;        // of every cast
    std::optional<Error> build_failure;  // of every build, after the cast was taken
    std::vector<std::string> calls;      // "build <uuid>"
    std::vector<BuildRequest> builds;
    std::string console = "line 1\nline 2\nline 3\n";

    ComputeNode node(int64_t vcpus, int64_t memory_mb, int64_t local_gb) const {
        ComputeNode node;
        node.uuid = host_ == "cn-1" ? "0b9a1f9e-6c1f-4c58-8d6a-000000000001"
                                    : "0b9a1f9e-6c1f-4c58-8d6a-000000000002";
        node.host = host_;
        node.hypervisor_hostname = host_;
        node.host_ip = "127.0.0.1";
        node.vcpus = vcpus;
        node.memory_mb = memory_mb;
        node.local_gb = local_gb;
        node.cpu_info_json = R"({"arch":"x86_64"})";
        return node;
    }

    Result<void> build_and_run_instance(BuildRequest request) override {
        note("build " + request.instance.uuid);
        if (refusal) {
            return *refusal;
        }
        {
            const std::lock_guard lock(mutex_);
            builds.push_back(request);
        }
        return finish_at_once ? finish_build(request) : Result<void>();
    }
    Result<void> finish_build(const BuildRequest& request) {
        const std::string& uuid = request.instance.uuid;
        const std::string event = "compute__do_build_and_run_instance";
        TRY(conductor->action_event_start(request.context, uuid, event, host_));
        if (build_failure) {
            TRY(conductor->action_event_finish(request.context, uuid, event, build_failure));
            return conductor->reschedule_build(request.context, uuid, *build_failure);
        }
        InstanceUpdate update;
        update.vm_state = vm_states::kActive;
        update.task_state = std::optional<std::string>();
        update.power_state = power_states::kRunning;
        update.launched_ns = 1'800'000'000 * kNanosPerSecond;
        VifInfo vif;
        vif.port_id = "11111111-2222-3333-4444-555555555555";
        vif.network_id = "66666666-2222-3333-4444-555555555555";
        vif.network_name = "private";
        vif.mac = "fa:16:3e:00:00:01";
        FixedIp ip;
        ip.address = "10.0.0.5";
        ip.subnet_id = "s";
        vif.fixed_ips.push_back(ip);
        update.network_info = std::vector<VifInfo>{vif};
        TRY(conductor->instance_save(uuid, update));
        return conductor->action_event_finish(request.context, uuid, event, std::nullopt);
    }

    // Live migration: what came, and the data on their way through.
    std::vector<LiveMigrateData> live;
    Result<void> live_migration(LiveMigrationRequest request) override {
        note("live_migration " + request.uuid + " to " + request.destination);
        live.push_back(request.data);
        return {};
    }
    Result<void> live_migration_abort(const RequestContext&, const std::string& uuid,
                                      int64_t migration_id) override {
        note("live_migration_abort " + uuid + " " + std::to_string(migration_id));
        return {};
    }
    Result<void> live_migration_force_complete(const RequestContext&,
                                               const std::string& uuid) override {
        note("live_migration_force_complete " + uuid);
        return {};
    }
    Result<void> rollback_live_migration_at_destination(const RequestContext&,
                                                        const std::string& uuid, bool destroy_disks,
                                                        const LiveMigrateData& data) override {
        note("rollback " + uuid + (destroy_disks ? " with disks" : ""));
        live.push_back(data);
        return {};
    }
    Result<LiveMigrateData> check_can_live_migrate_destination(
        const LiveMigrationCheck& request) override {
        note("check_destination " + request.uuid);
        LiveMigrateData data;
        data.facts = "facts";
        data.block_migration = request.block_migration;
        return data;
    }
    Result<LiveMigrateData> check_can_live_migrate_source(const RequestContext&,
                                                          const std::string& uuid,
                                                          const LiveMigrateData& data) override {
        note("check_source " + uuid);
        live.push_back(data);
        return data;
    }
    Result<LiveMigrateData> pre_live_migration(const RequestContext&, const std::string& uuid,
                                               const std::string& disks,
                                               const LiveMigrateData& data) override {
        note("pre " + uuid + " " + disks);
        live.push_back(data);
        LiveMigrateData answer = data;
        answer.arrival = "door";
        answer.wait_for_vif_plugged = true;
        answer.old_attachment_ids["volume"] = "attachment";
        return answer;
    }
    Result<void> post_live_migration_at_destination(const RequestContext&, const std::string& uuid,
                                                    bool) override {
        note("post " + uuid);
        return {};
    }

    Result<void> terminate_instance(const RequestContext& context,
                                    const std::string& uuid) override {
        note("terminate " + uuid);
        if (refusal) {
            return *refusal;
        }
        if (!finish_at_once) {
            return {};
        }
        TRY(conductor->action_event_start(context, uuid, "compute_terminate_instance", host_));
        TRY(conductor->instance_destroy(uuid));
        return conductor->action_event_finish(context, uuid, "compute_terminate_instance",
                                              std::nullopt);
    }
    Result<void> start_instance(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "start", uuid, vm_states::kActive, power_states::kRunning);
    }
    Result<void> stop_instance(const RequestContext& context, const std::string& uuid,
                               bool) override {
        return verb(context, "stop", uuid, vm_states::kStopped, power_states::kShutdown);
    }
    Result<void> reboot_instance(const RequestContext& context, const std::string& uuid,
                                 RebootType type) override {
        return verb(context, type == RebootType::Soft ? "reboot soft" : "reboot hard", uuid,
                    vm_states::kActive, power_states::kRunning);
    }
    Result<void> pause_instance(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "pause", uuid, vm_states::kPaused, power_states::kPaused);
    }
    Result<void> unpause_instance(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "unpause", uuid, vm_states::kActive, power_states::kRunning);
    }
    Result<void> suspend_instance(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "suspend", uuid, vm_states::kSuspended, power_states::kShutdown);
    }
    Result<void> resume_instance(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "resume", uuid, vm_states::kActive, power_states::kRunning);
    }
    Result<void> rescue_instance(RescueRequest request) override {
        return verb(request.context, "rescue", request.uuid, vm_states::kRescued,
                    power_states::kRunning);
    }
    Result<void> unrescue_instance(const RequestContext& context,
                                   const std::string& uuid) override {
        return verb(context, "unrescue", uuid, vm_states::kActive, power_states::kRunning);
    }
    Result<void> rebuild_instance(RebuildRequest request) override {
        rebuild_password = request.admin_password;
        return verb(request.context, "rebuild", request.uuid, vm_states::kActive,
                    power_states::kRunning);
    }
    Result<void> snapshot_instance(const RequestContext& context,
                                   const std::string& uuid) override {
        return verb(context, "snapshot", uuid, nullptr, power_states::kRunning);
    }
    Result<void> backup_instance(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "backup", uuid, nullptr, power_states::kRunning);
    }
    Result<void> resize_instance(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "resize", uuid, vm_states::kResized, power_states::kRunning,
                    [](const Instance& instance, InstanceUpdate& update) {
                        update.old_flavor = std::optional(instance.flavor);
                        update.flavor = *instance.new_flavor;
                    });
    }
    Result<void> confirm_resize(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "confirm", uuid, vm_states::kActive, power_states::kRunning,
                    [](const Instance&, InstanceUpdate& update) {
                        update.old_flavor = update.new_flavor = std::optional<Flavor>();
                    });
    }
    Result<void> move_instance(MoveRequest request) override {
        moves.push_back(std::move(request));
        return {};
    }
    std::vector<MoveRequest> moves;
    Result<void> revert_resize(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "revert", uuid, vm_states::kActive, power_states::kRunning,
                    [](const Instance& instance, InstanceUpdate& update) {
                        update.flavor = *instance.old_flavor;
                        update.old_flavor = update.new_flavor = std::optional<Flavor>();
                    });
    }
    Result<void> shelve_instance(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "shelve", uuid, vm_states::kShelved, power_states::kShutdown,
                    [](const Instance& instance, InstanceUpdate& update) {
                        update.system_metadata = instance.system_metadata;
                        (*update.system_metadata)["shelved_image_id"] =
                            instance.task_arguments.image_id;
                    });
    }
    Result<void> shelve_offload_instance(const RequestContext& context,
                                         const std::string& uuid) override {
        return verb(context, "shelve_offload", uuid, vm_states::kShelvedOffloaded,
                    power_states::kNoState, [](const Instance&, InstanceUpdate& update) {
                        update.host = "";
                        update.node = "";
                    });
    }
    Result<void> unshelve_instance(const RequestContext& context,
                                   const std::string& uuid) override {
        return verb(context, "unshelve", uuid, vm_states::kActive, power_states::kRunning);
    }
    Result<void> soft_delete_instance(const RequestContext& context,
                                      const std::string& uuid) override {
        return verb(context, "soft_delete", uuid, vm_states::kSoftDeleted, power_states::kShutdown);
    }
    Result<void> restore_instance(const RequestContext& context, const std::string& uuid) override {
        return verb(context, "restore", uuid, vm_states::kActive, power_states::kRunning);
    }
    std::string rebuild_password;
    Result<void> set_admin_password(const SetPasswordRequest& request) override {
        note("set_admin_password " + request.uuid);
        if (refusal) {
            return *refusal;
        }
        admin_password = request.password;
        return verb(request.context, "password", request.uuid, nullptr, power_states::kRunning);
    }
    std::string admin_password;
    Result<void> quiesce_instance(const RequestContext&, const std::string& uuid) override {
        note("quiesce " + uuid);
        return {};
    }
    Result<void> unquiesce_instance(const RequestContext&, const std::string& uuid,
                                    const std::vector<std::string>& snapshot_ids) override {
        note(fmt::format("unquiesce {} after {}", uuid, fmt::join(snapshot_ids, ",")));
        return {};
    }

    Result<std::string> get_console_output(const RequestContext&, const std::string&,
                                           int64_t tail_lines) override {
        return tail_lines == 1 ? std::string("line 3\n") : console;
    }
    std::optional<Error> console_refusal;
    Result<ConsoleConnection> get_vnc_console(const RequestContext&,
                                              const std::string& uuid) override {
        return console_at("/servers/" + uuid + "/vnc.sock");
    }
    Result<ConsoleConnection> get_serial_console(const RequestContext&,
                                                 const std::string& uuid) override {
        return console_at("/servers/" + uuid + "/console.sock");
    }
    Result<void> external_instance_event(const RequestContext& /*context*/, const std::string& uuid,
                                         const ServerEvent& event) override {
        constexpr std::array kNames = {"network-changed", "vif-deleted", "power-on", "power-off",
                                       "volume-extended"};
        note(fmt::format("{} {} {}", kNames[static_cast<size_t>(event.kind)], uuid, event.port_id));
        return {};
    }
    Result<void> attach_volume(const RequestContext&, const std::string& uuid,
                               const BlockDevice& device) override {
        note("attach_volume " + uuid + " " + device.volume_id);
        return {};
    }
    Result<void> detach_volume(const RequestContext&, const std::string& uuid,
                               const std::string& volume_id, const std::string&) override {
        note("detach_volume " + uuid + " " + volume_id);
        return {};
    }
    Result<void> swap_volume(const SwapVolumeRequest& request) override {
        note("swap_volume " + request.uuid + " " + request.new_volume_id);
        return {};
    }
    Result<BlockDevice> reserve_block_device_name(const ReserveDeviceRequest& request) override {
        note("reserve_block_device_name " + request.uuid + " " + request.volume_id);
        BlockDevice device;
        device.instance_uuid = request.uuid;
        device.source_type = device.destination_type = "volume";
        device.volume_id = request.volume_id;
        device.device_name = "/dev/vdb";
        return device;
    }
    Result<void> remove_volume_connection(const RequestContext&, const std::string& uuid,
                                          const std::string& volume_id, bool) override {
        note("remove_volume_connection " + uuid + " " + volume_id);
        return {};
    }
    // One port more, or the refusal.
    Result<VifInfo> attach_interface(const AttachInterfaceRequest& request) override {
        note("attach_interface " + request.uuid);
        attached = request.requested;
        if (refusal) {
            return *refusal;
        }
        const Instance instance = TRY(conductor->instance_get(request.uuid));
        VifInfo vif;
        vif.port_id = request.requested.port_id.value_or("22222222-2222-3333-4444-555555555555");
        vif.network_id = request.requested.network_id.value_or("");
        vif.mac = "fa:16:3e:00:00:02";
        vif.tag = request.requested.tag.value_or("");
        InstanceUpdate update;
        update.network_info = instance.network_info;
        update.network_info->push_back(vif);
        TRY(conductor->instance_save(request.uuid, update));
        return vif;
    }
    Result<void> detach_interface(const RequestContext&, const std::string& uuid,
                                  const std::string& port_id) override {
        note("detach_interface " + uuid + " " + port_id);
        return refusal ? Result<void>(*refusal) : Result<void>();
    }
    std::optional<RequestedNetwork> attached;  // what the last attach asked for
    Result<Json> get_instance_diagnostics(const RequestContext&, const std::string&) override {
        return Json::object({{"state", "running"}, {"driver", "kumoi"}});
    }
    Result<double> get_host_uptime() override { return 3661.0; }
    ComputeNode compute_node() override { return node(8, 8192, 100); }

private:
    Result<ConsoleConnection> console_at(std::string socket) const {
        if (console_refusal) {
            return *console_refusal;
        }
        return ConsoleConnection{host_, std::move(socket)};
    }
    // `vm_state` may be null: as it is.
    Result<void> verb(const RequestContext& context, const std::string& name,
                      const std::string& uuid, const char* vm_state, int power_state,
                      const std::function<void(const Instance&, InstanceUpdate&)>& more = {}) {
        note(name + " " + uuid);
        if (refusal) {
            return *refusal;
        }
        if (!finish_at_once) {
            return {};
        }
        const std::string event = "compute_" + name + "_instance";
        TRY(conductor->action_event_start(context, uuid, event, host_));
        InstanceUpdate update;
        if (vm_state != nullptr) {
            update.vm_state = vm_state;
        }
        update.power_state = power_state;
        update.task_state = std::optional<std::string>();
        if (name == "resize" || name == "rescue") {
            update.launched_ns = clock == nullptr ? 1 : clock->wall_ns();
        }
        if (more) {
            more(TRY(conductor->instance_get(uuid)), update);
        }
        TRY(conductor->instance_save(uuid, update));
        return conductor->action_event_finish(context, uuid, event, std::nullopt);
    }
    void note(std::string call) {
        const std::lock_guard lock(mutex_);
        calls.push_back(std::move(call));
    }

    std::mutex mutex_;  // guards calls and builds while creates run in parallel
    const std::string host_;
};

}  // namespace kumoi::compute::conductor_fakes
