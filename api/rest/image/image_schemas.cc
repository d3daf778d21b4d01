#include "api/rest/image/image_schemas.h"

namespace kumoi::api {
namespace {

Json text(std::string_view description, bool nullable = false) {
    return Json::object(
        {{"type",
          nullable ? Json::array_of(std::vector<std::string>{"null", "string"}) : Json("string")},
         {"description", description}});
}

Json read_only(Json property) {
    property.set("readOnly", true);
    return property;
}

Json number(std::string_view description, bool nullable = false) {
    Json property = text(description, nullable);
    property.set("type", nullable ? Json::array_of(std::vector<std::string>{"null", "integer"})
                                  : Json("integer"));
    return property;
}

Json boolean(std::string_view description) {
    return Json::object({{"type", "boolean"}, {"description", description}});
}

Json choice(std::string_view description, const std::vector<std::string>& values, bool nullable) {
    Json property = text(description, nullable);
    Json choices = Json::array_of(values);
    if (nullable) {
        choices.push_back(Json());
    }
    property.set("enum", std::move(choices));
    return property;
}

Json tags() {
    return Json::object({{"type", "array"},
                         {"description", "List of strings related to the image"},
                         {"items", Json::object({{"type", "string"}, {"maxLength", 255}})}});
}

Json settable_properties() {
    return Json::object(
        {{"id", text("An identifier for the image")},
         {"name", text("Descriptive name for the image", true)},
         {"visibility", choice("Scope of image accessibility",
                               {"community", "public", "private", "shared"}, false)},
         {"protected", boolean("If true, image will not be deletable.")},
         {"os_hidden", boolean("If true, image will not appear in default image list response.")},
         {"owner", text("Owner of the image", true)},
         {"container_format",
          choice("Format of the container",
                 {"ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"}, true)},
         {"disk_format", choice("Format of the disk",
                                {"ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi",
                                 "iso", "ploop"},
                                true)},
         {"min_ram", number("Amount of ram (in MB) required to boot image.")},
         {"min_disk", number("Amount of disk space (in GB) required to boot image.")},
         {"tags", tags()}});
}

Json image_schema() {
    Json properties = settable_properties();
    properties.set("status", read_only(choice("Status of the image",
                                              {"queued", "saving", "active", "killed", "deleted",
                                               "deactivated", "uploading", "importing"},
                                              false)));
    properties.set("checksum", read_only(text("md5 hash of image contents.", true)));
    properties.set("os_hash_algo",
                   read_only(text("Algorithm to calculate the os_hash_value", true)));
    properties.set("os_hash_value", read_only(text("Hexdigest of the image contents", true)));
    properties.set("size", read_only(number("Size of image file in bytes", true)));
    properties.set("virtual_size", read_only(number("Virtual size of image in bytes", true)));
    for (const char* name : {"created_at", "updated_at", "self", "file", "schema"}) {
        properties.set(name, read_only(text("Set by the service")));
    }
    Json links = Json::array();
    for (const auto& [relation, target] :
         {std::pair("self", "{self}"), {"enclosure", "{file}"}, {"describedby", "{schema}"}}) {
        links.push_back(Json::object({{"rel", relation}, {"href", target}}));
    }
    return Json::object({{"name", "image"},
                         {"properties", std::move(properties)},
                         {"additionalProperties", Json::object({{"type", "string"}})},
                         {"links", std::move(links)}});
}

Json member_schema() {
    return Json::object(
        {{"name", "member"},
         {"properties",
          Json::object({{"member_id", text("An identifier for the image member (tenantId)")},
                        {"image_id", text("An identifier for the image")},
                        {"status", choice("The status of this image member",
                                          {"pending", "accepted", "rejected"}, false)},
                        {"created_at", text("Date and time of image member creation")},
                        {"updated_at", text("Date and time of last modification")},
                        {"schema", read_only(text("Set by the service"))}})}});
}

// {"images": [...], "first": ..., "next": ...}
Json collection_schema(std::string_view name, Json item) {
    Json properties = Json::object(
        {{std::string(name), Json::object({{"type", "array"}, {"items", std::move(item)}})},
         {"schema", Json::object({{"type", "string"}})},
         {"first", Json::object({{"type", "string"}})},
         {"next", Json::object({{"type", "string"}})}});
    Json links = Json::array();
    for (const auto& [relation, target] :
         {std::pair("first", "{first}"), {"next", "{next}"}, {"describedby", "{schema}"}}) {
        links.push_back(Json::object({{"rel", relation}, {"href", target}}));
    }
    return Json::object(
        {{"name", name}, {"properties", std::move(properties)}, {"links", std::move(links)}});
}

Json versions(const Request& request) {
    Json list = Json::array();
    for (int minor = 9; minor >= 0; --minor) {
        Json link = Json::object({{"rel", "self"}, {"href", request.base_url() + "/v2/"}});
        list.push_back(Json::object({{"id", fmt::format("v2.{}", minor)},
                                     {"status", minor == 9 ? "CURRENT" : "SUPPORTED"},
                                     {"links", Json::array_of(std::vector<Json>{link})}}));
    }
    return Json::object({{"versions", std::move(list)}});
}

}  // namespace

void add_image_schema_routes(Router& router) {
    const auto constant = [](Json schema) {
        return
            [text = schema.dump()](Request&) { return Reply::text(text, 200, "application/json"); };
    };
    router.get("/v2/schemas/image", constant(image_schema()));
    router.get("/v2/schemas/images", constant(collection_schema("images", image_schema())));
    router.get("/v2/schemas/member", constant(member_schema()));
    router.get("/v2/schemas/members", constant(collection_schema("members", member_schema())));
}

void add_image_version_routes(Router& router) {
    router.get("/", [](Request& request) { return Reply::json(versions(request), 300); });
    for (const char* path : {"/versions", "/v2"}) {
        router.get(path, [](Request& request) { return Reply::json(versions(request)); });
    }
}

}  // namespace kumoi::api
