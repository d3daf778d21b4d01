#include "compute/clients/cinder_volumes.h"

namespace kumoi::clients {
namespace {

compute::VolumeRecord record_of(const Volume& volume) {
    return {.id = volume.id,
            .status = volume.status,
            .migration_status = volume.migration_status,
            .volume_type = volume.raw.string_or("volume_type"),
            .size_gb = volume.size_gb,
            .encrypted = volume.encrypted,
            .multiattach = volume.multiattach};
}

compute::VolumeAttachmentRecord record_of(const VolumeAttachment& attachment) {
    return {attachment.id, attachment.volume_id, attachment.connection_info};
}

}  // namespace

Result<compute::VolumeRecord> CinderVolumes::volume(const compute::RequestContext& context,
                                                    const std::string& id) {
    return record_of(TRY(cinder_.volume(caller_of(context), id)));
}

Result<compute::VolumeRecord> CinderVolumes::create_volume(const compute::RequestContext& context,
                                                           const compute::VolumeOrder& order) {
    NewVolume wanted;
    wanted.size_gb = order.size_gb;
    wanted.name = order.name;
    wanted.volume_type = order.volume_type;
    wanted.availability_zone = order.availability_zone;
    wanted.image_id = order.image_id;
    wanted.snapshot_id = order.snapshot_id;
    return record_of(TRY(cinder_.create_volume(caller_of(context), wanted)));
}

Result<void> CinderVolumes::delete_volume(const compute::RequestContext& context,
                                          const std::string& id) {
    return cinder_.delete_volume(caller_of(context), id);
}

Result<std::string> CinderVolumes::snapshot_status(const compute::RequestContext& context,
                                                   const std::string& id) {
    const Json snapshot = TRY(cinder_.snapshot(caller_of(context), id));
    return snapshot.string_or("status");
}

Result<compute::VolumeAttachmentRecord> CinderVolumes::create_attachment(
    const compute::RequestContext& context, const std::string& volume_id,
    const std::string& instance_uuid, const Json& connector) {
    return record_of(
        TRY(cinder_.create_attachment(caller_of(context), volume_id, instance_uuid, connector)));
}

Result<compute::VolumeAttachmentRecord> CinderVolumes::update_attachment(
    const compute::RequestContext& context, const std::string& id, const Json& connector) {
    return record_of(TRY(cinder_.update_attachment(caller_of(context), id, connector)));
}

Result<void> CinderVolumes::complete_attachment(const compute::RequestContext& context,
                                                const std::string& id) {
    return cinder_.complete_attachment(caller_of(context), id);
}

Result<void> CinderVolumes::delete_attachment(const compute::RequestContext& context,
                                              const std::string& id) {
    return cinder_.delete_attachment(caller_of(context), id);
}

Result<std::vector<compute::VolumeAttachmentRecord>> CinderVolumes::attachments(
    const compute::RequestContext& context, const std::string& instance_uuid) {
    std::vector<compute::VolumeAttachmentRecord> records;
    for (const VolumeAttachment& attachment :
         TRY(cinder_.attachments(caller_of(context), instance_uuid))) {
        if (attachment.instance_uuid == instance_uuid) {  // an operator may have removed the filter
            records.push_back(record_of(attachment));
        }
    }
    return records;
}

Result<void> CinderVolumes::roll_detaching(const compute::RequestContext& context,
                                           const std::string& volume_id) {
    return cinder_.roll_detaching(caller_of(context), volume_id);
}

// Cinder asks for an administrator's rights here.
Result<std::string> CinderVolumes::complete_migration(const compute::RequestContext& context,
                                                      const std::string& old_volume_id,
                                                      const std::string& new_volume_id,
                                                      bool failed) {
    return cinder_.complete_migration(caller_of(context), old_volume_id, new_volume_id, failed);
}

Result<void> CinderVolumes::reimage(const compute::RequestContext& context,
                                    const std::string& volume_id, const std::string& image_id) {
    return cinder_.reimage(caller_of(context), volume_id, image_id, true);
}

}  // namespace kumoi::clients
