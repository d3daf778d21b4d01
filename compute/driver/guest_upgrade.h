// GuestUpgrade: the guest of one server goes on in the kumoi-vmm that is installed now
// (docs/reference/live-upgrade.md). Blocks; one thread a server.
//
// What is begun is noted in the server's folder (upgrade.json): a restarted daemon takes it
// up by settle(), which asks both processes, and where one is dead its journal, whose the guest is.
// While both live, control.sock is the older one's; the newer one's is renamed to it in the end.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/result.h"
#include "base/uuid.h"
#include "compute/driver/guest_process.h"
#include "compute/driver/instance_folder.h"
#include "compute/driver/upgrade_report.h"
#include "migration/handover/journal.h"

namespace kumoi::compute {

class GuestUpgrade {
public:
    // A handover between two processes of one host is over when the host is: its journals need not
    // outlive it, and must not cost the guest a disk's time.
    static constexpr const char* kJournals = "/run/kumoi/upgrade";

    GuestUpgrade(const GuestProcessOptions& options, InstanceFolder folder, std::string uuid,
                 const Clock& clock, Random& random, std::string journals = kJournals);

    // Whether the guest runs in another program than the installed one. Nothing: it does not run.
    Result<std::optional<bool>> is_older() const;
    // Does it, or says why the guest stayed where it was.
    UpgradeReport run(const std::vector<std::string>& cgroup_procs);
    // Takes up one that was begun: nothing where there is none.
    std::optional<UpgradeReport> settle();

private:
    struct Note {
        Uuid id;
        uint64_t epoch = 1;
        pid_t launcher = 0;  // of the newer process
        uint64_t start_ticks = 0;
    };
    struct Status {
        std::string phase;
        std::string handover;
        std::string error;
        uint64_t epoch = 0;
    };
    std::string note_path() const { return folder_.path() + "/upgrade.json"; }
    std::string newer_socket() const { return folder_.path() + "/upgrade.sock"; }
    std::string journal_path(const char* side) const;
    Result<std::optional<Note>> read_note() const;
    Result<void> write_note(const Note& note) const;

    Result<Note> start_newer(const std::vector<std::string>& cgroup_procs) const;
    Result<void> wait_incoming(const Note& note) const;
    Result<UpgradeReport> hand_over(const Note& note) const;
    // What it says of this upgrade; of another it knows nothing. Nothing: nobody answers.
    std::optional<Status> status_of(const std::string& socket, const Note& note) const;
    bool newer_lives(const Note& note) const;
    std::optional<UpgradeReport> settle_turn(const Note& note, std::string& error);
    std::optional<UpgradeReport> settle_older(const Note& note, const Status& older,
                                              const std::optional<Status>& newer,
                                              std::string& error);
    void settle_newer(const Note& note, const Status& newer);
    void reconnect(const Note& note) const;
    Result<void> tell(const std::string& socket, const Note& note, const char* view) const;
    Result<std::optional<migration::HandoverJournal>> dead_journal(const char* side) const;
    void end_newer(const Note& note) const;
    void forget() const;
    Result<void> conclude(const Note& note) const;
    std::string log_tail() const;

    const GuestProcessOptions& options_;
    const InstanceFolder folder_;
    const std::string uuid_;
    const Clock& clock_;
    Random& random_;
    const std::string journals_;  // their folder
};

// The groups that this server's processes are in, as they are noted in its folder.
std::vector<std::string> noted_cgroup_procs(const InstanceFolder& folder);

}  // namespace kumoi::compute
