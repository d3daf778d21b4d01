// LiveMoves, part four: the other host is off for good, says the operator; and who waits here.
#include <algorithm>

#include "base/file.h"
#include "base/log.h"
#include "compute/driver/disk_leases.h"
#include "compute/driver/live_moves.h"

namespace kumoi::compute {
namespace {

using migration::DestinationView;

// Disks that the other host could write, too.
bool has_shared_disks(const LiveNote& note, const InstanceFolder& folder) {
    return note.shared || path_exists(folder.volumes());
}

}  // namespace

Result<void> LiveMoves::fence(const std::string& uuid) {
    const LiveFolder folder = folder_of(uuid);
    auto note = TRY(folder.read(options_.host));
    if (!note || note->verdict != LiveNote::Verdict::Open || !note->begun) {
        return Error::conflict("no live migration of server {} waits for a word here", uuid)
            .with_fault("InvalidMigrationState");
    }
    const LiveProcess process = process_of(folder, *note);
    const auto status = TRY(process.last_word());
    if (status && !status->waits()) {
        return Error::conflict("the live migration of server {} is {}, not undecided", uuid,
                               status->phase)
            .with_fault("InvalidMigrationState");
    }
    log_warn("migration", "the other host of a migration is off for good, says the operator",
             {{"server", uuid}, {"host", note->peer.text()}});
    if (note->role == LiveNote::Role::Destination) {
        // A dead process has said in its journal whose the guest was.
        return status ? process.verdict(*note, "fenced", note->epoch) : Result<void>();
    }
    return fence_source(folder, *note, status);
}

// Who has committed a guest takes it back only where its disks tell that nobody has written to
// them since: by their leases, or because they are this host's own copies.
Result<void> LiveMoves::fence_source(const LiveFolder& folder, LiveNote& note,
                                     const std::optional<LiveStatus>& status) {
    const auto leases = TRY(highest_lease_epoch(folder.server()));
    if (!status) {
        // The guest died with its process; its server is here unless it ran on over there.
        const bool ran_there = leases.value_or(note.epoch) > note.epoch;
        TRY(settle_dead_source(folder, note,
                               ran_there ? DestinationView::Owner : DestinationView::Declined));
        return {};
    }
    const bool ran_there = status->phase == "post_copy";
    const bool may_have_run =
        ran_there || (status->handover == "Committed" && has_shared_disks(note, folder.server()));
    uint64_t epoch = may_have_run ? note.epoch + 1 : note.epoch;
    if (!ran_there && leases) {
        epoch = *leases;
    }
    return process_of(folder, note).verdict(note, "fenced", epoch);
}

Result<std::vector<std::string>> LiveMoves::arrivals() const {
    std::vector<std::string> uuids;
    if (!path_exists(options_.instances_path)) {
        return uuids;
    }
    const std::string arriving = LiveFolder::arriving_suffix(options_.host);
    for (std::string name : TRY(list_directory(options_.instances_path))) {
        if (name.ends_with(arriving)) {
            name.resize(name.size() - arriving.size());
        }
        const auto note = folder_of(name).read(options_.host, LiveNote::Role::Destination);
        const bool waits = note.ok() && *note && (*note)->verdict == LiveNote::Verdict::Open;
        if (waits && std::ranges::find(uuids, name) == uuids.end()) {
            uuids.push_back(name);
        }
    }
    return uuids;
}

}  // namespace kumoi::compute
