// How the machine makes its virtio devices: a configuration in, a PCI function out.
//
//     auto disk = TRY(make_virtio_block(platform, files, {.path = "/srv/disk.raw"}, pci));
//     TRY(root.add({11, 0}, *disk));
//     ...
//     disk->pause();  disk->resume();  disk->statistics();
//
// Files, locks and taps are opened here, so a wrong configuration is refused before the guest
// starts; threads and I/O rings are made when the guest's driver is ready (DRIVER_OK). Called from
// the control thread. The platform must outlive the devices.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/result.h"
#include "hypervisor/block/disk_open.h"
#include "hypervisor/board/platform.h"
#include "hypervisor/net/net_backend.h"
#include "hypervisor/net/vhost_mode.h"
#include "hypervisor/sandbox/file_source.h"
#include "hypervisor/virtio/block.h"
#include "hypervisor/virtio/console.h"
#include "hypervisor/virtio/net.h"
#include "hypervisor/virtio/pci_transport.h"

namespace kumoi::hypervisor {

struct VirtioBlockConfig {
    std::string name = "disk0";
    std::string path;
    DiskFormat format = DiskFormat::Raw;
    uint32_t chain_depth_max = 32;  // qcow2: backing files
    DiskLock lock;
    bool read_only = false;
    CacheMode cache = CacheMode::Writeback;
    DiskEngine engine = DiskEngine::Automatic;
    std::string serial;  // get-id: at most 20 bytes; empty: the name
    uint16_t queue_size = 256;
    uint16_t queue_count = 1;
    std::string vhost_user;  // socket of a back end that serves the disk, instead of `path`
    DiskLimits limits;
    bool late = false;  // opened by a handover, not when it is made
};

struct VirtioNetConfig {
    std::string name = "net0";
    std::string tap;         // name of an existing TAP device, or
    std::string vhost_user;  // socket of a vhost-user-net back end
    MacAddress mac{};
    uint16_t mtu = 1500;
    uint16_t queue_size = 256;
    uint16_t queue_pairs = 1;  // the TAP device must have as many queues
    NicLimits limits;
    VhostMode vhost = VhostMode::Off;
};

struct VirtioVsockConfig {
    std::string name = "vsock";
    uint64_t cid = 0;         // the guest's
    std::string socket_path;  // PATH for the host's connections, PATH_port for the guest's
};

struct VirtioConsoleConfig {
    std::string name = "console0";
    std::string socket_path;  // empty: output goes nowhere, no input
    uint16_t columns = 0;     // 0: no size told
    uint16_t rows = 0;
};

Result<std::unique_ptr<VirtioPciDevice>> make_virtio_block(Platform& platform, FileSource& files,
                                                           const VirtioBlockConfig& config,
                                                           const VirtioPciConfig& pci = {});
// The image of such a disk, for whichever device shows it.
Result<std::unique_ptr<DiskImage>> open_disk_image(Platform& platform, FileSource& files,
                                                   const VirtioBlockConfig& config);
Result<std::unique_ptr<VirtioPciDevice>> make_virtio_net(Platform& platform, FileSource& files,
                                                         const VirtioNetConfig& config,
                                                         const VirtioPciConfig& pci = {});
Result<std::unique_ptr<VirtioPciDevice>> make_virtio_console(Platform& platform, FileSource& files,
                                                             const VirtioConsoleConfig& config,
                                                             const VirtioPciConfig& pci = {});
Result<std::unique_ptr<VirtioPciDevice>> make_virtio_vsock(Platform& platform, FileSource& files,
                                                           const VirtioVsockConfig& config,
                                                           const VirtioPciConfig& pci = {});
Result<std::unique_ptr<VirtioPciDevice>> make_virtio_rng(Platform& platform, std::string name,
                                                         const VirtioPciConfig& pci = {});

}  // namespace kumoi::hypervisor
