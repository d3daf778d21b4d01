#include "api/nova/block_devices.h"

#include <array>

#include "api/nova/oslo_context.h"

namespace kumoi::nova {
namespace {

using compute::BlockDevice;

struct TextField {
    const char* name;
    std::string BlockDevice::*member;
};

// Those that are null when they are empty.
constexpr std::array<TextField, 13> kTexts = {{
    {"source_type", &BlockDevice::source_type},
    {"destination_type", &BlockDevice::destination_type},
    {"guest_format", &BlockDevice::guest_format},
    {"device_type", &BlockDevice::device_type},
    {"disk_bus", &BlockDevice::disk_bus},
    {"device_name", &BlockDevice::device_name},
    {"tag", &BlockDevice::tag},
    {"volume_id", &BlockDevice::volume_id},
    {"snapshot_id", &BlockDevice::snapshot_id},
    {"image_id", &BlockDevice::image_id},
    {"attachment_id", &BlockDevice::attachment_id},
    {"volume_type", &BlockDevice::volume_type},
    {"instance_uuid", &BlockDevice::instance_uuid},
}};

std::optional<int64_t> number(const NovaObject& object, std::string_view field) {
    const Json* value = object.get(field);
    return value == nullptr ? std::nullopt : value->to_int64();
}

Json number_or_null(const std::optional<int64_t>& number) {
    return number ? Json(*number) : Json();
}

bool is_allowed(const ObjectTable& table, std::string_view field, const Json& value) {
    const ObjectInfo* info = table.find("BlockDeviceMapping");
    const auto type = info->fields.find(field);
    return type != info->fields.end() && table.check(type->second, value, field).ok();
}

// What a record's save may change; the rest only says which record it is.
void set_changeable(NovaObject& object, const ObjectTable& table, const BlockDevice& device) {
    for (const TextField& field : kTexts) {
        const std::string& text = device.*field.member;
        const Json value = text.empty() ? Json() : Json(text);
        if (is_allowed(table, field.name, value)) {
            object.set(field.name, value);
        }
    }
    object.set("boot_index", number_or_null(device.boot_index));
    object.set("volume_size", number_or_null(device.volume_size));
    object.set("delete_on_termination", device.delete_on_termination);
    object.set("no_device", device.no_device);
    object.set("connection_info",
               device.connection_info.size() == 0 ? Json() : Json(device.connection_info.dump()));
}

void keep_changes_since(NovaObject& object, const NovaObject& before) {
    const auto all = object.changes();
    object.reset_changes();
    for (const auto& field : all) {
        const Json* old = before.get(field);
        const Json now = *object.get(field);
        if (old == nullptr || !(*old == now)) {
            object.set(field, now);
        }
    }
}

}  // namespace

NovaObject block_device_object(const ObjectTable& table, const BlockDevice& device) {
    NovaObject object = NovaObject::make(table, "BlockDeviceMapping");
    if (device.id != 0) {
        object.set("id", device.id);
        object.set("uuid", device.uuid);
    }
    object.reset_changes();
    set_changeable(object, table, device);
    return object;
}

BlockDevice block_device_from(const NovaObject& object) {
    BlockDevice device;
    device.id = object.integer("id");
    device.uuid = object.text("uuid");
    for (const TextField& field : kTexts) {
        device.*field.member = object.text(field.name);
    }
    device.boot_index = number(object, "boot_index");
    device.volume_size = number(object, "volume_size");
    device.delete_on_termination = object.boolean("delete_on_termination");
    device.no_device = object.boolean("no_device");
    device.encrypted = object.boolean("encrypted");
    if (auto info = Json::parse(object.text("connection_info", "{}"));
        info.ok() && info->is_object()) {
        device.connection_info = std::move(*info);
    }
    return device;
}

Result<std::vector<BlockDevice>> block_devices_from(const NovaObject& list) {
    std::vector<BlockDevice> devices;
    for (const NovaObject& object : TRY(list.objects())) {
        devices.push_back(block_device_from(object));
    }
    return devices;
}

Json BlockDevices::wire(const compute::RequestContext& context) {
    return elevated(wire_context(context, clock_, random_));
}

Result<std::vector<BlockDevice>> BlockDevices::block_devices(const compute::RequestContext& context,
                                                             const std::string& instance_uuid) {
    std::vector<BlockDevice> devices;
    for (const NovaObject& object :
         TRY(objects_.class_objects(wire(context), "BlockDeviceMappingList", "get_by_instance_uuid",
                                    text_arguments({instance_uuid})))) {
        devices.push_back(block_device_from(object));
        remember(devices.back());
    }
    return devices;
}

void BlockDevices::remember(const BlockDevice& device) {
    const std::lock_guard lock(mutex_);
    if (known_.size() >= kKnownMax) {
        known_.clear();  // then a save names all fields
    }
    known_.insert_or_assign(device.id, device);
}

Result<BlockDevice> BlockDevices::block_device_create(const compute::RequestContext& context,
                                                      const BlockDevice& device) {
    NovaObject object = block_device_object(objects_.table(), device);
    TRY(objects_.action(wire(context), object, "create"));
    BlockDevice made = block_device_from(object);
    remember(made);
    return made;
}

Result<void> BlockDevices::block_device_save(const compute::RequestContext& context,
                                             const BlockDevice& device) {
    NovaObject object = block_device_object(objects_.table(), device);
    {
        const std::lock_guard lock(mutex_);
        const auto before = known_.find(device.id);
        if (before != known_.end()) {  // what others changed meanwhile stays
            keep_changes_since(object, block_device_object(objects_.table(), before->second));
        }
    }
    auto saved = objects_.action(wire(context), object, "save");
    if (!saved.ok()) {  // it may have been done: the next one names all fields
        const std::lock_guard lock(mutex_);
        known_.erase(device.id);
        return std::move(saved).error();
    }
    remember(device);
    return {};
}

Result<void> BlockDevices::block_device_destroy(const compute::RequestContext& context,
                                                const BlockDevice& device) {
    NovaObject object = block_device_object(objects_.table(), device);
    object.reset_changes();
    TRY(objects_.action(wire(context), object, "destroy"));
    const std::lock_guard lock(mutex_);
    known_.erase(device.id);
    return {};
}

}  // namespace kumoi::nova
