#include "compute/driver/guest_config.h"

#include <algorithm>
#include <array>

#include "compute/driver/cpu_pinning.h"
#include "compute/driver/guest_agent_channel.h"
#include "compute/driver/guest_disk_bus.h"
#include "compute/driver/guest_resources.h"
#include "compute/driver/guest_volumes.h"
#include "compute/driver/image_properties.h"
#include "compute/driver/quota_specs.h"
#include "compute/instance_properties.h"
#include "compute/nic_slots.h"

namespace kumoi::compute {
namespace {

constexpr char kDefaultCommandLine[] = "root=/dev/vda console=ttyS0";
constexpr int kBalloonStatisticsMs = 10'000;  // as Nova's mem_stats_period_seconds
constexpr int64_t kQueuePairsMax = 16;        // of one card
constexpr unsigned kDiskSlotFirst = 11;       // of board kumoi-1
constexpr size_t kSerialMax = 20;             // bytes of a virtio block serial

// An extra spec whose listed values mean what we do anyway; every other value is refused.
struct Accepted {
    std::string_view name;
    std::array<std::string_view, 3> values;
};

constexpr Accepted kExtraSpecs[] = {
    {"hw:mem_encryption", {"false", "False", "0"}},
    {"os:secure_boot", {"disabled", "optional", "disabled"}},
};

// Asking for any of these changes the machine in a way we cannot.
constexpr std::string_view kRefusedPrefixes[] = {"hw:cpu_realtime",
                                                 "hw:cpu_dedicated_mask",
                                                 "hw:emulator_threads_policy",
                                                 "hw:pmem",
                                                 "hw:tpm_",
                                                 "pci_passthrough:",
                                                 "resources:VGPU",
                                                 "hw:locked_memory"};

Error refuse(const std::string& where, const std::string& name, const std::string& value,
             std::string_view wanted) {
    return Error::unsupported("{} {}={} is not possible here; {}", where, name, value, wanted)
        .with_hint("Remove the property, or choose another host.")
        .with_fault("ImageUnacceptable");
}

Result<void> check_extra_specs(const Properties& specs) {
    for (const Accepted& accepted : kExtraSpecs) {
        const auto found = specs.find(std::string(accepted.name));
        if (found != specs.end() &&
            std::ranges::find(accepted.values, found->second) == accepted.values.end()) {
            return refuse("Extra spec", found->first, found->second,
                          fmt::format("'{}' is", accepted.values.front()));
        }
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

std::string watchdog_action(const Instance& instance) {
    return image_or_flavor(instance, "hw_watchdog_action", "hw:watchdog_action", "disabled");
}

Result<void> check_watchdog(const Instance& instance) {
    const std::string action = watchdog_action(instance);
    for (const char* known : {"disabled", "reset", "poweroff", "pause", "none"}) {
        if (action == known) {
            return {};
        }
    }
    return Error::unsupported("The watchdog action '{}' of server {} is unknown", action,
                              instance.uuid)
        .with_hint("Use disabled, reset, poweroff, pause or none.")
        .with_fault("InvalidInput");
}

Json nics(const Instance& instance, const std::string& vhost_net) {
    Json list = Json::array();
    const int64_t pairs =
        wants_multi_queue(instance) ? std::min(instance.flavor.vcpus, kQueuePairsMax) : 1;
    const Json limits = nic_limits(instance.flavor.extra_specs);
    std::vector<VifInfo> vifs = instance.network_info;
    assign_nic_slots(vifs);
    for (const VifInfo& vif : vifs) {
        Json nic = Json::object({{"id", nic_id(vif)},
                                 {"tap", vif.tap_name},
                                 {"mac", vif.mac},
                                 {"mtu", vif.mtu},
                                 {"queue_pairs", pairs}});
        if (vif.pci_slot != 0) {  // more cards than slots: the machine refuses, and says so
            nic.set("slot", vif.pci_slot);
        }
        if (vhost_net != "off") {
            nic.set("vhost", vhost_net);
        }
        if (!limits.as_object().empty()) {
            nic.set("limits", limits);
        }
        list.push_back(std::move(nic));
    }
    return list;
}

// `root`: the device the kernel's root file system is on.
std::string command_line(const Properties& image, const std::string& root,
                         const GuestOptions& options) {
    const auto property = image.find("os_command_line");
    std::string line = property == image.end() ? kDefaultCommandLine : property->second;
    const std::string usual = "root=/dev/vda";
    const size_t found = line.find(usual);
    if (found != std::string::npos) {
        line.replace(found, usual.size(), "root=" + root);
    }
    if (!options.kernel_append.empty()) {
        line += " " + options.kernel_append;
    }
    return line;
}

Json root(const Instance& instance, const InstanceFolder& folder, const GuestFiles& files) {
    if (const VolumeDisk* volume = root_volume(files.volumes)) {
        return volume_disk_config(*volume);
    }
    Json root = disk("root", folder.disk(), false, instance.uuid);
    root.set("format", files.disk_format);
    return root;
}

Json own_disks(const Instance& instance, const InstanceFolder& folder, const GuestFiles& files) {
    Json disks = Json::array();
    disks.push_back(root(instance, folder, files));
    if (files.ephemeral) {
        disks.push_back(disk("ephemeral0", folder.ephemeral(), false, "ephemeral0"));
    }
    if (files.swap) {
        disks.push_back(disk("swap", folder.swap(), false, "swap"));
    }
    return disks;
}

// Each has its bus and, on PCI, its slot: none moves when another comes or goes.
// The server's own disks then say the slots they have anyway: devices without one cannot stand
// before one that has.
void add_volumes(Json& disks, const GuestFiles& files, const std::string& bus) {
    unsigned slot = kDiskSlotFirst;
    if (std::ranges::any_of(files.volumes, [](const VolumeDisk& one) { return one.slot != 0; })) {
        for (Json& own : disks.as_array()) {
            if (own.string_or("bus", "virtio") == "virtio") {
                own.set("slot", slot++);
            }
        }
    }
    for (const VolumeDisk& volume : files.volumes) {
        if (!volume.root) {
            VolumeDisk placed = volume;
            placed.bus = volume.bus.empty() ? bus : volume.bus;
            Json disk = volume_disk_config(placed);
            set_disk_bus(disk, placed.bus);
            disks.push_back(std::move(disk));
        }
    }
}

void limit_disks(Json& disks, const Json& limits) {
    if (limits.size() == 0) {
        return;
    }
    for (Json& one : disks.as_array()) {
        one.set("limits", limits);
    }
}

void put_on_bus(Json& disks, const std::string& bus) {
    for (Json& one : disks.as_array()) {
        set_disk_bus(one, bus);
    }
}

struct Boot {
    Properties image;
    std::string kernel;
    std::string ramdisk;  // empty: none
    std::string command_line;
    Json disks;
};

Boot usual_boot(const Instance& instance, const InstanceFolder& folder, const GuestFiles& files,
                const GuestOptions& options) {
    Boot boot;
    boot.image = instance.image.properties;
    boot.kernel = folder.kernel();
    boot.ramdisk = files.ramdisk ? folder.ramdisk() : "";
    boot.disks = own_disks(instance, folder, files);
    if (files.config_drive) {
        boot.disks.push_back(disk("config", folder.config_drive(), true, instance.uuid));
    }
    put_on_bus(boot.disks, disk_bus(boot.image));
    add_volumes(boot.disks, files, disk_bus(boot.image));
    boot.command_line = command_line(boot.image, disk_device(boot.disks, 0), options);
    return boot;
}

// Nova's two layouts: the rescue disk first and the server's root second, on the bus the rescue
// image wants, or, with a stable device, the server's disks where they always are and the rescue
// disk behind them.
Boot rescue_boot(const Instance& instance, const InstanceFolder& folder, const GuestFiles& files,
                 const GuestOptions& options) {
    const GuestFiles::Rescue& rescue = *files.rescue;
    Json rescue_disk = disk("rescue", folder.rescue_disk(), false, "rescue");
    rescue_disk.set("format", rescue.disk_format);
    Boot boot;
    boot.image = rescue.image_properties;
    boot.kernel = folder.rescue_kernel();
    boot.ramdisk = rescue.ramdisk ? folder.rescue_ramdisk() : "";
    const std::string bus = rescue_bus(rescue.image_properties);
    set_disk_bus(rescue_disk, bus);
    size_t rescue_index = 0;
    Json drive = disk("config", folder.rescue_config_drive(), true, instance.uuid);
    if (rescue.stable_device) {
        boot.disks = own_disks(instance, folder, files);
        put_on_bus(boot.disks, disk_bus(instance.image.properties));
        rescue_index = boot.disks.size();
        boot.disks.push_back(rescue_disk);
        set_disk_bus(drive, disk_bus(instance.image.properties));
    } else {
        boot.disks = Json::array();
        boot.disks.push_back(rescue_disk);
        boot.disks.push_back(root(instance, folder, files));
        put_on_bus(boot.disks, bus);
        set_disk_bus(drive, bus);
    }
    if (rescue.config_drive) {
        boot.disks.push_back(std::move(drive));
    }
    if (rescue.stable_device) {
        add_volumes(boot.disks, files, disk_bus(instance.image.properties));
    }
    boot.command_line =
        command_line(rescue.image_properties, disk_device(boot.disks, rescue_index), options);
    return boot;
}

// A kernel with its command line, or the order in which firmware tries: the CD that an ISO image
// is, or a rescue disk, and then the server's own.
Json boot_config(const Boot& from, const GuestFiles& files) {
    if (boot_method(from.image) == BootMethod::Kernel) {
        Json boot = Json::object({{"kernel", from.kernel}, {"cmdline", from.command_line}});
        if (!from.ramdisk.empty()) {
            boot.set("initrd", from.ramdisk);
        }
        return boot;
    }
    std::vector<std::string> order;
    if (files.rescue) {
        order.emplace_back("rescue");
    } else if (files.cdrom) {
        order.emplace_back("cd0");
    }
    order.emplace_back("root");
    return Json::object({{"order", Json::array_of(order)}});
}

Json cdroms(const InstanceFolder& folder) {
    Json list = Json::array();
    list.push_back(Json::object({{"id", "cd0"}, {"path", folder.cdrom()}}));
    return list;
}

}  // namespace

Result<void> check_guest_supported(const Instance& instance) {
    TRY(check_firmware(instance.image.properties));
    TRY(check_display(instance));
    TRY(check_watchdog(instance));
    TRY(check_disk_bus(instance.image.properties));
    TRY(check_image_properties(instance.image.properties));
    TRY(check_extra_specs(instance.flavor.extra_specs));
    TRY(check_quota_specs(instance.flavor.extra_specs));
    TRY(check_cpu_policy(instance));
    TRY(check_guest_resources(instance));
    TRY(check_guest_memory(instance));
    for (const auto& [name, value] : instance.flavor.extra_specs) {
        for (const std::string_view prefix : kRefusedPrefixes) {
            if (name.starts_with(prefix)) {
                return refuse("Extra spec", name, value, "this driver does not offer it");
            }
        }
    }
    return {};
}

std::vector<DiskPlace> guest_disk_places(const Instance& instance, const InstanceFolder& folder,
                                         const GuestFiles& files) {
    const std::string bus = disk_bus(instance.image.properties);
    Json disks = own_disks(instance, folder, files);
    put_on_bus(disks, bus);
    std::vector<DiskPlace> places;
    unsigned slot = kDiskSlotFirst;
    const auto add = [&](std::string disk, const std::string& its_bus, unsigned its_slot) {
        const bool scsi = its_bus == "scsi";
        places.push_back(
            {std::move(disk), scsi ? "scsi" : "pci", scsi ? "" : pci_address(its_slot)});
    };
    for (const Json& own : disks.as_array()) {
        const std::string its_bus = own.string_or("bus", "virtio");
        add(own.string_or("id"), its_bus, its_bus == "virtio" ? slot++ : 0);
    }
    for (const VolumeDisk& volume : files.volumes) {
        if (!volume.root) {
            add(volume.volume_id, volume.bus.empty() ? bus : volume.bus, volume.slot);
        }
    }
    return places;
}

Json guest_config(const Instance& instance, const InstanceFolder& folder, const GuestFiles& files,
                  const GuestOptions& options) {
    Boot from = files.rescue ? rescue_boot(instance, folder, files, options)
                             : usual_boot(instance, folder, files, options);
    limit_disks(from.disks, disk_limits(instance.flavor.extra_specs));
    Json machine = Json::object(
        {{"name", instance.display_name.empty() ? instance.uuid : instance.display_name},
         {"uuid", instance.uuid},
         {"board", "kumoi-1"},
         {"memory_mib", instance.flavor.memory_mb},
         {"vcpus", instance.flavor.vcpus},
         {"cpu", Json::object({{"model", options.cpu_model},
                               {"mask", Json::array_of(options.cpu_features_masked)},
                               {"add", Json::array()}})},
         {"boot", boot_config(from, files)},
         {"smbios", smbios_config(instance)},
         {"disks", std::move(from.disks)},
         {"nics", nics(instance, options.vhost_net)},
         {"serial", Json::object({{"log", folder.console_log()},
                                  {"socket", folder.console_socket()},
                                  {"log_size_max", options.console_log_size_max}})},
         {"rng", Json::object({{"enabled", true}})},
         {"balloon", Json::object({{"statistics_interval_ms", kBalloonStatisticsMs}})},
         {"control_socket", folder.control_socket()},
         {"pid_file", folder.pid_file()},
         {"on_reboot", "reset"},
         {"on_shutdown", "exit"},
         {"on_crash", "continue"}});  // a guest that panics restarts itself if it is set up so
    if (boot_method(from.image) != BootMethod::Kernel) {
        machine.set("firmware", firmware_config(from.image, folder, options.firmware));
    }
    add_guest_resources(machine, instance);
    add_guest_memory(machine, instance, options.numa_nodes);
    if (auto display = display_config(instance, from.image, folder, options.display)) {
        machine.set("display", std::move(*display));
    }
    if (wants_guest_agent(from.image)) {
        machine.set("channels", agent_channels(folder));
    }
    if (files.cdrom) {
        machine.set("cdroms", cdroms(folder));
    }
    if (const std::string action = watchdog_action(instance); action != "disabled") {
        machine.set("watchdog", Json::object({{"action", action}}));
    }
    return machine;
}

}  // namespace kumoi::compute
