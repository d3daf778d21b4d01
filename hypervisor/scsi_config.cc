#include "hypervisor/scsi_config.h"

#include <algorithm>
#include <set>

#include "hypervisor/virtio/scsi.h"
#include "hypervisor/vm_config.h"

namespace kumoi::hypervisor {

namespace {

// Of CD-ROMs and of disks that have one already.
std::set<unsigned> taken_targets(const VmConfig& config) {
    std::set<unsigned> taken;
    for (unsigned target = 0; target < config.cdroms.size(); ++target) {
        taken.insert(target);
    }
    for (const DiskConfig& disk : config.disks) {
        if (disk.scsi_target) {
            taken.insert(*disk.scsi_target);
        }
    }
    return taken;
}

Error refuse_target(const JsonView& view, const DiskConfig& disk) {
    return view.error(fmt::format("SCSI target {} of \"{}\" is a CD-ROM's or another disk's",
                                  *disk.scsi_target, disk.id));
}

}  // namespace

Result<void> parse_disk_bus(const JsonView& view, DiskConfig& disk) {
    const std::string bus = TRY(view.string_or("bus", "virtio"));
    if (bus != "virtio" && bus != "scsi") {
        return TRY(view.at("bus")).error(fmt::format("\"{}\" is not one of virtio, scsi", bus));
    }
    disk.bus = bus == "scsi" ? DiskBus::Scsi : DiskBus::Virtio;
    const bool scsi = disk.bus == DiskBus::Scsi;
    if (view.has(scsi ? "slot" : "target")) {
        return view.error(scsi ? "a disk on the SCSI bus has a target, not a slot"
                               : "only a disk with \"bus\": \"scsi\" has a target");
    }
    if (scsi && TRY(view.integer_or("queues", 1, {1, INT64_MAX})) != 1) {
        return TRY(view.at("queues"))
            .error(
                "the SCSI controller has one queue for all its disks; \"bus\": \"virtio\" has "
                "more");
    }
    if (view.has("target")) {
        disk.scsi_target =
            static_cast<unsigned>(TRY(view.integer("target", {0, VirtioScsi::kTargetMax})));
    }
    return {};
}

Result<void> assign_scsi_targets(const JsonView& view, VmConfig& config) {
    size_t named = config.cdroms.size();
    for (const DiskConfig& disk : config.disks) {
        named += disk.scsi_target ? 1 : 0;
    }
    std::set<unsigned> taken = taken_targets(config);
    if (taken.size() != named) {
        std::set<unsigned> seen;
        for (const DiskConfig& disk : config.disks) {
            if (disk.scsi_target && (*disk.scsi_target < config.cdroms.size() ||
                                     !seen.insert(*disk.scsi_target).second)) {
                return refuse_target(view, disk);
            }
        }
    }
    for (DiskConfig& disk : config.disks) {
        if (disk.bus == DiskBus::Scsi && !disk.scsi_target) {
            unsigned target = 0;
            while (taken.contains(target)) {
                ++target;
            }
            if (target > VirtioScsi::kTargetMax) {
                return view.error(fmt::format("no SCSI target is left for \"{}\": {} are taken",
                                              disk.id, taken.size()));
            }
            disk.scsi_target = target;
            taken.insert(target);
        }
    }
    return {};
}

Result<void> choose_scsi_target(const JsonView& view, const VmConfig& config, DiskConfig& disk) {
    if (disk.bus != DiskBus::Scsi) {
        return {};
    }
    const std::set<unsigned> taken = taken_targets(config);
    if (disk.scsi_target) {
        return taken.contains(*disk.scsi_target) ? Result<void>(refuse_target(view, disk))
                                                 : Result<void>();
    }
    for (unsigned target = 0; target <= VirtioScsi::kTargetMax; ++target) {
        if (!taken.contains(target)) {
            disk.scsi_target = target;
            return {};
        }
    }
    return Error::exhausted("all {} targets of the SCSI bus are taken", VirtioScsi::kTargetMax + 1)
        .with_hint("remove a disk first");
}

bool has_scsi_bus(const VmConfig& config) {
    return !config.cdroms.empty() || std::ranges::any_of(config.disks, [](const DiskConfig& disk) {
        return disk.bus == DiskBus::Scsi;
    });
}

}  // namespace kumoi::hypervisor
