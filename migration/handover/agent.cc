#include "migration/handover/agent.h"

namespace kumoi::migration {

namespace {

using Outcome = SourceSettlement::Outcome;

// Nothing decided: the destination that has everything gets the guest, otherwise it is lost with
// its process, as any guest is whose process dies.
SourceSettlement settle_undecided(DestinationView destination) {
    switch (destination) {
        case DestinationView::Ready:
            return {.outcome = Outcome::Commit, .mark = HandoverMark::Committed};
        case DestinationView::Loading:
        case DestinationView::Declined:
            return {.outcome = Outcome::CrashedHere, .mark = HandoverMark::Aborted};
        case DestinationView::Owner:  // a commit that the disk lost
            return {.outcome = Outcome::GivenAway, .mark = HandoverMark::Released};
        case DestinationView::Unreachable: return {};
    }
    return {};
}

SourceSettlement settle_committed(DestinationView destination) {
    switch (destination) {
        case DestinationView::Ready: return {.outcome = Outcome::Commit};
        case DestinationView::Owner:
            return {.outcome = Outcome::GivenAway, .mark = HandoverMark::Released};
        case DestinationView::Loading:  // one that never saw the guest: not that of this commit
        case DestinationView::Declined: return {.outcome = Outcome::CrashedHere};
        case DestinationView::Unreachable: return {};
    }
    return {};
}

}  // namespace

DestinationView view_of(DestinationState state) {
    switch (state) {
        case DestinationState::Loading: return DestinationView::Loading;
        case DestinationState::Ready:
        case DestinationState::Parked: return DestinationView::Ready;
        case DestinationState::Owner: return DestinationView::Owner;
        case DestinationState::Declined: return DestinationView::Declined;
    }
    return DestinationView::Unreachable;
}

DestinationView view_of_dead(HandoverMark journal) {
    return settle_destination(journal).owned ? DestinationView::Owner : DestinationView::Declined;
}

SourceSettlement settle_source(HandoverMark journal, DestinationView destination) {
    switch (journal) {
        case HandoverMark::Aborted: return {.outcome = Outcome::CrashedHere};
        case HandoverMark::Released: return {.outcome = Outcome::GivenAway};
        case HandoverMark::Committed: return settle_committed(destination);
        default: return settle_undecided(destination);
    }
}

DestinationSettlement settle_destination(HandoverMark journal) {
    if (journal == HandoverMark::Owner) {
        return {.owned = true};
    }
    return {.mark = HandoverMark::Declined};
}

}  // namespace kumoi::migration
