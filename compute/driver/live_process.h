// The verbs of live migration of one kumoi-vmm (docs/reference/vmm-control.md), and what its
// journal says once it is dead (docs/reference/handover.md). Blocks; one thread a server.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/result.h"
#include "compute/driver/guest_process.h"
#include "compute/driver/live_migration.h"
#include "compute/driver/live_note.h"
#include "migration/handover/agent.h"
#include "migration/handover/journal.h"

namespace kumoi::compute {

// migrate_status.
struct LiveStatus {
    std::string phase = "none";
    std::string handover;  // "Copying", "Committed", "Owner", ...
    uint64_t epoch = 0;
    bool connected = true;
    std::string error;
    LiveMigrationProgress progress;

    static LiveStatus parse(const Json& json);
    bool ended() const;
    // It cannot go on without a new connection, or a word from the other side.
    bool waits() const;
    // The guest no longer runs here, and may be the other host's.
    bool switched() const;
};

// Of a handover (docs/reference/handover.md): fresh, and locked. The process to which it goes holds
// it from then on, as long as it lives.
Result<UniqueFd> make_handover_journal(const std::string& path);

class LiveProcess {
public:
    LiveProcess(GuestProcess process, LiveFolder folder, const Clock& clock)
        : process_(std::move(process)), folder_(std::move(folder)), clock_(clock) {}

    const GuestProcess& guest() const { return process_; }
    Result<bool> is_alive() const { return process_.is_alive(); }
    // Finishes now: by running there before all of its memory is there, where that is allowed.
    Result<void> force() const;
    // With a fresh journal. `sockets`: the control connection and those for data.
    Result<void> begin(const LiveNote& note, const std::vector<UniqueFd>& sockets,
                       const LiveMigrationOptions& options,
                       const std::string& compress = "none") const;
    Result<void> connect(const LiveNote& note, const std::vector<UniqueFd>& sockets) const;
    // "none": it knows of no migration.
    Result<LiveStatus> status() const;
    // The same of a process that may be dead, or about to end: nothing then.
    Result<std::optional<LiveStatus>> last_word() const;
    // `lease_epoch`: with "fenced" alone.
    Result<void> verdict(const LiveNote& note, const std::string& view,
                         uint64_t lease_epoch = 0) const;

    // Of a process that is dead: its journal, held so that nobody else decides. Nothing: it may
    // still live. NotFound: it never had one.
    Result<std::optional<migration::HandoverJournal>> journal(const LiveNote& note) const;

private:
    GuestProcess process_;
    LiveFolder folder_;
    const Clock& clock_;
};

// The views of handover/agent.h as words between hosts.
std::string_view to_word(migration::DestinationView view);
migration::DestinationView parse_view(const std::string& word);
// Of a living process's status.
migration::DestinationView view_of(const LiveStatus& status);

}  // namespace kumoi::compute
