#include "compute/conductor/instance_codec.h"

namespace kumoi::compute {
namespace {

std::optional<std::string> text_or_null(const Json& json, std::string_view key) {
    const Json* value = json.find(key);
    return value != nullptr && value->is_string() ? std::optional(value->as_string())
                                                  : std::nullopt;
}

double number_or(const Json& json, std::string_view key, double other) {
    const Json* value = json.find(key);
    return value != nullptr && value->is_number() ? value->as_double() : other;
}

std::vector<std::string> texts(const Json* json) {
    std::vector<std::string> result;
    if (json != nullptr && json->is_array()) {
        for (const Json& item : json->as_array()) {
            if (item.is_string()) {
                result.push_back(item.as_string());
            }
        }
    }
    return result;
}

template <class T, class Decode>
std::vector<T> items(const Json* json, Decode decode) {
    std::vector<T> result;
    if (json != nullptr && json->is_array()) {
        for (const Json& item : json->as_array()) {
            result.push_back(decode(item));
        }
    }
    return result;
}

template <class Range, class Encode>
Json array_of(const Range& range, Encode encode) {
    Json array = Json::array();
    for (const auto& item : range) {
        array.push_back(encode(item));
    }
    return array;
}

Json image_to_json(const ImageMeta& image) {
    return Json::object({{"id", image.id},
                         {"name", image.name},
                         {"status", image.status},
                         {"owner", image.owner},
                         {"disk_format", image.disk_format},
                         {"container_format", image.container_format},
                         {"size", image.size},
                         {"checksum", image.checksum},
                         {"os_hash_algo", image.os_hash_algo},
                         {"os_hash_value", image.os_hash_value},
                         {"min_disk", image.min_disk_gb},
                         {"min_ram", image.min_ram_mb},
                         {"properties", properties_to_json(image.properties)}});
}

ImageMeta image_from_json(const Json& json) {
    ImageMeta image;
    image.id = json.string_or("id");
    image.name = json.string_or("name");
    image.status = json.string_or("status");
    image.owner = json.string_or("owner");
    image.disk_format = json.string_or("disk_format");
    image.container_format = json.string_or("container_format");
    image.size = static_cast<uint64_t>(json.integer_or("size"));
    image.checksum = json.string_or("checksum");
    image.os_hash_algo = json.string_or("os_hash_algo");
    image.os_hash_value = json.string_or("os_hash_value");
    image.min_disk_gb = json.integer_or("min_disk");
    image.min_ram_mb = json.integer_or("min_ram");
    image.properties = properties_from_json(json.find("properties"));
    return image;
}

Json fixed_ip_to_json(const FixedIp& ip) {
    return Json::object({{"address", ip.address},
                         {"subnet_id", ip.subnet_id},
                         {"cidr", ip.cidr},
                         {"prefix_length", ip.prefix_length},
                         {"version", ip.ip_version},
                         {"gateway", ip.gateway},
                         {"dns", Json::array_of(ip.dns_servers)},
                         {"routes", array_of(ip.routes, [](const auto& route) {
                              return Json(Json::Array{Json(route.first), Json(route.second)});
                          })}});
}

FixedIp fixed_ip_from_json(const Json& json) {
    FixedIp ip;
    ip.address = json.string_or("address");
    ip.subnet_id = json.string_or("subnet_id");
    ip.cidr = json.string_or("cidr");
    ip.prefix_length = static_cast<int>(json.integer_or("prefix_length"));
    ip.ip_version = static_cast<int>(json.integer_or("version", 4));
    ip.gateway = text_or_null(json, "gateway");
    ip.dns_servers = texts(json.find("dns"));
    ip.routes =
        items<std::pair<std::string, std::string>>(json.find("routes"), [](const Json& item) {
            const std::vector<std::string> pair = texts(&item);
            return pair.size() == 2 ? std::pair(pair[0], pair[1])
                                    : std::pair<std::string, std::string>();
        });
    return ip;
}

Json vif_to_json(const VifInfo& vif) {
    return Json::object({{"port_id", vif.port_id},
                         {"network_id", vif.network_id},
                         {"network_name", vif.network_name},
                         {"mac", vif.mac},
                         {"mtu", vif.mtu},
                         {"fixed_ips", array_of(vif.fixed_ips, fixed_ip_to_json)},
                         {"security_groups", Json::array_of(vif.security_group_names)},
                         {"created_by_nova", vif.created_by_nova},
                         {"tap_name", vif.tap_name},
                         {"pci_slot", vif.pci_slot},
                         {"tag", vif.tag},
                         {"detaching", vif.detaching}});
}

VifInfo vif_from_json(const Json& json) {
    VifInfo vif;
    vif.port_id = json.string_or("port_id");
    vif.network_id = json.string_or("network_id");
    vif.network_name = json.string_or("network_name");
    vif.mac = json.string_or("mac");
    vif.mtu = json.integer_or("mtu", 1500);
    vif.fixed_ips = items<FixedIp>(json.find("fixed_ips"), fixed_ip_from_json);
    vif.security_group_names = texts(json.find("security_groups"));
    vif.created_by_nova = json.bool_or("created_by_nova", true);
    vif.tap_name = json.string_or("tap_name");
    vif.pci_slot = static_cast<unsigned>(json.integer_or("pci_slot"));
    vif.tag = json.string_or("tag");
    vif.detaching = json.bool_or("detaching");
    return vif;
}

Json fault_to_json(const Fault& fault) {
    return Json::object({{"code", fault.code},
                         {"message", fault.message},
                         {"details", fault.details},
                         {"created_ns", fault.created_ns}});
}

std::optional<Fault> fault_from_json(const Json* json) {
    if (json == nullptr || !json->is_object()) {
        return std::nullopt;
    }
    return Fault{static_cast<int>(json->integer_or("code", 500)), json->string_or("message"),
                 json->string_or("details"), json->integer_or("created_ns")};
}

Json optional_flavor_to_json(const std::optional<Flavor>& flavor) {
    return flavor ? flavor_to_json(*flavor) : Json();
}

std::optional<Flavor> optional_flavor_from_json(const Json* json) {
    return json != nullptr && json->is_object() ? std::optional(flavor_from_json(*json))
                                                : std::nullopt;
}

Json task_arguments_to_json(const TaskArguments& arguments) {
    if (arguments == TaskArguments()) {
        return {};
    }
    return Json::object({{"image_id", arguments.image_id},
                         {"backup_type", arguments.backup_type},
                         {"rotation", arguments.rotation},
                         {"preserve_ephemeral", arguments.preserve_ephemeral},
                         {"injected_files", properties_to_json(arguments.injected_files)},
                         {"old_vm_state", arguments.old_vm_state}});
}

TaskArguments task_arguments_from_json(const Json* json) {
    TaskArguments arguments;
    if (json != nullptr && json->is_object()) {
        arguments.image_id = json->string_or("image_id");
        arguments.backup_type = json->string_or("backup_type");
        arguments.rotation = json->integer_or("rotation");
        arguments.preserve_ephemeral = json->bool_or("preserve_ephemeral");
        arguments.injected_files = properties_from_json(json->find("injected_files"));
        arguments.old_vm_state = json->string_or("old_vm_state");
    }
    return arguments;
}

void read_state(const Json& json, Instance& instance) {
    instance.display_name = json.string_or("display_name");
    instance.hostname = json.string_or("hostname");
    instance.display_description = text_or_null(json, "description");
    instance.vm_state = json.string_or("vm_state");
    instance.task_state = text_or_null(json, "task_state");
    instance.task_arguments = task_arguments_from_json(json.find("task_arguments"));
    instance.old_flavor = optional_flavor_from_json(json.find("old_flavor"));
    instance.new_flavor = optional_flavor_from_json(json.find("new_flavor"));
    instance.power_state = static_cast<int>(json.integer_or("power_state"));
    instance.host = json.string_or("host");
    instance.node = json.string_or("node");
    instance.availability_zone = json.string_or("availability_zone");
    instance.pinned_availability_zone = text_or_null(json, "pinned_availability_zone");
    instance.access_ip_v4 = json.string_or("access_ip_v4");
    instance.access_ip_v6 = json.string_or("access_ip_v6");
    instance.metadata = properties_from_json(json.find("metadata"));
    instance.system_metadata = properties_from_json(json.find("system_metadata"));
    instance.tags = texts(json.find("tags"));
    instance.security_groups = texts(json.find("security_groups"));
    instance.network_info = items<VifInfo>(json.find("network_info"), vif_from_json);
    instance.locked = json.bool_or("locked");
    instance.locked_reason = text_or_null(json, "locked_reason");
    instance.locked_by = json.string_or("locked_by");
    instance.created_ns = json.integer_or("created_ns");
    instance.updated_ns = json.integer_or("updated_ns");
    instance.launched_ns = json.integer_or("launched_ns");
    instance.terminated_ns = json.integer_or("terminated_ns");
    instance.deleted_ns = json.integer_or("deleted_ns");
    instance.progress = static_cast<int>(json.integer_or("progress"));
    instance.fault = fault_from_json(json.find("fault"));
}

}  // namespace

Json properties_to_json(const Properties& properties) {
    Json json = Json::object();
    for (const auto& [key, value] : properties) {
        json.as_object().emplace_back(key, value);
    }
    return json;
}

Properties properties_from_json(const Json* json) {
    Properties properties;
    if (json != nullptr && json->is_object()) {
        for (const auto& [key, value] : json->as_object()) {
            if (value.is_string()) {
                properties.emplace(key, value.as_string());
            }
        }
    }
    return properties;
}

Json flavor_to_json(const Flavor& flavor) {
    return Json::object({{"flavor_id", flavor.flavor_id},
                         {"name", flavor.name},
                         {"memory_mb", flavor.memory_mb},
                         {"vcpus", flavor.vcpus},
                         {"root_gb", flavor.root_gb},
                         {"ephemeral_gb", flavor.ephemeral_gb},
                         {"swap_mb", flavor.swap_mb},
                         {"rxtx_factor", flavor.rxtx_factor},
                         {"disabled", flavor.disabled},
                         {"is_public", flavor.is_public},
                         {"description", flavor.description},
                         {"extra_specs", properties_to_json(flavor.extra_specs)}});
}

Flavor flavor_from_json(const Json& json) {
    Flavor flavor;
    flavor.flavor_id = json.string_or("flavor_id");
    flavor.name = json.string_or("name");
    flavor.memory_mb = json.integer_or("memory_mb");
    flavor.vcpus = json.integer_or("vcpus");
    flavor.root_gb = json.integer_or("root_gb");
    flavor.ephemeral_gb = json.integer_or("ephemeral_gb");
    flavor.swap_mb = json.integer_or("swap_mb");
    flavor.rxtx_factor = number_or(json, "rxtx_factor", 1.0);
    flavor.disabled = json.bool_or("disabled");
    flavor.is_public = json.bool_or("is_public", true);
    flavor.description = text_or_null(json, "description");
    flavor.extra_specs = properties_from_json(json.find("extra_specs"));
    return flavor;
}

Json compute_node_to_json(const ComputeNode& node) {
    return Json::object({{"uuid", node.uuid},
                         {"host", node.host},
                         {"hypervisor_hostname", node.hypervisor_hostname},
                         {"hypervisor_type", node.hypervisor_type},
                         {"hypervisor_version", node.hypervisor_version},
                         {"host_ip", node.host_ip},
                         {"vcpus", node.vcpus},
                         {"vcpus_used", node.vcpus_used},
                         {"memory_mb", node.memory_mb},
                         {"memory_mb_used", node.memory_mb_used},
                         {"memory_mb_reserved", node.memory_mb_reserved},
                         {"local_gb", node.local_gb},
                         {"local_gb_used", node.local_gb_used},
                         {"disk_available_least", node.disk_available_least_gb},
                         {"running_vms", node.running_vms},
                         {"current_workload", node.current_workload},
                         {"cpu_allocation_ratio", node.cpu_allocation_ratio},
                         {"ram_allocation_ratio", node.ram_allocation_ratio},
                         {"disk_allocation_ratio", node.disk_allocation_ratio},
                         {"cpu_info", node.cpu_info_json},
                         {"uptime_s", node.uptime_s},
                         {"load_average", node.load_average},
                         {"updated_ns", node.updated_ns}});
}

ComputeNode compute_node_from_json(const Json& json) {
    ComputeNode node;
    node.uuid = json.string_or("uuid");
    node.host = json.string_or("host");
    node.hypervisor_hostname = json.string_or("hypervisor_hostname");
    node.hypervisor_type = json.string_or("hypervisor_type");
    node.hypervisor_version = json.integer_or("hypervisor_version");
    node.host_ip = json.string_or("host_ip");
    node.vcpus = json.integer_or("vcpus");
    node.vcpus_used = json.integer_or("vcpus_used");
    node.memory_mb = json.integer_or("memory_mb");
    node.memory_mb_used = json.integer_or("memory_mb_used");
    node.memory_mb_reserved = json.integer_or("memory_mb_reserved");
    node.local_gb = json.integer_or("local_gb");
    node.local_gb_used = json.integer_or("local_gb_used");
    node.disk_available_least_gb = json.integer_or("disk_available_least");
    node.running_vms = json.integer_or("running_vms");
    node.current_workload = json.integer_or("current_workload");
    node.cpu_allocation_ratio = number_or(json, "cpu_allocation_ratio", 1.0);
    node.ram_allocation_ratio = number_or(json, "ram_allocation_ratio", 1.0);
    node.disk_allocation_ratio = number_or(json, "disk_allocation_ratio", 1.0);
    node.cpu_info_json = json.string_or("cpu_info");
    node.uptime_s = number_or(json, "uptime_s", 0);
    node.load_average = json.string_or("load_average");
    node.updated_ns = json.integer_or("updated_ns");
    return node;
}

Json requested_network_to_json(const RequestedNetwork& network) {
    return Json::object({{"network_id", network.network_id},
                         {"port_id", network.port_id},
                         {"fixed_ip", network.fixed_ip},
                         {"tag", network.tag}});
}

RequestedNetwork requested_network_from_json(const Json& json) {
    return {text_or_null(json, "network_id"), text_or_null(json, "port_id"),
            text_or_null(json, "fixed_ip"), text_or_null(json, "tag")};
}

Json instance_definition_to_json(const Instance& instance) {
    return Json::object({{"reservation_id", instance.reservation_id},
                         {"launch_index", instance.launch_index},
                         {"image_id", instance.image_id},
                         {"flavor", flavor_to_json(instance.flavor)},
                         {"image", image_to_json(instance.image)},
                         {"key_name", instance.key_name},
                         {"key_data", instance.key_data},
                         {"user_data", instance.user_data},
                         {"config_drive", instance.config_drive},
                         {"auto_disk_config", instance.auto_disk_config}});
}

Json instance_state_to_json(const Instance& instance) {
    return Json::object({{"display_name", instance.display_name},
                         {"hostname", instance.hostname},
                         {"description", instance.display_description},
                         {"vm_state", instance.vm_state},
                         {"task_state", instance.task_state},
                         {"task_arguments", task_arguments_to_json(instance.task_arguments)},
                         {"old_flavor", optional_flavor_to_json(instance.old_flavor)},
                         {"new_flavor", optional_flavor_to_json(instance.new_flavor)},
                         {"power_state", instance.power_state},
                         {"host", instance.host},
                         {"node", instance.node},
                         {"availability_zone", instance.availability_zone},
                         {"pinned_availability_zone", instance.pinned_availability_zone},
                         {"access_ip_v4", instance.access_ip_v4},
                         {"access_ip_v6", instance.access_ip_v6},
                         {"metadata", properties_to_json(instance.metadata)},
                         {"system_metadata", properties_to_json(instance.system_metadata)},
                         {"tags", Json::array_of(instance.tags)},
                         {"security_groups", Json::array_of(instance.security_groups)},
                         {"network_info", array_of(instance.network_info, vif_to_json)},
                         {"locked", instance.locked},
                         {"locked_reason", instance.locked_reason},
                         {"locked_by", instance.locked_by},
                         {"created_ns", instance.created_ns},
                         {"updated_ns", instance.updated_ns},
                         {"launched_ns", instance.launched_ns},
                         {"terminated_ns", instance.terminated_ns},
                         {"deleted_ns", instance.deleted_ns},
                         {"progress", instance.progress},
                         {"fault", instance.fault ? fault_to_json(*instance.fault) : Json()}});
}

Instance instance_from_json(const Json& definition, const Json& state) {
    Instance instance;
    instance.reservation_id = definition.string_or("reservation_id");
    instance.launch_index = definition.integer_or("launch_index");
    instance.image_id = definition.string_or("image_id");
    if (const Json* flavor = definition.find("flavor")) {
        instance.flavor = flavor_from_json(*flavor);
    }
    if (const Json* image = definition.find("image")) {
        instance.image = image_from_json(*image);
    }
    instance.key_name = definition.string_or("key_name");
    instance.key_data = definition.string_or("key_data");
    instance.user_data = definition.string_or("user_data");
    instance.config_drive = definition.bool_or("config_drive");
    instance.auto_disk_config = definition.bool_or("auto_disk_config");
    read_state(state, instance);
    return instance;
}

}  // namespace kumoi::compute
