// CinderClient: Cinder's REST calls a compute node makes, on the attachments API (3.44). Volumes
// are the user's: requests carry the user's token, and a service token, without which Cinder
// refuses to detach a volume in use (CVE-2023-2088). Thread safe; blocks.
//
// Errors carry Nova's exception in `fault`: VolumeNotFound, VolumeAttachmentNotFound,
// InvalidVolume, InvalidInput, Forbidden, OverQuota, CinderConnectionFailed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "compute/clients/service_client.h"

namespace kumoi::clients {

struct Volume {
    std::string id;
    std::string name;
    std::string status;  // available, reserved, attaching, in-use, detaching, ...
    int64_t size_gb = 0;
    std::string availability_zone;
    std::string migration_status;
    std::string volume_type_id;
    std::string service_uuid;  // locks attach and detach where targets are shared
    bool bootable = false;
    bool encrypted = false;
    bool multiattach = false;
    bool shared_targets = false;
    Json raw;  // the whole record
};
Result<Volume> parse_volume(const Json& json);

struct VolumeAttachment {
    std::string id;
    std::string volume_id;
    std::string instance_uuid;
    std::string status;
    // As Nova keeps it in a block device mapping: {driver_volume_type, data{...}, status, ...};
    // an empty object while no connector is known.
    Json connection_info;
};
Result<VolumeAttachment> parse_attachment(const Json& json);

struct NewVolume {
    int64_t size_gb = 1;  // 0: as large as its snapshot or source
    std::string name, description, volume_type, availability_zone;
    std::string image_id, snapshot_id, source_volume_id;  // at most one
};

class CinderClient {
public:
    struct Parts {
        Random& random;
        Wait wait;
    };
    // service and random must outlive this.
    CinderClient(ServiceClient& service, Parts parts)
        : service_(service), parts_(std::move(parts)) {}

    Result<Volume> volume(const Caller& caller, const std::string& id);
    Result<Volume> create_volume(const Caller& caller, const NewVolume& volume);
    Result<void> delete_volume(const Caller& caller, const std::string& id);  // absent is fine
    // {} when the volume is not encrypted.
    Result<Json> encryption(const Caller& caller, const std::string& id);
    Result<Json> snapshot(const Caller& caller, const std::string& id);

    // connector null: only reserves. mode "ro" or "rw"; empty: Cinder's.
    Result<VolumeAttachment> create_attachment(const Caller& caller, const std::string& volume_id,
                                               const std::string& instance_uuid,
                                               const Json& connector, const std::string& mode = {});
    // `connector` with a member "mountpoint"; the reply has the connection_info.
    Result<VolumeAttachment> update_attachment(const Caller& caller, const std::string& id,
                                               const Json& connector);
    Result<void> complete_attachment(const Caller& caller, const std::string& id);
    Result<void> delete_attachment(const Caller& caller, const std::string& id);  // absent is fine
    Result<VolumeAttachment> attachment(const Caller& caller, const std::string& id);
    // Of a server, or of one of its volumes.
    Result<std::vector<VolumeAttachment>> attachments(const Caller& caller,
                                                      const std::string& instance_uuid,
                                                      const std::string& volume_id = {});

    // Actions of a volume. roll_detaching: a detach was given up, the volume is in use as before.
    Result<void> begin_detaching(const Caller& caller, const std::string& volume_id);
    Result<void> roll_detaching(const Caller& caller, const std::string& volume_id);
    Result<void> reserve(const Caller& caller, const std::string& volume_id);
    Result<void> unreserve(const Caller& caller, const std::string& volume_id);
    // Returns the id under which the migrated volume goes on.
    Result<std::string> complete_migration(const Caller& caller, const std::string& old_volume_id,
                                           const std::string& new_volume_id, bool failed);
    Result<void> reimage(const Caller& caller, const std::string& volume_id,
                         const std::string& image_id, bool reimage_reserved);
    Result<void> update_snapshot_status(const Caller& caller, const std::string& snapshot_id,
                                        const std::string& status);

private:
    Result<HttpReply> send(const Caller& caller, const ServiceRequest& request);
    // Sends again while Cinder answers with one of these, up to five times in all.
    Result<HttpReply> send_patiently(const Caller& caller, const ServiceRequest& request,
                                     const std::vector<int>& statuses);
    Result<Json> get_member(const Caller& caller, const std::string& path,
                            const std::string& microversion, const std::string& member,
                            const std::string& missing_fault);
    Result<HttpReply> act(const Caller& caller, const std::string& path, const std::string& action,
                          Json arguments, const std::string& microversion = {});

    ServiceClient& service_;
    const Parts parts_;
};

}  // namespace kumoi::clients
