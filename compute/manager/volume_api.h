// Volumes as a node's manager needs them, owned by compute/manager so that it knows neither Cinder
// nor processes: the records (nova-conductor), the volumes themselves (Cinder), and what this host
// does for them (compute/volumes, the part of Nova's os-brick). Standalone clouds have none.
// Any thread; all may block.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "compute/block_device.h"
#include "compute/manager/conductor_api.h"

namespace kumoi::compute {

// Block device records of servers.
class BlockDeviceStore {
public:
    virtual ~BlockDeviceStore() = default;
    virtual Result<std::vector<BlockDevice>> block_devices(const RequestContext& context,
                                                           const std::string& instance_uuid) = 0;
    // Returns it with what the records added (id, uuid).
    virtual Result<BlockDevice> block_device_create(const RequestContext& context,
                                                    const BlockDevice& device) = 0;
    virtual Result<void> block_device_save(const RequestContext& context,
                                           const BlockDevice& device) = 0;
    virtual Result<void> block_device_destroy(const RequestContext& context,
                                              const BlockDevice& device) = 0;
};

struct VolumeRecord {
    std::string id;
    std::string status;  // available, reserved, in-use, error, ...
    std::string migration_status;
    std::string volume_type;
    int64_t size_gb = 0;
    bool encrypted = false;
    bool multiattach = false;
};

struct VolumeOrder {
    int64_t size_gb = 1;
    std::string name;
    std::string volume_type;
    std::string availability_zone;
    std::string image_id, snapshot_id;  // at most one
};

struct VolumeAttachmentRecord {
    std::string id;
    std::string volume_id;
    Json connection_info = Json::object();
};

// Cinder. Errors carry Nova's exception in `fault`.
class VolumeApi {
public:
    virtual ~VolumeApi() = default;
    virtual Result<VolumeRecord> volume(const RequestContext& context, const std::string& id) = 0;
    virtual Result<VolumeRecord> create_volume(const RequestContext& context,
                                               const VolumeOrder& order) = 0;
    virtual Result<void> delete_volume(const RequestContext& context, const std::string& id) = 0;
    // "creating" until it is there, or not ("error").
    virtual Result<std::string> snapshot_status(const RequestContext& context,
                                                const std::string& id) {
        (void)context;
        return Error::not_found("Snapshot {} could not be found.", id)
            .with_fault("SnapshotNotFound");
    }
    // connector null: only reserves.
    virtual Result<VolumeAttachmentRecord> create_attachment(const RequestContext& context,
                                                             const std::string& volume_id,
                                                             const std::string& instance_uuid,
                                                             const Json& connector) = 0;
    virtual Result<VolumeAttachmentRecord> update_attachment(const RequestContext& context,
                                                             const std::string& id,
                                                             const Json& connector) = 0;
    virtual Result<void> complete_attachment(const RequestContext& context,
                                             const std::string& id) = 0;
    // Absent is fine.
    virtual Result<void> delete_attachment(const RequestContext& context,
                                           const std::string& id) = 0;
    virtual Result<std::vector<VolumeAttachmentRecord>> attachments(
        const RequestContext& context, const std::string& instance_uuid) = 0;
    virtual Result<void> roll_detaching(const RequestContext& context,
                                        const std::string& volume_id) = 0;
    // Returns the id under which the migrated volume goes on.
    virtual Result<std::string> complete_migration(const RequestContext& context,
                                                   const std::string& old_volume_id,
                                                   const std::string& new_volume_id,
                                                   bool failed) = 0;
    virtual Result<void> reimage(const RequestContext& context, const std::string& volume_id,
                                 const std::string& image_id) = 0;
};

// What this host does: one back end a connected volume, that guests talk to over a socket.
class VolumeHost {
public:
    using Connected = std::pair<std::string, std::string>;  // server, volume

    virtual ~VolumeHost() = default;
    // What Cinder is told about this host (os-brick's connector properties).
    virtual Result<Json> connector() = 0;
    // Returns the socket. Repeating is fine; other connection_info makes the back end anew.
    virtual Result<std::string> connect(const std::string& instance_uuid,
                                        const std::string& volume_id,
                                        const Json& connection_info) = 0;
    virtual Result<void> disconnect(const std::string& instance_uuid,
                                    const std::string& volume_id) = 0;  // absent is fine
    // The volume has this many bytes now; the guest is told.
    virtual Result<void> extend(const std::string& instance_uuid, const std::string& volume_id,
                                uint64_t size) = 0;
    // Copies all of it while the guest uses it; from then on the same back end serves the new one.
    // On error the old one is served as before.
    virtual Result<void> swap(const std::string& instance_uuid, const std::string& old_volume_id,
                              const std::string& new_volume_id, const Json& connection_info) = 0;
    // After a swap: the volume has another name.
    virtual Result<void> rename(const std::string& instance_uuid, const std::string& volume_id,
                                const std::string& new_volume_id) = 0;
    virtual std::set<Connected> connected() = 0;
};

struct VolumeServices {
    BlockDeviceStore& records;
    VolumeApi& volumes;
    VolumeHost& host;
    // [DEFAULT] block_device_allocate_retries and its interval.
    int64_t create_retries = 60;
    int64_t create_interval_ms = 3'000;
    std::function<void(int64_t milliseconds)> sleep = [](int64_t) {};
};

}  // namespace kumoi::compute
