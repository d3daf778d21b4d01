// LiveMoves: the live migrations of this host's servers, in both directions: their connections
// (migration/link), their kumoi-vmm processes (LiveProcess), and the agents that decide when
// something died (LiveAgent). What a server is made of is the driver's.
//
// Any thread. Calls block; of one server they are serialised here, but for abort, force, outcome
// and what the other host asks, which may come while a departure is followed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/clock.h"
#include "base/config.h"
#include "base/random.h"
#include "base/result.h"
#include "compute/driver/live_agent.h"
#include "compute/driver/live_migration.h"
#include "compute/driver/live_process.h"
#include "migration/link/door.h"
#include "migration/link/relay.h"

namespace kumoi::compute {

struct LiveMoveOptions {
    std::string instances_path;
    std::string host;                   // ours
    std::string address = "127.0.0.1";  // at which other hosts reach us
    uint16_t port_first = 0;            // 0: any free one
    uint16_t port_last = 0;
    link::Encryption encryption = link::Encryption::Psk;
    link::RelayOptions relay;
    std::string compress = "none";        // as kumoi-vmm's method migrate takes it
    int64_t follow_step_ms = 1'000;       // between two looks at a migration, if it tells nothing
    int64_t reconnect_step_ms = 500;      // between two tries to connect again
    int64_t reconnect_total_ms = 60'000;  // then nobody can tell

    // [kumoi] migration_*, [libvirt] live_migration_inbound_addr, my_ip.
    static Result<LiveMoveOptions> from_config(const Config& config,
                                               const std::string& instances_path);
};

class LiveMoves {
public:
    struct Borders {
        const GuestProcessOptions& process;
        const Clock& clock;
        Random& random;
        // Starts the machine that waits for the guest. `terms`: the source's, as in start_terms.
        std::function<Result<void>(const LiveFolder& folder, const LiveNote& note,
                                   const Json& terms)>
            start_incoming;
    };
    LiveMoves(LiveMoveOptions options, Borders borders);
    ~LiveMoves();

    // After a restart: what was under way is expected again.
    Result<void> load();

    // Destination: waits for the guest from now on. Returns what the source needs to know.
    Result<std::string> invite(const std::string& uuid, const Uuid& migration, bool shared,
                               std::vector<std::string> copied);
    // Source. `terms`: for start_incoming on the other side.
    LiveMigrationOutcome depart(const std::string& uuid, const LiveMigrationDeparture& departure,
                                std::vector<std::string> copied, Json terms,
                                LiveMigrationObserver& observer);
    LiveMigrationOutcome follow(const std::string& uuid, const LiveMigrationOptions& options,
                                LiveMigrationObserver& observer);
    Result<void> abort(const std::string& uuid);
    Result<void> force(const std::string& uuid);

    // Asks whoever must be asked, and settles what can be.
    Result<GuestOwner> outcome(const std::string& uuid);
    // The other host of an undecided one is off for good (MigrationFence).
    Result<void> fence(const std::string& uuid);
    // Servers whose guests wait here, or have come and are not finished.
    Result<std::vector<std::string>> arrivals() const;
    // The note of a migration that is not decided, or not in this host's favour.
    Result<std::optional<LiveNote>> pending(const std::string& uuid) const;
    // Destination: the guest is this host's (outcome() said so).
    Result<void> arrived(const std::string& uuid);
    // Of a migration that is over; its note goes, and nobody is let in for it any more.
    Result<void> forget(const std::string& uuid);
    // May a process be started from the server's folder? Conflict: its guest is, or may be,
    // another host's.
    Result<void> check_may_start(const std::string& uuid);

private:
    struct Server {
        std::mutex mutex;
    };
    struct Following;
    std::shared_ptr<Server> server(const std::string& uuid);
    LiveFolder folder_of(const std::string& uuid) const {
        return {options_.instances_path, uuid, options_.host};
    }
    LiveProcess process_of(const LiveFolder& folder, const LiveNote& note) const;
    Result<void> open_door(uint16_t preferred);
    void expect(const LiveFolder& folder, const LiveNote& note);
    void arrive(const std::string& uuid, const Uuid& id, link::Arrival arrival);
    Result<void> take_streams(const LiveFolder& folder, LiveNote note, link::Arrival arrival);
    std::string answer(const std::string& uuid, const Uuid& id, const std::string& asked);
    Result<Json> answer_question(const LiveFolder& folder, LiveNote note, const Json& question);
    Result<Json> answer_begin(const LiveFolder& folder, LiveNote note, const Json& question);
    Result<Json> answer_verdict(const LiveFolder& folder, const LiveNote& note,
                                const std::string& word);
    Result<Json> ask(const LiveNote& note, const Json& question) const;
    // Connections of the next round, encrypted; noted first.
    Result<std::vector<UniqueFd>> connect_streams(const LiveFolder& folder, LiveNote& note);
    Result<void> begin_departure(const LiveFolder& folder, LiveNote& note, Json terms,
                                 const LiveMigrationOptions& options);
    LiveMigrationOutcome follow_note(const LiveFolder& folder, LiveNote note,
                                     const LiveMigrationOptions& options,
                                     LiveMigrationObserver& observer);
    std::optional<LiveMigrationOutcome> ended_departure(const LiveFolder& folder, LiveNote& note,
                                                        const LiveStatus& status);
    Result<GuestOwner> source_outcome(const LiveFolder& folder, LiveNote& note);
    Result<GuestOwner> settle_dead_source(const LiveFolder& folder, LiveNote& note);
    Result<GuestOwner> settle_dead_source(const LiveFolder& folder, LiveNote& note,
                                          migration::DestinationView view);
    Result<void> fence_source(const LiveFolder& folder, LiveNote& note,
                              const std::optional<LiveStatus>& status);
    // A source that waits: what the other side says is carried to it, or it is connected again.
    void help_source(const LiveFolder& folder, LiveNote& note, const LiveStatus& status,
                     const LiveProcess& process);
    Result<GuestOwner> destination_outcome(const LiveFolder& folder, LiveNote& note);
    Result<void> conclude(const LiveFolder& folder, LiveNote& note, LiveNote::Verdict verdict);
    Result<void> settle_in(const LiveFolder& folder, LiveNote& note) const;
    link::RelayOptions relay_for(const std::string& peer) const;

    const LiveMoveOptions options_;
    const Borders borders_;
    mutable std::mutex mutex_;  // guards the next two
    std::map<std::string, std::shared_ptr<Server>> servers_;
    std::unique_ptr<link::MigrationDoor> door_;  // from the first migration on
};

}  // namespace kumoi::compute
