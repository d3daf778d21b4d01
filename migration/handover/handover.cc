#include "migration/handover/handover.h"

namespace kumoi::migration {

std::string_view to_string(HandoverMessage message) {
    switch (message) {
        case HandoverMessage::Prepare: return "Prepare";
        case HandoverMessage::Commit: return "Commit";
        case HandoverMessage::Abort: return "Abort";
        case HandoverMessage::Prepared: return "Prepared";
        case HandoverMessage::Running: return "Running";
        case HandoverMessage::Refused: return "Refused";
    }
    return "unknown";
}

std::string_view to_string(HandoverMark mark) {
    switch (mark) {
        case HandoverMark::Offered: return "Offered";
        case HandoverMark::Aborted: return "Aborted";
        case HandoverMark::Committed: return "Committed";
        case HandoverMark::Released: return "Released";
        case HandoverMark::Joined: return "Joined";
        case HandoverMark::Owner: return "Owner";
        case HandoverMark::Declined: return "Declined";
    }
    return "unknown";
}

std::string_view to_string(SourceState state) {
    switch (state) {
        case SourceState::Copying: return "Copying";
        case SourceState::Frozen: return "Frozen";
        case SourceState::Undecided: return "Undecided";
        case SourceState::Returning: return "Returning";
        case SourceState::Committed: return "Committed";
        case SourceState::Retaking: return "Retaking";
        case SourceState::Kept: return "Kept";
        case SourceState::Released: return "Released";
        case SourceState::Superseded: return "Superseded";
    }
    return "unknown";
}

std::string_view to_string(DestinationState state) {
    switch (state) {
        case DestinationState::Loading: return "Loading";
        case DestinationState::Ready: return "Ready";
        case DestinationState::Parked: return "Parked";
        case DestinationState::Owner: return "Owner";
        case DestinationState::Declined: return "Declined";
    }
    return "unknown";
}

}  // namespace kumoi::migration
