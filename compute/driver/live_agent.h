// The agents of a handover (docs/reference/handover.md): each host's daemon speaks for its own
// kumoi-vmm, with the process's word while that lives and with its journal afterwards, and carries
// to it what the other host's daemon says. Decides nothing by itself: migration/handover/agent.h
// does. Blocks; one thread a server.
#pragma once

#include <functional>
#include <string>

#include "compute/driver/live_process.h"

namespace kumoi::compute {

// What a source says of itself, as a destination's process needs to hear it.
enum class SourceWord { Wait, Committed, Aborted };
std::string_view to_word(SourceWord word);
SourceWord parse_source_word(const std::string& word);

// Source. `destination`: what is known of the other side.
struct SourceAgent {
    const LiveProcess& process;
    const LiveNote& note;

    // Marks the journal of a dead process where that is due.
    Result<SourceWord> word(migration::DestinationView destination) const;
    // Of a dead process.
    Result<migration::SourceSettlement> settle(migration::DestinationView destination) const;
};

// Destination: what it says of itself. Marks the journal of a dead process where that is due.
Result<migration::DestinationView> destination_view(const LiveProcess& process,
                                                    const LiveNote& note);

}  // namespace kumoi::compute
