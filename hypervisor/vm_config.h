// VmConfig: everything about one machine, parsed from guest.json and checked before anything
// exists. Errors name the JSON path; an unknown key is an error with a suggestion. The format is
// documented in docs/reference/guest-config.md. Plain values; immutable once parsed.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "hypervisor/block/disk_format.h"
#include "hypervisor/channel_config.h"
#include "hypervisor/device_config.h"
#include "hypervisor/display/display_config.h"
#include "hypervisor/firmware/firmware.h"
#include "hypervisor/firmware/smbios.h"
#include "hypervisor/limits/limits.h"
#include "hypervisor/memory_config.h"
#include "hypervisor/net/vhost_mode.h"
#include "hypervisor/resources_config.h"
#include "hypervisor/sandbox/sandbox_config.h"
#include "hypervisor/vcpu/cpu_model.h"

namespace kumoi::hypervisor {

enum class DiskCache { Writeback, None, Writethrough };
enum class DiskBus { Virtio, Scsi };
enum class OnReboot { Reset, Exit };
enum class OnShutdown { Exit, Stay };
enum class OnCrash { Stay, Exit, Reset, Continue };

struct DiskConfig {
    std::string id;
    std::string path;
    std::string serial;
    bool read_only = false;
    DiskCache cache = DiskCache::Writeback;
    uint16_t queues = 1;     // request queues
    std::string vhost_user;  // socket of the back end that serves it, instead of `path`
    DiskLimits limits;
    DiskFormat format = DiskFormat::Raw;
    uint32_t chain_depth_max = 32;  // qcow2: backing files
    DiskLock lock;
    DiskBus bus = DiskBus::Virtio;
    unsigned slot = 0;                    // virtio: of PCI bus 0; 0: the first free one
    std::optional<unsigned> scsi_target;  // scsi: always known once all is parsed
};

struct NicConfig {
    std::string id;
    std::string tap;         // either this
    std::string vhost_user;  // or the socket of a back end
    std::array<uint8_t, 6> mac{};
    uint16_t mtu = 1500;
    uint16_t queue_pairs = 1;
    NicLimits limits;
    unsigned slot = 0;
    VhostMode vhost = VhostMode::Off;
};

struct CdromConfig {
    std::string id;
    std::string path;  // an ISO image, read only; empty: no medium
};

struct VmConfig {
    std::string name;
    std::string uuid;  // canonical text, or empty
    std::string board = "kumoi-1";
    uint64_t memory_mib = 0;
    uint32_t vcpus = 1;
    CpuSelection cpu;
    ResourcesConfig resources;
    MemoryConfig memory;
    struct {
        std::string kernel;
        std::string initrd;
        std::string cmdline;
        std::vector<std::string> order;  // ids of disks, cdroms, nics; firmware boot only
    } boot;
    std::optional<FirmwareConfig> firmware;  // instead of boot.kernel
    SmbiosConfig smbios;                     // the texts; the rest follows from the machine
    std::vector<DiskConfig> disks;
    std::vector<CdromConfig> cdroms;
    std::vector<NicConfig> nics;
    struct {
        std::string log;
        std::string socket;
        uint64_t log_size_max = 4u << 20;  // bytes
    } serial;
    bool rng = true;
    struct {
        bool enabled = false;  // the member "console" is there
        std::string socket;
    } console;
    std::vector<ChannelConfig> channels;
    BalloonConfig balloon;
    VsockConfig vsock;
    WatchdogConfig watchdog;
    DisplayConfig display;
    std::string control_socket;
    std::string pid_file;
    SandboxConfig sandbox;
    OnReboot on_reboot = OnReboot::Reset;
    OnShutdown on_shutdown = OnShutdown::Exit;
    OnCrash on_crash = OnCrash::Stay;
    Json source;                 // what it was parsed from, for snapshots
    std::string base_directory;  // of its relative paths

    uint64_t memory_bytes() const { return memory_mib << 20; }
};

// Relative paths are taken from `base_directory`.
Result<VmConfig> parse_vm_config(const Json& json, const std::string& base_directory);
Result<VmConfig> load_vm_config(const std::string& path);
// One member of "disks" or "nics" of such a machine: what add_disk and add_nic take.
Result<DiskConfig> parse_disk_config(const JsonView& view, const VmConfig& config);
Result<NicConfig> parse_nic_config(const JsonView& view);

}  // namespace kumoi::hypervisor
