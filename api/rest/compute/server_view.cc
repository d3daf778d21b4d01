#include "api/rest/compute/server_view.h"

#include <algorithm>
#include <array>

#include "base/digest.h"
#include "compute/instance_properties.h"
#include "compute/vm_states.h"

namespace kumoi::api {
namespace {

using compute::Instance;
using compute::VifInfo;
namespace task_states = compute::task_states;
namespace vm_states = compute::vm_states;

constexpr char kExtendedAttributes[] = "os_compute_api:os-extended-server-attributes";

struct StatusName {
    std::string_view vm_state;
    std::string_view status;
};
constexpr std::array<StatusName, 12> kStatuses = {{
    {vm_states::kActive, "ACTIVE"},
    {vm_states::kBuilding, "BUILD"},
    {vm_states::kStopped, "SHUTOFF"},
    {vm_states::kPaused, "PAUSED"},
    {vm_states::kSuspended, "SUSPENDED"},
    {vm_states::kRescued, "RESCUE"},
    {vm_states::kResized, "VERIFY_RESIZE"},
    {vm_states::kError, "ERROR"},
    {vm_states::kDeleted, "DELETED"},
    {vm_states::kSoftDeleted, "SOFT_DELETED"},
    {vm_states::kShelved, "SHELVED"},
    {vm_states::kShelvedOffloaded, "SHELVED_OFFLOADED"},
}};

bool is_soft_reboot(std::string_view task) {
    return task == task_states::kRebooting || task == task_states::kRebootPending ||
           task == task_states::kRebootStarted;
}

bool is_hard_reboot(std::string_view task) {
    return task == task_states::kRebootingHard || task == task_states::kRebootPendingHard ||
           task == task_states::kRebootStartedHard;
}

Json image_view(const Call& call, const Instance& instance) {
    if (instance.image_id.empty()) {
        return Json("");
    }
    return Json::object(
        {{"id", instance.image_id}, {"links", call.bookmark("images", instance.image_id)}});
}

Json flavor_view(const Call& call, const Instance& instance) {
    const compute::Flavor& flavor = instance.flavor;
    if (!call.at_least(47)) {
        return Json::object(
            {{"id", flavor.flavor_id}, {"links", call.bookmark("flavors", flavor.flavor_id)}});
    }
    Json view = Json::object({{"vcpus", flavor.vcpus},
                              {"ram", flavor.memory_mb},
                              {"disk", flavor.root_gb},
                              {"ephemeral", flavor.ephemeral_gb},
                              {"swap", flavor.swap_mb},
                              {"original_name", flavor.name}});
    if (call.allows("os_compute_api:servers:show:flavor-extra-specs", {instance.project_id, {}})) {
        Json specs = Json::object();
        for (const auto& [key, value] : flavor.extra_specs) {
            specs.set(key, value);
        }
        view.set("extra_specs", std::move(specs));
    }
    return view;
}

Json security_groups_view(const Instance& instance) {
    Json groups = Json::array();
    for (const std::string& name : instance.security_groups) {
        groups.push_back(Json::object({{"name", name}}));
    }
    return groups;
}

Json fault_view(const Call& call, const compute::Fault& fault) {
    Json view = Json::object(
        {{"code", fault.code}, {"created", iso8601(fault.created_ns)}, {"message", fault.message}});
    if (call.who.is_admin || fault.code != 500) {
        view.set("details", fault.details);
    }
    return view;
}

void add_basic(const Call& call, const Instance& instance, Json& view) {
    const std::string status = server_status(instance);
    view.set("id", instance.uuid);
    view.set("name", instance.display_name);
    view.set("status", status);
    view.set("tenant_id", instance.project_id);
    view.set("user_id", instance.user_id);
    Json metadata = Json::object();
    for (const auto& [key, value] : instance.metadata) {
        metadata.set(key, value);
    }
    view.set("metadata", std::move(metadata));
    view.set("hostId", host_id(instance));
    view.set("image", image_view(call, instance));
    view.set("flavor", flavor_view(call, instance));
    view.set("created", iso8601(instance.created_ns));
    view.set("updated", iso8601(instance.updated_ns));
    view.set("addresses", server_addresses(instance));
    view.set("accessIPv4", instance.access_ip_v4);
    view.set("accessIPv6", instance.access_ip_v6);
    view.set("links", call.links("servers", instance.uuid));
    view.set("OS-DCF:diskConfig", instance.auto_disk_config ? "AUTO" : "MANUAL");
    if ((status == "ERROR" || status == "DELETED") && instance.fault) {
        view.set("fault", fault_view(call, *instance.fault));
    }
    if (status == "ACTIVE" || status == "BUILD" || status == "REBUILD" || status == "RESIZE" ||
        status == "VERIFY_RESIZE" || status == "MIGRATING") {
        view.set("progress", instance.progress);
    }
}

void add_extended(const Call& call, const Instance& instance, Json& view) {
    view.set("OS-EXT-AZ:availability_zone", instance.availability_zone);
    view.set("config_drive", instance.config_drive ? "True" : "");
    view.set("key_name", instance.key_name.empty() ? Json() : Json(instance.key_name));
    view.set("OS-SRV-USG:launched_at", naive_time(instance.launched_ns));
    view.set("OS-SRV-USG:terminated_at", naive_time(instance.terminated_ns));
    view.set("security_groups", security_groups_view(instance));
    const auto text_or_null = [](const std::string& text) {
        return text.empty() ? Json() : Json(text);
    };
    if (call.allows(kExtendedAttributes)) {
        view.set("OS-EXT-SRV-ATTR:host", text_or_null(instance.host));
        view.set("OS-EXT-SRV-ATTR:instance_name", fmt::format("instance-{:08x}", instance.id));
        view.set("OS-EXT-SRV-ATTR:hypervisor_hostname", text_or_null(instance.node));
        if (call.at_least(3)) {
            const auto property = [&](const char* key) {
                const auto found = instance.image.properties.find(key);
                return found == instance.image.properties.end() ? std::string() : found->second;
            };
            view.set("OS-EXT-SRV-ATTR:reservation_id", instance.reservation_id);
            view.set("OS-EXT-SRV-ATTR:launch_index", instance.launch_index);
            view.set("OS-EXT-SRV-ATTR:hostname", instance.hostname);
            view.set("OS-EXT-SRV-ATTR:kernel_id", property("kernel_id"));
            view.set("OS-EXT-SRV-ATTR:ramdisk_id", property("ramdisk_id"));
            view.set("OS-EXT-SRV-ATTR:root_device_name", compute::root_device_name(instance));
            view.set("OS-EXT-SRV-ATTR:user_data", text_or_null(instance.user_data));
        }
    } else if (call.at_least(90)) {
        view.set("OS-EXT-SRV-ATTR:hostname", instance.hostname);
    }
    view.set("OS-EXT-STS:task_state", instance.task_state);
    view.set("OS-EXT-STS:vm_state", instance.vm_state);
    view.set("OS-EXT-STS:power_state", instance.power_state);
    view.set("os-extended-volumes:volumes_attached", Json::array());
    if (call.at_least(16) && call.allows("os_compute_api:servers:show:host_status")) {
        view.set("host_status", call.conductor().host_status(instance.host));
    }
}

void add_newer(const Call& call, const Instance& instance, ServerForm form, Json& view) {
    if (call.at_least(9)) {
        view.set("locked", instance.locked);
    }
    if (call.at_least(73)) {
        view.set("locked_reason", instance.locked_reason);
    }
    if (call.at_least(19)) {
        view.set("description", instance.display_description);
    }
    if (call.at_least(26)) {
        view.set("tags", Json::array_of(instance.tags));
    }
    if (call.at_least(63)) {
        view.set("trusted_image_certificates", Json());
    }
    if (call.at_least(71) && form != ServerForm::List) {
        const auto group = call.conductor().server_groups().group_of(instance.uuid);
        view.set("server_groups", group ? Json(Json::Array{Json(group->uuid)}) : Json::array());
    }
    if (call.at_least(96)) {
        view.set("pinned_availability_zone", instance.pinned_availability_zone);
    }
}

// What a task makes of the status; Nova's table of vm_state and task_state.
std::string status_of_task(const Instance& instance) {
    const std::string& vm_state = instance.vm_state;
    const std::string task = instance.task_state.value_or("");
    const bool active = vm_state == vm_states::kActive;
    const bool settled = active || vm_state == vm_states::kStopped;
    if (active && is_soft_reboot(task)) {
        return "REBOOT";
    }
    if (active && is_hard_reboot(task)) {
        return "HARD_REBOOT";
    }
    if (task.starts_with("rebuild") && (settled || vm_state == vm_states::kError)) {
        return "REBUILD";
    }
    if (task == "migrating" && (active || vm_state == vm_states::kPaused)) {
        return "MIGRATING";
    }
    if (settled && (task == task_states::kResizePrep || task == task_states::kResizeMigrating ||
                    task == task_states::kResizeMigrated || task == task_states::kResizeFinish)) {
        return "RESIZE";
    }
    if (vm_state == vm_states::kResized && task == task_states::kResizeReverting) {
        return "REVERT_RESIZE";
    }
    return "";
}

}  // namespace

std::string server_status(const Instance& instance) {
    if (std::string status = status_of_task(instance); !status.empty()) {
        return status;
    }
    const auto* const found =
        std::find_if(kStatuses.begin(), kStatuses.end(),
                     [&](const StatusName& name) { return name.vm_state == instance.vm_state; });
    return found == kStatuses.end() ? "UNKNOWN" : std::string(found->status);
}

std::string host_id(const Instance& instance) {
    if (instance.host.empty()) {
        return "";
    }
    return digest_hex(DigestKind::Sha224, instance.project_id + instance.host);
}

Json server_addresses(const Instance& instance) {
    Json addresses = Json::object();
    for (const VifInfo& vif : instance.network_info) {
        Json& list = addresses[vif.network_name];
        if (list.is_null()) {
            list = Json::array();
        }
        for (const compute::FixedIp& ip : vif.fixed_ips) {
            list.push_back(Json::object({{"version", ip.ip_version},
                                         {"addr", ip.address},
                                         {"OS-EXT-IPS:type", "fixed"},
                                         {"OS-EXT-IPS-MAC:mac_addr", vif.mac}}));
        }
    }
    return addresses;
}

Json naive_time(int64_t wall_ns) {
    if (wall_ns == 0) {
        return Json();
    }
    std::string text = iso8601_micros(wall_ns);
    text.pop_back();  // no zone designator
    return Json(std::move(text));
}

Json server_summary(const Call& call, const Instance& instance) {
    return Json::object({{"id", instance.uuid},
                         {"name", instance.display_name},
                         {"links", call.links("servers", instance.uuid)}});
}

Json server_view(const Call& call, const Instance& instance, ServerForm form) {
    Json view = Json::object();
    add_basic(call, instance, view);
    if (form != ServerForm::Update || call.at_least(75)) {
        add_extended(call, instance, view);
    }
    add_newer(call, instance, form, view);
    return view;
}

std::shared_ptr<const std::string> server_list_text(const Call& call,
                                                    const compute::InstancePtr& stored) {
    // All that the text depends on besides the record itself.
    const std::string key = fmt::format(
        "{} {} {} {}", call.version.minor, call.who.is_admin ? 'a' : 'u',
        call.who.is_admin ? call.conductor().services().generation() : 0, call.request.base_url());
    if (auto text = stored->derived.find(key)) {
        return text;
    }
    return stored->derived.keep(key, server_view(call, stored->instance, ServerForm::List).dump());
}

}  // namespace kumoi::api
