#include "api/rest/image/image_attributes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "api/http/url.h"
#include "api/rest/image/image_access.h"
#include "base/uuid.h"

namespace kumoi::api {
namespace {

using compute::Image;

constexpr size_t kNameCharactersMax = 255;
constexpr size_t kValueBytesMax = 65535;
constexpr int64_t kMinimumMax = 2147483647;

constexpr std::array<std::string_view, 15> kReadOnly{
    "created_at",   "updated_at",    "status", "checksum", "size",
    "virtual_size", "direct_url",    "self",   "file",     "schema",
    "os_hash_algo", "os_hash_value", "stores", "id",       "locations"};
constexpr std::array<std::string_view, 4> kReserved{"location", "deleted", "deleted_at",
                                                    "is_public"};
constexpr std::array<std::string_view, 11> kDiskFormats{
    "ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"};
constexpr std::array<std::string_view, 8> kContainerFormats{"ami", "ari", "aki",    "bare",
                                                            "ovf", "ova", "docker", "compressed"};
constexpr std::array<std::string_view, 4> kVisibilities{"public", "private", "shared", "community"};

bool is_one_of(const auto& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

Error mismatch(std::string_view name, std::string_view what) {
    return Error::invalid("Provided object does not match schema 'image': {}: {}", name, what);
}

size_t characters(std::string_view text) {  // code points of valid UTF-8
    return static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xc0) != 0x80; }));
}

Result<std::string> text_value(std::string_view name, const Json& value, size_t characters_max) {
    if (!value.is_string()) {
        return mismatch(name, fmt::format("expected a string, got {}", value.type_name()));
    }
    if (characters(value.as_string()) > characters_max) {
        return mismatch(name, fmt::format("longer than {} characters", characters_max));
    }
    return value.as_string();
}

Result<bool> bool_value(std::string_view name, const Json& value) {
    if (!value.is_bool()) {
        return mismatch(name, fmt::format("expected a boolean, got {}", value.type_name()));
    }
    return value.as_bool();
}

Result<int64_t> minimum_value(std::string_view name, const Json& value) {
    const auto number = value.to_int64();
    if (!number || *number < 0 || *number > kMinimumMax) {
        return mismatch(name, fmt::format("expected an integer from 0 to {}", kMinimumMax));
    }
    return *number;
}

Result<void> set_format(Image& image, std::optional<std::string>& field, const std::string& name,
                        const Json& value, const auto& known) {
    if (image.status != "queued") {
        return Error::forbidden("Attribute {} can be only replaced for a queued image.", name);
    }
    if (value.is_null()) {
        field.reset();
        return {};
    }
    const std::string text = TRY(text_value(name, value, kNameCharactersMax));
    if (!is_one_of(known, text)) {
        return mismatch(name, fmt::format("'{}' is not one of {}", text, fmt::join(known, ", ")));
    }
    field = text;
    return {};
}

Result<void> set_visibility(Image& image, const Json& value, const AuthContext& who) {
    const std::string wanted = TRY(text_value("visibility", value, kNameCharactersMax));
    if (!is_one_of(kVisibilities, wanted)) {
        return mismatch("visibility", fmt::format("'{}' is not one of {}", wanted,
                                                  fmt::join(kVisibilities, ", ")));
    }
    if (wanted != image.visibility && wanted == "public") {
        TRY(image_policy().authorize(who, "publicize_image", {.project_id = image.owner}));
    }
    if (wanted != image.visibility && wanted == "community") {
        TRY(image_policy().authorize(who, "communitize_image", {.project_id = image.owner}));
    }
    image.visibility = wanted;
    return {};
}

Result<void> set_owner(Image& image, const Json& value, const AuthContext& who) {
    const std::string owner = TRY(text_value("owner", value, kNameCharactersMax));
    if (owner != image.owner) {
        TRY(image_policy().authorize(who, "set_image_owner"));
    }
    image.owner = owner;
    return {};
}

Result<void> set_tags(Image& image, const Json& value) {
    if (!value.is_array()) {
        return mismatch("tags", fmt::format("expected an array, got {}", value.type_name()));
    }
    std::set<std::string> tags;
    for (const Json& item : value.as_array()) {
        tags.insert(TRY(check_tag(item)));
    }
    if (tags.size() > kImageTagsMax) {
        return Error::too_large("The image would have {} tags, the limit is {}", tags.size(),
                                kImageTagsMax);
    }
    image.tags = std::move(tags);
    return {};
}

Result<void> set_name(Image& image, const Json& value) {
    image.name.reset();
    if (!value.is_null()) {
        image.name = TRY(text_value("name", value, kNameCharactersMax));
    }
    return {};
}

Result<void> set_property(Image& image, const std::string& name, const Json& value) {
    if (name.empty() || characters(name) > kNameCharactersMax) {
        return Error::invalid("The name of a property must have 1 to {} characters",
                              kNameCharactersMax);
    }
    const std::string text = TRY(text_value(name, value, kValueBytesMax));
    if (!image.properties.contains(name) && image.properties.size() >= kImagePropertiesMax) {
        return Error::too_large("The image has {} properties, the most there may be",
                                image.properties.size());
    }
    image.properties[name] = text;
    return {};
}

Result<void> set_id(Image& image, const Json& value) {
    const std::string text = TRY(text_value("id", value, kNameCharactersMax));
    const auto uuid = Uuid::parse(text);
    if (!uuid || uuid->text() != text) {
        return mismatch("id", "expected a UUID in lower case with hyphens");
    }
    image.id = text;
    return {};
}

}  // namespace

bool is_base_attribute(std::string_view name) {
    constexpr std::array<std::string_view, 10> kSettable{
        "name",    "disk_format", "container_format", "visibility", "owner",
        "min_ram", "min_disk",    "protected",        "os_hidden",  "tags"};
    return is_one_of(kSettable, name) || is_one_of(kReadOnly, name) || is_one_of(kReserved, name);
}

Result<void> set_image_attribute(Image& image, const std::string& name, const Json& value,
                                 AttributeUse use, const AuthContext& who) {
    if (name == "id" && use == AttributeUse::Create) {
        return set_id(image, value);
    }
    if (is_one_of(kReadOnly, name)) {
        return Error::forbidden("Attribute '{}' is read-only.", name);
    }
    if (is_one_of(kReserved, name)) {
        return Error::forbidden("Attribute '{}' is reserved.", name);
    }
    if (name == "name") {
        return set_name(image, value);
    }
    if (name == "disk_format") {
        return set_format(image, image.disk_format, name, value, kDiskFormats);
    }
    if (name == "container_format") {
        return set_format(image, image.container_format, name, value, kContainerFormats);
    }
    if (name == "visibility") {
        return set_visibility(image, value, who);
    }
    if (name == "owner") {
        return set_owner(image, value, who);
    }
    if (name == "tags") {
        return set_tags(image, value);
    }
    if (name == "min_disk") {
        image.min_disk_gb = TRY(minimum_value(name, value));
    } else if (name == "min_ram") {
        image.min_ram_mb = TRY(minimum_value(name, value));
    } else if (name == "protected") {
        image.is_protected = TRY(bool_value(name, value));
    } else if (name == "os_hidden") {
        image.os_hidden = TRY(bool_value(name, value));
    } else {
        return set_property(image, name, value);
    }
    return {};
}

Result<void> remove_image_attribute(Image& image, const std::string& name) {
    if (is_base_attribute(name)) {
        return Error::forbidden("Property {} may not be removed.", name);
    }
    if (image.properties.erase(name) == 0) {
        return Error::conflict("Property {} does not exist.", name);
    }
    return {};
}

Result<std::string> check_tag(const Json& value) {
    std::string tag = TRY(text_value("tags", value, kNameCharactersMax));
    if (tag.empty()) {
        return mismatch("tags", "a tag must not be empty");
    }
    return tag;
}

}  // namespace kumoi::api
