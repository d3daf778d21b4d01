// MachineDevices' SCSI bus: one controller in its place on the board, with the CD-ROMs as its first
// targets and disks behind them.
#include "hypervisor/board/pci_layout.h"
#include "hypervisor/disk_places.h"
#include "hypervisor/scsi_config.h"
#include "hypervisor/virtio/scsi.h"
#include "hypervisor/vmm_devices.h"

namespace kumoi::hypervisor {

Result<ScsiUnitConfig> MachineDevices::open_scsi_disk(const DiskConfig& disk) {
    if (disk.id == "scsi" || pci_->find(disk.id)) {
        return Error::conflict("a device of the board is called \"{}\" already", disk.id);
    }
    ScsiUnitConfig unit;
    unit.kind = ScsiUnitConfig::Kind::Disk;
    unit.target = disk.scsi_target.value_or(0);
    unit.id = disk.id;
    unit.serial = disk.serial;
    unit.limits = disk.limits;
    VirtioBlockConfig image = virtio_block_config(disk);
    image.late = disks_open_ == DisksOpen::Later;
    unit.image = TRY_CONTEXT(open_disk_image(platform_, files_, image), "disk {}", disk.id);
    return unit;
}

Result<void> MachineDevices::create_scsi(const VmConfig& config, const Events& events) {
    if (!has_scsi_bus(config)) {
        return {};
    }
    std::vector<ScsiUnitConfig> units;
    for (const CdromConfig& cdrom : config.cdroms) {
        ScsiUnitConfig unit;
        unit.target = static_cast<unsigned>(units.size());
        unit.id = cdrom.id;
        if (!cdrom.path.empty()) {
            unit.image = TRY_CONTEXT(open_disk(files_, {.path = cdrom.path, .read_only = true}),
                                     "cdrom {}", cdrom.id);
        }
        units.push_back(std::move(unit));
    }
    for (const DiskConfig& disk : config.disks) {
        if (disk.bus == DiskBus::Scsi) {
            units.push_back(TRY(open_scsi_disk(disk)));
        }
    }
    auto scsi = std::make_unique<VirtioScsi>("scsi", std::move(units));
    for (const DiskConfig& disk : config.disks) {
        if (ScsiUnit* unit = scsi->disk(disk.id)) {
            TRY(unit->set_limits(disk.limits, SystemClock().monotonic_ns()));
        }
    }
    scsi_ = scsi.get();
    return pci_->add(board::kPciScsi, VirtioPciDevice::create(platform_, std::move(scsi),
                                                              pci_config(board::kPciScsi, events)));
}

Result<void> MachineDevices::attach_scsi_disk(const DiskConfig& disk) {
    if (scsi_ == nullptr) {
        return Error::unsupported("the machine has no SCSI controller for disk {}", disk.id)
            .with_hint(
                "it has one when it starts with a CD-ROM or a disk on the SCSI bus; "
                "\"bus\": \"virtio\" needs none");
    }
    return scsi_->attach(TRY(open_scsi_disk(disk)));
}

Result<void> MachineDevices::detach_scsi_disk(const std::string& id) {
    if (scsi_ == nullptr) {
        return Error::not_found("there is no disk \"{}\" on a SCSI bus", id);
    }
    return scsi_->detach(id);
}

PciDevice* MachineDevices::device_of_disk(const std::string& id) {
    if (scsi_ != nullptr && scsi_->disk(id) != nullptr) {
        return pci_->at(board::kPciScsi);
    }
    const auto at = pci_->find(id);
    return at ? pci_->at(*at) : nullptr;
}

// Under the disk's own name, as a disk with a PCI function of its own has them.
void MachineDevices::add_scsi_statistics(Json& all) const {
    if (scsi_ == nullptr) {
        return;
    }
    scsi_->for_each_disk([&all](const ScsiUnit& disk) {
        Json one = Json::object();
        for (const Statistic& statistic : disk.statistics()) {
            one.set(statistic.name, statistic.value);
        }
        all.set(disk.id(), std::move(one));
    });
}

}  // namespace kumoi::hypervisor
