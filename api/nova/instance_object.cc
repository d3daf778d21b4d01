#include "api/nova/instance_object.h"

#include <charconv>

#include "base/clock.h"
#include "compute/clients/vif_json.h"

namespace kumoi::nova {
namespace {

constexpr std::string_view kImagePrefix = "image_";

int64_t number(const std::string& text) {
    int64_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

compute::Properties properties_from(const Json* dictionary) {
    compute::Properties properties;
    if (dictionary == nullptr || !dictionary->is_object()) {
        return properties;
    }
    for (const auto& [key, value] : dictionary->as_object()) {
        if (!value.is_null()) {
            properties[key] = value.is_string() ? value.as_string() : value.dump();
        }
    }
    return properties;
}

Json dictionary_of(const compute::Properties& properties) {
    Json dictionary = Json::object();
    for (const auto& [key, value] : properties) {
        dictionary.set(key, value);
    }
    return dictionary;
}

int64_t nanoseconds(const NovaObject& object, std::string_view field) {
    const auto text = object.optional_text(field);
    return text ? parse_iso8601(*text).value_or(0) : 0;
}

// Nova keeps the image a server was made from in its system_metadata, each value as text.
compute::ImageMeta image_from(const compute::Properties& system_metadata,
                              const std::string& image_ref) {
    compute::ImageMeta image;
    for (const auto& [key, value] : system_metadata) {
        if (!key.starts_with(kImagePrefix)) {
            continue;
        }
        const std::string name = key.substr(kImagePrefix.size());
        if (name == "base_image_ref") {
            image.id = value;
        } else if (name == "disk_format") {
            image.disk_format = value;
        } else if (name == "container_format") {
            image.container_format = value;
        } else if (name == "min_ram") {
            image.min_ram_mb = number(value);
        } else if (name == "min_disk") {
            image.min_disk_gb = number(value);
        } else {
            image.properties[name] = value;
        }
    }
    if (!image_ref.empty()) {
        image.id = image_ref;
    }
    image.status = image.id.empty() ? "" : "active";
    return image;
}

std::optional<compute::Flavor> other_flavor_from(const NovaObject& instance,
                                                 std::string_view field) {
    const auto flavor = instance.object(field);
    return flavor.ok() ? std::optional(flavor_from(*flavor)) : std::nullopt;
}

Result<std::vector<compute::VifInfo>> network_info_from(const NovaObject& instance) {
    const auto cache = instance.object("info_cache");
    const std::string text = cache.ok() ? cache->text("network_info") : "";
    if (text.empty()) {
        return std::vector<compute::VifInfo>();
    }
    return clients::parse_network_info(text);
}

void copy_identity(const NovaObject& object, compute::Instance& instance) {
    instance.id = object.integer("id");
    instance.uuid = object.text("uuid");
    instance.project_id = object.text("project_id");
    instance.user_id = object.text("user_id");
    instance.display_name = object.text("display_name");
    instance.hostname = object.text("hostname");
    instance.display_description = object.optional_text("display_description");
    instance.reservation_id = object.text("reservation_id");
    instance.launch_index = object.integer("launch_index");
    instance.host = object.text("host");
    instance.node = object.text("node");
    instance.availability_zone = object.text("availability_zone");
    instance.image_id = object.text("image_ref");
    instance.key_name = object.text("key_name");
    instance.key_data = object.text("key_data");
    instance.user_data = object.text("user_data");
    instance.config_drive = !object.text("config_drive").empty();
    instance.auto_disk_config = object.boolean("auto_disk_config");
    instance.access_ip_v4 = object.text("access_ip_v4");
    instance.access_ip_v6 = object.text("access_ip_v6");
}

void copy_state(const NovaObject& object, compute::Instance& instance) {
    instance.vm_state = object.text("vm_state");
    instance.task_state = object.optional_text("task_state");
    instance.power_state = static_cast<int>(object.integer("power_state"));
    instance.progress = static_cast<int>(object.integer("progress"));
    instance.locked = object.boolean("locked");
    instance.locked_by = object.text("locked_by");
    instance.created_ns = nanoseconds(object, "created_at");
    instance.updated_ns = nanoseconds(object, "updated_at");
    instance.launched_ns = nanoseconds(object, "launched_at");
    instance.terminated_ns = nanoseconds(object, "terminated_at");
    instance.deleted_ns = nanoseconds(object, "deleted_at");
    instance.metadata = properties_from(object.get("metadata"));
    instance.system_metadata = properties_from(object.get("system_metadata"));
}

// The flavor's own primitive, which knows its number and dates, from where the instance holds it.
Result<Json> flavor_primitive(const NovaObject& instance, const compute::Flavor& flavor) {
    for (const char* field : {"flavor", "new_flavor", "old_flavor"}) {
        const auto held = instance.object(field);
        if (held.ok() && held->has("id") && held->text("flavorid") == flavor.flavor_id &&
            held->integer("memory_mb") == flavor.memory_mb) {
            return held->primitive();
        }
    }
    return Error::invalid("flavor {} is none of those server {} has", flavor.flavor_id,
                          instance.text("uuid"));
}

Result<void> apply_flavors(NovaObject& instance, const compute::InstanceUpdate& update) {
    std::vector<std::pair<std::string_view, Json>> changes;
    const auto optional_flavor =
        [&](std::string_view field,
            const std::optional<std::optional<compute::Flavor>>& flavor) -> Result<void> {
        if (flavor) {
            Json held = *flavor ? TRY(flavor_primitive(instance, **flavor)) : Json();
            changes.emplace_back(field, std::move(held));
        }
        return {};
    };
    TRY(optional_flavor("old_flavor", update.old_flavor));
    TRY(optional_flavor("new_flavor", update.new_flavor));
    if (update.flavor) {
        Json held = TRY(flavor_primitive(instance, *update.flavor));
        changes.emplace_back("instance_type_id", *held.find_path({"nova_object.data", "id"}));
        changes.emplace_back("memory_mb", update.flavor->memory_mb);
        changes.emplace_back("vcpus", update.flavor->vcpus);
        changes.emplace_back("root_gb", update.flavor->root_gb);
        changes.emplace_back("ephemeral_gb", update.flavor->ephemeral_gb);
        changes.emplace_back("flavor", std::move(held));
    }
    for (auto& [field, value] : changes) {
        instance.set(field, std::move(value));
    }
    return {};
}

}  // namespace

compute::Flavor flavor_from(const NovaObject& object) {
    compute::Flavor flavor;
    flavor.flavor_id = object.text("flavorid");
    flavor.name = object.text("name");
    flavor.memory_mb = object.integer("memory_mb");
    flavor.vcpus = object.integer("vcpus");
    flavor.root_gb = object.integer("root_gb");
    flavor.ephemeral_gb = object.integer("ephemeral_gb");
    flavor.swap_mb = object.integer("swap");
    flavor.disabled = object.boolean("disabled");
    flavor.is_public = object.boolean("is_public", true);
    flavor.description = object.optional_text("description");
    flavor.extra_specs = properties_from(object.get("extra_specs"));
    return flavor;
}

Result<compute::Instance> instance_from(const NovaObject& object) {
    compute::Instance instance;
    copy_identity(object, instance);
    if (instance.uuid.empty()) {
        return Error::invalid("an Instance object came without its uuid");
    }
    copy_state(object, instance);
    if (const auto flavor = object.object("flavor"); flavor.ok()) {
        instance.flavor = flavor_from(*flavor);
    } else {  // as it is recorded in the instance's own columns
        instance.flavor.memory_mb = object.integer("memory_mb");
        instance.flavor.vcpus = object.integer("vcpus");
        instance.flavor.root_gb = object.integer("root_gb");
        instance.flavor.ephemeral_gb = object.integer("ephemeral_gb");
    }
    instance.old_flavor = other_flavor_from(object, "old_flavor");
    instance.new_flavor = other_flavor_from(object, "new_flavor");
    instance.image = image_from(instance.system_metadata, instance.image_id);
    instance.network_info = TRY(network_info_from(object));
    if (const auto tags = object.object("tags"); tags.ok()) {
        for (const NovaObject& tag : TRY(tags->objects())) {
            instance.tags.push_back(tag.text("tag"));
        }
    }
    return instance;
}

compute::ImageMeta image_from_dict(const Json& dictionary) {
    compute::ImageMeta image;
    image.id = dictionary.string_or("id");
    image.name = dictionary.string_or("name");
    image.status = dictionary.string_or("status");
    image.owner = dictionary.string_or("owner");
    image.disk_format = dictionary.string_or("disk_format");
    image.container_format = dictionary.string_or("container_format");
    image.size = static_cast<uint64_t>(std::max<int64_t>(0, dictionary.integer_or("size")));
    image.checksum = dictionary.string_or("checksum");
    image.os_hash_algo = dictionary.string_or("os_hash_algo");
    image.os_hash_value = dictionary.string_or("os_hash_value");
    image.min_disk_gb = dictionary.integer_or("min_disk");
    image.min_ram_mb = dictionary.integer_or("min_ram");
    image.properties = properties_from(dictionary.find("properties"));
    return image;
}

Result<std::vector<compute::RequestedNetwork>> requested_networks_from(const NovaObject& list) {
    std::vector<compute::RequestedNetwork> networks;
    const std::vector<NovaObject> requests = TRY(list.objects());
    if (requests.empty()) {
        networks.emplace_back();
    }
    for (const NovaObject& request : requests) {
        compute::RequestedNetwork network;
        network.network_id = request.optional_text("network_id");
        network.port_id = request.optional_text("port_id");
        network.fixed_ip = request.optional_text("address");
        network.tag = request.optional_text("tag");
        if (network.network_id != "none") {
            networks.push_back(std::move(network));
        }
    }
    return networks;
}

std::string date_time(int64_t wall_ns) {
    return iso8601(wall_ns);
}

Result<void> apply_update(NovaObject& instance, const compute::InstanceUpdate& update) {
    const auto set_text = [&](std::string_view field, const std::optional<std::string>& value) {
        if (value) {  // empty: no host any more, null for Nova
            instance.set(field, value->empty() ? Json() : Json(*value));
        }
    };
    if (update.vm_state) {
        instance.set("vm_state", *update.vm_state);
    }
    if (update.task_state) {
        instance.set("task_state", Json(*update.task_state));
    }
    if (update.power_state) {
        instance.set("power_state", *update.power_state);
    }
    set_text("host", update.host);
    set_text("node", update.node);
    if (update.host) {
        set_text("launched_on", update.host);
    }
    if (update.host && update.host->empty()) {
        instance.set("availability_zone", nullptr);
    }
    if (update.launched_ns) {
        instance.set("launched_at", date_time(*update.launched_ns));
    }
    if (update.terminated_ns) {
        instance.set("terminated_at", date_time(*update.terminated_ns));
    }
    if (update.progress) {
        instance.set("progress", *update.progress);
    }
    set_text("root_device_name", update.root_device_name);
    if (update.system_metadata) {
        instance.set("system_metadata", dictionary_of(*update.system_metadata));
    }
    return apply_flavors(instance, update);
}

NovaObject info_cache_with(const ObjectTable& table, const std::string& uuid,
                           const std::vector<compute::VifInfo>& vifs) {
    NovaObject cache = NovaObject::make(table, "InstanceInfoCache");
    cache.set("instance_uuid", uuid);
    cache.reset_changes();
    cache.set("network_info", clients::network_info_text(vifs));
    return cache;
}

Json save_arguments(const compute::InstanceUpdate& update) {
    Json kwargs = Json::object();
    if (update.expected_task_state) {
        Json expected = Json::array();
        for (const auto& state : *update.expected_task_state) {
            expected.push_back(Json(state));
        }
        kwargs.set("expected_task_state", std::move(expected));
    }
    return kwargs;
}

}  // namespace kumoi::nova
