// Both hosts of a live migration in one process, each with its folder; their kumoi-vmm is
// tests/support/fake_vmm.py.
#include "compute/driver/live_moves.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "base/file.h"
#include "compute/driver/disk_leases.h"
#include "hypervisor/block/disk_lease.h"
#include "tests/support/programs.h"

namespace kumoi::compute {
namespace {

using migration::HandoverJournal;
using migration::HandoverMark;
using migration::HandoverRole;

const std::string kServer = "11111111-2222-4333-8444-555555555555";
const Uuid kMigration = *Uuid::parse("aaaaaaaa-2222-4333-8444-555555555555");

class Host {
public:
    Host(const std::string& name, link::Encryption encryption, int64_t patience_ms) : name_(name) {
        options_.host = process_.host = name;
        options_.instances_path = directory_.path();
        options_.encryption = encryption;
        options_.relay.program = built_program("kumoi-relay");
        options_.follow_step_ms = options_.reconnect_step_ms = 5;
        options_.reconnect_total_ms = patience_ms;
        char here[4096];
        process_.vmm_path =
            std::string(::getcwd(here, sizeof(here))) + "/tests/support/fake_vmm.py";
        EXPECT_TRUE(make_directories(folder().path()).ok());
        write_config(folder());
        start();
    }
    ~Host() { (void)process().stop(); }

    // As a daemon that is started anew.
    void start() {
        moves_.reset();
        moves_ = std::make_unique<LiveMoves>(
            options_,
            LiveMoves::Borders{
                process_, clock_, random_,
                [this](const LiveFolder& live, const LiveNote& note, const Json& terms) {
                    terms_ = terms;
                    write_config(live.process(note));
                    return GuestProcess(process_, live.process(note), clock_).start({"--incoming"});
                }});
        ASSERT_TRUE(moves_->load().ok());
    }
    void stop_daemon() { moves_.reset(); }
    LiveMoves& moves() { return *moves_; }
    LiveFolder live() const { return {directory_.path(), kServer, process_.host}; }
    InstanceFolder folder() const { return live().server(); }
    GuestProcess process() const { return {process_, folder(), clock_}; }
    const Json& terms() const { return terms_; }
    void kill() { ASSERT_TRUE(process().stop().ok()); }

    void says(const std::string& phase, const std::string& handover, bool connected = true) {
        const Json status = Json::object(
            {{"phase", phase},
             {"handover", handover},
             {"connected", connected},
             {"memory", Json::object({{"total", 100}, {"processed", 60}, {"remaining", 40}})}});
        ASSERT_TRUE(write_file_atomic(folder().path() + "/fake.json", status.dump()).ok());
    }
    int asked(const std::string& method) const {
        const auto text = read_file(folder().path() + "/fake.log");
        int count = 0;
        for (size_t at = 0; text.ok() && (at = text->find("\"method\": \"" + method + "\"", at)) !=
                                             std::string::npos;
             ++at) {
            ++count;
        }
        return count;
    }
    void wait_asked(const std::string& method, int count = 1) const {
        while (asked(method) < count) {
            std::this_thread::yield();
        }
    }
    // As a process wrote it that is dead now.
    void leave_journal(HandoverRole role, std::initializer_list<HandoverMark> marks) {
        auto note = live().read(name_);
        ASSERT_TRUE(note.ok() && *note);
        const std::string path = live().journal(**note);
        ASSERT_TRUE(remove_file(path).ok());
        auto journal = HandoverJournal::create(path, {kMigration.bytes(), 1, role}, clock_);
        ASSERT_TRUE(journal.ok()) << journal.error().text();
        for (const HandoverMark mark : marks) {
            ASSERT_TRUE(journal->record(mark).ok());
        }
    }
    HandoverMark journal_mark() {
        const auto note = live().read(name_);
        return HandoverJournal::open_dead(live().journal(**note), clock_).value()->mark();
    }

private:
    static void write_config(const InstanceFolder& folder) {
        const Json config = Json::object({{"control_socket", folder.control_socket()}});
        ASSERT_TRUE(write_file_atomic(folder.guest_config(), config.dump()).ok());
    }
    const std::string name_;
    TemporaryDirectory directory_ = TemporaryDirectory::create("live").value();
    GuestProcessOptions process_;
    LiveMoveOptions options_;
    SystemClock clock_;
    SystemRandom random_;
    Json terms_;
    std::unique_ptr<LiveMoves> moves_;
};

struct Watcher final : LiveMigrationObserver {
    void progress(const LiveMigrationProgress& one) override { last = one; }
    void switched_over() override { ++switches; }
    LiveMigrationProgress last;
    int switches = 0;
};

class LiveMovesTest : public testing::Test {
protected:
    void set_up(link::Encryption encryption = link::Encryption::None) {
        source_ = std::make_unique<Host>("one", encryption, patience_ms_);
        target_ = std::make_unique<Host>("two", encryption, patience_ms_);
        ASSERT_TRUE(source_->process().start().ok());
    }
    void invite() {
        auto text = target_->moves().invite(kServer, kMigration, false, {"root"});
        ASSERT_TRUE(text.ok()) << text.error().text();
        departure_.arrival = *text;
        departure_.migration_uuid = kMigration.text();
        departure_.options.parallel_connections = 2;
    }
    void depart() {
        outcome_ = std::async(std::launch::async, [this] {
            return source_->moves().depart(kServer, departure_, {"root"},
                                           Json::object({{"volume_slots", Json::object()}}),
                                           watcher_);
        });
    }
    // Both processes have been told.
    void begin(link::Encryption encryption = link::Encryption::None) {
        set_up(encryption);
        invite();
        depart();
        target_->wait_asked("migrate_incoming");
        source_->wait_asked("migrate");
    }
    GuestOwner owner(Host& host) {
        const auto owner = host.moves().outcome(kServer);
        EXPECT_TRUE(owner.ok()) << owner.error().text();
        return owner.ok() ? *owner : GuestOwner::Undecided;
    }
    // The source's process dies, and its journal says this. Its daemon cannot tell at first.
    void lose_source(std::initializer_list<HandoverMark> marks) {
        source_->kill();
        EXPECT_EQ(outcome_.get().kind, LiveMigrationOutcome::Kind::Unknown);
        source_->leave_journal(HandoverRole::Source, marks);
    }

    int64_t patience_ms_ = 60'000;
    LiveMigrationDeparture departure_;
    Watcher watcher_;
    std::unique_ptr<Host> source_;
    std::unique_ptr<Host> target_;
    std::future<LiveMigrationOutcome> outcome_;
};

TEST_F(LiveMovesTest, AGuestGoesOver) {
    begin();
    EXPECT_TRUE(target_->terms().contains("volume_slots"));
    EXPECT_EQ(owner(*source_), GuestOwner::Departing);
    EXPECT_EQ(owner(*target_), GuestOwner::Incoming);
    EXPECT_FALSE(target_->moves().check_may_start(kServer).ok());
    target_->says("completed", "Owner");
    source_->says("completed", "Released");
    const auto outcome = outcome_.get();
    EXPECT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Completed);
    EXPECT_EQ(watcher_.switches, 1);
    EXPECT_EQ(watcher_.last.memory_remaining, 40);
    EXPECT_EQ(owner(*source_), GuestOwner::Gone);
    EXPECT_FALSE(source_->moves().check_may_start(kServer).ok());
    EXPECT_FALSE(source_->process().is_alive().value());
    EXPECT_EQ(owner(*target_), GuestOwner::Here);
    ASSERT_TRUE(target_->moves().arrived(kServer).ok());
    EXPECT_EQ(read_epoch(target_->folder()), 2u);
    EXPECT_TRUE(target_->moves().check_may_start(kServer).ok());
}

TEST_F(LiveMovesTest, SoItDoesThroughRelays) {
    begin(link::Encryption::Psk);
    source_->says("completed", "Released");
    EXPECT_EQ(outcome_.get().kind, LiveMigrationOutcome::Kind::Completed);
}

TEST_F(LiveMovesTest, AFailedOneStaysAndTheDestinationIsAskedNoMore) {
    begin();
    source_->says("failed", "Kept");
    const auto outcome = outcome_.get();
    EXPECT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Stayed);
    EXPECT_FALSE(outcome.cancelled);
    EXPECT_EQ(owner(*source_), GuestOwner::Here);
    EXPECT_TRUE(source_->process().is_alive().value());
    EXPECT_TRUE(source_->moves().check_may_start(kServer).ok());
}

TEST_F(LiveMovesTest, AnAbortedOneStays) {
    begin();
    ASSERT_TRUE(source_->moves().abort(kServer).ok());
    const auto outcome = outcome_.get();
    EXPECT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Stayed);
    EXPECT_TRUE(outcome.cancelled);
    EXPECT_EQ(source_->moves().abort(kServer).error().fault, "InvalidMigrationState");
}

TEST_F(LiveMovesTest, WhoTakesTooLongIsAborted) {
    departure_.options.completion_timeout_s = 1;
    begin();
    EXPECT_TRUE(outcome_.get().cancelled);
}

TEST_F(LiveMovesTest, ADestinationThatIsNotReadyIsARefusal) {
    set_up();
    invite();
    ASSERT_TRUE(remove_tree(target_->folder().path()).ok());
    const auto outcome = source_->moves().depart(kServer, departure_, {}, Json::object(), watcher_);
    EXPECT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Stayed);
    ASSERT_TRUE(outcome.error.has_value());
    EXPECT_EQ(source_->asked("migrate"), 0);
    EXPECT_EQ(owner(*source_), GuestOwner::Here);
}

TEST_F(LiveMovesTest, AnUnknownInvitationIsARefusal) {
    set_up();
    departure_.arrival = R"({"format":"other"})";
    const auto outcome = source_->moves().depart(kServer, departure_, {}, Json::object(), watcher_);
    EXPECT_EQ(outcome.kind, LiveMigrationOutcome::Kind::Stayed);
    EXPECT_EQ(owner(*source_), GuestOwner::Here);
}

TEST_F(LiveMovesTest, ASourceThatWaitsIsToldThatTheOtherSideOwns) {
    begin();
    target_->says("completed", "Owner");
    source_->says("undecided", "Committed");
    EXPECT_EQ(outcome_.get().kind, LiveMigrationOutcome::Kind::Completed);
    EXPECT_EQ(source_->asked("migrate_verdict"), 1);
}

TEST_F(LiveMovesTest, ASourceThatWaitsIsToldThatTheOtherSideDeclined) {
    begin();
    target_->kill();
    target_->leave_journal(HandoverRole::Destination, {HandoverMark::Joined});
    source_->says("undecided", "Committed");
    EXPECT_EQ(outcome_.get().kind, LiveMigrationOutcome::Kind::Stayed);
    EXPECT_EQ(target_->journal_mark(), HandoverMark::Declined);
}

TEST_F(LiveMovesTest, ABrokenLinkIsMadeAgain) {
    begin();
    target_->says("waiting", "Parked");
    source_->says("undecided", "Committed");
    target_->wait_asked("migrate_connect");
    source_->wait_asked("migrate_connect");
    source_->says("completed", "Released");
    EXPECT_EQ(outcome_.get().kind, LiveMigrationOutcome::Kind::Completed);
}

// It runs there, and the rest of its memory is still here.
TEST_F(LiveMovesTest, ABrokenLinkIsMadeAgainInPostCopy) {
    begin();
    target_->says("post_copy", "Owner");
    source_->says("post_copy", "Released", false);
    target_->wait_asked("migrate_connect");
    source_->wait_asked("migrate_connect");
    EXPECT_EQ(source_->asked("migrate_verdict"), 0);
    source_->says("completed", "Released");
    EXPECT_EQ(outcome_.get().kind, LiveMigrationOutcome::Kind::Completed);
}

TEST_F(LiveMovesTest, ADeadSourceThatHadCommittedGivesItsGuestAway) {
    patience_ms_ = 1;
    begin();
    target_->says("waiting", "Parked");
    lose_source({HandoverMark::Committed});
    EXPECT_EQ(owner(*source_), GuestOwner::Gone);  // and the other side was told
    EXPECT_EQ(target_->asked("migrate_verdict"), 1);
    EXPECT_EQ(owner(*target_), GuestOwner::Here);
}

TEST_F(LiveMovesTest, ADeadSourceWhoseGuestIsWholeOverThereGivesItAway) {
    patience_ms_ = 1;
    begin();
    target_->says("waiting", "Ready");
    lose_source({});
    EXPECT_EQ(owner(*target_), GuestOwner::Here);  // asked, the source's host commits in its stead
    EXPECT_EQ(owner(*source_), GuestOwner::Gone);
}

TEST_F(LiveMovesTest, ADeadSourceWhoseGuestIsNotWholeOverThereHasCrashed) {
    patience_ms_ = 1;
    begin();
    target_->says("waiting", "Ready");
    lose_source({});
    target_->says("copying", "Loading");
    EXPECT_EQ(owner(*source_), GuestOwner::Here);
    EXPECT_EQ(target_->asked("migrate_verdict"), 1);
    EXPECT_EQ(owner(*target_), GuestOwner::Incoming);
    EXPECT_FALSE(target_->moves().check_may_start(kServer).ok());
}

TEST_F(LiveMovesTest, WithoutTheOtherHostNobodyCanTell) {
    patience_ms_ = 1;
    begin();
    target_->says("waiting", "Ready");
    lose_source({HandoverMark::Committed});
    target_.reset();
    EXPECT_EQ(owner(*source_), GuestOwner::Undecided);
    EXPECT_EQ(source_->moves().check_may_start(kServer).error().code, ErrorCode::Conflict);
}

// The operator says that the destination is off. A source that waits is told, with what its disks
// show; a dead one's journal is settled.
class FencedLiveMoves : public LiveMovesTest {
protected:
    // Its process is committed, and the other host is gone.
    void leave_undecided(const std::string& phase = "undecided") {
        patience_ms_ = 1;
        begin();
        target_->stop_daemon();  // nobody answers from here on
        source_->says(phase, "Committed", false);
        EXPECT_EQ(outcome_.get().kind, LiveMigrationOutcome::Kind::Unknown);
        target_.reset();
    }
    void leave_lease(uint64_t epoch, const std::string& owner) {
        auto lease = hypervisor::DiskLease::acquire(
            hypervisor::direct_files(), disk_lease_path(source_->folder(), "root"), epoch, owner);
        ASSERT_TRUE(lease.ok()) << lease.error().text();
    }
    void fence(Host& host) {
        const auto fenced = host.moves().fence(kServer);
        ASSERT_TRUE(fenced.ok()) << fenced.error().text();
    }
};

TEST_F(FencedLiveMoves, ASourceWhoseDisksAreItsOwnGoesOn) {
    leave_undecided();
    fence(*source_);
    EXPECT_EQ(owner(*source_), GuestOwner::Here);
    EXPECT_TRUE(source_->process().is_alive().value());
    EXPECT_EQ(source_->moves().fence(kServer).error().code, ErrorCode::Conflict) << "it is over";
}

TEST_F(FencedLiveMoves, ASourceWhoseLeasesAreItsOwnGoesOn) {
    leave_undecided();
    ASSERT_TRUE(write_file_atomic(source_->folder().volumes(), "{}").ok());
    leave_lease(1, "one");
    fence(*source_);
    EXPECT_EQ(owner(*source_), GuestOwner::Here);
}

TEST_F(FencedLiveMoves, ASourceWhoseLeasesAreTheOthersDoesNot) {
    leave_undecided();
    leave_lease(2, "two");
    fence(*source_);
    EXPECT_EQ(owner(*source_), GuestOwner::Gone);
    EXPECT_FALSE(source_->moves().check_may_start(kServer).ok());
}

TEST_F(FencedLiveMoves, SharedDisksWithoutLeasesTellNobodyAnything) {
    leave_undecided();
    ASSERT_TRUE(write_file_atomic(source_->folder().volumes(), "{}").ok());
    fence(*source_);
    EXPECT_EQ(owner(*source_), GuestOwner::Gone);
}

TEST_F(FencedLiveMoves, AGuestThatRanThereAlreadyIsNotContinued) {
    leave_undecided("post_copy");
    fence(*source_);
    EXPECT_EQ(owner(*source_), GuestOwner::Gone);
}

TEST_F(FencedLiveMoves, ADeadSourceKeepsItsServerUnlessItRanThere) {
    for (const bool ran : {false, true}) {
        leave_undecided();
        source_->kill();
        source_->leave_journal(HandoverRole::Source, {HandoverMark::Committed});
        EXPECT_EQ(owner(*source_), GuestOwner::Undecided);
        if (ran) {
            leave_lease(2, "two");
        }
        fence(*source_);
        EXPECT_EQ(owner(*source_), ran ? GuestOwner::Gone : GuestOwner::Here);
    }
}

TEST_F(FencedLiveMoves, ADestinationThatHasEverythingRunsIt) {
    patience_ms_ = 1;
    begin();
    target_->says("undecided", "Parked");
    source_->kill();
    EXPECT_EQ(outcome_.get().kind, LiveMigrationOutcome::Kind::Unknown);
    source_.reset();
    EXPECT_EQ(owner(*target_), GuestOwner::Undecided);
    EXPECT_EQ(target_->moves().arrivals().value(), std::vector{kServer});
    fence(*target_);
    EXPECT_EQ(owner(*target_), GuestOwner::Here);
    ASSERT_TRUE(target_->moves().arrived(kServer).ok());
    EXPECT_TRUE(target_->moves().arrivals().value().empty());
}

TEST_F(FencedLiveMoves, NotWhileItIsUnderWay) {
    begin();
    EXPECT_EQ(source_->moves().fence(kServer).error().code, ErrorCode::Conflict);
    EXPECT_TRUE(source_->moves().arrivals().value().empty());
    EXPECT_EQ(target_->moves().fence(kServer).error().code, ErrorCode::Conflict);
    source_->says("completed", "Released");
    EXPECT_EQ(outcome_.get().kind, LiveMigrationOutcome::Kind::Completed);
}

// A daemon that was restarted knows what was under way, and answers for it at the same door.
TEST_F(LiveMovesTest, RestartedDaemonsTakeItUp) {
    begin();
    target_->says("waiting", "Ready");
    target_->start();
    source_->says("undecided", "Committed");
    target_->wait_asked("migrate_connect");
    target_->says("completed", "Owner");
    EXPECT_EQ(outcome_.get().kind, LiveMigrationOutcome::Kind::Completed);
    EXPECT_EQ(owner(*target_), GuestOwner::Here);
}

TEST_F(LiveMovesTest, NothingIsKnownOfAServerThatNeverMoved) {
    set_up();
    EXPECT_EQ(owner(*source_), GuestOwner::Here);
    EXPECT_EQ(source_->moves().outcome("00000000-2222-4333-8444-555555555555").value(),
              GuestOwner::Absent);
    EXPECT_EQ(read_epoch(source_->folder()), 1u);
}

TEST(LiveNoteTest, ComesBackAsItWasWritten) {
    LiveNote note;
    note.role = LiveNote::Role::Destination;
    note.verdict = LiveNote::Verdict::Here;
    note.id = kMigration;
    note.key = std::string(link::kKeySize, '\x80');
    note.host = "two";
    note.shared = note.begun = true;
    note.epoch = 7;
    note.round = 3;
    note.streams = 4;
    note.own_port = 49152;
    note.peer = {"10.0.0.1", 49153, ""};
    note.copied = {"root", "swap"};
    const auto again = LiveNote::parse(note.text());
    ASSERT_TRUE(again.ok()) << again.error().text();
    EXPECT_EQ(again->text(), note.text());
    EXPECT_FALSE(LiveNote::parse(R"({"format":1,"id":"x","key":""})").ok());
    EXPECT_FALSE(LiveNote::parse("{").ok());
}

}  // namespace
}  // namespace kumoi::compute
