#include "api/cli/archive/manifest.h"

#include <algorithm>
#include <array>

namespace kumoi::cli {

namespace {

constexpr int64_t kFormat = 1;
constexpr size_t kPropertiesMax = 128;
constexpr size_t kNetworksMax = 32;

Json object_of(const std::map<std::string, std::string>& values) {
    Json json = Json::object();
    for (const auto& [key, value] : values) {
        json.set(key, value);
    }
    return json;
}

Result<std::map<std::string, std::string>> strings_of(const JsonView& view, std::string_view key) {
    std::map<std::string, std::string> values;
    if (!view.has(key)) {
        return values;
    }
    const JsonView object = TRY(view.object(key));
    for (const auto& [name, value] : object.json().as_object()) {
        if (!value.is_string() || values.size() >= kPropertiesMax) {
            return object.error(
                fmt::format("\"{}\" is no text, or there are more than {}", name, kPropertiesMax));
        }
        values.emplace(name, value.as_string());
    }
    return values;
}

}  // namespace

bool is_portable_property(std::string_view name) {
    constexpr std::array kNames{"os_distro",          "os_version",      "os_type",
                                "os_admin_user",      "os_command_line", "os_require_quiesce",
                                "os_shutdown_timeout"};
    return name.starts_with("hw_") || std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

std::string write_manifest(const ServerManifest& manifest) {
    Json networks = Json::array();
    for (const std::string& network : manifest.networks) {
        networks.push_back(network);
    }
    Json files = Json::array();
    files.push_back("disk0");
    if (manifest.kernel) {
        files.push_back("kernel");
    }
    if (manifest.ramdisk) {
        files.push_back("ramdisk");
    }
    return Json::object(
               {{"format", kFormat},
                {"server", Json::object({{"name", manifest.name},
                                         {"vcpus", manifest.vcpus},
                                         {"memory_mib", manifest.memory_mib},
                                         {"disk_gib", manifest.disk_gib},
                                         {"networks", std::move(networks)},
                                         {"metadata", object_of(manifest.metadata)}})},
                {"image", Json::object({{"disk_format", manifest.disk_format},
                                        {"min_disk_gib", manifest.min_disk_gib},
                                        {"properties", object_of(manifest.image_properties)}})},
                {"files", std::move(files)}})
               .dump() +
           "\n";
}

Result<ServerManifest> read_manifest(std::string_view text) {
    const Json json = TRY_CONTEXT(Json::parse(text), "{}", kManifestName);
    if (!json.is_object()) {
        return Error::corrupt("{} is no object", kManifestName);
    }
    const JsonView view(json);
    const int64_t format = TRY(view.integer("format", {1, INT32_MAX}));
    if (format != kFormat) {
        return Error::unsupported("the archive has format {}; this kumoi reads format {}", format,
                                  kFormat)
            .with_hint("use a newer kumoi");
    }
    ServerManifest manifest;
    const JsonView server = TRY(view.object("server"));
    manifest.name = TRY(server.string("name"));
    manifest.vcpus = static_cast<uint32_t>(TRY(server.integer("vcpus", {1, 1024})));
    manifest.memory_mib = static_cast<uint64_t>(TRY(server.integer("memory_mib", {1, 1 << 24})));
    manifest.disk_gib = static_cast<uint64_t>(TRY(server.integer("disk_gib", {0, 1 << 20})));
    for (const JsonView& network : TRY(server.array("networks"))) {
        manifest.networks.push_back(TRY(network.as_string()));
    }
    if (manifest.networks.size() > kNetworksMax) {
        return server.error(fmt::format("{} networks are too many", manifest.networks.size()));
    }
    manifest.metadata = TRY(strings_of(server, "metadata"));
    const JsonView image = TRY(view.object("image"));
    manifest.disk_format = TRY(image.string("disk_format"));
    if (manifest.disk_format != "qcow2" && manifest.disk_format != "raw") {
        return image.error(
            fmt::format("the disk's format is \"{}\", not qcow2 or raw", manifest.disk_format));
    }
    manifest.min_disk_gib = static_cast<uint64_t>(TRY(image.integer("min_disk_gib", {0, 1 << 20})));
    manifest.image_properties = TRY(strings_of(image, "properties"));
    std::erase_if(manifest.image_properties,
                  [](const auto& property) { return !is_portable_property(property.first); });
    for (const JsonView& file : TRY(view.array("files"))) {
        const std::string name = TRY(file.as_string());
        manifest.kernel = manifest.kernel || name == "kernel";
        manifest.ramdisk = manifest.ramdisk || name == "ramdisk";
        if (name != "disk0" && name != "kernel" && name != "ramdisk") {
            return file.error(fmt::format("\"{}\" is none of disk0, kernel, ramdisk", name));
        }
    }
    return manifest;
}

}  // namespace kumoi::cli
