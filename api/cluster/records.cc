#include "api/cluster/records.h"

#include <algorithm>

#include "api/nova/instance_object.h"
#include "base/clock.h"
#include "compute/clients/vif_json.h"

namespace kumoi::cluster {
namespace {

using nova::NovaObject;

constexpr std::string_view kImagePrefix = "image_";

Json text_or_null(const std::string& text) {
    return text.empty() ? Json() : Json(text);
}

Json time_or_null(int64_t wall_ns) {
    return wall_ns == 0 ? Json() : Json(nova::date_time(wall_ns));
}

Json dictionary(const compute::Properties& properties) {
    Json all = Json::object();
    for (const auto& [key, value] : properties) {
        all.set(key, value);
    }
    return all;
}

NovaObject make(std::string_view name) {
    return NovaObject::make(objects(), name);
}

Json finished(NovaObject object) {
    object.reset_changes();
    return object.primitive();
}

// Nova keeps the image a server was made from in its system_metadata.
compute::Properties system_metadata(const compute::Instance& instance) {
    compute::Properties all = instance.system_metadata;
    std::erase_if(all, [](const auto& entry) { return entry.first.starts_with(kImagePrefix); });
    const compute::ImageMeta& image = instance.image;
    const std::string prefix(kImagePrefix);
    for (const auto& [key, value] : image.properties) {
        all[prefix + key] = value;
    }
    all["image_base_image_ref"] = image.id;
    all["image_disk_format"] = image.disk_format;
    all["image_container_format"] = image.container_format;
    all["image_min_ram"] = std::to_string(image.min_ram_mb);
    all["image_min_disk"] = std::to_string(image.min_disk_gb);
    return all;
}

void set_identity(NovaObject& object, const compute::Instance& instance) {
    object.set("id", instance.id);
    object.set("uuid", instance.uuid);
    object.set("project_id", instance.project_id);
    object.set("user_id", instance.user_id);
    object.set("display_name", instance.display_name);
    object.set("hostname", instance.hostname);
    object.set("display_description", Json(instance.display_description));
    object.set("reservation_id", instance.reservation_id);
    object.set("launch_index", instance.launch_index);
    object.set("host", text_or_null(instance.host));
    object.set("node", text_or_null(instance.node));
    object.set("availability_zone", text_or_null(instance.availability_zone));
    object.set("image_ref", instance.image_id);
    object.set("key_name", text_or_null(instance.key_name));
    object.set("key_data", text_or_null(instance.key_data));
    object.set("user_data", text_or_null(instance.user_data));
    object.set("config_drive", instance.config_drive ? "True" : "");
    object.set("auto_disk_config", instance.auto_disk_config);
    object.set("access_ip_v4", text_or_null(instance.access_ip_v4));
    object.set("access_ip_v6", text_or_null(instance.access_ip_v6));
}

void set_state(NovaObject& object, const compute::Instance& instance) {
    object.set("vm_state", instance.vm_state);
    object.set("task_state", Json(instance.task_state));
    object.set("power_state", instance.power_state);
    object.set("progress", instance.progress);
    object.set("locked", instance.locked);
    object.set("locked_by", text_or_null(instance.locked_by));
    object.set("created_at", time_or_null(instance.created_ns));
    object.set("updated_at", time_or_null(instance.updated_ns));
    object.set("launched_at", time_or_null(instance.launched_ns));
    object.set("terminated_at", time_or_null(instance.terminated_ns));
    object.set("deleted_at", time_or_null(instance.deleted_ns));
    object.set("deleted", instance.deleted_ns != 0);
    object.set("metadata", dictionary(instance.metadata));
    object.set("system_metadata", dictionary(system_metadata(instance)));
}

Json other_flavor(const std::optional<compute::Flavor>& flavor, int64_t number) {
    return flavor ? flavor_primitive(*flavor, number) : Json();
}

int64_t number_of(const NovaObject& object, std::string_view field) {
    return object.integer(field);
}

std::optional<int64_t> optional_number(const NovaObject& object, std::string_view field) {
    const Json* value = object.get(field);
    return value == nullptr ? std::nullopt : value->to_int64();
}

std::optional<compute::Flavor> nested_flavor(const NovaObject& saved, std::string_view field) {
    const auto flavor = saved.object(field);
    return flavor.ok() ? std::optional(nova::flavor_from(*flavor)) : std::nullopt;
}

int64_t time_of(const NovaObject& saved, std::string_view field) {
    return parse_iso8601(saved.text(field)).value_or(0);
}

}  // namespace

const nova::ObjectTable& objects() {
    return nova::ObjectTable::of(nova::Release::Gazpacho);
}

Json flavor_primitive(const compute::Flavor& flavor, int64_t number) {
    NovaObject object = make("Flavor");
    object.set("id", number);
    object.set("flavorid", flavor.flavor_id);
    object.set("name", flavor.name);
    object.set("memory_mb", flavor.memory_mb);
    object.set("vcpus", flavor.vcpus);
    object.set("root_gb", flavor.root_gb);
    object.set("ephemeral_gb", flavor.ephemeral_gb);
    object.set("swap", flavor.swap_mb);
    object.set("rxtx_factor", flavor.rxtx_factor);
    object.set("vcpu_weight", 0);
    object.set("disabled", flavor.disabled);
    object.set("is_public", flavor.is_public);
    object.set("description", Json(flavor.description));
    object.set("extra_specs", dictionary(flavor.extra_specs));
    return finished(std::move(object));
}

Json instance_primitive(const compute::Instance& instance, const InstanceFacts& facts) {
    NovaObject object = make("Instance");
    set_identity(object, instance);
    set_state(object, instance);
    object.set("flavor", flavor_primitive(instance.flavor, facts.flavor_number));
    object.set("old_flavor", other_flavor(instance.old_flavor, facts.old_flavor_number));
    object.set("new_flavor", other_flavor(instance.new_flavor, facts.new_flavor_number));
    object.set("instance_type_id", facts.flavor_number);
    object.set("memory_mb", instance.flavor.memory_mb);
    object.set("vcpus", instance.flavor.vcpus);
    object.set("root_gb", instance.flavor.root_gb);
    object.set("ephemeral_gb", instance.flavor.ephemeral_gb);
    object.set("root_device_name", "/dev/vda");
    object.set("migration_context", facts.migration_context);
    NovaObject cache = make("InstanceInfoCache");
    cache.set("instance_uuid", instance.uuid);
    cache.set("network_info", clients::network_info_text(instance.network_info));
    object.set("info_cache", finished(std::move(cache)));
    Json::Array tags;
    for (const std::string& name : instance.tags) {
        NovaObject tag = make("Tag");
        tag.set("resource_id", instance.uuid);
        tag.set("tag", name);
        tags.push_back(finished(std::move(tag)));
    }
    object.set("tags", list_primitive("TagList", std::move(tags)));
    for (const char* none :
         {"numa_topology", "pci_requests", "resources", "trusted_certs", "device_metadata"}) {
        object.set(none, nullptr);
    }
    return finished(std::move(object));
}

Json migration_primitive(const compute::MigrationRecord& migration) {
    NovaObject object = make("Migration");
    object.set("id", migration.id);
    object.set("uuid", migration.uuid);
    object.set("instance_uuid", migration.instance_uuid);
    object.set("migration_type", migration.migration_type);
    object.set("status", migration.status);
    object.set("source_compute", text_or_null(migration.source_compute));
    object.set("source_node", text_or_null(migration.source_node));
    object.set("dest_compute", text_or_null(migration.dest_compute));
    object.set("dest_node", text_or_null(migration.dest_node));
    object.set("dest_host", text_or_null(migration.dest_host));
    object.set("old_instance_type_id", migration.old_flavor);
    object.set("new_instance_type_id", migration.new_flavor);
    object.set("user_id", text_or_null(migration.user_id));
    object.set("project_id", text_or_null(migration.project_id));
    object.set("memory_total", Json(migration.progress.memory_total));
    object.set("memory_processed", Json(migration.progress.memory_processed));
    object.set("memory_remaining", Json(migration.progress.memory_remaining));
    object.set("disk_total", Json(migration.progress.disk_total));
    object.set("disk_processed", Json(migration.progress.disk_processed));
    object.set("disk_remaining", Json(migration.progress.disk_remaining));
    object.set("hidden", false);
    object.set("cross_cell_move", false);
    object.set("created_at", time_or_null(migration.created_ns));
    object.set("updated_at", time_or_null(migration.updated_ns));
    return finished(std::move(object));
}

Json service_primitive(const compute::ServiceRecord& service) {
    NovaObject object = make("Service");
    object.set("id", service.id);
    object.set("uuid", service.uuid);
    object.set("host", service.host);
    object.set("binary", service.binary);
    object.set("topic", "compute");
    object.set("report_count", 0);
    object.set("version", nova::facts_of(nova::Release::Gazpacho).service_version);
    object.set("disabled", service.disabled);
    object.set("disabled_reason", Json(service.disabled_reason));
    object.set("forced_down", service.forced_down);
    object.set("last_seen_up", time_or_null(service.last_seen_ns));
    return finished(std::move(object));
}

Json compute_node_primitive(const compute::ComputeNodeRecord& record) {
    const compute::ComputeNode& node = record.node;
    NovaObject object = make("ComputeNode");
    object.set("id", record.id);
    object.set("uuid", node.uuid);
    object.set("host", node.host);
    object.set("hypervisor_hostname", node.hypervisor_hostname);
    object.set("hypervisor_type", node.hypervisor_type);
    object.set("hypervisor_version", node.hypervisor_version);
    object.set("host_ip", text_or_null(node.host_ip));
    object.set("vcpus", node.vcpus);
    object.set("vcpus_used", node.vcpus_used);
    object.set("memory_mb", node.memory_mb);
    object.set("memory_mb_used", node.memory_mb_used);
    object.set("local_gb", node.local_gb);
    object.set("local_gb_used", node.local_gb_used);
    object.set("disk_available_least", node.disk_available_least_gb);
    object.set("current_workload", node.current_workload);
    object.set("running_vms", node.running_vms);
    object.set("cpu_info", node.cpu_info_json);
    object.set("cpu_allocation_ratio", node.cpu_allocation_ratio);
    object.set("ram_allocation_ratio", node.ram_allocation_ratio);
    object.set("disk_allocation_ratio", node.disk_allocation_ratio);
    return finished(std::move(object));
}

Json list_primitive(const std::string& name, Json::Array members) {
    NovaObject list = make(name);
    list.set("objects", Json(std::move(members)));
    return finished(std::move(list));
}

Json requested_networks_primitive(const std::vector<compute::RequestedNetwork>& networks) {
    Json::Array members;
    for (const compute::RequestedNetwork& network : networks) {
        NovaObject request = make("NetworkRequest");
        request.set("network_id", Json(network.network_id));
        request.set("port_id", Json(network.port_id));
        request.set("address", Json(network.fixed_ip));
        request.set("tag", Json(network.tag));
        members.push_back(finished(std::move(request)));
    }
    if (members.empty()) {  // an empty list would mean the project's only network
        NovaObject none = make("NetworkRequest");
        none.set("network_id", "none");
        members.push_back(finished(std::move(none)));
    }
    return list_primitive("NetworkRequestList", std::move(members));
}

compute::InstanceUpdate instance_update(const NovaObject& saved, const Json& kwargs) {
    compute::InstanceUpdate update;
    for (const std::string& field : saved.changes()) {
        if (field == "vm_state") {
            update.vm_state = saved.text(field);
        } else if (field == "task_state") {
            update.task_state = saved.optional_text(field);
        } else if (field == "power_state") {
            update.power_state = static_cast<int>(number_of(saved, field));
        } else if (field == "host") {
            update.host = saved.text(field);
        } else if (field == "node") {
            update.node = saved.text(field);
        } else if (field == "launched_at") {
            update.launched_ns = time_of(saved, field);
        } else if (field == "terminated_at") {
            update.terminated_ns = time_of(saved, field);
        } else if (field == "progress") {
            update.progress = static_cast<int>(number_of(saved, field));
        } else if (field == "flavor") {
            update.flavor = nested_flavor(saved, field);
        } else if (field == "old_flavor") {
            update.old_flavor = nested_flavor(saved, field);
        } else if (field == "new_flavor") {
            update.new_flavor = nested_flavor(saved, field);
        } else if (field == "system_metadata") {
            compute::Properties all;
            for (const auto& [key, value] : saved.get(field)->as_object()) {
                if (value.is_string()) {
                    all[key] = value.as_string();
                }
            }
            update.system_metadata = std::move(all);
        }
    }
    const Json* expected = kwargs.find("expected_task_state");
    if (expected != nullptr && expected->is_array()) {
        update.expected_task_state.emplace();
        for (const Json& state : expected->as_array()) {
            update.expected_task_state->push_back(
                state.is_string() ? std::optional(state.as_string()) : std::nullopt);
        }
    }
    return update;
}

void apply_migration(const NovaObject& saved, compute::MigrationRecord& migration) {
    compute::MigrationProgress& progress = migration.progress;
    const std::pair<std::string_view, std::string*> texts[] = {
        {"status", &migration.status},           {"source_compute", &migration.source_compute},
        {"source_node", &migration.source_node}, {"dest_compute", &migration.dest_compute},
        {"dest_node", &migration.dest_node},     {"dest_host", &migration.dest_host}};
    const std::pair<std::string_view, std::optional<int64_t>*> numbers[] = {
        {"memory_total", &progress.memory_total},
        {"memory_processed", &progress.memory_processed},
        {"memory_remaining", &progress.memory_remaining},
        {"disk_total", &progress.disk_total},
        {"disk_processed", &progress.disk_processed},
        {"disk_remaining", &progress.disk_remaining}};
    for (const std::string& field : saved.changes()) {
        for (const auto& [name, text] : texts) {
            if (field == name) {
                *text = saved.text(name);
            }
        }
        for (const auto& [name, number] : numbers) {
            if (field == name) {
                *number = optional_number(saved, name);
            }
        }
    }
}

compute::ComputeNode compute_node_from(const NovaObject& saved) {
    compute::ComputeNode node;
    node.uuid = saved.text("uuid");
    node.host = saved.text("host");
    node.hypervisor_hostname = saved.text("hypervisor_hostname");
    node.hypervisor_type = saved.text("hypervisor_type");
    node.hypervisor_version = saved.integer("hypervisor_version");
    node.host_ip = saved.text("host_ip");
    node.vcpus = saved.integer("vcpus");
    node.vcpus_used = saved.integer("vcpus_used");
    node.memory_mb = saved.integer("memory_mb");
    node.memory_mb_used = saved.integer("memory_mb_used");
    node.local_gb = saved.integer("local_gb");
    node.local_gb_used = saved.integer("local_gb_used");
    node.disk_available_least_gb = saved.integer("disk_available_least");
    node.current_workload = saved.integer("current_workload");
    node.running_vms = saved.integer("running_vms");
    node.cpu_info_json = saved.text("cpu_info");
    const auto ratio = [&](std::string_view field, double& value) {
        const Json* given = saved.get(field);
        value = given == nullptr ? value : !given->is_number() ? value : given->as_double();
    };
    ratio("cpu_allocation_ratio", node.cpu_allocation_ratio);
    ratio("ram_allocation_ratio", node.ram_allocation_ratio);
    ratio("disk_allocation_ratio", node.disk_allocation_ratio);
    return node;
}

}  // namespace kumoi::cluster
