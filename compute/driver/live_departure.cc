// LiveMoves, part two: a guest that leaves.
#include <algorithm>

#include "base/encoding.h"
#include "base/file.h"
#include "base/log.h"
#include "compute/driver/disk_leases.h"
#include "compute/driver/live_moves.h"

namespace kumoi::compute {
namespace {

constexpr std::string_view kFormat = "kumoi-live-1";
constexpr int64_t kControlTimeoutMs = 5'000;

using Kind = LiveMigrationOutcome::Kind;
using Outcome = migration::SourceSettlement::Outcome;

Result<LiveNote> parse_invitation(const std::string& text) {
    const Json json = TRY(Json::parse(text));
    const auto id = Uuid::parse(json.string_or("id"));
    const auto key = base64_decode(json.string_or("key"));
    const int64_t port = json.integer_or("port");
    if (json.string_or("format") != kFormat || !id || !key || key->size() != link::kKeySize ||
        port <= 0 || port > UINT16_MAX) {
        return Error::invalid("the destination invites in a way that is not known here")
            .with_hint("Both hosts must run a kumoi-compute with live migration.");
    }
    LiveNote note;
    note.role = LiveNote::Role::Source;
    note.id = *id;
    note.key = *key;
    note.peer.address = json.string_or("address");
    note.peer.port = static_cast<uint16_t>(port);
    return note;
}

Error reason_of(const LiveStatus& status) {
    return Error::unavailable("the live migration {}: {}", status.phase,
                              status.error.empty() ? "no reason was given" : status.error);
}

}  // namespace

// A migration that is looked at step by step, until it has ended.
struct LiveMoves::Following {
    const LiveMigrationOptions& options;
    LiveMigrationObserver& observer;
    const Clock& clock;
    int64_t begun_ns = clock.monotonic_ns();
    int64_t waiting_since_ns = 0;  // for the other side
    bool told_switch = false;
    bool timeout_acted = false;
    std::optional<hypervisor::ControlClient> events = {};

    void tell(const LiveStatus& status) {
        observer.progress(status.progress);
        if (!told_switch && (status.switched() || status.phase == "completed")) {
            told_switch = true;
            observer.switched_over();
        }
    }
    // Until the process tells something, or so long.
    void wait(const std::string& control_socket, int64_t timeout_ms) {
        if (!events) {
            auto client = hypervisor::ControlClient::connect(control_socket, kControlTimeoutMs);
            if (client.ok() && client->call("subscribe", Json::object(), kControlTimeoutMs).ok()) {
                events.emplace(std::move(client).value());
            }
        }
        if (events && !events->wait_event(timeout_ms).ok()) {
            events.reset();
        }
    }
    void enforce_timeout(const LiveStatus& status, const LiveProcess& process) {
        const int64_t limit_ns = options.completion_timeout_s * kNanosPerSecond;
        if (limit_ns == 0 || timeout_acted || status.phase != "copying" ||
            clock.monotonic_ns() - begun_ns < limit_ns) {
            return;
        }
        timeout_acted = true;
        const bool force =
            options.timeout_action == LiveMigrationOptions::TimeoutAction::ForceComplete;
        log_warn("migration", "a live migration takes too long",
                 {{"seconds", options.completion_timeout_s},
                  {"action", force ? "force_complete" : "abort"}});
        if (force) {
            (void)process.force();
        } else {
            (void)process.guest().call("migrate_cancel");
        }
    }
};

LiveMigrationOutcome LiveMoves::depart(const std::string& uuid,
                                       const LiveMigrationDeparture& departure,
                                       std::vector<std::string> copied, Json terms,
                                       LiveMigrationObserver& observer) {
    const LiveFolder folder = folder_of(uuid);
    auto invited = parse_invitation(departure.arrival);
    if (!invited.ok()) {
        return LiveMigrationOutcome::stayed(invited.error());
    }
    LiveNote& note = *invited;
    note.host = options_.host;
    note.shared = departure.plan.shared_instance_path;
    note.copied = std::move(copied);
    note.streams = static_cast<uint16_t>(
        std::clamp<int64_t>(departure.options.parallel_connections, 1, link::kStreamsMax / 2));
    // What the disks are held under, where they have leases.
    const auto leases = highest_lease_epoch(folder.server());
    if (!leases.ok()) {
        return LiveMigrationOutcome::stayed(leases.error());
    }
    note.epoch = leases->value_or(read_epoch(folder.server()));
    auto begun = begin_departure(folder, note, std::move(terms), departure.options);
    if (!begun.ok()) {
        (void)forget(uuid);
        return LiveMigrationOutcome::stayed(std::move(begun).error());
    }
    return follow_note(folder, note, departure.options, observer);
}

Result<void> LiveMoves::begin_departure(const LiveFolder& folder, LiveNote& note, Json terms,
                                        const LiveMigrationOptions& options) {
    TRY(open_door(0));
    note.own_port = door_->port();
    {
        const auto held = server(folder.uuid());
        const std::lock_guard lock(held->mutex);
        if (const auto before = TRY(folder.read(options_.host, LiveNote::Role::Source));
            before && before->verdict == LiveNote::Verdict::Open && before->begun) {
            return Error::conflict("live migration {} of this server is not over",
                                   before->id.text());
        }
        TRY(remove_file(folder.journal(note)));
        TRY(folder.write(note));
        expect(folder, note);
    }
    TRY_CONTEXT(ask(note, Json::object({{"op", "begin"},
                                        {"epoch", note.epoch},
                                        {"address", options_.address},
                                        {"port", note.own_port},
                                        {"terms", std::move(terms)}})),
                "asking the destination to be ready");
    const auto sockets = TRY(connect_streams(folder, note));
    note.begun = true;
    TRY(folder.write(note));
    return process_of(folder, note).begin(note, sockets, options, options_.compress);
}

Result<std::vector<UniqueFd>> LiveMoves::connect_streams(const LiveFolder& folder, LiveNote& note) {
    ++note.round;
    TRY(folder.write(note));
    auto called =
        TRY(link::connect_migration(note.peer, note.id, note.key, note.round,
                                    static_cast<uint16_t>(note.streams + 1), borders_.random));
    // What this host insists on, the other cannot talk it out of.
    if (options_.encryption != link::Encryption::None &&
        called.encryption == link::Encryption::None) {
        return Error::forbidden("the destination does not encrypt and this host does")
            .with_hint("Set [kumoi] migration_encryption alike on both hosts.");
    }
    return link::secure_streams(std::move(called.streams), link::TlsRole::Client, called.encryption,
                                relay_for(note.peer.address));
}

LiveMigrationOutcome LiveMoves::follow(const std::string& uuid, const LiveMigrationOptions& options,
                                       LiveMigrationObserver& observer) {
    const LiveFolder folder = folder_of(uuid);
    const auto note = folder.read(options_.host, LiveNote::Role::Source);
    if (!note.ok() || !*note) {
        return LiveMigrationOutcome::stayed(
            Error::not_found("no live migration of server {} is known here", uuid));
    }
    return follow_note(folder, **note, options, observer);
}

LiveMigrationOutcome LiveMoves::follow_note(const LiveFolder& folder, LiveNote note,
                                            const LiveMigrationOptions& options,
                                            LiveMigrationObserver& observer) {
    const LiveProcess process = process_of(folder, note);
    Following following{options, observer, borders_.clock};
    const int64_t patience_ns = options_.reconnect_total_ms * kNanosPerMilli;
    while (true) {
        const auto status = process.status();
        bool waits = true;
        if (status.ok()) {
            following.tell(*status);
            if (auto ended = ended_departure(folder, note, *status)) {
                return *ended;
            }
            following.enforce_timeout(*status, process);
            waits = status->waits();
            if (waits) {
                help_source(folder, note, *status, process);
            }
        } else if (const auto alive = process.is_alive(); alive.ok() && !*alive) {
            const auto owner = settle_dead_source(folder, note);
            if (owner.ok() && *owner == GuestOwner::Gone) {
                following.tell(LiveStatus{.phase = "completed"});
                return LiveMigrationOutcome::completed();
            }
            if (owner.ok() && *owner == GuestOwner::Here) {
                return LiveMigrationOutcome::stayed(
                    Error::unavailable("kumoi-vmm ended while its guest was migrated"));
            }
        }
        const int64_t now = borders_.clock.monotonic_ns();
        following.waiting_since_ns = !waits                            ? 0
                                     : following.waiting_since_ns == 0 ? now
                                                                       : following.waiting_since_ns;
        if (waits && now - following.waiting_since_ns > patience_ns) {
            return LiveMigrationOutcome::unknown(Error::unavailable(
                "the guest is committed to the destination, or may be, and {} does not say what "
                "became of it",
                note.peer.text()));
        }
        following.wait(folder.process(note).control_socket(),
                       waits ? options_.reconnect_step_ms : options_.follow_step_ms);
    }
}

std::optional<LiveMigrationOutcome> LiveMoves::ended_departure(const LiveFolder& folder,
                                                               LiveNote& note,
                                                               const LiveStatus& status) {
    if (!status.ended() && status.phase != "none") {
        return std::nullopt;
    }
    if (status.phase == "completed" || status.phase == "superseded") {
        if (const auto noted = conclude(folder, note, LiveNote::Verdict::Gone); !noted.ok()) {
            log_error("migration", "that a guest has left could not be noted",
                      {{"server", folder.uuid()}, {"why", noted.error().text()}});
        }
        (void)process_of(folder, note).guest().stop();  // it is empty
        return LiveMigrationOutcome::completed();
    }
    if (status.epoch > note.epoch) {
        (void)write_epoch(folder.server(), status.epoch);
    }
    (void)forget(folder.uuid());
    return status.phase == "cancelled" ? LiveMigrationOutcome::aborted(reason_of(status))
                                       : LiveMigrationOutcome::stayed(reason_of(status));
}

Result<void> LiveMoves::abort(const std::string& uuid) {
    const LiveFolder folder = folder_of(uuid);
    const auto note = TRY(folder.read(options_.host, LiveNote::Role::Source));
    if (!note || note->verdict != LiveNote::Verdict::Open) {
        return Error::conflict("Server {} is not being migrated by this host", uuid)
            .with_fault("InvalidMigrationState");
    }
    auto asked = process_of(folder, *note).guest().call("migrate_cancel");
    return asked.ok() ? Result<void>()
                      : Result<void>(Error(asked.error()).with_fault("InvalidMigrationState"));
}

Result<void> LiveMoves::force(const std::string& uuid) {
    const LiveFolder folder = folder_of(uuid);
    const auto note = TRY(folder.read(options_.host, LiveNote::Role::Source));
    if (!note || note->verdict != LiveNote::Verdict::Open) {
        return Error::conflict("Server {} is not being migrated by this host", uuid)
            .with_fault("InvalidMigrationState");
    }
    auto asked =
        process_of(folder, *note).guest().call("migrate_force", Json::object({{"how", "pause"}}));
    return asked.ok() ? Result<void>()
                      : Result<void>(Error(asked.error()).with_fault("InvalidMigrationState"));
}

void LiveMoves::help_source(const LiveFolder& folder, LiveNote& note, const LiveStatus& status,
                            const LiveProcess& process) {
    const auto answer = ask(note, Json::object({{"op", "state"}}));
    if (!answer.ok()) {
        return;
    }
    const auto view = parse_view(answer->string_or("view"));
    Result<void> done;
    const bool decided =
        view == migration::DestinationView::Owner || view == migration::DestinationView::Declined;
    if (decided && status.phase != "post_copy") {
        done = process.verdict(note, std::string(to_word(view)));
    } else if (view != migration::DestinationView::Unreachable) {
        auto sockets = connect_streams(folder, note);
        done = sockets.ok() ? process.connect(note, *sockets) : Result<void>(sockets.error());
    }
    if (!done.ok()) {
        log_info("migration", "a migration that waits could not be helped",
                 {{"server", folder.uuid()}, {"why", done.error().text()}});
    }
}

// The journal of the dead process, with what the other side says of itself.
Result<GuestOwner> LiveMoves::settle_dead_source(const LiveFolder& folder, LiveNote& note) {
    const auto answer = ask(note, Json::object({{"op", "state"}}));
    return settle_dead_source(folder, note,
                              answer.ok() ? parse_view(answer->string_or("view"))
                                          : migration::DestinationView::Unreachable);
}

Result<GuestOwner> LiveMoves::settle_dead_source(const LiveFolder& folder, LiveNote& note,
                                                 migration::DestinationView view) {
    const LiveProcess process = process_of(folder, note);
    const SourceAgent agent{process, note};
    const auto settlement = TRY(agent.settle(view));
    switch (settlement.outcome) {
        case Outcome::Wait: return GuestOwner::Undecided;
        case Outcome::GivenAway: {
            TRY(conclude(folder, note, LiveNote::Verdict::Gone));
            return GuestOwner::Gone;
        }
        case Outcome::Commit: {
            const auto told =
                TRY(ask(note, Json::object({{"op", "verdict"}, {"word", "committed"}})));
            if (parse_view(told.string_or("view")) != migration::DestinationView::Owner) {
                return GuestOwner::Undecided;
            }
            TRY(conclude(folder, note, LiveNote::Verdict::Gone));
            return GuestOwner::Gone;
        }
        case Outcome::CrashedHere: break;
    }
    (void)ask(note, Json::object({{"op", "verdict"}, {"word", "aborted"}}));
    TRY(forget(folder.uuid()));
    return GuestOwner::Here;
}

}  // namespace kumoi::compute
