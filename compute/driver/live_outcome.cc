// LiveMoves, part three: whose a guest is.
#include <cerrno>
#include <cstdio>

#include "base/file.h"
#include "compute/driver/live_moves.h"

namespace kumoi::compute {

using migration::DestinationView;

Result<GuestOwner> LiveMoves::outcome(const std::string& uuid) {
    const LiveFolder folder = folder_of(uuid);
    auto note = TRY(folder.read(options_.host));
    if (!note) {
        return folder.server().exists() ? GuestOwner::Here : GuestOwner::Absent;
    }
    return note->role == LiveNote::Role::Source ? source_outcome(folder, *note)
                                                : destination_outcome(folder, *note);
}

Result<GuestOwner> LiveMoves::source_outcome(const LiveFolder& folder, LiveNote& note) {
    if (note.verdict != LiveNote::Verdict::Open) {
        return note.verdict == LiveNote::Verdict::Gone ? GuestOwner::Gone : GuestOwner::Here;
    }
    const LiveProcess process = process_of(folder, note);
    auto word = TRY(process.last_word());
    if (!word) {
        return settle_dead_source(folder, note);
    }
    LiveStatus& status = *word;
    if (status.waits()) {
        help_source(folder, note, status, process);
        status = TRY(process.status());
    }
    if (const auto ended = ended_departure(folder, note, status)) {
        return ended->kind == LiveMigrationOutcome::Kind::Completed ? GuestOwner::Gone
                                                                    : GuestOwner::Here;
    }
    return status.phase == "undecided" ? GuestOwner::Undecided : GuestOwner::Departing;
}

Result<GuestOwner> LiveMoves::destination_outcome(const LiveFolder& folder, LiveNote& note) {
    if (note.verdict == LiveNote::Verdict::Here) {
        return GuestOwner::Here;
    }
    const LiveProcess process = process_of(folder, note);
    DestinationView view = TRY(destination_view(process, note));
    if (view == DestinationView::Ready) {
        const auto answer = ask(note, Json::object({{"op", "state"}, {"view", to_word(view)}}));
        const SourceWord word =
            answer.ok() ? parse_source_word(answer->string_or("word")) : SourceWord::Wait;
        if (word != SourceWord::Wait && TRY(process.is_alive())) {
            TRY(process.verdict(note, std::string(to_word(word))));
        }
        view = TRY(destination_view(process, note));
    }
    switch (view) {
        case DestinationView::Owner: return GuestOwner::Here;
        case DestinationView::Ready:
        case DestinationView::Unreachable: return GuestOwner::Undecided;
        case DestinationView::Loading:
        case DestinationView::Declined: return GuestOwner::Incoming;
    }
    return GuestOwner::Undecided;
}

// The guest runs here under the next epoch; that is known, and told to who asks, until the server
// moves again.
Result<void> LiveMoves::arrived(const std::string& uuid) {
    const LiveFolder folder = folder_of(uuid);
    const auto held = server(uuid);
    const std::lock_guard lock(held->mutex);
    auto note = TRY(folder.read(options_.host, LiveNote::Role::Destination));
    if (!note || note->verdict == LiveNote::Verdict::Here) {
        return {};
    }
    TRY(write_epoch(folder.server(), note->epoch + 1));
    if (note->shared) {
        TRY(settle_in(folder, *note));
    }
    return conclude(folder, *note, LiveNote::Verdict::Here);
}

// What the process has in a folder of its own takes the places of the source's: sockets and locks
// go on under their new names.
Result<void> LiveMoves::settle_in(const LiveFolder& folder, LiveNote& note) const {
    const std::string from = folder.arriving().path();
    for (const std::string& name : TRY(list_directory(from))) {
        if (name == "arrival.json") {
            continue;
        }
        const std::string to = folder.server().path() + "/" + name;
        if (::rename((from + "/" + name).c_str(), to.c_str()) != 0) {
            return Error::from_errno(errno, fmt::format("moving {} of {}", name, from));
        }
    }
    TRY(sync_directory(folder.server().path()));
    note.shared = false;  // from here on as any other
    TRY(folder.write(note));
    return remove_tree(from);
}

}  // namespace kumoi::compute
