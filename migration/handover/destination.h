// DestinationHandover: the destination's side of a handover, step for step that of
// model/handover.pml. One thread.
#pragma once

#include "migration/handover/handover.h"

namespace kumoi::migration {

class DestinationHandover {
public:
    // `epoch` is the source's; the guest runs here under epoch+1.
    DestinationHandover(HandoverHost& host, uint64_t epoch) : host_(host), epoch_(epoch) {}

    // From the source. Prepare comes when everything is loaded and checked.
    void message(HandoverMessage message);
    // It cannot be done here.
    void fail();
    void link_lost();
    // A new connection: the destination says first where it stands.
    void link_up();
    // What the source's host says: its process while that lives, otherwise its journal, in which
    // its agent may have decided.
    void peer_committed();
    void peer_aborted();
    // The source's host is off for good; shared disks only: their lease guards against a source
    // that had gone on.
    void peer_fenced();

    DestinationState state() const { return state_; }
    uint64_t epoch() const { return epoch_ + 1; }

private:
    void prepare();
    void commit();
    void take();
    void decline();

    HandoverHost& host_;
    const uint64_t epoch_;
    DestinationState state_ = DestinationState::Loading;
};

}  // namespace kumoi::migration
