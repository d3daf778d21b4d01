#include "migration/handover/destination.h"

namespace kumoi::migration {

void DestinationHandover::message(HandoverMessage message) {
    switch (message) {
        case HandoverMessage::Prepare: return prepare();
        case HandoverMessage::Commit: return commit();
        case HandoverMessage::Abort: return peer_aborted();
        default: return;  // a destination's own words: not for us
    }
}

void DestinationHandover::prepare() {
    if (state_ != DestinationState::Loading) {
        return;
    }
    if (host_.hold_disks(epoch_) != DiskTake::Taken) {
        return decline();
    }
    state_ = DestinationState::Ready;
    host_.send(HandoverMessage::Prepared);
}

void DestinationHandover::commit() {
    switch (state_) {
        case DestinationState::Ready:
        case DestinationState::Parked: return take();
        case DestinationState::Owner: return host_.send(HandoverMessage::Running);
        case DestinationState::Loading:
            return decline();  // nobody commits what is not prepared: not the source we know
        case DestinationState::Declined: return host_.send(HandoverMessage::Refused);
    }
}

void DestinationHandover::take() {
    if (host_.take_disks({.before = epoch_, .peer = epoch_, .after = epoch_ + 1}) !=
        DiskTake::Taken) {
        return decline();
    }
    if (!host_.record(HandoverMark::Owner)) {
        return decline();
    }
    state_ = DestinationState::Owner;
    host_.run_guest();
    host_.send(HandoverMessage::Running);
}

void DestinationHandover::fail() {
    if (state_ == DestinationState::Loading) {
        decline();
    }
}

void DestinationHandover::link_lost() {
    if (state_ == DestinationState::Loading) {
        decline();
    } else if (state_ == DestinationState::Ready) {
        host_.drop_disks();
        state_ = DestinationState::Parked;
    }
}

void DestinationHandover::link_up() {
    switch (state_) {
        case DestinationState::Ready:
        case DestinationState::Parked: return host_.send(HandoverMessage::Prepared);
        case DestinationState::Owner: return host_.send(HandoverMessage::Running);
        case DestinationState::Declined: return host_.send(HandoverMessage::Refused);
        case DestinationState::Loading: return;
    }
}

void DestinationHandover::peer_committed() {
    if (state_ == DestinationState::Ready || state_ == DestinationState::Parked) {
        take();
    }
}

void DestinationHandover::peer_aborted() {
    switch (state_) {
        case DestinationState::Loading:
        case DestinationState::Ready:
        case DestinationState::Parked: return decline();
        case DestinationState::Declined: return host_.send(HandoverMessage::Refused);
        case DestinationState::Owner: return;  // an old word: the source had committed since
    }
}

void DestinationHandover::peer_fenced() {
    if (state_ == DestinationState::Parked) {
        take();
    } else if (state_ == DestinationState::Loading) {
        decline();
    }
}

// Should the record fail: this process never runs the guest any more, and says so while it lives.
void DestinationHandover::decline() {
    state_ = DestinationState::Declined;
    host_.drop_disks();
    host_.record(HandoverMark::Declined);
    host_.send(HandoverMessage::Refused);
    host_.discard_guest();
}

}  // namespace kumoi::migration
