// CinderVolumes: Cinder as the manager of a node knows it (compute::VolumeApi), in the name of
// whoever asked. Thread safe; blocks.
#pragma once

#include <string>
#include <vector>

#include "compute/clients/cinder_client.h"
#include "compute/manager/volume_api.h"

namespace kumoi::clients {

class CinderVolumes final : public compute::VolumeApi {
public:
    explicit CinderVolumes(CinderClient& cinder) : cinder_(cinder) {}

    Result<compute::VolumeRecord> volume(const compute::RequestContext& context,
                                         const std::string& id) override;
    Result<compute::VolumeRecord> create_volume(const compute::RequestContext& context,
                                                const compute::VolumeOrder& order) override;
    Result<void> delete_volume(const compute::RequestContext& context,
                               const std::string& id) override;
    Result<std::string> snapshot_status(const compute::RequestContext& context,
                                        const std::string& id) override;
    Result<compute::VolumeAttachmentRecord> create_attachment(
        const compute::RequestContext& context, const std::string& volume_id,
        const std::string& instance_uuid, const Json& connector) override;
    Result<compute::VolumeAttachmentRecord> update_attachment(
        const compute::RequestContext& context, const std::string& id,
        const Json& connector) override;
    Result<void> complete_attachment(const compute::RequestContext& context,
                                     const std::string& id) override;
    Result<void> delete_attachment(const compute::RequestContext& context,
                                   const std::string& id) override;
    Result<std::vector<compute::VolumeAttachmentRecord>> attachments(
        const compute::RequestContext& context, const std::string& instance_uuid) override;
    Result<void> roll_detaching(const compute::RequestContext& context,
                                const std::string& volume_id) override;
    Result<std::string> complete_migration(const compute::RequestContext& context,
                                           const std::string& old_volume_id,
                                           const std::string& new_volume_id, bool failed) override;
    Result<void> reimage(const compute::RequestContext& context, const std::string& volume_id,
                         const std::string& image_id) override;

private:
    CinderClient& cinder_;
};

}  // namespace kumoi::clients
