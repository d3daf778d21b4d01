#include "hypervisor/disk_places.h"

#include <map>
#include <set>

#include "hypervisor/board/pci_layout.h"
#include "hypervisor/firmware/fw_cfg_items.h"

namespace kumoi::hypervisor {

namespace {

CacheMode cache_mode(DiskCache cache) {
    switch (cache) {
        case DiskCache::None: return CacheMode::None;
        case DiskCache::Writethrough: return CacheMode::Writethrough;
        default: return CacheMode::Writeback;
    }
}

// As MachineDevices places them: a slot that is named, else the first free one.
class Slots {
public:
    explicit Slots(unsigned first) : next_(first) {}
    unsigned place(unsigned wanted) {
        while (wanted == 0 && taken_.contains(next_)) {
            ++next_;
        }
        const unsigned slot = wanted != 0 ? wanted : next_;
        taken_.insert(slot);
        return slot;
    }

private:
    unsigned next_;
    std::set<unsigned> taken_;
};

std::string scsi_path(unsigned target) {
    return boot_path_scsi(board::kPciScsi.slot, board::kPciScsi.function, target);
}

}  // namespace

VirtioBlockConfig virtio_block_config(const DiskConfig& disk) {
    VirtioBlockConfig block;
    block.name = disk.id;
    block.path = disk.path;
    block.read_only = disk.read_only;
    block.cache = cache_mode(disk.cache);
    block.serial = disk.serial;
    block.queue_count = disk.queues;
    block.vhost_user = disk.vhost_user;
    block.limits = disk.limits;
    block.format = disk.format;
    block.chain_depth_max = disk.chain_depth_max;
    block.lock = disk.lock;
    return block;
}

std::vector<std::string> firmware_boot_order(const VmConfig& config) {
    std::map<std::string, std::string> paths;
    Slots disks(board::kPciDiskSlotFirst);
    for (const DiskConfig& disk : config.disks) {
        paths[disk.id] = disk.bus == DiskBus::Scsi ? scsi_path(disk.scsi_target.value_or(0))
                                                   : boot_path_disk(disks.place(disk.slot));
    }
    for (unsigned i = 0; i < config.cdroms.size(); ++i) {
        paths[config.cdroms[i].id] = scsi_path(i);
    }
    Slots nics(board::kPciNicSlotFirst);
    for (const NicConfig& nic : config.nics) {
        paths[nic.id] = boot_path_nic(nics.place(nic.slot));
    }
    std::vector<std::string> order;
    for (const std::string& id : config.boot.order) {
        order.push_back(paths[id]);
    }
    return order;
}

}  // namespace kumoi::hypervisor
