/* The handover of one guest, as migration/handover/{source,destination,agents} carry it out: which of two
 * processes may run it, whatever dies and whatever is cut. One step here is one step there.
 *
 * Checked, with at most KILLS processes killed, CUTS connections cut, DISKS journals that fail and FENCES hosts
 * switched off (journal and agent included):
 *   always   never two runners; nobody begins where the other went on already; with SHARED disks whoever runs
 *            holds their lock, and their lease names its epoch
 *   at rest  (nothing can move any more) nobody still waits, and the guest runs somewhere unless the process that
 *            died owned it. After two failures of processes, disks or hosts it may run nowhere; twice never
 *
 * Epochs: 0 is the source's before, 1 the destination's, 2 the source's after it took the guest back.
 * A connection delivers a prefix of what was sent; what was under way when it broke is lost. A new one begins
 * when both sides have seen the old one's end, and the destination speaks first. */

#ifndef KILLS
#define KILLS 1
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef DISKS
#define DISKS 0
#endif
#ifndef FENCES
#define FENCES 0
#endif
#ifndef CALM
#define CALM 0          /* 1: nothing happens before the guest is frozen; for runs that go deep, not for proofs */
#endif
#ifndef RECONNECT
#define RECONNECT 1     /* 0: a connection that broke never comes back, but the agents carry what the living say */
#endif                  /* 2: it never comes back, and nobody carries anything: the host is cut off */
#ifndef SHARED
#define SHARED 1        /* 0: each side has disks of its own, with locks of their own; no lease to compare */
#endif

mtype = { None, Source, Destination };                                   /* who */
mtype = { Prepare, Commit, Abort, Prepared, Running, Refused };          /* messages */
mtype = { Copying, Frozen, Undecided, Returning, Committed, Retaking, Kept, Released, Superseded,   /* source */
          Loading, Ready, Parked, Owner, Declined };                     /* destination */
mtype = { Offered, Aborted };                                            /* journals; also Committed, Owner, Declined */

chan to_destination = [3] of { mtype };
chan to_source = [3] of { mtype };
bool link = true, source_lost, destination_lost, hello;
byte kills = KILLS, cuts = CUTS, disks = DISKS, fences = FENCES;

mtype source = Copying, destination = Loading;
mtype source_journal = Offered, destination_journal = None;
bool source_alive = true, destination_alive = true;
bool source_runs = true, destination_runs;
mtype lock = Source;
byte lease;             /* the epoch written in the disks' lease */
byte source_epoch;
bool owner_died;        /* a process was killed that owned the guest: it crashed, as any guest whose VMM dies */
bool source_cleaned, destination_cleaned;   /* the agents have looked at what died */
bool source_fenced, destination_fenced;     /* proved dead, and nobody can read its journal */
bool source_went_on, destination_went_on;   /* it ran the guest after the freeze */

/* what an agent can say of its side; the living are asked only where the connection does not come back */
#define CARRIED(alive) (alive && RECONNECT == 0 && !link)
#define DESTINATION_DECLINED ((!destination_alive && destination_cleaned && destination_journal == Declined) || \
                              (CARRIED(destination_alive) && destination == Declined))
#define DESTINATION_OWNS ((!destination_alive && destination_cleaned && destination_journal == Owner) || \
                          (CARRIED(destination_alive) && destination == Owner))
#define SOURCE_COMMITTED ((!source_alive && source_cleaned && source_journal == Committed) || \
                          (CARRIED(source_alive) && source == Committed))
#define SOURCE_ABORTED ((!source_alive && source_cleaned && source_journal == Aborted) || \
                        (CARRIED(source_alive) && (source == Kept || source == Returning || source == Undecided || source == Retaking)))

#define FREE_FOR_SOURCE (!SHARED || lock == None)
#define FREE_FOR_DESTINATION (!SHARED || lock != Source)
#define OLD_LEASE (!SHARED || lease == 0)

#define SHOW printf("is %e %e %e %e %e %d %d %d\n", source, destination, source_journal, destination_journal, \
                    lock, lease, source_runs, destination_runs)

inline tell_destination(m) { if :: link && destination_alive -> to_destination!m :: else fi }
inline tell_source(m) { if :: link && source_alive -> to_source!m :: else fi }

/* A journal's write may fail, and then nobody knows whether it reached the disk. */
inline write_source(record) {
    if
    :: source_journal = record; wrote = true
    :: disks > 0 -> disks--; wrote = false; printf("step source disk_fails_empty\n")
    :: disks > 0 -> disks--; wrote = false; source_journal = record; printf("step source disk_fails_written\n")
    fi
}
inline write_destination(record) {
    if
    :: destination_journal = record; wrote = true
    :: disks > 0 -> disks--; wrote = false; printf("step destination disk_fails_empty\n")
    :: disks > 0 -> disks--; wrote = false; destination_journal = record; printf("step destination disk_fails_written\n")
    fi
}

/* ---- source ------------------------------------------------------------------------------------------- */
inline go_on_here() {            /* the locks of the disks first, then the lease, then the guest */
    lock = Source; lease = 2; source_epoch = 2; source_runs = true; source_went_on = true; source = Kept
}
inline give_back() {             /* the guest shall go on here */
    tell_destination(Abort);
    write_source(Aborted);
    if :: wrote -> source = Returning :: else -> source = Undecided fi
}

active proctype SourceVmm() {
    bool wrote;
    mtype m;
    end: do
    :: atomic { source_alive && source == Copying && !source_lost && link -> printf("step source freeze\n");
        source_runs = false; lock = None; source = Frozen; tell_destination(Prepare); SHOW }
    :: atomic { source_alive && source == Copying && !CALM -> printf("step source cancel\n");
        tell_destination(Abort); source = Kept; SHOW }
    :: atomic { source_alive && source == Frozen && (!CALM || destination != Loading) -> printf("step source cancel\n"); give_back(); SHOW }
    :: atomic { source_alive && source == Returning && FREE_FOR_SOURCE && OLD_LEASE -> printf("step source retry\n");
        go_on_here(); SHOW }
    :: atomic { source_alive && source == Returning && FREE_FOR_SOURCE && !OLD_LEASE -> printf("step source retry\n");
        source = Superseded; SHOW }
    :: atomic { source_alive && source == Retaking && FREE_FOR_SOURCE -> printf("step source retry\n");
        go_on_here(); SHOW }
    :: atomic { source_alive && source_lost -> printf("step source link_lost\n");
        do :: to_source?m :: empty(to_source) -> break od;
        source_lost = false;
        if
        :: source == Copying -> source = Kept
        :: source == Frozen -> give_back()
        :: else
        fi; SHOW }
    :: atomic { source_alive && nempty(to_source) && !source_lost -> to_source?m;
        if
        :: m == Prepared -> printf("step source prepared\n");
            if
            :: source == Frozen ->
                write_source(Committed);
                if
                :: wrote -> source = Committed; tell_destination(Commit)
                :: else -> source = Undecided; tell_destination(Abort)
                fi
            :: source == Committed -> tell_destination(Commit)
            :: source == Kept || source == Returning || source == Undecided || source == Retaking -> tell_destination(Abort)
            :: else
            fi
        :: m == Running -> printf("step source running\n");
            if :: source == Committed -> source = Released :: else fi
        :: m == Refused -> printf("step source refused\n");
            if
            :: source == Copying -> source = Kept
            :: source == Frozen || source == Undecided -> source = Returning
            :: source == Committed -> source = Retaking
            :: else
            fi
        fi; SHOW }
    /* what the agent of the other host says: it asks its process while that lives, and reads its journal then */
    :: atomic { source_alive && DESTINATION_DECLINED &&
                (source == Copying || source == Frozen || source == Undecided || source == Committed) ->
        printf("step source peer_declined\n");
        if
        :: source == Copying -> source = Kept
        :: source == Frozen || source == Undecided -> source = Returning
        :: source == Committed -> source = Retaking
        fi; SHOW }
    :: atomic { source_alive && DESTINATION_OWNS &&
                source == Committed -> printf("step source peer_owns\n"); source = Released; SHOW }
    /* the other host is off for good; only a lease of shared disks can tell that the guest never ran there */
    :: atomic { source_alive && destination_fenced && SHARED &&
                (source == Copying || source == Frozen || source == Undecided || source == Committed) ->
        printf("step source peer_fenced\n");
        if
        :: source == Copying -> source = Kept
        :: source != Copying && lease == 0 -> source = Returning
        :: source != Copying && lease != 0 -> source = Superseded
        fi; SHOW }
    od
}

/* ---- destination -------------------------------------------------------------------------------------- */
inline decline() {
    if :: lock == Destination -> lock = None :: else fi;
    write_destination(Declined);      /* should it fail: this process never runs the guest any more, and says so */
    destination = Declined;
    tell_source(Refused)
}
inline take() {                  /* lock, lease, journal, guest: in this order */
    if
    :: !FREE_FOR_DESTINATION || !OLD_LEASE -> decline()
    :: else ->
        lock = Destination; lease = 1;
        write_destination(Owner);
        if
        :: wrote -> destination_runs = true; destination_went_on = true; destination = Owner; tell_source(Running)
        :: else -> decline()
        fi
    fi
}

active proctype DestinationVmm() {
    bool wrote;
    mtype m;
    end: do
    :: atomic { destination_alive && nempty(to_destination) && !destination_lost -> to_destination?m;
        if
        :: m == Prepare -> printf("step destination prepare\n");
            if
            :: destination == Loading && FREE_FOR_DESTINATION && OLD_LEASE -> lock = Destination; destination = Ready; tell_source(Prepared)
            :: destination == Loading && !(FREE_FOR_DESTINATION && OLD_LEASE) -> decline()
            :: else
            fi
        :: m == Commit -> printf("step destination commit\n");
            if
            :: destination == Ready || destination == Parked -> take()
            :: destination == Owner -> tell_source(Running)
            :: destination == Loading -> decline()
            :: else -> tell_source(Refused)
            fi
        :: m == Abort -> printf("step destination abort\n");
            if
            :: destination == Loading || destination == Ready || destination == Parked -> decline()
            :: destination == Declined -> tell_source(Refused)
            :: else
            fi
        fi; SHOW }
    :: atomic { destination_alive && destination == Loading && !CALM -> printf("step destination fail\n"); decline(); SHOW }
    :: atomic { destination_alive && destination_lost -> printf("step destination link_lost\n");
        do :: to_destination?m :: empty(to_destination) -> break od;
        destination_lost = false;
        if
        :: destination == Loading -> decline()
        :: destination == Ready ->
            if :: lock == Destination -> lock = None :: else fi;
            destination = Parked      /* so that the source can go back */
        :: else
        fi; SHOW }
    :: atomic { destination_alive && hello && !destination_lost -> printf("step destination link_up\n"); hello = false;
        if
        :: destination == Ready || destination == Parked -> tell_source(Prepared)
        :: destination == Owner -> tell_source(Running)
        :: destination == Declined -> tell_source(Refused)
        :: else
        fi; SHOW }
    /* the same the other way; an agent decides in the place of a dead source that had not */
    :: atomic { destination_alive && SOURCE_COMMITTED &&
                (destination == Ready || destination == Parked) -> printf("step destination peer_committed\n"); take(); SHOW }
    :: atomic { destination_alive && SOURCE_ABORTED &&
                (destination == Loading || destination == Ready || destination == Parked) ->
        printf("step destination peer_aborted\n"); decline(); SHOW }
    :: atomic { destination_alive && source_fenced && SHARED && destination == Parked ->
        printf("step destination peer_fenced\n"); take(); SHOW }
    :: atomic { destination_alive && source_fenced && SHARED && destination == Loading ->
        printf("step destination peer_fenced\n"); decline(); SHOW }
    od
}

/* ---- the agents, one beside each: they hold a dead process's journal and nothing else ------------------ */
active proctype SourceAgent() {
    end: atomic { !source_alive && !source_fenced && (source_journal != Offered || destination != Loading || !destination_alive);
        printf("step source_agent settle\n");
        if
        :: source_journal == Offered && destination_alive && (destination == Ready || destination == Parked) ->
            source_journal = Committed
        :: source_journal == Offered && !(destination_alive && (destination == Ready || destination == Parked)) &&
           destination != Owner -> source_journal = Aborted
        :: else
        fi;
        source_cleaned = true; SHOW }
}
active proctype DestinationAgent() {
    end: atomic { !destination_alive && !destination_fenced; printf("step destination_agent settle\n");
        if :: destination_journal != Owner -> destination_journal = Declined :: else fi;
        destination_cleaned = true; SHOW }
}

/* ---- what goes wrong ---------------------------------------------------------------------------------- */
inline lose_source() {
    /* it owned the guest unless the other side holds all of it, too, and nothing was decided against that */
    owner_died = owner_died || (source != Released && destination != Owner &&
        !(source_journal != Aborted && (destination == Ready || destination == Parked)));
    source_alive = false; source_runs = false; source_lost = false;
    link = false; destination_lost = destination_alive; hello = false;
    if :: lock == Source -> lock = None :: else fi
}
inline lose_destination() {
    owner_died = owner_died || destination_journal == Owner;
    destination_alive = false; destination_runs = false; destination_lost = false;
    link = false; source_lost = source_alive; hello = false;
    if :: lock == Destination -> lock = None :: else fi
}
#define LATE (!CALM || destination != Loading)
active proctype Faults() {
    end: do
    :: atomic { LATE && cuts > 0 && link && (source_alive || destination_alive) -> cuts--; printf("step link cut\n");
        link = false; source_lost = source_alive; destination_lost = destination_alive; hello = false; SHOW }
    :: atomic { RECONNECT == 1 && !link && !source_lost && !destination_lost && source_alive && destination_alive ->
        printf("step link up\n"); link = true; hello = true; SHOW }
    :: atomic { LATE && kills > 0 && source_alive -> kills--; printf("step source kill\n"); lose_source(); SHOW }
    :: atomic { LATE && kills > 0 && destination_alive -> kills--; printf("step destination kill\n"); lose_destination(); SHOW }
    :: atomic { LATE && fences > 0 && source_alive -> fences--; printf("step source fence\n");
        lose_source(); source_fenced = true; SHOW }
    :: atomic { LATE && fences > 0 && destination_alive -> fences--; printf("step destination fence\n");
        lose_destination(); destination_fenced = true; SHOW }
    od
}

/* ---- properties --------------------------------------------------------------------------------------- */
#define TWO (source_runs && destination_runs)
#define STALE ((destination_runs && source_went_on) || (source_runs && destination_went_on))
#define HELD (!SHARED || ((!source_runs || (lock == Source && lease == source_epoch)) && \
                          (!destination_runs || (lock == Destination && lease == 1))))
active proctype Always() { end: atomic { TWO || STALE || !HELD -> assert(false) } }

#define SOURCE_DONE (!source_alive || source == Kept || source == Released || source == Superseded)
#define DESTINATION_DONE (!destination_alive || destination == Owner || destination == Declined)
active proctype AtRest() {
    atomic { timeout ->
        if
        :: (KILLS - kills) + (DISKS - disks) + (FENCES - fences) > 1 -> skip
        :: else ->
            assert(!source_alive || (source != Returning && source != Retaking));
            if :: RECONNECT == 2 && cuts < CUTS -> goto end :: else fi;
            assert(SOURCE_DONE || source_fenced || destination_fenced);
            assert(DESTINATION_DONE || source_fenced);
            assert(owner_died || source_runs || destination_runs)
        fi }
    end: skip
}
