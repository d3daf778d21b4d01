#include "api/cluster/remote_compute.h"

#include <cmath>

#include "api/nova/nova_moves.h"
#include "api/nova/oslo_context.h"
#include "base/digest.h"
#include "compute/clients/vif_json.h"

namespace kumoi::cluster {
namespace {

using compute::RequestContext;

Error no_volumes() {
    return Error::unsupported("This cloud has no volume service.")
        .with_fault("NotImplementedError");
}

Error not_in_the_chain(const std::string& uuid) {
    return Error::internal("server {} is resized by its hosts, not by one of them", uuid);
}

Json files_of(const std::map<std::string, std::string>& files) {
    Json all = Json::array();
    for (const auto& [path, content] : files) {
        all.push_back(Json::array_of(std::vector<std::string>{path, base64_encode(content)}));
    }
    return all;
}

Json image_dictionary(const compute::ImageMeta& image) {
    Json properties = Json::object();
    for (const auto& [key, value] : image.properties) {
        properties.set(key, value);
    }
    return Json::object({{"id", image.id},
                         {"name", image.name},
                         {"status", image.status},
                         {"owner", image.owner},
                         {"disk_format", image.disk_format},
                         {"container_format", image.container_format},
                         {"size", static_cast<int64_t>(image.size)},
                         {"checksum", image.checksum},
                         {"os_hash_algo", image.os_hash_algo},
                         {"os_hash_value", image.os_hash_value},
                         {"min_disk", image.min_disk_gb},
                         {"min_ram", image.min_ram_mb},
                         {"properties", std::move(properties)}});
}

}  // namespace

Result<Json> ComputeRpc::server(const std::string& uuid) const {
    return records.instance(TRY(conductor.instance_get(uuid)));
}

Result<void> ComputeRpc::cast(const std::string& host, const RequestContext& context,
                              const std::string& method, Json args) const {
    return rpc.cast(nova::compute_target(host), nova::wire_context(context, clock, random), method,
                    std::move(args));
}

Result<Json> ComputeRpc::call(const std::string& host, const RequestContext& context,
                              const std::string& method, Json args,
                              amqp::CallOptions options) const {
    return rpc.call(nova::compute_target(host), nova::wire_context(context, clock, random), method,
                    std::move(args), options);
}

Result<void> RemoteCompute::verb(const std::string& method, const Context& context,
                                 const std::string& uuid, Json args) {
    args.set("instance", TRY(rpc_.server(uuid)));
    return rpc_.cast(host_, context, method, std::move(args));
}

Result<void> RemoteCompute::build_and_run_instance(compute::BuildRequest request) {
    const compute::Instance& instance = request.instance;
    const Json retry =
        Json::object({{"num_attempts", 1}, {"hosts", Json::array()}, {"kumoi_host", host_}});
    Json args = Json::object(
        {{"instance", TRY(rpc_.records.instance(instance))},
         {"image", image_dictionary(instance.image)},
         {"request_spec", nullptr},
         {"filter_properties", Json::object({{"retry", retry}})},
         {"admin_password", instance.admin_password},
         {"injected_files", files_of(request.injected_files)},
         {"requested_networks", requested_networks_primitive(request.requested_networks)},
         {"security_groups", Json::array_of(instance.security_groups)},
         {"block_device_mapping", list_primitive("BlockDeviceMappingList", {})},
         {"node", instance.node},
         {"limits", Json::object()},
         {"host_list", nullptr}});
    return rpc_.cast(host_, request.context, "build_and_run_instance", std::move(args));
}

Result<void> RemoteCompute::terminate_instance(const Context& context, const std::string& uuid) {
    return verb("terminate_instance", context, uuid, Json::object({{"bdms", Json::array()}}));
}
Result<void> RemoteCompute::start_instance(const Context& context, const std::string& uuid) {
    return verb("start_instance", context, uuid);
}
Result<void> RemoteCompute::stop_instance(const Context& context, const std::string& uuid,
                                          bool clean_shutdown) {
    return verb("stop_instance", context, uuid, Json::object({{"clean_shutdown", clean_shutdown}}));
}
Result<void> RemoteCompute::reboot_instance(const Context& context, const std::string& uuid,
                                            compute::RebootType type) {
    const char* word = type == compute::RebootType::Hard ? "HARD" : "SOFT";
    return verb("reboot_instance", context, uuid,
                Json::object({{"block_device_info", nullptr}, {"reboot_type", word}}));
}
Result<void> RemoteCompute::pause_instance(const Context& context, const std::string& uuid) {
    return verb("pause_instance", context, uuid);
}
Result<void> RemoteCompute::unpause_instance(const Context& context, const std::string& uuid) {
    return verb("unpause_instance", context, uuid);
}
Result<void> RemoteCompute::suspend_instance(const Context& context, const std::string& uuid) {
    return verb("suspend_instance", context, uuid);
}
Result<void> RemoteCompute::resume_instance(const Context& context, const std::string& uuid) {
    return verb("resume_instance", context, uuid);
}
Result<void> RemoteCompute::unrescue_instance(const Context& context, const std::string& uuid) {
    return verb("unrescue_instance", context, uuid);
}
Result<void> RemoteCompute::shelve_offload_instance(const Context& context,
                                                    const std::string& uuid) {
    return verb("shelve_offload_instance", context, uuid);
}
Result<void> RemoteCompute::unshelve_instance(const Context& context, const std::string& uuid) {
    return verb("unshelve_instance", context, uuid);
}
Result<void> RemoteCompute::soft_delete_instance(const Context& context, const std::string& uuid) {
    return verb("soft_delete_instance", context, uuid);
}
Result<void> RemoteCompute::restore_instance(const Context& context, const std::string& uuid) {
    return verb("restore_instance", context, uuid);
}

Result<void> RemoteCompute::rescue_instance(compute::RescueRequest request) {
    const auto server = TRY(rpc_.conductor.instance_get(request.uuid));
    return verb("rescue_instance", request.context, request.uuid,
                Json::object({{"rescue_password", request.admin_password},
                              {"rescue_image_ref", server.task_arguments.image_id},
                              {"clean_shutdown", true}}));
}

Result<void> RemoteCompute::rebuild_instance(compute::RebuildRequest request) {
    const auto server = TRY(rpc_.conductor.instance_get(request.uuid));
    const compute::TaskArguments& task = server.task_arguments;
    return verb("rebuild_instance", request.context, request.uuid,
                Json::object({{"new_pass", request.admin_password},
                              {"image_ref", server.image_id},
                              {"orig_image_ref", server.image_id},
                              {"injected_files", files_of(task.injected_files)},
                              {"preserve_ephemeral", task.preserve_ephemeral},
                              {"recreate", false}}));
}

Result<void> RemoteCompute::snapshot_instance(const Context& context, const std::string& uuid) {
    const auto server = TRY(rpc_.conductor.instance_get(uuid));
    return verb("snapshot_instance", context, uuid,
                Json::object({{"image_id", server.task_arguments.image_id}}));
}

Result<void> RemoteCompute::backup_instance(const Context& context, const std::string& uuid) {
    const auto server = TRY(rpc_.conductor.instance_get(uuid));
    const compute::TaskArguments& task = server.task_arguments;
    return verb("backup_instance", context, uuid,
                Json::object({{"image_id", task.image_id},
                              {"backup_type", task.backup_type},
                              {"rotation", task.rotation}}));
}

Result<void> RemoteCompute::shelve_instance(const Context& context, const std::string& uuid) {
    const auto server = TRY(rpc_.conductor.instance_get(uuid));
    return verb(
        "shelve_instance", context, uuid,
        Json::object({{"image_id", server.task_arguments.image_id}, {"clean_shutdown", true}}));
}

Result<void> RemoteCompute::resize_instance(const Context& /*context*/, const std::string& uuid) {
    return not_in_the_chain(uuid);
}
Result<void> RemoteCompute::confirm_resize(const Context& /*context*/, const std::string& uuid) {
    return not_in_the_chain(uuid);
}
Result<void> RemoteCompute::revert_resize(const Context& /*context*/, const std::string& uuid) {
    return not_in_the_chain(uuid);
}

Result<void> RemoteCompute::detach_interface(const Context& context, const std::string& uuid,
                                             const std::string& port_id) {
    return verb("detach_interface", context, uuid, Json::object({{"port_id", port_id}}));
}

Result<compute::VifInfo> RemoteCompute::attach_interface(
    const compute::AttachInterfaceRequest& request) {
    const compute::RequestedNetwork& wanted = request.requested;
    Json args = Json::object({{"instance", TRY(rpc_.server(request.uuid))},
                              {"network_id", Json(wanted.network_id)},
                              {"port_id", Json(wanted.port_id)},
                              {"requested_ip", Json(wanted.fixed_ip)},
                              {"tag", Json(wanted.tag)}});
    return clients::parse_vif(
        TRY(rpc_.call(host_, request.context, "attach_interface", std::move(args))));
}

Result<void> RemoteCompute::attach_volume(const Context& /*context*/, const std::string& /*uuid*/,
                                          const compute::BlockDevice& /*device*/) {
    return no_volumes();
}
Result<void> RemoteCompute::detach_volume(const Context& /*context*/, const std::string& /*uuid*/,
                                          const std::string& /*volume_id*/,
                                          const std::string& /*attachment_id*/) {
    return no_volumes();
}
Result<void> RemoteCompute::swap_volume(const compute::SwapVolumeRequest& /*request*/) {
    return no_volumes();
}
Result<compute::BlockDevice> RemoteCompute::reserve_block_device_name(
    const compute::ReserveDeviceRequest& /*request*/) {
    return no_volumes();
}
Result<void> RemoteCompute::remove_volume_connection(const Context& /*context*/,
                                                     const std::string& /*uuid*/,
                                                     const std::string& /*volume_id*/,
                                                     bool /*delete_attachment*/) {
    return no_volumes();
}

// Events are other services' news; in this cloud there are none.
Result<void> RemoteCompute::external_instance_event(const Context& /*context*/,
                                                    const std::string& /*uuid*/,
                                                    const compute::ServerEvent& /*event*/) {
    return {};
}

Result<void> RemoteCompute::set_admin_password(const compute::SetPasswordRequest& request) {
    TRY(rpc_.call(host_, request.context, "set_admin_password",
                  Json::object({{"instance", TRY(rpc_.server(request.uuid))},
                                {"new_pass", request.password}})));
    return {};
}

Result<std::string> RemoteCompute::get_console_output(const Context& context,
                                                      const std::string& uuid, int64_t tail_lines) {
    const Json output =
        TRY(rpc_.call(host_, context, "get_console_output",
                      Json::object({{"instance", TRY(rpc_.server(uuid))},
                                    {"tail_length", tail_lines < 0 ? Json() : Json(tail_lines)}})));
    return output.is_string() ? output.as_string() : std::string();
}

Result<compute::ConsoleConnection> RemoteCompute::get_vnc_console(const Context& /*context*/,
                                                                  const std::string& uuid) {
    return Error::invalid(
               "The graphical console of server {} is on host {}, which this one "
               "cannot pass on yet.",
               uuid, host_)
        .with_fault("ConsoleTypeUnavailable");
}

Result<compute::ConsoleConnection> RemoteCompute::get_serial_console(const Context& /*context*/,
                                                                     const std::string& uuid) {
    return Error::invalid(
               "The serial console of server {} is on host {}, which this one cannot "
               "pass on yet.",
               uuid, host_)
        .with_fault("ConsoleTypeUnavailable");
}

Result<Json> RemoteCompute::get_instance_diagnostics(const Context& context,
                                                     const std::string& uuid) {
    return rpc_.call(host_, context, "get_diagnostics",
                     Json::object({{"instance", TRY(rpc_.server(uuid))}}));
}

Result<double> RemoteCompute::get_host_uptime() {
    const auto record = rpc_.conductor.services().find_node(host_);
    if (!record) {
        return Error::not_found("Compute host {} could not be found.", host_)
            .with_fault("ComputeHostNotFound");
    }
    return record->node.uptime_s;  // as it was reported last
}

compute::ComputeNode RemoteCompute::compute_node() {
    const auto record = rpc_.conductor.services().find_node(host_);
    return record ? record->node : compute::ComputeNode();
}

}  // namespace kumoi::cluster
