#include "compute/clients/host_inventory_report.h"

#include <algorithm>
#include <map>
#include <vector>

namespace kumoi::clients {
namespace {

const std::map<std::string, std::vector<std::string>>& traits_by_capability() {
    static const std::map<std::string, std::vector<std::string>> kTraits = {
        {"attach_interface", {"COMPUTE_NET_ATTACH_INTERFACE"}},
        {"device_tagging", {"COMPUTE_DEVICE_TAGGING"}},
        {"tagged_attach_interface", {"COMPUTE_NET_ATTACH_INTERFACE_WITH_TAG"}},
        {"tagged_attach_volume", {"COMPUTE_VOLUME_ATTACH_WITH_TAG"}},
        {"extend_volume", {"COMPUTE_VOLUME_EXTEND"}},
        {"multiattach", {"COMPUTE_VOLUME_MULTI_ATTACH"}},
        {"trusted_certs", {"COMPUTE_TRUSTED_CERTS"}},
        {"accelerators", {"COMPUTE_ACCELERATORS"}},
        {"migrate_to_same_host", {"COMPUTE_SAME_HOST_COLD_MIGRATE"}},
        {"bfv_rescue", {"COMPUTE_RESCUE_BFV"}},
        {"secure_boot", {"COMPUTE_SECURITY_UEFI_SECURE_BOOT"}},
        {"socket_pci_numa_affinity", {"COMPUTE_SOCKET_PCI_NUMA_AFFINITY"}},
        {"remote_managed_ports", {"COMPUTE_REMOTE_MANAGED_PORTS"}},
        {"ephemeral_encryption", {"COMPUTE_EPHEMERAL_ENCRYPTION"}},
        {"ephemeral_encryption_luks", {"COMPUTE_EPHEMERAL_ENCRYPTION_LUKS"}},
        {"ephemeral_encryption_plain", {"COMPUTE_EPHEMERAL_ENCRYPTION_PLAIN"}},
        {"address_space_passthrough", {"COMPUTE_ADDRESS_SPACE_PASSTHROUGH"}},
        {"address_space_emulated", {"COMPUTE_ADDRESS_SPACE_EMULATED"}},
        {"stateless_firmware", {"COMPUTE_SECURITY_STATELESS_FIRMWARE"}},
        {"virtio_fs", {"COMPUTE_STORAGE_VIRTIO_FS"}},
        {"mem_backing_file", {"COMPUTE_MEM_BACKING_FILE"}},
    };
    return kTraits;
}

double ratio_of(const AllocationRatio& ratio, const std::optional<Inventories>& existing,
                const std::string& resource_class) {
    if (ratio.configured) {
        return *ratio.configured;
    }
    if (existing) {
        if (const auto found = existing->find(resource_class); found != existing->end()) {
            return found->second.allocation_ratio;
        }
    }
    return ratio.initial;
}

}  // namespace

Inventories root_inventory(const RootResources& resources,
                           const std::optional<Inventories>& existing) {
    Inventories inventories;
    const auto add = [&](const char* resource_class, int64_t total, int64_t reserved,
                         double ratio) {
        if (total > 0) {
            // Placement refuses more reserved than there is.
            inventories[resource_class] = {.total = total,
                                           .reserved = std::clamp<int64_t>(reserved, 0, total),
                                           .min_unit = 1,
                                           .max_unit = total,
                                           .step_size = 1,
                                           .allocation_ratio = ratio};
        }
    };
    add("VCPU", resources.vcpus, resources.reserved_vcpus,
        ratio_of(resources.cpu_ratio, existing, "VCPU"));
    add("PCPU", resources.pcpus, 0, 1.0);
    add("MEMORY_MB", resources.memory_mb, resources.reserved_memory_mb,
        ratio_of(resources.memory_ratio, existing, "MEMORY_MB"));
    add("DISK_GB", resources.disk_gb, resources.reserved_disk_gb,
        ratio_of(resources.disk_ratio, existing, "DISK_GB"));
    return inventories;
}

Traits capability_traits(const std::set<std::string>& capabilities) {
    Traits traits = {"COMPUTE_NODE"};
    for (const std::string& capability : capabilities) {
        constexpr std::string_view kImageType = "image_type_";
        if (capability.starts_with(kImageType)) {
            std::string name = "COMPUTE_IMAGE_TYPE_" + capability.substr(kImageType.size());
            std::transform(name.begin(), name.end(), name.begin(), [](char letter) {
                return letter >= 'a' && letter <= 'z' ? static_cast<char>(letter - 32) : letter;
            });
            traits.insert(std::move(name));
        } else if (const auto found = traits_by_capability().find(capability);
                   found != traits_by_capability().end()) {
            traits.insert(found->second.begin(), found->second.end());
        }
    }
    return traits;
}

}  // namespace kumoi::clients
