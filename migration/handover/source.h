// SourceHandover: the source's side of a handover. One step of model/handover.pml is one call here;
// the conformance test replays the model's runs against it. One thread.
#pragma once

#include "migration/handover/handover.h"

namespace kumoi::migration {

class SourceHandover {
public:
    // `epoch` is the one the guest runs under now; the destination gets epoch+1.
    SourceHandover(HandoverHost& host, uint64_t epoch) : host_(host), epoch_(epoch) {}

    // The guest is paused, its requests are drained, its state is sent and the offer journalled.
    void freeze();
    // The guest shall stay. False: too late, it is given away.
    bool cancel();
    // From the other side.
    void message(HandoverMessage message);
    // The connection broke, for good or until the other side connects again.
    void link_lost();
    // While Returning or Retaking: tries for the disks again.
    void retry();
    // What the other host's agent says of its side: its process's word while that lives, otherwise
    // its journal's.
    void peer_declined();
    void peer_owns();
    // The other host is off for good and its journal cannot be read. `lease_epoch` is what shared
    // disks show: our epoch means that the guest never ran there.
    void peer_fenced(uint64_t lease_epoch);

    SourceState state() const { return state_; }
    // The epoch the guest runs under if it is Kept.
    uint64_t epoch() const { return epoch_; }

private:
    void prepared();
    void give_back();
    void go_on_here(bool peer_took_disks);

    HandoverHost& host_;
    uint64_t epoch_;
    SourceState state_ = SourceState::Copying;
};

}  // namespace kumoi::migration
