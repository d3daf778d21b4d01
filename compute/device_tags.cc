#include "compute/device_tags.h"

#include <algorithm>

#include <fmt/format.h>

namespace kumoi::compute {
namespace {

std::string disk_of(const BlockDevice& device) {
    if (device.is_root()) {
        return kRootDisk;
    }
    if (device.is_volume()) {
        return device.volume_id;
    }
    return device.guest_format == "swap" ? kSwapDisk : kEphemeralDisk;
}

}  // namespace

std::string pci_address(unsigned slot) {
    return fmt::format("0000:00:{:02x}.0", slot);
}

void tag_vifs(std::vector<VifInfo>& vifs, const std::vector<RequestedNetwork>& requested) {
    const bool in_order = vifs.size() == requested.size();
    for (size_t i = 0; i < requested.size(); ++i) {
        if (!requested[i].tag) {
            continue;
        }
        auto vif = std::ranges::find(vifs, requested[i].port_id.value_or(""), &VifInfo::port_id);
        if (vif == vifs.end() && in_order && !requested[i].port_id) {
            vif = vifs.begin() + static_cast<std::ptrdiff_t>(i);
        }
        if (vif != vifs.end()) {
            vif->tag = *requested[i].tag;
        }
    }
}

std::vector<TaggedDevice> tagged_nics(const std::vector<VifInfo>& vifs) {
    std::vector<TaggedDevice> tagged;
    for (const VifInfo& vif : vifs) {
        if (!vif.tag.empty()) {
            tagged.push_back({.kind = TaggedDevice::Kind::Nic,
                              .mac = vif.mac,
                              .serial = {},
                              .bus = "pci",
                              .address = vif.pci_slot == 0 ? "" : pci_address(vif.pci_slot),
                              .tag = vif.tag});
        }
    }
    return tagged;
}

std::vector<TaggedDevice> tagged_disks(const std::vector<BlockDevice>& devices,
                                       const std::vector<DiskPlace>& places) {
    std::vector<TaggedDevice> tagged;
    for (const BlockDevice& device : devices) {
        if (device.tag.empty()) {
            continue;
        }
        const auto place = std::ranges::find(places, disk_of(device), &DiskPlace::disk);
        if (place == places.end()) {
            continue;  // not in the guest
        }
        tagged.push_back({.kind = TaggedDevice::Kind::Disk,
                          .mac = {},
                          .serial = device.is_volume() ? device.volume_id : "",
                          .bus = place->bus,
                          .address = place->address,
                          .tag = device.tag});
    }
    return tagged;
}

Json devices_json(const std::vector<TaggedDevice>& devices, bool with_trust) {
    Json list = Json::array();
    for (const TaggedDevice& device : devices) {
        Json one = Json::object();
        if (device.kind == TaggedDevice::Kind::Nic) {
            if (with_trust) {
                one.set("vf_trusted", false);  // no card here is a virtual function
            }
            one.set("type", "nic");
            one.set("mac", device.mac);
        } else {
            one.set("type", "disk");
            if (!device.serial.empty()) {
                one.set("serial", device.serial);
            }
        }
        one.set("bus", device.bus);
        one.set("address", device.address.empty() ? "none" : device.address);
        one.set("tags", Json::array_of(std::vector<std::string>{device.tag}));
        list.push_back(std::move(one));
    }
    return list;
}

}  // namespace kumoi::compute
