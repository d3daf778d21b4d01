// Fuzzes the SCSI controller, its drives and its disks with hostile chains, command descriptor
// blocks and parameter lists. MemoryDisk aborts when a request leaves the image.

#include "hypervisor/virtio/scsi.h"
#include "tests/fuzz/virtio_device_fuzz.h"
#include "tests/support/memory_disk.h"

using namespace kumoi;
using namespace kumoi::hypervisor;

namespace {

constexpr uint64_t kIsoSize = 64 * 2048;
constexpr uint64_t kDiskSize = 64u << 10;

ScsiUnitConfig unit(ScsiUnitConfig::Kind kind, unsigned target, MemoryDisk::Shared* shared) {
    ScsiUnitConfig config;
    config.kind = kind;
    config.target = target;
    config.id = fmt::format("unit{}", target);
    if (shared != nullptr) {
        config.image = std::make_unique<MemoryDisk>(*shared);
    }
    return config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static PlatformFake platform;
    FuzzInput input(data, size);
    MemoryDisk::Shared iso(kIsoSize);
    MemoryDisk::Shared disk(kDiskSize);
    MemoryDisk::Shared protected_disk(kDiskSize);
    iso.read_only = protected_disk.read_only = true;
    iso.depth = disk.depth = 4;
    protected_disk.block_size = 4096;
    std::vector<ScsiUnitConfig> units;
    units.push_back(unit(ScsiUnitConfig::Kind::Cdrom, 0, &iso));
    units.push_back(unit(ScsiUnitConfig::Kind::Cdrom, 1, nullptr));
    units.push_back(unit(ScsiUnitConfig::Kind::Disk, 2, &disk));
    units.push_back(unit(ScsiUnitConfig::Kind::Disk, 3, &protected_disk));
    VirtioScsi device("scsi", std::move(units));
    fuzz_device(device, platform, input);
    if (std::ranges::any_of(protected_disk.bytes, [](std::byte b) { return b != std::byte{0}; })) {
        std::abort();  // written all the same
    }
    return 0;
}
