#include "compute/instance_properties.h"

#include <algorithm>
#include <cctype>

namespace kumoi::compute {

std::string image_or_flavor(const Instance& instance, const std::string& image_property,
                            const std::string& extra_spec, const std::string& otherwise) {
    const auto image = instance.image.properties.find(image_property);
    if (image != instance.image.properties.end()) {
        return image->second;
    }
    const auto flavor = instance.flavor.extra_specs.find(extra_spec);
    return flavor != instance.flavor.extra_specs.end() ? flavor->second : otherwise;
}

bool wants_multi_queue(const Instance& instance) {
    std::string enabled = image_or_flavor(instance, "hw_vif_multiqueue_enabled",
                                          "hw:vif_multiqueue_enabled", "false");
    std::transform(enabled.begin(), enabled.end(), enabled.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const bool yes = enabled == "true" || enabled == "1" || enabled == "yes" || enabled == "on";
    return yes && instance.flavor.vcpus > 1;
}

bool uses_scsi_disks(const Properties& image) {
    const auto bus = image.find("hw_disk_bus");
    return bus != image.end() && bus->second == "scsi";
}

std::string root_device_name(const Instance& instance) {
    return uses_scsi_disks(instance.image.properties) ? "/dev/sda" : "/dev/vda";
}

}  // namespace kumoi::compute
