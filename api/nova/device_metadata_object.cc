#include "api/nova/device_metadata_object.h"

#include "api/nova/nova_object.h"

namespace kumoi::nova {
namespace {

using compute::TaggedDevice;

Json bus_object(const ObjectTable& table, const TaggedDevice& device) {
    NovaObject bus =
        NovaObject::make(table, device.bus == "scsi" ? "SCSIDeviceBus" : "PCIDeviceBus");
    if (!device.address.empty()) {
        bus.set("address", device.address);
    }
    return bus.primitive();
}

Json device_object(const ObjectTable& table, const TaggedDevice& device) {
    const bool is_nic = device.kind == TaggedDevice::Kind::Nic;
    NovaObject object =
        NovaObject::make(table, is_nic ? "NetworkInterfaceMetadata" : "DiskMetadata");
    if (is_nic) {
        object.set("mac", device.mac);
    } else if (!device.serial.empty()) {
        object.set("serial", device.serial);
    }
    object.set("bus", bus_object(table, device));
    object.set("tags", Json::array_of(std::vector<std::string>{device.tag}));
    return object.primitive();
}

}  // namespace

Json device_metadata(const ObjectTable& table, const std::vector<TaggedDevice>& devices) {
    if (devices.empty()) {
        return Json();
    }
    Json list = Json::array();
    for (const TaggedDevice& device : devices) {
        list.push_back(device_object(table, device));
    }
    NovaObject all = NovaObject::make(table, "InstanceDeviceMetadata");
    all.set("devices", std::move(list));
    return all.primitive();
}

}  // namespace kumoi::nova
