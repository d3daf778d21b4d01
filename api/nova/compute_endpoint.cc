#include "api/nova/compute_endpoint.h"

#include <charconv>

#include "api/nova/block_devices.h"
#include "api/nova/compute_endpoint_call.h"
#include "api/nova/diagnostics_object.h"
#include "api/nova/instance_object.h"
#include "api/nova/oslo_context.h"
#include "base/digest.h"
#include "base/log.h"
#include "compute/clients/vif_json.h"
#include "compute/manager/block_device_build.h"
#include "compute/vm_states.h"

namespace kumoi::nova {

namespace {

constexpr int64_t kMinorMax6 = 5;
constexpr int64_t kMinorMax5 = 13;

bool is_supported(const std::string& text) {
    const auto version = ObjectVersion::parse(text);
    return version && ((version->major == 6 && version->minor <= kMinorMax6) ||
                       (version->major == 5 && version->minor <= kMinorMax5));
}

// [[path, base64 text], ...]
Result<std::map<std::string, std::string>> injected_files_from(const Json* files) {
    std::map<std::string, std::string> all;
    if (files == nullptr || !files->is_array()) {
        return all;
    }
    for (const Json& file : files->as_array()) {
        if (!file.is_array() || file.size() != 2 || !file.as_array()[0].is_string() ||
            !file.as_array()[1].is_string()) {
            return Error::invalid("an injected file is not [path, contents]")
                .with_fault("Base64Exception");
        }
        const std::string& path = file.as_array()[0].as_string();
        auto content = base64_decode(file.as_array()[1].as_string());
        if (!content) {
            return Error::invalid("the contents of injected file {} are not base64", path)
                .with_fault("Base64Exception");
        }
        all[path] = std::move(*content);
    }
    return all;
}

// The events that are work for the manager; all others wake whoever waits for them.
std::optional<compute::ServerEvent> work_of(const std::string& name, const std::string& tag) {
    using Kind = compute::ServerEvent::Kind;
    if (name == "network-changed") {
        return compute::ServerEvent{Kind::NetworkChanged};
    }
    if (name == "network-vif-deleted" && !tag.empty()) {
        return compute::ServerEvent{Kind::VifDeleted, tag};
    }
    if (name == "volume-extended" && !tag.empty()) {
        return compute::ServerEvent{Kind::VolumeExtended, tag};
    }
    if (name == "power-update" && (tag == "POWER_ON" || tag == "POWER_OFF")) {
        return compute::ServerEvent{tag == "POWER_ON" ? Kind::PowerOn : Kind::PowerOff};
    }
    return std::nullopt;
}

// tail_length: null (all), a number, or a number as text.
int64_t tail_lines(const Json* value) {
    if (value == nullptr || value->is_null()) {
        return -1;
    }
    if (value->is_string()) {
        int64_t lines = -1;
        const std::string& text = value->as_string();
        std::from_chars(text.data(), text.data() + text.size(), lines);
        return lines;
    }
    return value->to_int64().value_or(-1);
}

}  // namespace

Result<Json> ComputeEndpoint::handle(const amqp::RpcRequest& request) {
    const auto found = entries().find(request.method);
    if (!is_supported(request.version)) {
        return Error::unsupported("Endpoint does not support RPC version {}. Attempted method: {}",
                                  request.version, request.method)
            .with_fault("UnsupportedVersion");
    }
    if (found == entries().end()) {
        return Error::unsupported("Endpoint does not support RPC method {}", request.method)
            .with_fault("NoSuchMethod");
    }
    Call call{request, request_context(request.context)};
    const Json* instance = request.args.find("instance");
    const Json* uuid =
        instance == nullptr ? nullptr : instance->find_path({"nova_object.data", "uuid"});
    const LogScope scope(
        {{"request", call.context.request_id},
         {"server", uuid != nullptr && uuid->is_string() ? uuid->as_string() : ""}});
    const Entry& entry = found->second;
    if (!entry.refusal.empty()) {
        return refuse(call, entry);
    }
    if (entry.verb != nullptr) {
        const std::string server = TRY(adopt(call));
        TRY((borders_.manager.*entry.verb)(call.context, server));
        return Json();
    }
    return (this->*entry.handler)(call);
}

std::vector<std::string_view> ComputeEndpoint::methods() {
    std::vector<std::string_view> names;
    for (const auto& [name, entry] : entries()) {
        names.push_back(name);
    }
    return names;
}

// A caller that waits gets the exception. After a cast nobody listens: the server itself must say
// why nothing happened, and be free for the next request.
Result<Json> ComputeEndpoint::refuse(Call& call, const Entry& entry) {
    Error reason =
        Error::unsupported("{}", entry.refusal_text).with_fault(std::string(entry.refusal));
    if (call.request.wants_reply || call.argument("instance") == nullptr) {
        return reason;
    }
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.conductor.refuse(call.context, uuid, "compute_" + call.request.method, reason));
    return reason;
}

Result<NovaObject> ComputeEndpoint::instance_of(Call& call) {
    const Json* primitive = call.argument("instance");
    if (primitive == nullptr) {
        return Error::invalid("{}: the instance is missing", call.request.method)
            .with_fault("TypeError");
    }
    return borders_.objects.receive(*call.context.wire, *primitive);
}

Result<std::string> ComputeEndpoint::adopt(Call& call, compute::TaskArguments arguments) {
    auto instance = TRY(instance_of(call));
    const auto record =
        TRY(borders_.conductor.adopt(call.context, std::move(instance), std::move(arguments)));
    return record.uuid;
}

Result<Json> ComputeEndpoint::build_and_run(Call& call) {
    compute::BuildRequest build;
    build.context = call.context;
    build.instance = TRY(borders_.conductor.adopt(call.context, TRY(instance_of(call)), {}));
    const Json* image = call.argument("image");
    if (image != nullptr && image->is_object() && image->size() > 0) {
        build.instance.image = image_from_dict(*image);
        build.instance.image_id = build.instance.image.id;
    }
    build.instance.admin_password = call.text("admin_password");
    build.injected_files = TRY(injected_files_from(call.argument("injected_files")));
    const Json* networks = call.argument("requested_networks");
    if (networks != nullptr && is_object_primitive(*networks)) {
        const auto list = TRY(borders_.objects.receive(*call.context.wire, *networks));
        build.requested_networks = TRY(requested_networks_from(list));
    } else {
        build.requested_networks.emplace_back();  // the project's only network
    }
    const Json* groups = call.argument("security_groups");
    if (groups != nullptr && groups->is_array()) {
        build.instance.security_groups.clear();
        for (const Json& group : groups->as_array()) {
            if (group.is_string()) {
                build.instance.security_groups.push_back(group.as_string());
            }
        }
    }
    const Json* devices = call.argument("block_device_mapping");
    if (devices != nullptr && is_object_primitive(*devices)) {
        const auto list = TRY(borders_.objects.receive(*call.context.wire, *devices));
        build.block_devices = TRY(block_devices_from(list));
    }
    if (compute::is_volume_backed(
            build.block_devices)) {  // `image` says what the volume is made of
        build.instance.image_id.clear();
    }
    borders_.conductor.adopt_build(build.instance.uuid, {call.request.args});
    TRY(borders_.manager.build_and_run_instance(std::move(build)));
    return Json();
}

Result<Json> ComputeEndpoint::terminate(Call& call) {
    const std::string uuid = TRY(adopt(call));
    borders_.events.cancel(uuid);
    TRY(borders_.manager.terminate_instance(call.context, uuid));
    return Json();
}

Result<Json> ComputeEndpoint::stop(Call& call) {
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.stop_instance(call.context, uuid, call.boolean("clean_shutdown", true)));
    return Json();
}

Result<Json> ComputeEndpoint::reboot(Call& call) {
    const std::string uuid = TRY(adopt(call));
    const auto type =
        call.text("reboot_type") == "HARD" ? compute::RebootType::Hard : compute::RebootType::Soft;
    TRY(borders_.manager.reboot_instance(call.context, uuid, type));
    return Json();
}

Result<Json> ComputeEndpoint::rescue(Call& call) {
    auto instance = TRY(instance_of(call));
    const Json* metadata = instance.get("system_metadata");
    compute::TaskArguments arguments;
    arguments.image_id = call.text("rescue_image_ref");
    if (arguments.image_id.empty() && metadata != nullptr) {
        arguments.image_id = metadata->string_or("image_base_image_ref");
    }
    if (arguments.image_id.empty()) {
        arguments.image_id = instance.text("image_ref");
    }
    arguments.old_vm_state = instance.text("vm_state");
    const auto record =
        TRY(borders_.conductor.adopt(call.context, std::move(instance), std::move(arguments)));
    TRY(borders_.manager.rescue_instance(
        {call.context, record.uuid, call.text("rescue_password")}));
    return Json();
}

Result<Json> ComputeEndpoint::rebuild(Call& call) {
    if (call.boolean("recreate", false)) {
        return evacuate(call);
    }
    auto instance = TRY(instance_of(call));
    compute::TaskArguments arguments;
    arguments.preserve_ephemeral = call.boolean("preserve_ephemeral", false);
    arguments.reimage_boot_volume = call.boolean("reimage_boot_volume", false);
    arguments.image_id = arguments.reimage_boot_volume ? call.text("image_ref") : "";
    arguments.injected_files = TRY(injected_files_from(call.argument("injected_files")));
    arguments.old_vm_state = instance.text("vm_state");
    const auto record =
        TRY(borders_.conductor.adopt(call.context, std::move(instance), std::move(arguments)));
    TRY(borders_.manager.rebuild_instance({call.context, record.uuid, call.text("new_pass")}));
    return Json();
}

Result<Json> ComputeEndpoint::snapshot(Call& call) {
    compute::TaskArguments arguments;
    arguments.image_id = call.text("image_id");
    TRY(borders_.manager.snapshot_instance(call.context, TRY(adopt(call, arguments))));
    return Json();
}

Result<Json> ComputeEndpoint::backup(Call& call) {
    compute::TaskArguments arguments;
    arguments.image_id = call.text("image_id");
    arguments.backup_type = call.text("backup_type");
    arguments.rotation = call.request.args.integer_or("rotation");
    TRY(borders_.manager.backup_instance(call.context, TRY(adopt(call, arguments))));
    return Json();
}

Result<Json> ComputeEndpoint::shelve(Call& call) {
    auto instance = TRY(instance_of(call));
    compute::TaskArguments arguments;
    arguments.image_id = call.text("image_id");
    arguments.old_vm_state = instance.text("vm_state");
    const auto record =
        TRY(borders_.conductor.adopt(call.context, std::move(instance), std::move(arguments)));
    TRY(borders_.manager.shelve_instance(call.context, record.uuid));
    return Json();
}

Result<Json> ComputeEndpoint::console_output(Call& call) {
    const std::string uuid = TRY(adopt(call));
    std::string output = TRY(borders_.manager.get_console_output(
        call.context, uuid, tail_lines(call.argument("tail_length"))));
    for (char& character : output) {  // Nova's callers expect ASCII
        if (static_cast<unsigned char>(character) >= 0x80) {
            character = '?';
        }
    }
    return Json(std::move(output));
}

Result<Json> ComputeEndpoint::diagnostics(Call& call) {
    return borders_.manager.get_instance_diagnostics(call.context, TRY(adopt(call)));
}

Result<Json> ComputeEndpoint::instance_diagnostics(Call& call) {
    const Json values =
        TRY(borders_.manager.get_instance_diagnostics(call.context, TRY(adopt(call))));
    return diagnostics_object(borders_.objects.table(), values);
}

Result<Json> ComputeEndpoint::host_uptime(Call& /*call*/) {
    const auto seconds = static_cast<int64_t>(TRY(borders_.manager.get_host_uptime()));
    const compute::ComputeNode node = borders_.manager.compute_node();
    return Json(fmt::format(" up {} days, {:2}:{:02},  0 users,  load average: {}", seconds / 86400,
                            seconds / 3600 % 24, seconds / 60 % 60, node.load_average));
}

Result<Json> ComputeEndpoint::set_host_enabled(Call& call) {
    const bool enabled = call.boolean("enabled", true);
    TRY(borders_.node.set_enabled(enabled));
    return Json(enabled ? "enabled" : "disabled");
}

Result<Json> ComputeEndpoint::external_event(Call& call) {
    const Json* events = call.argument("events");
    if (events == nullptr || !events->is_array()) {
        return Error::invalid("external_instance_event: events are missing")
            .with_fault("TypeError");
    }
    for (const Json& primitive : events->as_array()) {
        const auto event = TRY(borders_.objects.receive(*call.context.wire, primitive));
        const std::string uuid = event.text("instance_uuid");
        const std::string tag = event.text("tag");
        if (const auto work = work_of(event.text("name"), tag)) {
            const auto queued = borders_.manager.external_instance_event(call.context, uuid, *work);
            if (!queued.ok()) {
                log_warn("nova", "an event was not queued",
                         {{"server", uuid}, {"why", queued.error().text()}});
            }
            continue;
        }
        const std::string key = event.text("name") + (tag.empty() ? "" : "-" + tag);
        if (!borders_.events.deliver(uuid, key, event.text("status", "completed"))) {
            log_info("nova", "nobody waits for this event", {{"server", uuid}, {"event", key}});
        }
    }
    return Json();
}

Result<Json> ComputeEndpoint::console(Call& call) {
    const std::string uuid = TRY(adopt(call));
    return borders_.consoles.connect(*call.context.wire, uuid, call.text("console_type"));
}

Result<Json> ComputeEndpoint::validate_console_port(Call& call) {
    const auto instance = TRY(instance_of(call));
    const Json* port = call.argument("port");
    const std::string text = port == nullptr     ? ""
                             : port->is_string() ? port->as_string()
                                                 : port->dump();
    return Json(borders_.consoles.is_valid(instance.text("uuid"), text, call.text("console_type")));
}

Result<Json> ComputeEndpoint::attach_interface(Call& call) {
    compute::AttachInterfaceRequest attach;
    attach.context = call.context;
    attach.uuid = TRY(adopt(call));
    const auto optional_text = [&](std::string_view name) {
        const std::string text = call.text(name);
        return text.empty() ? std::nullopt : std::optional(text);
    };
    attach.requested.network_id = optional_text("network_id");
    attach.requested.port_id = optional_text("port_id");
    attach.requested.fixed_ip = optional_text("requested_ip");
    attach.requested.tag = optional_text("tag");
    const compute::VifInfo vif = TRY(borders_.manager.attach_interface(attach));
    return Json::parse(clients::vif_text(vif));
}

Result<Json> ComputeEndpoint::detach_interface(Call& call) {
    const std::string uuid = TRY(adopt(call));
    TRY(borders_.manager.detach_interface(call.context, uuid, call.text("port_id")));
    return Json();
}

Result<Json> ComputeEndpoint::cache_images(Call& call) {
    const Json* ids = call.argument("image_ids");
    if (borders_.extras == nullptr || ids == nullptr || !ids->is_array()) {
        return Error::unsupported("This node caches no images").with_fault("NotImplementedError");
    }
    std::vector<std::string> images;
    for (const Json& id : ids->as_array()) {
        if (id.is_string()) {
            images.push_back(id.as_string());
        }
    }
    Json answer = Json::object();
    for (const auto& [image, outcome] : borders_.extras->cache_images(call.context, images)) {
        answer.set(image, outcome);
    }
    return answer;
}

Result<Json> ComputeEndpoint::trigger_crash_dump(Call& call) {
    const std::string uuid = TRY(adopt(call));
    if (borders_.extras == nullptr) {
        return Error::unsupported("This node cannot interrupt guests")
            .with_fault("TriggerCrashDumpNotSupported");
    }
    TRY(borders_.extras->trigger_crash_dump(call.context, uuid));
    return Json();
}

}  // namespace kumoi::nova
