#include "compute/driver/disk_leases.h"

#include <sys/vfs.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/file.h"
#include "base/log.h"
#include "compute/driver/live_note.h"
#include "compute/manager/manager_options.h"

namespace kumoi::compute {
namespace {

constexpr std::string_view kEnding = ".lease";
constexpr size_t kFileMax = 64u << 10;
constexpr size_t kOwnerMax = 64;
// The format of a slot: docs/reference/disk-lease.md.
constexpr std::array<size_t, 2> kSlotsAt{0, 2048};
constexpr size_t kSlotSize = 512;
constexpr size_t kChecksumAt = 508;
constexpr size_t kHeldAt = 12;
constexpr size_t kEpochAt = 16;
constexpr size_t kSequenceAt = 24;
constexpr size_t kOwnerAt = 32;
constexpr std::string_view kMagic = "KUMOILSE";

template <class T>
T number_at(std::string_view slot, size_t at) {
    T value{};
    std::memcpy(&value, slot.data() + at, sizeof(value));
    return value;
}

bool is_valid(std::string_view slot) {
    const auto sum = crc32(0, reinterpret_cast<const Bytef*>(slot.data()), kChecksumAt);
    return slot.starts_with(kMagic) && number_at<uint32_t>(slot, kChecksumAt) == sum;
}

bool is_written(const Json& disk) {
    return !disk.bool_or("read_only");
}

}  // namespace

bool is_disk_lease(const std::string& file_name) {
    return file_name.ends_with(kEnding);
}

std::string disk_lease_path(const InstanceFolder& folder, const std::string& disk_id) {
    return folder.path() + "/" + disk_id + std::string(kEnding);
}

Result<std::optional<DiskLeaseNote>> read_disk_lease(const std::string& path) {
    std::optional<DiskLeaseNote> newest;
    if (!path_exists(path)) {
        return newest;
    }
    const std::string bytes = TRY(read_file(path, kFileMax));
    uint64_t sequence = 0;
    bool blank = true;
    for (const size_t at : kSlotsAt) {
        if (bytes.size() < at + kSlotSize) {
            continue;
        }
        const std::string_view slot = std::string_view(bytes).substr(at, kSlotSize);
        blank = blank && slot.find_first_not_of('\0') == std::string_view::npos;
        if (!is_valid(slot) || (newest && number_at<uint64_t>(slot, kSequenceAt) < sequence)) {
            continue;
        }
        const std::string_view owner = slot.substr(kOwnerAt, kOwnerMax);
        sequence = number_at<uint64_t>(slot, kSequenceAt);
        newest = DiskLeaseNote{number_at<uint64_t>(slot, kEpochAt),
                               number_at<uint32_t>(slot, kHeldAt) != 0,
                               std::string(owner.substr(0, owner.find('\0')))};
    }
    if (!newest && !blank) {
        return Error::corrupt("lease {} holds no valid record", path)
            .with_hint("Make sure that no host runs the server, then remove the file.");
    }
    return newest;
}

Result<std::optional<uint64_t>> highest_lease_epoch(const InstanceFolder& folder) {
    std::optional<uint64_t> epoch;
    if (!folder.exists()) {
        return epoch;
    }
    for (const std::string& name : TRY(list_directory(folder.path()))) {
        if (!is_disk_lease(name)) {
            continue;
        }
        if (const auto lease = TRY(read_disk_lease(folder.path() + "/" + name))) {
            epoch = std::max(epoch.value_or(0), lease->epoch);
        }
    }
    return epoch;
}

bool is_shared_file_system(const std::string& path) {
    constexpr std::array<uint32_t, 11> kShared{
        0x6969,      // NFS
        0x517b,      // SMB
        0xfe534d42,  // SMB 2
        0xff534d42,  // CIFS
        0x00c36400,  // CephFS
        0x0bd00bd0,  // Lustre
        0x65735546,  // FUSE: GlusterFS and others
        0x47504653,  // GPFS
        0x01161970,  // GFS2
        0x7461636f,  // OCFS2
        0x5346414f,  // AFS
    };
    struct statfs system {};
    return ::statfs(path.c_str(), &system) == 0 &&
           std::ranges::find(kShared, static_cast<uint32_t>(system.f_type)) != kShared.end();
}

void DiskLeases::add_options(OptionTable& table) {
    table.add({"kumoi",
               "disk_leases",
               OptionType::String,
               "auto",
               "Whether each disk of a server has a lease beside it, which keeps a host that lost "
               "the server from writing to it. auto: where instances_path is on a file system that "
               "several hosts can share (NFS, CIFS, CephFS, Lustre, FUSE, GPFS, GFS2, OCFS2, AFS). "
               "All hosts that share it must say the same.",
               {},
               {},
               {"auto", "always", "never"}});
}

Result<DiskLeases> DiskLeases::from_config(const Config& config,
                                           const std::string& instances_path) {
    const std::string use = config.string("kumoi", "disk_leases");
    const bool wanted =
        use == "always" || (use != "never" && is_shared_file_system(instances_path));
    std::string owner = configured_host(config);
    if (wanted && owner.size() > kOwnerMax) {
        return Error::invalid("the name of this host has {} bytes; the owner of a lease has {}",
                              owner.size(), kOwnerMax)
            .with_hint("Set [DEFAULT] host shorter, or [kumoi] disk_leases = never.");
    }
    return DiskLeases(wanted, std::move(owner));
}

Result<void> DiskLeases::claim(const InstanceFolder& folder) const {
    if (!wanted_) {
        return {};
    }
    const uint64_t before = read_epoch(folder);
    uint64_t epoch = before;
    for (const std::string& name : TRY(list_directory(folder.path()))) {
        if (!is_disk_lease(name)) {
            continue;
        }
        const auto lease = TRY(read_disk_lease(folder.path() + "/" + name));
        if (!lease) {
            continue;
        }
        const bool taken_away = lease->held && lease->owner != owner_;
        epoch = std::max(epoch, lease->epoch + (taken_away ? 1 : 0));
        if (taken_away) {
            log_warn("driver", "a disk's lease is taken over from a host that never gave it back",
                     {{"lease", name}, {"owner", lease->owner}, {"epoch", lease->epoch}});
        }
    }
    return epoch == before ? Result<void>() : write_epoch(folder, epoch);
}

void DiskLeases::add_lock(Json& disk, const InstanceFolder& folder, uint64_t epoch) const {
    disk.set("lock", Json::object({{"lease", disk_lease_path(folder, disk.string_or("id"))},
                                   {"epoch", epoch},
                                   {"owner", owner_}}));
}

void DiskLeases::add_locks(Json& guest, const InstanceFolder& folder) const {
    Json* disks = guest.find("disks");
    if (!wanted_ || disks == nullptr) {
        return;
    }
    const uint64_t epoch = read_epoch(folder);
    for (Json& disk : disks->as_array()) {
        if (is_written(disk)) {
            add_lock(disk, folder, epoch);
        }
    }
}

void DiskLeases::add_held_locks(Json& guest, const InstanceFolder& folder, uint64_t epoch) const {
    Json* disks = guest.find("disks");
    for (size_t i = 0; disks != nullptr && i < disks->size(); ++i) {
        Json& disk = disks->as_array()[i];
        const auto lease = read_disk_lease(disk_lease_path(folder, disk.string_or("id")));
        if (is_written(disk) && lease.ok() && *lease && (*lease)->held &&
            (*lease)->epoch == epoch) {
            add_lock(disk, folder, epoch);
        }
    }
}

}  // namespace kumoi::compute
