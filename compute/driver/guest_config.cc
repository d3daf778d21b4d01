#include "compute/driver/guest_config.h"

#include <algorithm>
#include <array>
#include <span>

namespace kumoi::compute {
namespace {

constexpr char kDefaultCommandLine[] = "root=/dev/vda console=ttyS0";
constexpr size_t kSerialMax = 20;  // bytes of a virtio block serial

// A property whose listed values mean what we do anyway; every other value is refused.
struct Accepted {
    std::string_view name;
    std::array<std::string_view, 3> values;
};

constexpr Accepted kImageProperties[] = {
    {"hw_architecture", {"x86_64", "x86_64", "x86_64"}},
    {"hw_disk_bus", {"virtio", "virtio", "virtio"}},
    {"hw_vif_model", {"virtio", "virtio", "virtio"}},
    {"hw_cdrom_bus", {"virtio", "virtio", "virtio"}},
    {"hw_vm_mode", {"hvm", "hvm", "hvm"}},
    {"vm_mode", {"hvm", "hvm", "hvm"}},
    {"hw_firmware_type", {"bios", "bios", "bios"}},
    {"hw_cpu_policy", {"shared", "shared", "shared"}},
    {"hw_mem_page_size", {"any", "small", "small"}},
    {"os_secure_boot", {"disabled", "optional", "disabled"}},
    {"hypervisor_type", {"kvm", "qemu", "kumoi"}},
    {"img_hv_type", {"kvm", "qemu", "kumoi"}},
};

constexpr Accepted kExtraSpecs[] = {
    {"hw:cpu_policy", {"shared", "shared", "shared"}},
    {"hw:mem_page_size", {"any", "small", "small"}},
    {"hw:numa_nodes", {"1", "1", "1"}},
    {"hw:mem_encryption", {"false", "False", "0"}},
    {"os:secure_boot", {"disabled", "optional", "disabled"}},
};

// Asking for any of these changes the machine in a way we cannot.
constexpr std::string_view kRefusedPrefixes[] = {"hw:cpu_realtime",
                                                 "hw:emulator_threads_policy",
                                                 "hw:pmem",
                                                 "hw:tpm_",
                                                 "pci_passthrough:",
                                                 "resources:VGPU",
                                                 "hw:vif_multiqueue_enabled",
                                                 "hw:locked_memory"};

Error refuse(const std::string& where, const std::string& name, const std::string& value,
             std::string_view wanted) {
    return Error::unsupported("{} {}={} is not possible here; {}", where, name, value, wanted)
        .with_hint("Remove the property, or choose another host.")
        .with_fault("ImageUnacceptable");
}

Result<void> check_properties(const std::string& where, const Properties& properties,
                              std::span<const Accepted> table) {
    for (const Accepted& accepted : table) {
        const auto found = properties.find(std::string(accepted.name));
        if (found == properties.end() || std::find(accepted.values.begin(), accepted.values.end(),
                                                   found->second) != accepted.values.end()) {
            continue;
        }
        return refuse(where, found->first, found->second,
                      fmt::format("'{}' is", accepted.values.front()));
    }
    return {};
}

Json disk(const char* id, const std::string& path, bool read_only, const std::string& uuid) {
    return Json::object(
        {{"id", id},
         {"path", path},
         {"format", "raw"},
         {"read_only", read_only},
         {"serial", read_only ? std::string("config-2") : uuid.substr(0, kSerialMax)},
         {"cache", "writeback"}});
}

Json nics(const Instance& instance) {
    Json list = Json::array();
    for (size_t index = 0; index < instance.network_info.size(); ++index) {
        const VifInfo& vif = instance.network_info[index];
        list.push_back(Json::object({{"id", fmt::format("net{}", index)},
                                     {"tap", vif.tap_name},
                                     {"mac", vif.mac},
                                     {"mtu", vif.mtu}}));
    }
    return list;
}

std::string command_line(const Instance& instance, const GuestOptions& options) {
    const auto property = instance.image.properties.find("os_command_line");
    std::string line =
        property == instance.image.properties.end() ? kDefaultCommandLine : property->second;
    if (!options.kernel_append.empty()) {
        line += " " + options.kernel_append;
    }
    return line;
}

}  // namespace

Result<void> check_guest_supported(const Instance& instance) {
    if (instance.image_id.empty()) {
        return Error::unsupported("Server {} boots from a volume, which this driver cannot do yet",
                                  instance.uuid)
            .with_hint("Boot it from an image.")
            .with_fault("ImageUnacceptable");
    }
    const auto kernel = instance.image.properties.find("kernel_id");
    if (kernel == instance.image.properties.end() || kernel->second.empty()) {
        return Error::unsupported(
                   "Image {} has no property kernel_id, and booting from its own "
                   "boot loader needs firmware, which this driver does not have yet",
                   instance.image.id)
            .with_hint(
                "Upload the guest's kernel (and initrd) as images and set the properties "
                "kernel_id and ramdisk_id.")
            .with_fault("ImageUnacceptable");
    }
    if (instance.flavor.ephemeral_gb > 0 || instance.flavor.swap_mb > 0) {
        return Error::unsupported(
                   "Flavor {} asks for {} GiB of ephemeral and {} MiB of swap disk, "
                   "which this driver does not make yet",
                   instance.flavor.name, instance.flavor.ephemeral_gb, instance.flavor.swap_mb)
            .with_hint("Choose a flavor without them.")
            .with_fault("InvalidInput");
    }
    TRY(check_properties("Image property", instance.image.properties, kImageProperties));
    TRY(check_properties("Extra spec", instance.flavor.extra_specs, kExtraSpecs));
    for (const auto& [name, value] : instance.flavor.extra_specs) {
        for (const std::string_view prefix : kRefusedPrefixes) {
            if (name.starts_with(prefix)) {
                return refuse("Extra spec", name, value, "this driver does not offer it");
            }
        }
    }
    return {};
}

Json guest_config(const Instance& instance, const InstanceFolder& folder, bool has_ramdisk,
                  bool has_config_drive, const GuestOptions& options) {
    Json boot =
        Json::object({{"kernel", folder.kernel()}, {"cmdline", command_line(instance, options)}});
    if (has_ramdisk) {
        boot.set("initrd", folder.ramdisk());
    }
    Json disks = Json::array();
    disks.push_back(disk("root", folder.disk(), false, instance.uuid));
    if (has_config_drive) {
        disks.push_back(disk("config", folder.config_drive(), true, instance.uuid));
    }
    return Json::object(
        {{"name", instance.display_name.empty() ? instance.uuid : instance.display_name},
         {"uuid", instance.uuid},
         {"board", "kumoi-1"},
         {"memory_mib", instance.flavor.memory_mb},
         {"vcpus", instance.flavor.vcpus},
         {"cpu", Json::object({{"model", options.cpu_model},
                               {"mask", Json::array_of(options.cpu_features_masked)},
                               {"add", Json::array()}})},
         {"boot", std::move(boot)},
         {"disks", std::move(disks)},
         {"nics", nics(instance)},
         {"serial", Json::object({{"log", folder.console_log()},
                                  {"socket", folder.console_socket()},
                                  {"log_size_max", options.console_log_size_max}})},
         {"rng", Json::object({{"enabled", true}})},
         {"control_socket", folder.control_socket()},
         {"pid_file", folder.pid_file()},
         {"on_reboot", "reset"},
         {"on_shutdown", "exit"},
         {"on_crash", "stay"}});
}

}  // namespace kumoi::compute
