#include "compute/driver/image_properties.h"

#include <algorithm>
#include <cctype>
#include <string>

namespace kumoi::compute {
namespace {

using enum ImageProperty::Handling;

using Values = std::vector<std::string_view>;

// How oslo.utils writes a boolean that is false.
const Values kNo = {"false", "no", "off", "0"};

// As they are in nova/objects/image_meta.py, which says what each means.
const std::vector<ImageProperty> kTable = {
    {"hw_architecture", Accepted, {"x86_64"}, "hosts and guests are x86_64"},
    {"hw_auto_disk_config", Ignored, {}, "XenAPI's; cloud-init grows file systems"},
    {"hw_boot_menu", Honoured, {}, "the firmware's menu, with firmware"},
    {"hw_cdrom_bus", Accepted, {"scsi", "virtio"}, "CD-ROMs are virtio-scsi drives"},
    {"hw_cpu_cores", Honoured, {}, "topology, see resources"},
    {"hw_cpu_max_cores", Honoured, {}, "limits what the flavor may choose"},
    {"hw_cpu_max_sockets", Honoured, {}, "limits what the flavor may choose"},
    {"hw_cpu_max_threads", Honoured, {}, "limits what the flavor may choose"},
    {"hw_cpu_policy", Honoured, {}, "shared or dedicated, see resources"},
    {"hw_cpu_realtime_mask", Refused, {}, "there are no real-time vCPUs"},
    {"hw_cpu_sockets", Honoured, {}, "topology, see resources"},
    {"hw_cpu_thread_policy", Honoured, {}, "prefer, isolate or require, see resources"},
    {"hw_cpu_threads", Honoured, {}, "topology, see resources"},
    {"hw_device_id", Ignored, {}, "XenAPI's"},
    {"hw_disk_bus", Honoured, {}, "virtio (the default) or scsi, for all disks"},
    {"hw_disk_type", Ignored, {}, "VMware's; disks are linked clones or flat by configuration"},
    {"hw_emulation_architecture", Accepted, {"x86_64"}, "nothing is emulated"},
    {"hw_ephemeral_encryption", Accepted, kNo, "disks are not encrypted"},
    {"hw_ephemeral_encryption_format", Refused, {}, "disks are not encrypted"},
    {"hw_ephemeral_encryption_secret_uuid", Refused, {}, "disks are not encrypted"},
    {"hw_firmware_stateless", Accepted, kNo, "UEFI variables are kept in nvram.fd"},
    {"hw_firmware_type", Honoured, {}, "bios (the default) or uefi"},
    {"hw_floppy_bus", Ignored, {}, "no server has a floppy drive"},
    {"hw_input_bus", Honoured, {}, "virtio (the default): keyboard and tablet; ps2: keyboard"},
    {"hw_ipxe_boot", Accepted, kNo, "firmware boots from disks and CD-ROMs"},
    {"hw_locked_memory", Accepted, kNo, "guest memory is not locked"},
    {"hw_machine_type", Honoured, {}, "kumoi-1, q35 and pc-q35-* are the board kumoi-1"},
    {"hw_maxphysaddr_bits", Refused, {}, "guests see the host's address width"},
    {"hw_maxphysaddr_mode", Accepted, {"passthrough"}, "guests see the host's address width"},
    {"hw_mem_encryption", Accepted, kNo, "guest memory is not encrypted"},
    {"hw_mem_encryption_model", Refused, {}, "guest memory is not encrypted"},
    {"hw_mem_page_size", Honoured, {}, "huge pages, see resources"},
    {"hw_numa_cpus", Honoured, {}, "written hw_numa_cpus.N, see resources"},
    {"hw_numa_mem", Honoured, {}, "written hw_numa_mem.N, see resources"},
    {"hw_numa_nodes", Honoured, {}, "see resources"},
    {"hw_pci_numa_affinity_policy", Ignored, {}, "no host PCI device is passed through"},
    {"hw_pmu", Ignored, {}, "guests have the counters that KVM offers"},
    {"hw_pointer_model", Ignored, {}, "hw_input_bus decides: there is a virtio tablet, or none"},
    {"hw_qemu_guest_agent", Honoured, {}, "a channel for the agent, see guest-agent"},
    {"hw_redirected_usb_ports", Accepted, {"0"}, "there is no USB"},
    {"hw_rescue_bus", Honoured, {}, "virtio or scsi: the bus of the rescue disk"},
    {"hw_rescue_device", Accepted, {"disk"}, "a rescue system is a disk"},
    {"hw_rng_model", Accepted, {"virtio"}, "every server has a virtio-rng"},
    {"hw_scsi_model", Accepted, {"virtio-scsi"}, "the SCSI controller is a virtio-scsi"},
    {"hw_serial_port_count", Accepted, {"1"}, "every server has one serial port"},
    {"hw_sound_model", Refused, {}, "there is no sound"},
    {"hw_time_hpet", Accepted, kNo, "there is no HPET"},
    {"hw_tpm_model", Refused, {}, "there is no TPM"},
    {"hw_tpm_version", Refused, {}, "there is no TPM"},
    {"hw_usb_model", Accepted, {"none"}, "there is no USB"},
    {"hw_video_model", Honoured, {}, "bochs, vga and virtio: a bochs-display; none: no display"},
    {"hw_video_ram", Honoured, {}, "MiB, up to the flavor's hw_video:ram_max_mb and 64"},
    {"hw_vif_model", Accepted, {"virtio"}, "network cards are virtio-net"},
    {"hw_vif_multiqueue_enabled", Honoured, {}, "a pair of queues for each vCPU, at most 16"},
    {"hw_viommu_model", Refused, {}, "there is no IOMMU for guests"},
    {"hw_virtio_packed_ring", Accepted, kNo, "virtio devices have split rings"},
    {"hw_vm_mode", Accepted, {"hvm"}, "guests are virtualized by hardware"},
    {"hw_watchdog_action", Honoured, {}, "disabled, reset, poweroff, pause, none"},
    {"hypervisor_type", Accepted, {"kvm", "qemu", "kumoi"}, "the older name of img_hv_type"},
    {"img_hide_hypervisor_id", Accepted, kNo, "guests may know that this is KVM"},
    {"img_hv_type", Accepted, {"kvm", "qemu", "kumoi"}, "what works there works here"},
    {"os_admin_user", Honoured, {}, "whose password is set, see guest-agent"},
    {"os_command_line", Honoured, {}, "of the kernel, with kernel_id"},
    {"os_require_quiesce", Honoured, {}, "no snapshot without frozen file systems"},
    {"os_secure_boot", Accepted, {"disabled", "optional"}, "firmware does not check signatures"},
    {"vm_mode", Accepted, {"hvm"}, "the older name of hw_vm_mode"},
};

std::string lower(std::string text) {
    std::ranges::transform(text, text.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

}  // namespace

std::span<const ImageProperty> image_properties() {
    return kTable;
}

Result<void> check_image_properties(const Properties& image) {
    for (const ImageProperty& row : image_properties()) {
        const auto found = image.find(std::string(row.name));
        if (found == image.end() || row.handling == Honoured || row.handling == Ignored ||
            std::ranges::find(row.values, lower(found->second)) != row.values.end()) {
            continue;
        }
        return Error::unsupported("Image property {}={} is not possible here: {}", found->first,
                                  found->second, row.why)
            .with_hint(row.values.empty()
                           ? "Remove the property, or choose another host."
                           : fmt::format("Use '{}', remove the property, or choose another host.",
                                         row.values.front()))
            .with_fault("ImageUnacceptable");
    }
    return {};
}

}  // namespace kumoi::compute
