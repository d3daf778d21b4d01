// Cinder's records, of cinder_client.h.
#include "compute/clients/cinder_client.h"

namespace kumoi::clients {
namespace {

// Cinder writes "null" where it means nothing.
std::string text_of(const Json& json, std::string_view name) {
    std::string text = json.string_or(name);
    return text == "null" ? "" : text;
}

// What Nova keeps: the driver's members in `data`, what belongs to the attachment beside it.
Json nova_connection_info(const Json& attachment) {
    const Json* flat = attachment.find("connection_info");
    if (flat == nullptr || !flat->is_object() || flat->size() == 0) {
        return Json::object();
    }
    Json data = *flat;
    const Json* type = flat->find("driver_volume_type");
    Json info = Json::object({{"driver_volume_type", type == nullptr ? Json() : *type}});
    data.erase("driver_volume_type");
    data.erase("attachment_id");
    info.set("data", std::move(data));
    for (const char* name : {"status", "instance", "attached_at", "detached_at", "volume_id"}) {
        if (const Json* value = attachment.find(name)) {
            info.set(name, *value);
        }
    }
    return info;
}

}  // namespace

Result<Volume> parse_volume(const Json& json) {
    const JsonView view(json, "volume");
    Volume volume;
    volume.id = TRY(view.string("id"));
    volume.status = TRY(view.string("status"));
    volume.size_gb = TRY(view.integer_or("size", 0, {0, 1 << 30}));
    volume.name = text_of(json, "name");
    volume.availability_zone = text_of(json, "availability_zone");
    volume.migration_status = text_of(json, "migration_status");
    volume.volume_type_id = text_of(json, "volume_type_id");
    volume.service_uuid = text_of(json, "service_uuid");
    volume.bootable = json.string_or("bootable") == "true" || json.bool_or("bootable");
    volume.encrypted = json.bool_or("encrypted");
    volume.multiattach = json.bool_or("multiattach");
    volume.shared_targets = json.bool_or("shared_targets");
    volume.raw = json;
    return volume;
}

Result<VolumeAttachment> parse_attachment(const Json& json) {
    const JsonView view(json, "attachment");
    VolumeAttachment attachment;
    attachment.id = TRY(view.string("id"));
    attachment.volume_id = text_of(json, "volume_id");
    attachment.instance_uuid = text_of(json, "instance");
    attachment.status = text_of(json, "status");
    attachment.connection_info = nova_connection_info(json);
    return attachment;
}

}  // namespace kumoi::clients
