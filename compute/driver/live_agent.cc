#include "compute/driver/live_agent.h"

namespace kumoi::compute {

using migration::DestinationView;
using migration::SourceSettlement;
using Outcome = migration::SourceSettlement::Outcome;

std::string_view to_word(SourceWord word) {
    switch (word) {
        case SourceWord::Wait: return "wait";
        case SourceWord::Committed: return "committed";
        case SourceWord::Aborted: return "aborted";
    }
    return "wait";
}

SourceWord parse_source_word(const std::string& word) {
    return word == "committed" ? SourceWord::Committed
           : word == "aborted" ? SourceWord::Aborted
                               : SourceWord::Wait;
}

Result<SourceWord> SourceAgent::word(DestinationView destination) const {
    if (const auto status = TRY(process.last_word())) {
        const std::string& handover = status->handover;
        if (handover == "Committed" || handover == "Released" || handover == "Superseded") {
            return SourceWord::Committed;
        }
        const bool stays = handover == "Kept" || handover == "Returning";
        return stays ? SourceWord::Aborted : SourceWord::Wait;
    }
    switch (TRY(settle(destination)).outcome) {
        case Outcome::Wait: return SourceWord::Wait;
        case Outcome::Commit:
        case Outcome::GivenAway: return SourceWord::Committed;
        case Outcome::CrashedHere: return SourceWord::Aborted;
    }
    return SourceWord::Wait;
}

Result<SourceSettlement> SourceAgent::settle(DestinationView destination) const {
    auto journal = process.journal(note);
    if (!journal.ok() && journal.error().code == ErrorCode::NotFound) {
        return SourceSettlement{.outcome = Outcome::CrashedHere};  // it had promised nothing
    }
    if (!journal.ok() && journal.error().code == ErrorCode::Corrupt &&
        destination != DestinationView::Ready && destination != DestinationView::Owner) {
        // It died before its offer was written, so the other side can never have had everything.
        return SourceSettlement{.outcome = destination == DestinationView::Unreachable
                                               ? Outcome::Wait
                                               : Outcome::CrashedHere};
    }
    auto held = TRY(std::move(journal));
    if (!held) {
        return SourceSettlement{};  // somebody holds it: a process that ends, or another agent
    }
    const SourceSettlement settlement = migration::settle_source(held->mark(), destination);
    if (settlement.mark && held->mark() != *settlement.mark) {
        TRY(held->record(*settlement.mark));
    }
    return settlement;
}

Result<DestinationView> destination_view(const LiveProcess& process, const LiveNote& note) {
    if (const auto status = TRY(process.last_word())) {
        return view_of(*status);
    }
    auto journal = process.journal(note);
    if (!journal.ok() && (journal.error().code == ErrorCode::NotFound ||
                          journal.error().code == ErrorCode::Corrupt)) {
        return DestinationView::Declined;  // it never had a guest, and will not get one
    }
    auto held = TRY(std::move(journal));
    if (!held) {
        return DestinationView::Unreachable;
    }
    const auto settlement = migration::settle_destination(held->mark());
    if (settlement.mark && held->mark() != *settlement.mark) {
        TRY(held->record(*settlement.mark));
    }
    return settlement.owned ? DestinationView::Owner : DestinationView::Declined;
}

}  // namespace kumoi::compute
