#include "api/nova/notification_payload.h"

#include <algorithm>
#include <array>

#include "base/clock.h"

namespace kumoi::nova {
namespace {

struct PayloadVersion {
    std::string_view name;
    std::string_view zed;
    std::string_view gazpacho;  // one more each: the field `shares`
};
constexpr std::array<PayloadVersion, 9> kVersions = {{
    {"InstanceActionPayload", "1.8", "1.9"},
    {"InstanceActionRebuildPayload", "1.9", "1.10"},
    {"InstanceActionRescuePayload", "1.3", "1.4"},
    {"InstanceActionResizePrepPayload", "1.3", "1.4"},
    {"InstanceActionSnapshotPayload", "1.9", "1.10"},
    {"InstanceActionVolumePayload", "1.6", "1.7"},
    {"InstanceActionVolumeSwapPayload", "1.8", "1.9"},
    {"InstanceCreatePayload", "1.12", "1.13"},
    {"InstanceExistsPayload", "2.0", "2.1"},
}};

Json object_of(std::string_view name, std::string_view version, Json data) {
    return Json::object({{"nova_object.name", std::string(name)},
                         {"nova_object.namespace", "nova"},
                         {"nova_object.version", std::string(version)},
                         {"nova_object.data", std::move(data)}});
}

Json value_of(const NovaObject& object, std::string_view field) {
    const Json* value = object.get(field);
    return value == nullptr ? Json() : *value;
}

Json power_state_name(const NovaObject& instance) {
    const Json* value = instance.get("power_state");
    if (value == nullptr || value->is_null()) {
        return Json();
    }
    switch (instance.integer("power_state")) {
        case 1: return "running";
        case 3: return "paused";
        case 4: return "shutdown";
        case 6: return "crashed";
        case 7: return "suspended";
        default: return "pending";
    }
}

// Calls function(vif, ip) for each fixed address of the server's network information.
template <class Function>
void for_each_fixed_ip(const NovaObject& instance, Function function) {
    const auto cache = instance.object("info_cache");
    const auto vifs = Json::parse(cache.ok() ? cache->text("network_info", "[]") : "[]");
    if (!vifs.ok() || !vifs->is_array()) {
        return;
    }
    for (const Json& vif : vifs->as_array()) {
        const Json* subnets = vif.find_path({"network", "subnets"});
        if (subnets == nullptr || !subnets->is_array()) {
            continue;
        }
        for (const Json& subnet : subnets->as_array()) {
            const Json* ips = subnet.find("ips");
            if (ips == nullptr || !ips->is_array()) {
                continue;
            }
            for (const Json& ip : ips->as_array()) {
                function(vif, ip);
            }
        }
    }
}

Json member(const Json& object, std::string_view key) {
    const Json* value = object.find(key);
    return value == nullptr ? Json() : *value;
}

Json label_of(const Json& vif) {
    const Json* label = vif.find_path({"network", "label"});
    return label == nullptr ? Json() : *label;
}

Json ip_payloads(const NovaObject& instance) {
    Json all = Json::array();
    for_each_fixed_ip(instance, [&](const Json& vif, const Json& ip) {
        all.push_back(object_of("IpPayload", "1.0",
                                Json::object({{"label", label_of(vif)},
                                              {"mac", member(vif, "address")},
                                              {"meta", member(vif, "meta")},
                                              {"port_uuid", member(vif, "id")},
                                              {"version", member(ip, "version")},
                                              {"address", member(ip, "address")},
                                              {"device_name", member(vif, "devname")}})));
    });
    return all;
}

// "2026-11-23T09:38:48Z" as Nova's strtime prints it; "" for never.
std::string legacy_time(const NovaObject& instance, std::string_view field) {
    std::string text = instance.text(field);
    if (text.empty()) {
        return {};
    }
    text.resize(std::min(text.find_first_of("Z+."), text.size()));
    return text + ".000000";
}

// The same as Python prints a datetime.
std::string python_time(const NovaObject& instance, std::string_view field) {
    std::string text = instance.text(field);
    if (text.empty()) {
        return "None";
    }
    text.resize(std::min(text.find_first_of("Z+."), text.size()));
    std::replace(text.begin(), text.end(), 'T', ' ');
    return text + "+00:00";
}

Json image_meta(const NovaObject& instance) {
    constexpr std::string_view kPrefix = "image_";
    Json all = Json::object();
    const Json* metadata = instance.get("system_metadata");
    if (metadata != nullptr && metadata->is_object()) {
        for (const auto& [key, value] : metadata->as_object()) {
            if (key.starts_with(kPrefix)) {
                all.set(key.substr(kPrefix.size()), value);
            }
        }
    }
    return all;
}

Json locked_reason(const NovaObject& instance) {
    const Json* metadata = instance.get("system_metadata");
    return instance.boolean("locked") && metadata != nullptr ? member(*metadata, "locked_reason")
                                                             : Json();
}

// Fields that are the instance's own, under another or the same name.
constexpr std::array<std::pair<std::string_view, std::string_view>, 25> kCopied = {{
    {"uuid", "uuid"},
    {"user_id", "user_id"},
    {"tenant_id", "project_id"},
    {"reservation_id", "reservation_id"},
    {"display_name", "display_name"},
    {"display_description", "display_description"},
    {"host_name", "hostname"},
    {"host", "host"},
    {"node", "node"},
    {"os_type", "os_type"},
    {"architecture", "architecture"},
    {"availability_zone", "availability_zone"},
    {"image_uuid", "image_ref"},
    {"key_name", "key_name"},
    {"kernel_id", "kernel_id"},
    {"ramdisk_id", "ramdisk_id"},
    {"created_at", "created_at"},
    {"launched_at", "launched_at"},
    {"terminated_at", "terminated_at"},
    {"deleted_at", "deleted_at"},
    {"updated_at", "updated_at"},
    {"state", "vm_state"},
    {"task_state", "task_state"},
    {"progress", "progress"},
    {"metadata", "metadata"},
}};

}  // namespace

Json legacy_fixed_ips(const NovaObject& instance) {
    Json all = Json::array();
    for_each_fixed_ip(instance, [&](const Json& vif, const Json& ip) {
        Json one = ip;
        one.set("label", label_of(vif));
        one.set("vif_mac", member(vif, "address"));
        all.push_back(std::move(one));
    });
    return all;
}

Json legacy_payload(const NovaObject& instance, const std::string& image_base) {
    const auto flavor = instance.object("flavor");
    const auto of_flavor = [&](std::string_view field) {
        return flavor.ok() ? value_of(*flavor, field) : Json();
    };
    const int64_t root_gb = flavor.ok() ? flavor->integer("root_gb") : 0;
    const int64_t ephemeral_gb = flavor.ok() ? flavor->integer("ephemeral_gb") : 0;
    const int64_t progress = instance.integer("progress");
    const std::string image = instance.text("image_ref");
    return Json::object({
        {"tenant_id", value_of(instance, "project_id")},
        {"user_id", value_of(instance, "user_id")},
        {"instance_id", value_of(instance, "uuid")},
        {"display_name", value_of(instance, "display_name")},
        {"reservation_id", value_of(instance, "reservation_id")},
        {"hostname", value_of(instance, "hostname")},
        {"instance_type", of_flavor("name")},
        {"instance_type_id", value_of(instance, "instance_type_id")},
        {"instance_flavor_id", of_flavor("flavorid")},
        {"architecture", value_of(instance, "architecture")},
        {"memory_mb", of_flavor("memory_mb")},
        {"disk_gb", root_gb + ephemeral_gb},
        {"vcpus", of_flavor("vcpus")},
        {"root_gb", root_gb},
        {"ephemeral_gb", ephemeral_gb},
        {"host", value_of(instance, "host")},
        {"node", value_of(instance, "node")},
        {"availability_zone", value_of(instance, "availability_zone")},
        {"cell_name", instance.text("cell_name")},
        {"created_at", python_time(instance, "created_at")},
        {"terminated_at", legacy_time(instance, "terminated_at")},
        {"deleted_at", legacy_time(instance, "deleted_at")},
        {"launched_at", legacy_time(instance, "launched_at")},
        {"image_ref_url", image_base.empty() ? image : image_base + "/images/" + image},
        {"os_type", value_of(instance, "os_type")},
        {"kernel_id", value_of(instance, "kernel_id")},
        {"ramdisk_id", value_of(instance, "ramdisk_id")},
        {"state", value_of(instance, "vm_state")},
        {"state_description", instance.text("task_state")},
        {"progress", progress == 0 ? Json("") : Json(progress)},
        {"access_ip_v4", value_of(instance, "access_ip_v4")},
        {"access_ip_v6", value_of(instance, "access_ip_v6")},
        {"image_meta", image_meta(instance)},
        {"metadata", value_of(instance, "metadata")},
    });
}

Json flavor_payload(const NovaObject& flavor) {
    Json data = Json::object({{"projects", nullptr}});
    for (const std::string_view field :
         {"flavorid", "memory_mb", "vcpus", "root_gb", "ephemeral_gb", "name", "swap",
          "rxtx_factor", "vcpu_weight", "disabled", "is_public", "extra_specs", "description"}) {
        data.set(std::string(field), value_of(flavor, field));
    }
    return object_of("FlavorPayload", "1.4", std::move(data));
}

Json versioned_payload(Release release, std::string_view name, const NovaObject& instance,
                       const Json& context, const Json& extra) {
    Json data = Json::object();
    for (const auto& [field, source] : kCopied) {
        data.set(std::string(field), value_of(instance, source));
    }
    const auto flavor = instance.object("flavor");
    data.set("flavor", flavor.ok() ? flavor_payload(*flavor) : Json());
    data.set("power_state", power_state_name(instance));
    data.set("locked", instance.boolean("locked"));
    data.set("locked_reason", locked_reason(instance));
    data.set("auto_disk_config", instance.boolean("auto_disk_config") ? "AUTO" : "MANUAL");
    data.set("ip_addresses", ip_payloads(instance));
    data.set("block_devices", nullptr);
    data.set("request_id", member(context, "request_id"));
    data.set("action_initiator_user", member(context, "user_id"));
    data.set("action_initiator_project", member(context, "project_id"));
    if (release != Release::Zed) {
        data.set("shares", nullptr);
    }
    if (name != "InstanceExistsPayload") {
        data.set("fault", nullptr);
    }
    for (const auto& [key, value] : extra.as_object()) {
        data.set(key, value);
    }
    const auto version =
        std::find_if(kVersions.begin(), kVersions.end(),
                     [name](const PayloadVersion& one) { return one.name == name; });
    return object_of(name, release == Release::Zed ? version->zed : version->gazpacho,
                     std::move(data));
}

Json block_device_payloads(const Json& list) {
    Json all = Json::array();
    const Json* mappings = list.find_path({"nova_object.data", "objects"});
    if (mappings == nullptr || !mappings->is_array()) {
        return all;
    }
    for (const Json& mapping : mappings->as_array()) {
        const Json* data = mapping.find("nova_object.data");
        if (data == nullptr || member(*data, "volume_id").is_null()) {
            continue;
        }
        Json volume = Json::object();
        for (const char* field :
             {"device_name", "boot_index", "delete_on_termination", "volume_id", "tag"}) {
            volume.set(field, member(*data, field));
        }
        all.push_back(object_of("BlockDevicePayload", "1.0", std::move(volume)));
    }
    return all;
}

Json create_extra(const NovaObject& instance) {
    Json tags = Json::array();
    if (const auto list = instance.object("tags"); list.ok()) {
        for (const NovaObject& tag : list->objects().value_or({})) {
            tags.push_back(Json(tag.text("tag")));
        }
    }
    Json keypairs = Json::array();
    if (const auto list = instance.object("keypairs"); list.ok()) {
        for (const NovaObject& pair : list->objects().value_or({})) {
            Json data = Json::object();
            for (const std::string_view field :
                 {"user_id", "name", "fingerprint", "public_key", "type"}) {
                data.set(std::string(field), value_of(pair, field));
            }
            keypairs.push_back(object_of("KeypairPayload", "1.0", std::move(data)));
        }
    }
    const auto certificates = instance.object("trusted_certs");
    return Json::object({{"block_devices", Json::array()},
                         {"tags", std::move(tags)},
                         {"keypairs", std::move(keypairs)},
                         {"instance_name", fmt::format("instance-{:08x}", instance.integer("id"))},
                         {"trusted_image_certificates",
                          certificates.ok() ? value_of(*certificates, "ids") : Json()}});
}

Json exception_payload(const Error& error, std::string_view function) {
    return object_of(
        "ExceptionPayload", "1.1",
        Json::object({{"module_name", "nova.compute.manager"},
                      {"function_name", std::string(function)},
                      {"exception", error.fault.empty() ? "NovaException" : error.fault},
                      {"exception_message", error.message},
                      {"traceback", error.text()}}));
}

AuditPeriod current_audit_period(int64_t wall_ns) {
    const std::string month = iso8601(wall_ns).substr(0, 7);
    return {parse_iso8601(month + "-01T00:00:00Z").value_or(0), wall_ns};
}

Json audit_period_payload(const AuditPeriod& period) {
    return object_of("AuditPeriodPayload", "1.0",
                     Json::object({{"audit_period_beginning", iso8601(period.begin_ns)},
                                   {"audit_period_ending", iso8601(period.end_ns)}}));
}

}  // namespace kumoi::nova
