// Stand-ins for what ComputeManager's volumes border on: the records, Cinder and this host. Each
// keeps its state as the real one would; calls go through the shared CallLog (compute_fakes.h).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "compute/manager/volume_api.h"
#include "tests/support/compute_fakes.h"

namespace kumoi::compute {

class FakeBlockDevices final : public BlockDeviceStore {
public:
    explicit FakeBlockDevices(CallLog& log) : log_(log) {}
    Result<std::vector<BlockDevice>> block_devices(const RequestContext&,
                                                   const std::string& uuid) override {
        std::vector<BlockDevice> mine;
        for (const auto& [id, device] : devices) {
            if (device.instance_uuid == uuid) {
                mine.push_back(device);
            }
        }
        return mine;
    }
    Result<BlockDevice> block_device_create(const RequestContext&,
                                            const BlockDevice& device) override {
        TRY(log_.enter("records.create"));
        BlockDevice made = device;
        made.id = next_++;
        devices[made.id] = made;
        log_.leave();
        return made;
    }
    Result<void> block_device_save(const RequestContext&, const BlockDevice& device) override {
        TRY(log_.enter("records.save"));
        if (!devices.contains(device.id)) {
            return Error::not_found("no record {}", device.id).with_fault("BDMNotFound");
        }
        devices[device.id] = device;
        log_.leave();
        return {};
    }
    Result<void> block_device_destroy(const RequestContext&, const BlockDevice& device) override {
        TRY(log_.enter("records.destroy"));
        devices.erase(device.id);
        log_.leave();
        return {};
    }
    BlockDevice add(BlockDevice device) {
        device.id = next_++;
        return devices[device.id] = device;
    }

    std::map<int64_t, BlockDevice> devices;

private:
    CallLog& log_;
    int64_t next_ = 1;
};

// Volumes by id; an attachment with a connector makes its volume in-use, as Cinder's does.
class FakeCinder final : public VolumeApi {
public:
    struct Attachment {
        std::string volume_id, instance_uuid;
        bool connected = false;
        bool complete = false;
    };
    explicit FakeCinder(CallLog& log) : log_(log) {}

    Result<VolumeRecord> volume(const RequestContext&, const std::string& id) override {
        const auto found = volumes.find(id);
        if (found == volumes.end()) {
            return Error::not_found("Volume {} could not be found.", id)
                .with_fault("VolumeNotFound");
        }
        return found->second;
    }
    Result<VolumeRecord> create_volume(const RequestContext&, const VolumeOrder& order) override {
        TRY(log_.enter("cinder.create"));
        const std::string id = "made-" + std::to_string(next_++);
        volumes[id] = {.id = id, .status = made_status, .size_gb = order.size_gb};
        orders.push_back(order);
        log_.leave();
        return volumes[id];
    }
    Result<void> delete_volume(const RequestContext&, const std::string& id) override {
        TRY(log_.enter("cinder.delete"));
        for (const auto& [attachment_id, attachment] : attached) {
            if (attachment.volume_id == id) {
                return Error::conflict("volume {} is attached", id).with_fault("InvalidVolume");
            }
        }
        volumes.erase(id);
        log_.leave();
        return {};
    }
    Result<VolumeAttachmentRecord> create_attachment(const RequestContext&,
                                                     const std::string& volume_id,
                                                     const std::string& uuid,
                                                     const Json& connector) override {
        TRY(log_.enter("cinder.attachment_create"));
        const std::string id = "attachment-" + std::to_string(next_++);
        attached[id] = {volume_id, uuid, !connector.is_null(), false};
        log_.leave();
        return record(id);
    }
    Result<VolumeAttachmentRecord> update_attachment(const RequestContext&, const std::string& id,
                                                     const Json& connector) override {
        TRY(log_.enter("cinder.attachment_update"));
        if (!attached.contains(id) || connector.string_or("initiator").empty()) {
            return Error::not_found("no attachment {}", id).with_fault("VolumeAttachmentNotFound");
        }
        attached[id].connected = true;
        mountpoints[id] = connector.string_or("mountpoint");
        log_.leave();
        return record(id);
    }
    Result<void> complete_attachment(const RequestContext&, const std::string& id) override {
        TRY(log_.enter("cinder.attachment_complete"));
        attached[id].complete = true;
        log_.leave();
        return {};
    }
    Result<void> delete_attachment(const RequestContext&, const std::string& id) override {
        TRY(log_.enter("cinder.attachment_delete"));
        attached.erase(id);
        log_.leave();
        return {};
    }
    Result<std::vector<VolumeAttachmentRecord>> attachments(const RequestContext&,
                                                            const std::string& uuid) override {
        std::vector<VolumeAttachmentRecord> mine;
        for (const auto& [id, attachment] : attached) {
            if (attachment.instance_uuid == uuid) {
                mine.push_back(record(id));
            }
        }
        return mine;
    }
    Result<void> roll_detaching(const RequestContext&, const std::string& id) override {
        TRY(log_.enter("cinder.roll_detaching"));
        rolled.push_back(id);
        if (const auto found = volumes.find(id); found != volumes.end()) {
            found->second.status = "in-use";
        }
        log_.leave();
        return {};
    }
    Result<std::string> complete_migration(const RequestContext&, const std::string& old_id,
                                           const std::string& new_id, bool failed) override {
        TRY(log_.enter(failed ? "cinder.migration_failed" : "cinder.migration_done"));
        log_.leave();
        return failed ? new_id : old_id;
    }
    Result<void> reimage(const RequestContext&, const std::string&, const std::string&) override {
        TRY(log_.enter("cinder.reimage"));
        log_.leave();
        return {};
    }

    std::map<std::string, VolumeRecord> volumes;
    std::map<std::string, Attachment> attached;
    std::map<std::string, std::string> mountpoints;  // by attachment
    std::vector<VolumeOrder> orders;
    std::vector<std::string> rolled;
    std::string made_status = "available";

private:
    VolumeAttachmentRecord record(const std::string& id) const {
        const Attachment& attachment = attached.at(id);
        VolumeAttachmentRecord record;
        record.id = id;
        record.volume_id = attachment.volume_id;
        if (attachment.connected) {
            record.connection_info =
                Json::object({{"driver_volume_type", "iscsi"},
                              {"data", Json::object({{"volume_id", attachment.volume_id}})}});
        }
        return record;
    }
    CallLog& log_;
    int next_ = 1;
};

// Back ends that outlive a manager, as real ones do.
class FakeVolumeHost final : public VolumeHost {
public:
    explicit FakeVolumeHost(CallLog& log) : log_(log) {}
    std::string folder = "/run/";  // of the sockets made from now on
    Result<Json> connector() override {
        return Json::object({{"initiator", "iqn.test"}, {"host", "cn-1"}});
    }
    Result<std::string> connect(const std::string& uuid, const std::string& volume_id,
                                const Json&) override {
        TRY(log_.enter("host.connect"));
        const std::string socket = folder + volume_id;
        running.insert({uuid, volume_id});
        log_.leave();
        return socket;
    }
    Result<void> disconnect(const std::string& uuid, const std::string& volume_id) override {
        TRY(log_.enter("host.disconnect"));
        running.erase({uuid, volume_id});
        log_.leave();
        return {};
    }
    Result<void> extend(const std::string&, const std::string& volume_id, uint64_t size) override {
        TRY(log_.enter("host.extend"));
        sizes[volume_id] = size;
        log_.leave();
        return {};
    }
    Result<void> swap(const std::string& uuid, const std::string& old_id, const std::string& new_id,
                      const Json&) override {
        TRY(log_.enter("host.swap"));
        running.erase({uuid, old_id});
        running.insert({uuid, new_id});
        log_.leave();
        return {};
    }
    Result<void> rename(const std::string& uuid, const std::string& volume_id,
                        const std::string& new_id) override {
        TRY(log_.enter("host.rename"));
        running.erase({uuid, volume_id});
        running.insert({uuid, new_id});
        log_.leave();
        return {};
    }
    std::set<Connected> connected() override { return running; }

    std::set<Connected> running;
    std::map<std::string, uint64_t> sizes;

private:
    CallLog& log_;
};

}  // namespace kumoi::compute
