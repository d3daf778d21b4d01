#include "api/rest/image/image_view.h"

#include "base/clock.h"

namespace kumoi::api {
namespace {

Json text_or_null(const std::string& text) {
    return text.empty() ? Json() : Json(text);
}

}  // namespace

Json show_image(const compute::Image& image) {
    Json shown = Json::object({{"id", image.id},
                               {"name", image.name},
                               {"status", image.status},
                               {"visibility", image.visibility},
                               {"owner", text_or_null(image.owner)},
                               {"disk_format", image.disk_format},
                               {"container_format", image.container_format},
                               {"size", image.size},
                               {"virtual_size", image.virtual_size},
                               {"checksum", text_or_null(image.checksum)},
                               {"os_hash_algo", text_or_null(image.os_hash_algo)},
                               {"os_hash_value", text_or_null(image.os_hash_value)},
                               {"min_disk", image.min_disk_gb},
                               {"min_ram", image.min_ram_mb},
                               {"protected", image.is_protected},
                               {"os_hidden", image.os_hidden},
                               {"tags", Json::array_of(image.tags)},
                               {"created_at", iso8601(image.created_ns)},
                               {"updated_at", iso8601(image.updated_ns)},
                               {"self", "/v2/images/" + image.id},
                               {"file", "/v2/images/" + image.id + "/file"},
                               {"schema", "/v2/schemas/image"}});
    for (const auto& [name, value] : image.properties) {
        shown.set(name, value);  // never one of the names above: see image_attributes.cc
    }
    return shown;
}

Json show_member(const compute::ImageMember& member) {
    return Json::object({{"image_id", member.image_id},
                         {"member_id", member.member_id},
                         {"status", member.status},
                         {"created_at", iso8601(member.created_ns)},
                         {"updated_at", iso8601(member.updated_ns)},
                         {"schema", "/v2/schemas/member"}});
}

}  // namespace kumoi::api
