#include "compute/driver/instance_folder.h"

#include "base/file.h"

namespace kumoi::compute {
namespace {

constexpr int64_t kFormatVersion = 1;

Json properties_json(const Properties& properties) {
    Json json = Json::object();
    for (const auto& [key, value] : properties) {
        json.set(key, value);
    }
    return json;
}

Properties properties_from(const Json* json) {
    Properties properties;
    if (json != nullptr && json->is_object()) {
        for (const auto& [key, value] : json->as_object()) {
            if (value.is_string()) {
                properties[key] = value.as_string();
            }
        }
    }
    return properties;
}

Json flavor_json(const Flavor& flavor) {
    return Json::object({{"id", flavor.flavor_id},
                         {"name", flavor.name},
                         {"memory_mb", flavor.memory_mb},
                         {"vcpus", flavor.vcpus},
                         {"root_gb", flavor.root_gb},
                         {"ephemeral_gb", flavor.ephemeral_gb},
                         {"swap_mb", flavor.swap_mb},
                         {"extra_specs", properties_json(flavor.extra_specs)}});
}

Flavor flavor_from(const Json& json) {
    Flavor flavor;
    flavor.flavor_id = json.string_or("id");
    flavor.name = json.string_or("name");
    flavor.memory_mb = json.integer_or("memory_mb");
    flavor.vcpus = json.integer_or("vcpus");
    flavor.root_gb = json.integer_or("root_gb");
    flavor.ephemeral_gb = json.integer_or("ephemeral_gb");
    flavor.swap_mb = json.integer_or("swap_mb");
    flavor.extra_specs = properties_from(json.find("extra_specs"));
    return flavor;
}

Json vif_json(const VifInfo& vif) {
    Json addresses = Json::array();
    for (const FixedIp& ip : vif.fixed_ips) {
        addresses.push_back(Json::object({{"address", ip.address},
                                          {"prefix_length", ip.prefix_length},
                                          {"ip_version", ip.ip_version}}));
    }
    return Json::object({{"port_id", vif.port_id},
                         {"network_id", vif.network_id},
                         {"network_name", vif.network_name},
                         {"mac", vif.mac},
                         {"mtu", vif.mtu},
                         {"tap", vif.tap_name},
                         {"fixed_ips", std::move(addresses)}});
}

VifInfo vif_from(const Json& json) {
    VifInfo vif;
    vif.port_id = json.string_or("port_id");
    vif.network_id = json.string_or("network_id");
    vif.network_name = json.string_or("network_name");
    vif.mac = json.string_or("mac");
    vif.mtu = json.integer_or("mtu", vif.mtu);
    vif.tap_name = json.string_or("tap");
    const Json* addresses = json.find("fixed_ips");
    if (addresses != nullptr && addresses->is_array()) {
        for (const Json& item : addresses->as_array()) {
            FixedIp ip;
            ip.address = item.string_or("address");
            ip.prefix_length = static_cast<int>(item.integer_or("prefix_length"));
            ip.ip_version = static_cast<int>(item.integer_or("ip_version", 4));
            vif.fixed_ips.push_back(std::move(ip));
        }
    }
    return vif;
}

}  // namespace

bool InstanceFolder::exists() const {
    return path_exists(path_);
}

Json instance_to_json(const Instance& instance) {
    Json vifs = Json::array();
    for (const VifInfo& vif : instance.network_info) {
        vifs.push_back(vif_json(vif));
    }
    return Json::object({{"format", kFormatVersion},
                         {"uuid", instance.uuid},
                         {"name", instance.display_name},
                         {"hostname", instance.hostname},
                         {"project_id", instance.project_id},
                         {"user_id", instance.user_id},
                         {"availability_zone", instance.availability_zone},
                         {"image_id", instance.image_id},
                         {"image_properties", properties_json(instance.image.properties)},
                         {"flavor", flavor_json(instance.flavor)},
                         {"key_name", instance.key_name},
                         {"config_drive", instance.config_drive},
                         {"metadata", properties_json(instance.metadata)},
                         {"vifs", std::move(vifs)}});
}

Result<Instance> instance_from_json(const Json& json) {
    const JsonView view(json);
    const int64_t format = TRY(view.integer("format"));
    if (format != kFormatVersion) {
        return Error::unsupported("config.json has format {}, this release knows {}", format,
                                  kFormatVersion);
    }
    Instance instance;
    instance.uuid = TRY(view.string("uuid"));
    instance.flavor = flavor_from(TRY(view.object("flavor")).json());
    instance.display_name = json.string_or("name");
    instance.hostname = json.string_or("hostname");
    instance.project_id = json.string_or("project_id");
    instance.user_id = json.string_or("user_id");
    instance.availability_zone = json.string_or("availability_zone");
    instance.image_id = json.string_or("image_id");
    instance.image.id = instance.image_id;
    instance.image.properties = properties_from(json.find("image_properties"));
    instance.key_name = json.string_or("key_name");
    instance.config_drive = json.bool_or("config_drive");
    instance.metadata = properties_from(json.find("metadata"));
    const Json* vifs = json.find("vifs");
    if (vifs != nullptr && vifs->is_array()) {
        for (const Json& vif : vifs->as_array()) {
            instance.network_info.push_back(vif_from(vif));
        }
    }
    return instance;
}

}  // namespace kumoi::compute
