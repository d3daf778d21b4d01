// HandoverWorld: both sides of a handover, their journals, the disks, the connection and the
// agents, in one thread under one random stream, and everything that can go wrong between any two
// things a side does. What it checks after each event is what model/handover.pml proves of the
// protocol; here it is the code that runs, with its real journals.
#pragma once

#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "migration/handover/agent.h"
#include "migration/handover/destination.h"
#include "migration/handover/journal.h"
#include "migration/handover/source.h"

namespace kumoi::migration {

// A disk under one journal: may fail a write, with or without having written, tear it, be full, or
// say that it has written and lose it with the power.
struct MemoryDisk {
    std::string bytes = std::string(HandoverJournal::kRecords * HandoverJournal::kRecordSize, '\0');
    std::string durable = bytes;  // what a power cut leaves
    enum class Fault { None, Refused, FailedButWritten, Torn, Full, LostSync } next = Fault::None;
    bool failed = false;
    bool lost_sync = false;
};

class MemoryStore final : public JournalStore {
public:
    explicit MemoryStore(MemoryDisk& disk) : disk_(disk) {}
    Result<void> write(uint64_t offset, std::span<const std::byte> data) override {
        const auto fault = std::exchange(disk_.next, MemoryDisk::Fault::None);
        using Fault = MemoryDisk::Fault;
        const bool whole =
            fault == Fault::None || fault == Fault::FailedButWritten || fault == Fault::LostSync;
        const size_t size = whole ? data.size() : fault == Fault::Torn ? data.size() / 2 : 0;
        std::memcpy(disk_.bytes.data() + offset, data.data(), size);
        if (fault == Fault::LostSync) {
            disk_.lost_sync = true;
            return {};
        }
        disk_.durable = disk_.bytes;
        if (fault == Fault::None) {
            return {};
        }
        disk_.failed = true;
        return fault == Fault::Full ? Error::exhausted("no space") : Error::io("a bad sector");
    }
    Result<std::string> read() override { return disk_.bytes; }

private:
    MemoryDisk& disk_;
};

enum class Side { None, Source, Destination };

struct Faults {
    int kills = 0;
    int cuts = 0;
    int disks = 0;
    int fences = 0;
    bool shared = true;  // the disks
};

class HandoverWorld {
public:
    HandoverWorld(uint64_t seed, const Faults& faults)
        : random_(seed, "handover"), left_(faults), given_(faults) {
        source_ = std::make_unique<Process>(*this, Side::Source);
        destination_ = std::make_unique<Process>(*this, Side::Destination);
        source_machine_ = std::make_unique<SourceHandover>(*source_, 7);
        destination_machine_ = std::make_unique<DestinationHandover>(*destination_, 7);
        source_->runs = true;
        lock_ = Side::Source;
    }

    // Until nothing can move. False: `problem` says what must never be.
    bool run() {
        for (int step = 0; step < 2000 && problem.empty(); ++step) {
            const auto events = enabled();
            if (events.empty()) {
                at_rest();
                break;
            }
            happen(events[random_.below(events.size())]);
            always();
        }
        return problem.empty();
    }

    std::string problem;
    std::string story;  // one word an event
    std::string outcome;

private:
    enum class Event {
        Freeze,
        Cancel,
        ToSource,
        ToDestination,
        Cut,
        LinkUp,
        SourceSeesLoss,
        DestinationSeesLoss,
        Fail,
        Retry,
        KillSource,
        KillDestination,
        FenceSource,
        FenceDestination,
        SettleSource,
        SettleDestination,
        TellSource,
        TellDestination,
    };

    struct Process final : HandoverHost {
        Process(HandoverWorld& owner, Side which) : world(owner), side(which) {
            journal.emplace(
                HandoverJournal::over(std::make_unique<MemoryStore>(disk),
                                      {.epoch = 7,
                                       .role = which == Side::Source ? HandoverRole::Source
                                                                     : HandoverRole::Destination},
                                      owner.clock_)
                    .value());
        }
        // Whether the process gets to do it, and to know that it did.
        bool before() {
            if (alive && world.random_.below(40) == 0 && world.left_.kills > 0) {
                --world.left_.kills;
                world.story +=
                    side == Side::Source ? " kill-source-within" : " kill-destination-within";
                world.die(*this);
            }
            return alive;
        }
        bool record(HandoverMark mark) override {
            if (!before()) {
                return false;
            }
            if (world.left_.disks > 0 && world.random_.below(4) == 0) {
                --world.left_.disks;
                disk.next = static_cast<MemoryDisk::Fault>(1 + world.random_.below(5));
                world.story += " disk-fails";
            }
            const bool written = journal->record(mark).ok();
            return before() && written;
        }
        DiskTake take_disks(const LeaseStep& step) override {
            if (!before()) {
                return DiskTake::Failed;
            }
            if (world.given_.shared) {
                if (world.lock_ != Side::None && world.lock_ != side) {
                    return DiskTake::Busy;
                }
                if (world.lease_ != step.before && world.lease_ != step.peer &&
                    world.lease_ != step.after) {
                    return DiskTake::Superseded;
                }
            }
            world.lock_ = side;
            if (!before()) {
                return DiskTake::Failed;
            }
            world.lease_ = step.after;
            epoch = step.after;
            return DiskTake::Taken;
        }
        DiskTake hold_disks(uint64_t) override {
            if (!before()) {
                return DiskTake::Failed;
            }
            if (world.given_.shared) {
                if (world.lock_ != Side::None && world.lock_ != side) {
                    return DiskTake::Busy;
                }
                if (world.lease_ != epoch) {
                    return DiskTake::Superseded;
                }
            }
            world.lock_ = side;
            return DiskTake::Taken;
        }
        void drop_disks() override {
            if (before() && world.lock_ == side) {
                world.lock_ = Side::None;
            }
        }
        void send(HandoverMessage message) override {
            if (before() && world.link_) {
                (side == Side::Source ? world.to_destination_ : world.to_source_)
                    .push_back(message);
            }
        }
        void run_guest() override {
            if (before()) {
                runs = true;
                went_on = true;
            }
        }
        void discard_guest() override { (void)before(); }

        HandoverWorld& world;
        const Side side;
        MemoryDisk disk;
        std::optional<HandoverJournal> journal;
        bool alive = true;
        bool runs = false;
        bool went_on = false;
        bool lost = false;  // its end of the connection broke, and it has not seen that yet
        bool fenced = false;
        bool settled = false;  // its agent has looked at its journal
        uint64_t epoch = 7;
    };

    HandoverMark journal_of(Process& process) {
        auto journal = HandoverJournal::read(std::make_unique<MemoryStore>(process.disk), clock_);
        return journal
                   ? journal.value().mark()
                   : (process.side == Side::Source ? HandoverMark::Offered : HandoverMark::Joined);
    }

    std::vector<Event> enabled() {
        std::vector<Event> events;
        const auto add = [&](bool condition, Event event) {
            if (condition) {
                events.push_back(event);
            }
        };
        const SourceState s = source_machine_->state();
        const DestinationState d = destination_machine_->state();
        const bool sa = source_->alive;
        const bool da = destination_->alive;
        add(sa && s == SourceState::Copying && link_ && !source_->lost, Event::Freeze);
        add(sa && (s == SourceState::Copying || s == SourceState::Frozen) && random_.below(8) == 0,
            Event::Cancel);
        add(sa && !source_->lost && !to_source_.empty(), Event::ToSource);
        add(da && !destination_->lost && !to_destination_.empty(), Event::ToDestination);
        add(left_.cuts > 0 && link_ && seldom(), Event::Cut);
        add(!link_ && sa && da && !source_->lost && !destination_->lost, Event::LinkUp);
        add(sa && source_->lost, Event::SourceSeesLoss);
        add(da && destination_->lost, Event::DestinationSeesLoss);
        add(da && d == DestinationState::Loading && random_.below(8) == 0, Event::Fail);
        add(sa && (s == SourceState::Returning || s == SourceState::Retaking) &&
                (!given_.shared || lock_ != Side::Destination),
            Event::Retry);
        add(sa && left_.kills > 0 && seldom(), Event::KillSource);
        add(da && left_.kills > 0 && seldom(), Event::KillDestination);
        add(sa && left_.fences > 0 && seldom(), Event::FenceSource);
        add(da && left_.fences > 0 && seldom(), Event::FenceDestination);
        add(!sa && !source_->settled && !source_->fenced && !waits_for_destination(),
            Event::SettleSource);
        add(!da && !destination_->settled && !destination_->fenced, Event::SettleDestination);
        add(sa && (destination_->settled || (destination_->fenced && given_.shared)) &&
                wants_word(s),
            Event::TellSource);
        add(da && (source_->settled || (source_->fenced && given_.shared)) && wants_word(d),
            Event::TellDestination);
        return events;
    }
    // Faults come now and then, so that most come late.
    bool seldom() { return random_.below(6) == 0; }
    static bool wants_word(SourceState s) {
        return s == SourceState::Copying || s == SourceState::Frozen ||
               s == SourceState::Undecided || s == SourceState::Committed;
    }
    static bool wants_word(DestinationState d) {
        return d == DestinationState::Loading || d == DestinationState::Ready ||
               d == DestinationState::Parked;
    }
    DestinationView view() {
        if (destination_->alive) {
            return view_of(destination_machine_->state());
        }
        return destination_->settled ? view_of_dead(journal_of(*destination_))
                                     : DestinationView::Unreachable;
    }
    bool waits_for_destination() {
        return settle_source(journal_of(*source_), view()).outcome ==
                   SourceSettlement::Outcome::Wait ||
               // one that loads may still have everything under way to it
               (destination_->alive && destination_machine_->state() == DestinationState::Loading);
    }

    void die(Process& process) {
        const SourceState s = source_machine_->state();
        const DestinationState d = destination_machine_->state();
        const bool ready = d == DestinationState::Ready || d == DestinationState::Parked;
        if (process.side == Side::Source) {
            owner_died_ =
                owner_died_ || (s != SourceState::Released && d != DestinationState::Owner &&
                                !(journal_of(process) != HandoverMark::Aborted && ready));
        } else {
            owner_died_ = owner_died_ || journal_of(process) == HandoverMark::Owner;
        }
        process.alive = process.runs = process.lost = false;
        if (lock_ == process.side) {
            lock_ = Side::None;
        }
        Process& other = process.side == Side::Source ? *destination_ : *source_;
        other.lost = other.alive && (link_ || other.lost);
        link_ = hello_ = false;
    }
    void fence(Process& process) {
        die(process);
        process.fenced = true;
        process.disk.bytes = process.disk.durable;
    }

    void happen(Event event);
    void settle(Process& process, std::optional<HandoverMark> mark);
    void tell_source();
    void tell_destination();

    void always() {
        if (source_->runs && destination_->runs) {
            problem = "two run";
        } else if ((source_->runs && destination_->went_on) ||
                   (destination_->runs && source_->went_on)) {
            problem = "one began where the other had gone on";
        }
        for (Process* process : {source_.get(), destination_.get()}) {
            if (given_.shared && process->runs &&
                (lock_ != process->side || lease_ != process->epoch)) {
                problem = "it runs without its disks";
            }
        }
    }
    void at_rest() {
        const SourceState s = source_machine_->state();
        const DestinationState d = destination_machine_->state();
        const bool source_waits = source_->alive && s != SourceState::Kept &&
                                  s != SourceState::Released && s != SourceState::Superseded;
        const bool destination_waits = destination_->alive && wants_word(d);
        const int failures =
            given_.kills - left_.kills + given_.disks - left_.disks + given_.fences - left_.fences;
        outcome = source_->runs        ? "runs at the source"
                  : destination_->runs ? "runs at the destination"
                  : owner_died_        ? "crashed with the process that owned it"
                                       : "nowhere, after several failures";
        if (failures > 1) {
            return;
        }
        if (!owner_died_ && !source_->runs && !destination_->runs) {
            problem = "lost by a single failure";
        } else if (source_waits && !destination_->fenced) {
            problem = "the source waits for ever";
        } else if (destination_waits && !source_->fenced) {
            problem = "the destination waits for ever";
        }
    }

    ManualClock clock_;
    SeededRandom random_;
    Faults left_;
    const Faults given_;
    std::unique_ptr<Process> source_;
    std::unique_ptr<Process> destination_;
    std::unique_ptr<SourceHandover> source_machine_;
    std::unique_ptr<DestinationHandover> destination_machine_;
    std::deque<HandoverMessage> to_source_;
    std::deque<HandoverMessage> to_destination_;
    bool link_ = true;
    bool hello_ = false;
    Side lock_ = Side::None;
    uint64_t lease_ = 7;
    bool owner_died_ = false;
};

inline void HandoverWorld::tell_source() {
    if (destination_->fenced) {
        source_machine_->peer_fenced(lease_);
    } else if (journal_of(*destination_) == HandoverMark::Owner) {
        source_machine_->peer_owns();
    } else {
        source_machine_->peer_declined();
    }
}

inline void HandoverWorld::tell_destination() {
    if (source_->fenced) {
        destination_machine_->peer_fenced();
    } else if (journal_of(*source_) == HandoverMark::Committed) {
        destination_machine_->peer_committed();
    } else {
        destination_machine_->peer_aborted();
    }
}

// What the agent beside a dead process journals in its stead.
inline void HandoverWorld::settle(Process& process, std::optional<HandoverMark> mark) {
    process.settled = true;
    if (mark) {
        auto journal = HandoverJournal::read(std::make_unique<MemoryStore>(process.disk), clock_);
        (void)journal.value().record(*mark);
    }
}

inline void HandoverWorld::happen(Event event) {
    static constexpr const char* kNames[] = {"freeze",
                                             "cancel",
                                             "to-source",
                                             "to-destination",
                                             "cut",
                                             "link-up",
                                             "source-sees-loss",
                                             "destination-sees-loss",
                                             "fail",
                                             "retry",
                                             "kill-source",
                                             "kill-destination",
                                             "fence-source",
                                             "fence-destination",
                                             "settle-source",
                                             "settle-destination",
                                             "tell-source",
                                             "tell-destination"};
    story += std::string(" ") + kNames[static_cast<int>(event)];
    const auto take = [](std::deque<HandoverMessage>& queue) {
        const HandoverMessage message = queue.front();
        queue.pop_front();
        return message;
    };
    switch (event) {
        case Event::Freeze: source_->runs = false; return source_machine_->freeze();
        case Event::Cancel: (void)source_machine_->cancel(); return;
        case Event::ToSource: return source_machine_->message(take(to_source_));
        case Event::ToDestination: return destination_machine_->message(take(to_destination_));
        case Event::Cut:
            --left_.cuts;
            link_ = hello_ = false;
            source_->lost = source_->alive;
            destination_->lost = destination_->alive;
            return;
        case Event::LinkUp: link_ = true; return destination_machine_->link_up();
        case Event::SourceSeesLoss:
            source_->lost = false;
            to_source_.clear();
            return source_machine_->link_lost();
        case Event::DestinationSeesLoss:
            destination_->lost = false;
            to_destination_.clear();
            return destination_machine_->link_lost();
        case Event::Fail: return destination_machine_->fail();
        case Event::Retry: return source_machine_->retry();
        case Event::KillSource: --left_.kills; return die(*source_);
        case Event::KillDestination: --left_.kills; return die(*destination_);
        case Event::FenceSource: --left_.fences; return fence(*source_);
        case Event::FenceDestination: --left_.fences; return fence(*destination_);
        case Event::SettleSource:
            return settle(*source_, settle_source(journal_of(*source_), view()).mark);
        case Event::SettleDestination:
            return settle(*destination_, settle_destination(journal_of(*destination_)).mark);
        case Event::TellSource: return tell_source();
        case Event::TellDestination: return tell_destination();
    }
}

}  // namespace kumoi::migration
