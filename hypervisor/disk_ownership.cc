#include "hypervisor/disk_ownership.h"

#include <algorithm>

#include "base/log.h"
#include "hypervisor/block/live/live_disk.h"

namespace kumoi::hypervisor {

Result<void> DiskOwnership::set_own(const std::vector<std::string>& ids) {
    const Disks all = disks_();
    own_.clear();  // of an earlier migration
    for (const std::string& id : ids) {
        const auto named = [&id](const auto& disk) { return disk.first == id; };
        const auto found = std::ranges::find_if(all, named);
        if (found == all.end()) {
            return Error::not_found("there is no disk \"{}\"", id);
        }
        LateDisk& disk = *found->second;
        if (!disk.held() && !disk.in_use()) {
            TRY_CONTEXT(disk.hold(), "disk {}", id);
        }
        if (!disk.in_use()) {
            const uint64_t epoch = std::max<uint64_t>(disk.lease().epoch, 1);
            TRY_CONTEXT(disk.take(epoch, {0, epoch}), "disk {}", id);
        }
        own_.insert(id);
    }
    return {};
}

DiskOwnership::Disks DiskOwnership::shared() const {
    Disks disks = disks_();
    std::erase_if(disks, [this](const auto& disk) { return own_.contains(disk.first); });
    return disks;
}

DiskTake DiskOwnership::hold(uint64_t epoch) {
    error_.reset();
    const Disks disks = shared();
    DiskTake result = hold_all(disks);
    if (result == DiskTake::Taken) {
        result = compare(disks, {epoch});
    }
    if (result != DiskTake::Taken) {
        (void)drop();  // nothing was written to those that were just opened
    }
    return result;
}

DiskTake DiskOwnership::take(uint64_t before, uint64_t peer, uint64_t after) {
    error_.reset();
    const Disks disks = shared();
    DiskTake result = hold_all(disks);
    if (result == DiskTake::Taken) {
        result = compare(disks, {before, peer, after});
    }
    if (result == DiskTake::Busy || result == DiskTake::Superseded) {
        (void)drop();
        return result;
    }
    for (const auto& [id, disk] : disks) {
        if (result != DiskTake::Taken) {
            break;
        }
        if (!disk->held()) {
            continue;
        }
        if (auto taken = disk->take(after, {before, peer}); !taken.ok()) {
            result = failed(id, taken.error(), DiskTake::Superseded);
        }
    }
    if (result != DiskTake::Taken) {
        (void)drop();  // the devices are paused: nothing was written
    }
    return result;
}

DiskTake DiskOwnership::hold_all(const Disks& disks) {
    for (const auto& [id, disk] : disks) {
        if (disk->held() || disk->in_use()) {
            continue;
        }
        if (auto held = disk->hold(); !held.ok()) {
            return failed(id, held.error(), DiskTake::Busy);
        }
    }
    return DiskTake::Taken;
}

DiskTake DiskOwnership::compare(const Disks& disks, const std::vector<uint64_t>& accepted) {
    for (const auto& [id, disk] : disks) {
        const auto record = disk->lease_record();
        if (!record.ok()) {
            return failed(id, record.error(), DiskTake::Failed);
        }
        if (*record && std::ranges::find(accepted, (*record)->epoch) == accepted.end()) {
            return failed(id,
                          Error::conflict("its lease shows epoch {} of {}", (*record)->epoch,
                                          (*record)->owner),
                          DiskTake::Superseded);
        }
    }
    return DiskTake::Taken;
}

DiskTake DiskOwnership::failed(const std::string& id, const Error& error, DiskTake conflict) {
    error_ = Error(error).with_context("disk " + id);
    log_warn("vmm", "a disk cannot be had", {{"disk", id}, {"error", error.text()}});
    return error.code == ErrorCode::Conflict ? conflict : DiskTake::Failed;
}

Result<void> DiskOwnership::sync() {
    for (const auto& [id, disk] : disks_()) {
        TRY_CONTEXT(disk->sync(), "disk {}", id);
    }
    return {};
}

void DiskOwnership::write_back() const {
    for (const auto& [id, disk] : disks_()) {
        disk->write_back();
    }
}

Result<void> DiskOwnership::drop() {
    Result<void> result;
    for (const auto& [id, disk] : shared()) {
        const auto durable = same_host_ ? LateDisk::Drop::Written : LateDisk::Drop::Durable;
        if (auto dropped = disk->drop(durable); !dropped.ok()) {
            log_error("vmm", "a disk was given free, and not all of it is durable",
                      {{"disk", id}, {"error", dropped.error().text()}});
            result = std::move(dropped).error().with_context("disk " + id);
        }
    }
    return result;
}

Result<void> DiskOwnership::may_drop(uint64_t epoch) const {
    for (const auto& [id, disk] : shared()) {
        if (!disk->lease().lease.empty() && disk->lease().epoch != epoch) {
            return Error::invalid("disk {} is held with epoch {} of its lease, not {}", id,
                                  disk->lease().epoch, epoch)
                .with_hint("a migration's epoch is that of the disks' leases");
        }
        LiveDisk* live = disk->live();
        if (live != nullptr && live->job() != nullptr && live->job()->running()) {
            return Error::conflict("disk {} has a job of the kind {}", id, live->job()->kind())
                .with_hint("wait for it, or cancel it");
        }
        if (disk->moved()) {
            return Error::unsupported(
                       "disk {} got another image while the guest ran; this process could not "
                       "open that again",
                       id)
                .with_hint("stop and start the guest, then it can be migrated");
        }
    }
    return {};
}

}  // namespace kumoi::hypervisor
