#include "compute/clients/image_json.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace kumoi::clients {
namespace {

constexpr size_t kPropertiesMax = 10'000;

// Members of Glance's own; everything else that is a text is a property.
constexpr std::array<std::string_view, 25> kOwnMembers = {
    "id",         "name",         "status",           "visibility",    "protected",
    "os_hidden",  "checksum",     "os_hash_algo",     "os_hash_value", "owner",
    "size",       "virtual_size", "container_format", "disk_format",   "created_at",
    "updated_at", "tags",         "min_ram",          "min_disk",      "self",
    "file",       "schema",       "locations",        "direct_url",    "stores"};

bool is_own(std::string_view name) {
    return std::find(kOwnMembers.begin(), kOwnMembers.end(), name) != kOwnMembers.end();
}

// A queued image's size is null.
Result<uint64_t> size_or_zero(const JsonView& view, std::string_view name) {
    if (!view.has(name)) {
        return uint64_t{0};
    }
    return static_cast<uint64_t>(TRY(view.integer(name, {0, INT64_MAX})));
}

void patch_member(Json& patch, const Json& now, const std::string& name, Json wanted) {
    const Json* has = now.find(name);
    if (has != nullptr && *has == wanted) {
        return;
    }
    std::string path = "/";
    for (const char letter : name) {  // RFC 6901
        path += letter == '~' ? "~0" : letter == '/' ? "~1" : std::string(1, letter);
    }
    patch.push_back(Json::object({{"op", has == nullptr ? "add" : "replace"},
                                  {"path", std::move(path)},
                                  {"value", std::move(wanted)}}));
}

}  // namespace

Result<compute::ImageMeta> parse_image(const Json& image) {
    const JsonView view(image, "image");
    compute::ImageMeta meta;
    meta.id = TRY(view.string("id"));
    meta.status = TRY(view.string("status"));
    meta.name = image.string_or("name");
    meta.owner = image.string_or("owner");
    meta.disk_format = image.string_or("disk_format");
    meta.container_format = image.string_or("container_format");
    meta.size = TRY(size_or_zero(view, "size"));
    meta.checksum = image.string_or("checksum");
    meta.os_hash_algo = image.string_or("os_hash_algo");
    meta.os_hash_value = image.string_or("os_hash_value");
    meta.min_disk_gb = static_cast<int64_t>(TRY(size_or_zero(view, "min_disk")));
    meta.min_ram_mb = static_cast<int64_t>(TRY(size_or_zero(view, "min_ram")));
    if (image.size() > kPropertiesMax) {
        return Error::too_large("image {} has {} properties", meta.id, image.size());
    }
    for (const auto& [name, value] : image.as_object()) {
        if (!is_own(name) && !name.starts_with("os_glance_") && value.is_string()) {
            meta.properties.emplace(name, value.as_string());  // of two of a name the first
        }
    }
    return meta;
}

Json new_image_body(const compute::ImageMeta& meta) {
    Json body = Json::object({{"name", meta.name}, {"visibility", "private"}});
    for (const auto& [name, value] : meta.properties) {
        if (!is_own(name)) {
            body.set(name, value);
        }
    }
    if (!meta.disk_format.empty()) {
        body.set("disk_format", meta.disk_format);
    }
    if (!meta.container_format.empty()) {
        body.set("container_format", meta.container_format);
    }
    body.set("min_disk", meta.min_disk_gb);
    body.set("min_ram", meta.min_ram_mb);
    return body;
}

Json image_patch(const Json& now, const compute::ImageMeta& wanted) {
    Json patch = Json::array();
    for (const auto& [name, value] : wanted.properties) {
        if (!is_own(name)) {
            patch_member(patch, now, name, value);
        }
    }
    if (!wanted.disk_format.empty()) {
        patch_member(patch, now, "disk_format", wanted.disk_format);
    }
    if (!wanted.container_format.empty()) {
        patch_member(patch, now, "container_format", wanted.container_format);
    }
    if (wanted.min_disk_gb > now.integer_or("min_disk")) {
        patch_member(patch, now, "min_disk", wanted.min_disk_gb);
    }
    if (wanted.min_ram_mb > now.integer_or("min_ram")) {
        patch_member(patch, now, "min_ram", wanted.min_ram_mb);
    }
    return patch;
}

}  // namespace kumoi::clients
