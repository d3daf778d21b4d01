// What the agent beside a dead process may say in its place (migration/handover/handover.h). An
// agent holds the journal of a process that is proved dead by the journal's lock, and nothing else:
// it never runs a guest. Pure.
#pragma once

#include <optional>

#include "migration/handover/handover.h"

namespace kumoi::migration {

// What the source's agent knows of the destination: its process's word, or its journal's.
enum class DestinationView { Unreachable, Loading, Ready, Owner, Declined };

// Of a living destination's state; of a dead one's journal, once its agent has settled it.
DestinationView view_of(DestinationState state);
DestinationView view_of_dead(HandoverMark journal);

struct SourceSettlement {
    enum class Outcome {
        Wait,         // nothing may be said yet
        Commit,       // the destination shall run the guest
        CrashedHere,  // it died with its process, whose it was; the destination shall discard
        GivenAway,    // it runs there
    };
    Outcome outcome = Outcome::Wait;
    // To be journalled before anything is said.
    std::optional<HandoverMark> mark;
};

SourceSettlement settle_source(HandoverMark journal, DestinationView destination);

struct DestinationSettlement {
    bool owned = false;  // the guest died there, as its owner
    std::optional<HandoverMark> mark;
};

DestinationSettlement settle_destination(HandoverMark journal);

}  // namespace kumoi::migration
