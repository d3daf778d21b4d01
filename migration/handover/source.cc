#include "migration/handover/source.h"

namespace kumoi::migration {

void SourceHandover::freeze() {
    if (state_ != SourceState::Copying) {
        return;
    }
    host_.drop_disks();
    state_ = SourceState::Frozen;
    host_.send(HandoverMessage::Prepare);
}

bool SourceHandover::cancel() {
    switch (state_) {
        case SourceState::Copying:
            host_.send(HandoverMessage::Abort);
            state_ = SourceState::Kept;
            return true;
        case SourceState::Frozen: give_back(); return true;
        case SourceState::Undecided:
        case SourceState::Returning:
        case SourceState::Retaking:
        case SourceState::Kept: return true;  // it comes back, or never left
        case SourceState::Committed:
        case SourceState::Released:
        case SourceState::Superseded: return false;
    }
    return false;
}

void SourceHandover::message(HandoverMessage message) {
    switch (message) {
        case HandoverMessage::Prepared: return prepared();
        case HandoverMessage::Running: return peer_owns();
        case HandoverMessage::Refused: return peer_declined();
        default: return;  // a source's own words: not for us
    }
}

void SourceHandover::prepared() {
    switch (state_) {
        case SourceState::Frozen:
            if (host_.record(HandoverMark::Committed)) {
                state_ = SourceState::Committed;
                host_.send(HandoverMessage::Commit);
            } else {
                state_ = SourceState::Undecided;
                host_.send(HandoverMessage::Abort);
            }
            return;
        case SourceState::Committed: host_.send(HandoverMessage::Commit); return;
        case SourceState::Kept:
        case SourceState::Returning:
        case SourceState::Undecided:
        case SourceState::Retaking: host_.send(HandoverMessage::Abort); return;
        default: return;
    }
}

void SourceHandover::peer_declined() {
    switch (state_) {
        case SourceState::Copying: state_ = SourceState::Kept; return;
        case SourceState::Frozen:
        case SourceState::Undecided: state_ = SourceState::Returning; return;
        case SourceState::Committed: state_ = SourceState::Retaking; return;
        default: return;
    }
}

void SourceHandover::link_lost() {
    if (state_ == SourceState::Copying) {
        state_ = SourceState::Kept;
    } else if (state_ == SourceState::Frozen) {
        give_back();
    }
}

void SourceHandover::peer_owns() {
    if (state_ != SourceState::Committed) {
        return;
    }
    state_ = SourceState::Released;
    host_.record(HandoverMark::Released);  // a note: losing it costs a question to the other host
    host_.discard_guest();
}

void SourceHandover::peer_fenced(uint64_t lease_epoch) {
    switch (state_) {
        case SourceState::Copying: state_ = SourceState::Kept; return;
        case SourceState::Frozen:
        case SourceState::Undecided:
        case SourceState::Committed:
            state_ = lease_epoch == epoch_ ? SourceState::Returning : SourceState::Superseded;
            return;
        default: return;
    }
}

void SourceHandover::retry() {
    if (state_ == SourceState::Returning) {
        go_on_here(false);
    } else if (state_ == SourceState::Retaking) {
        go_on_here(true);
    }
}

void SourceHandover::give_back() {
    host_.send(HandoverMessage::Abort);
    state_ = host_.record(HandoverMark::Aborted) ? SourceState::Returning : SourceState::Undecided;
}

void SourceHandover::go_on_here(bool peer_took_disks) {
    const uint64_t peer = peer_took_disks ? epoch_ + 1 : epoch_;
    switch (host_.take_disks({.before = epoch_, .peer = peer, .after = epoch_ + 2})) {
        case DiskTake::Taken:
            epoch_ += 2;
            state_ = SourceState::Kept;
            host_.run_guest();
            return;
        case DiskTake::Superseded: state_ = SourceState::Superseded; return;
        case DiskTake::Busy:
        case DiskTake::Failed: return;  // retry() comes again
    }
}

}  // namespace kumoi::migration
