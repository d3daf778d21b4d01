// How ImageStore writes a record into the database.
#include "compute/images/image_store.h"

namespace kumoi::compute {
namespace {

std::optional<std::string> optional_text(const Json& json, std::string_view key) {
    const Json* value = json.find(key);
    return value != nullptr && value->is_string() ? std::optional(value->as_string())
                                                  : std::nullopt;
}

std::optional<uint64_t> optional_size(const Json& json, std::string_view key) {
    const Json* value = json.find(key);
    const auto number = value == nullptr ? std::nullopt : value->to_int64();
    return number && *number >= 0 ? std::optional(static_cast<uint64_t>(*number)) : std::nullopt;
}

}  // namespace

Json image_to_json(const Image& image) {
    Json properties = Json::object();
    for (const auto& [name, value] : image.properties) {
        properties.set(name, value);
    }
    return Json::object({{"id", image.id},
                         {"name", image.name},
                         {"status", image.status},
                         {"visibility", image.visibility},
                         {"owner", image.owner},
                         {"disk_format", image.disk_format},
                         {"container_format", image.container_format},
                         {"size", image.size},
                         {"virtual_size", image.virtual_size},
                         {"checksum", image.checksum},
                         {"os_hash_algo", image.os_hash_algo},
                         {"os_hash_value", image.os_hash_value},
                         {"min_disk_gb", image.min_disk_gb},
                         {"min_ram_mb", image.min_ram_mb},
                         {"protected", image.is_protected},
                         {"os_hidden", image.os_hidden},
                         {"tags", Json::array_of(image.tags)},
                         {"properties", std::move(properties)},
                         {"created_ns", image.created_ns},
                         {"updated_ns", image.updated_ns}});
}

Result<Image> image_from_json(const Json& json) {
    const JsonView view(json);
    Image image;
    image.id = TRY(view.string("id"));
    image.name = optional_text(json, "name");
    image.status = TRY(view.string("status"));
    image.visibility = TRY(view.string("visibility"));
    image.owner = TRY(view.string("owner"));
    image.disk_format = optional_text(json, "disk_format");
    image.container_format = optional_text(json, "container_format");
    image.size = optional_size(json, "size");
    image.virtual_size = optional_size(json, "virtual_size");
    image.checksum = TRY(view.string("checksum"));
    image.os_hash_algo = TRY(view.string("os_hash_algo"));
    image.os_hash_value = TRY(view.string("os_hash_value"));
    image.min_disk_gb = TRY(view.integer("min_disk_gb"));
    image.min_ram_mb = TRY(view.integer("min_ram_mb"));
    image.is_protected = TRY(view.boolean("protected"));
    image.os_hidden = TRY(view.boolean("os_hidden"));
    for (const JsonView& tag : TRY(view.array("tags"))) {
        image.tags.insert(TRY(tag.as_string()));
    }
    const JsonView properties = TRY(view.object("properties"));
    for (const auto& [name, value] : properties.json().as_object()) {
        image.properties[name] = TRY(JsonView(value, name).as_string());
    }
    image.created_ns = TRY(view.integer("created_ns"));
    image.updated_ns = TRY(view.integer("updated_ns"));
    return image;
}

}  // namespace kumoi::compute
