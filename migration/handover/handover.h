// The words of a handover: which of two processes may run a guest, decided so that never two do and
// that no single failure leaves none. Pure; values only.
//
// The protocol (docs/reference/handover.md; VMM study 3.13; model/handover.pml is its proof):
//     source                                   destination
//     pause, drain, release the disks
//     Prepare  ------------------------------> load everything, hold the disks: Ready
//              <------------------------------ Prepared
//     journal `committed`: the commit point
//     Commit   ------------------------------> take the disks (lease epoch+1), journal `owner`, run
//     Released <------------------------------ Running
// Before its commit the source may take the guest back: it journals `aborted` and takes the disks
// under epoch+2, so that the destination's epoch+1 can never write. After it the source never
// resumes by itself; only a destination that declined for good (its own word, or its journal after
// its death) gives the guest back.
#pragma once

#include <cstdint>
#include <string_view>

namespace kumoi::migration {

// What the two processes say to each other once the guest is frozen.
enum class HandoverMessage : uint8_t {
    Prepare = 1,  // source: you have everything; hold the disks and be ready
    Commit = 2,   // source: the guest is yours
    Abort = 3,    // source: it stays with me
    Prepared = 4,
    Running = 5,
    Refused = 6,  // destination: I shall never run it
};

// What a journal says. The source writes Offered, Aborted, Committed, Released; the destination
// Joined, Owner, Declined.
enum class HandoverMark : uint8_t {
    Offered = 1,
    Aborted = 2,
    Committed = 3,
    Released = 4,
    Joined = 5,
    Owner = 6,
    Declined = 7,
};

enum class SourceState {
    Copying,     // the guest runs here
    Frozen,      // paused, disks released, waiting for Prepared
    Undecided,   // the journal cannot be written: waits for the other side to decline
    Returning,   // shall go on here, waits for the disks
    Committed,   // the guest is given away, waits for Running
    Retaking,    // the other side declined after the commit; waits for the disks
    Kept,        // end: it runs here
    Released,    // end: it runs there
    Superseded,  // end: somebody else took the disks by force; it never runs here again
};

enum class DestinationState {
    Loading,
    Ready,     // holds everything and the disks; must not run
    Parked,    // the same without the disks, for the connection broke: the source may need them
    Owner,     // end: it runs here
    Declined,  // end: it never runs here
};

std::string_view to_string(HandoverMessage message);
std::string_view to_string(HandoverMark mark);
std::string_view to_string(SourceState state);
std::string_view to_string(DestinationState state);

enum class DiskTake {
    Taken,
    Busy,        // somebody else holds a lock: try again
    Superseded,  // a lease names an epoch that was not expected
    Failed,      // cannot be read or written: try again
};

// Which epochs a lease may show for its disks to be taken, and the one it gets.
struct LeaseStep {
    uint64_t before = 0;
    uint64_t peer = 0;  // an epoch only the other side writes; == before: not accepted
    uint64_t after = 0;
};

// What a side of a handover does to the world. Called on the thread that drives the handover, one
// call at a time; each may take as long as its disk does.
class HandoverHost {
public:
    virtual ~HandoverHost() = default;

    // True once the mark is on stable storage. False: nobody knows whether it is.
    virtual bool record(HandoverMark mark) = 0;
    // All disks or none: locks them, compares their leases, writes the new epoch. Without shared
    // disks there is nothing to compare.
    virtual DiskTake take_disks(const LeaseStep& step) = 0;
    // Locks them and compares only.
    virtual DiskTake hold_disks(uint64_t epoch) = 0;
    virtual void drop_disks() = 0;
    // Lost if there is no connection; a new one begins with the destination's word.
    virtual void send(HandoverMessage message) = 0;
    // From here on the guest may run, with the disks taken.
    virtual void run_guest() = 0;
    // The guest is the other side's, for good: free what is here.
    virtual void discard_guest() = 0;
};

}  // namespace kumoi::migration
