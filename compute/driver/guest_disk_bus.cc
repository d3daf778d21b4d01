#include "compute/driver/guest_disk_bus.h"

#include "compute/instance_properties.h"

namespace kumoi::compute {
namespace {

Result<void> check_bus(const Properties& image, const std::string& name) {
    const auto found = image.find(name);
    if (found == image.end() || found->second == "virtio" || found->second == "scsi") {
        return {};
    }
    return Error::unsupported(
               "Image property {}={} is not possible here: a disk is on 'virtio' or 'scsi'", name,
               found->second)
        .with_hint("Use one of them, remove the property, or choose another host.")
        .with_fault("ImageUnacceptable");
}

}  // namespace

Result<void> check_disk_bus(const Properties& image) {
    TRY(check_bus(image, "hw_disk_bus"));
    return check_bus(image, "hw_rescue_bus");
}

std::string disk_bus(const Properties& image) {
    return uses_scsi_disks(image) ? "scsi" : "virtio";
}

std::string rescue_bus(const Properties& rescue_image) {
    const auto found = rescue_image.find("hw_rescue_bus");
    return found == rescue_image.end() ? disk_bus(rescue_image) : found->second;
}

void set_disk_bus(Json& disk, const std::string& bus) {
    if (bus != "virtio") {
        disk.set("bus", bus);
    }
}

std::string disk_device(const Json& disks, size_t index) {
    const auto& list = disks.as_array();
    const std::string bus = list[index].string_or("bus", "virtio");
    char letter = 'a';
    for (size_t before = 0; before < index; ++before) {
        letter = static_cast<char>(letter + (list[before].string_or("bus", "virtio") == bus));
    }
    return std::string(bus == "scsi" ? "/dev/sd" : "/dev/vd") + letter;
}

}  // namespace kumoi::compute
