// Whose a guest is after an upgrade that was cut off: settle() over the note, two processes of
// which either may be dead, and their journals.
#include "compute/driver/guest_upgrade.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <functional>
#include <thread>

#include "base/file.h"
#include "base/file_lock.h"
#include "base/unix_socket.h"

namespace kumoi::compute {
namespace {

using Kind = UpgradeReport::Kind;
using migration::HandoverJournal;
using migration::HandoverMark;

constexpr const char* kUuid = "11111111-2222-3333-4444-555555555555";
constexpr const char* kId = "99999999-2222-3333-4444-555555555555";

// Answers control requests as a kumoi-vmm would, until it is destroyed.
class FakeProcess {
public:
    using Answer = std::function<Json(const std::string& method, const Json& params)>;
    FakeProcess(const std::string& path, Answer answer) : answer_(std::move(answer)) {
        listener_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const auto address = unix_address(path);
        EXPECT_TRUE(address.ok());
        EXPECT_EQ(::bind(listener_.get(), address->generic(), sizeof address->address), 0);
        EXPECT_EQ(::listen(listener_.get(), 8), 0);
        thread_ = std::thread([this] { run(); });
    }
    ~FakeProcess() {
        ::shutdown(listener_.get(), SHUT_RDWR);
        thread_.join();
    }
    FakeProcess(const FakeProcess&) = delete;
    FakeProcess& operator=(const FakeProcess&) = delete;

private:
    void run() {
        for (;;) {
            const UniqueFd client(::accept(listener_.get(), nullptr, nullptr));
            if (!client.is_open()) {
                return;
            }
            serve(client.get());
        }
    }
    void serve(int client) {
        std::string text;
        std::array<char, 4096> buffer;
        for (;;) {
            const ssize_t count = ::recv(client, buffer.data(), buffer.size(), 0);
            if (count <= 0) {
                return;
            }
            text.append(buffer.data(), static_cast<size_t>(count));
            for (size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n')) {
                const Json request = Json::parse(text.substr(0, end)).value();
                text.erase(0, end + 1);
                const Json* params = request.find("params");
                const Json reply = Json::object(
                    {{"id", request.integer_or("id")},
                     {"result", answer_(request.string_or("method"),
                                        params != nullptr ? *params : Json::object())}});
                const std::string line = reply.dump() + "\n";
                (void)::send(client, line.data(), line.size(), MSG_NOSIGNAL);
            }
        }
    }

    const Answer answer_;
    UniqueFd listener_;
    std::thread thread_;
};

class GuestUpgradeTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(make_directories(folder_.path()).ok()); }
    void write_note(int64_t launcher = 0) {
        ASSERT_TRUE(
            write_file_atomic(
                note_, Json::object(
                           {{"id", kId}, {"epoch", 3}, {"launcher", launcher}, {"start_ticks", 1}})
                           .dump())
                .ok());
    }
    void hold_lock() { lock_ = try_lock_file(folder_.lock()).value(); }
    // Of a process that is dead: nobody holds its lock.
    void dead_journal(const char* side, migration::HandoverRole role, HandoverMark mark) {
        auto journal = HandoverJournal::create(
            journal_path(side), {.id = Uuid::parse(kId)->bytes(), .epoch = 3, .role = role},
            clock_);
        ASSERT_TRUE(journal.ok());
        if (journal->mark() != mark) {
            ASSERT_TRUE(journal->record(mark).ok());
        }
    }
    std::string journal_path(const char* side) const {
        return directory_.path() + "/" + kUuid + "." + side;
    }
    static Json status(const char* phase, const char* handover) {
        return Json::object({{"id", kId}, {"phase", phase}, {"handover", handover}});
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("guest-upgrade").value();
    InstanceFolder folder_{directory_.path(), kUuid};
    const std::string note_ = folder_.path() + "/upgrade.json";
    SystemClock clock_;
    SystemRandom random_;
    const GuestProcessOptions options_{.vmm_path = "/bin/false", .host = "here"};
    GuestUpgrade upgrade_{options_, folder_, kUuid, clock_, random_, directory_.path()};
    std::optional<UniqueFd> lock_;
};

TEST_F(GuestUpgradeTest, NothingWasBegun) {
    EXPECT_FALSE(upgrade_.settle().has_value());
    EXPECT_EQ(upgrade_.is_older().value(), std::nullopt);  // no process
}

TEST_F(GuestUpgradeTest, ADamagedNoteIsLeftForSomebodyToLookAt) {
    ASSERT_TRUE(write_file_atomic(note_, "{\"id\": 7}").ok());
    EXPECT_EQ(upgrade_.settle()->kind, Kind::Stayed);
    EXPECT_TRUE(path_exists(note_));
}

TEST_F(GuestUpgradeTest, BothAreDead) {
    write_note();
    EXPECT_EQ(upgrade_.settle()->kind, Kind::Lost);
    EXPECT_FALSE(path_exists(note_));
}

TEST_F(GuestUpgradeTest, TheOlderOneKnowsOfNoUpgrade) {
    write_note();
    hold_lock();
    // What it says of an earlier one, as whose newer process it began, does not count.
    const FakeProcess older(folder_.control_socket(), [](const std::string&, const Json&) {
        return Json::object({{"id", kUuid}, {"phase", "completed"}, {"handover", "Owner"}});
    });
    EXPECT_EQ(upgrade_.settle()->kind, Kind::Stayed);
    EXPECT_FALSE(path_exists(note_));
}

TEST_F(GuestUpgradeTest, TheOlderOneHasKeptIt) {
    write_note();
    hold_lock();
    const FakeProcess older(folder_.control_socket(), [](const std::string&, const Json&) {
        Json json = status("failed", "Kept");
        json.set("error", Json::object({{"message", "no room"}}));
        return json;
    });
    const auto report = upgrade_.settle();
    EXPECT_EQ(report->kind, Kind::Stayed);
    EXPECT_EQ(report->reason, "no room");
}

TEST_F(GuestUpgradeTest, ANewerOneThatDiedUnderwayDeclinesByItsJournal) {
    write_note();
    hold_lock();
    dead_journal("newer", migration::HandoverRole::Destination, HandoverMark::Joined);
    std::atomic<bool> declined = false;
    const FakeProcess older(
        folder_.control_socket(), [&](const std::string& method, const Json& params) {
            if (method == "migrate_verdict") {
                EXPECT_EQ(params.string_or("view"), "declined");
                declined = true;
            }
            return declined ? status("failed", "Kept") : status("undecided", "Committed");
        });
    EXPECT_EQ(upgrade_.settle()->kind, Kind::Stayed);
    EXPECT_TRUE(declined);
}

TEST_F(GuestUpgradeTest, ANewerOneThatDiedAsTheOwnerTookTheGuestWithIt) {
    write_note();
    dead_journal("newer", migration::HandoverRole::Destination, HandoverMark::Owner);
    hold_lock();
    std::string told;
    std::atomic<bool> ended = false;
    {
        auto older = std::make_unique<FakeProcess>(
            folder_.control_socket(), [&](const std::string& method, const Json& params) {
                if (method == "migrate_verdict") {
                    told = params.string_or("view");
                    lock_.reset();
                    ended = true;
                }
                return told.empty() ? status("undecided", "Committed")
                                    : status("completed", "Released");
            });
        std::thread ends([&] {
            while (!ended) {
                ::poll(nullptr, 0, 1);
            }
            older.reset();
        });
        EXPECT_EQ(upgrade_.settle()->kind, Kind::Lost);
        ends.join();
    }
    EXPECT_EQ(told, "owner");
}

TEST_F(GuestUpgradeTest, OneThatWasAllButRecordedIsFinished) {
    write_note();
    hold_lock();
    const FakeProcess newer(folder_.control_socket(), [](const std::string& method, const Json&) {
        return method == "hello" ? Json::object({{"pid", 1}}) : status("completed", "Owner");
    });
    EXPECT_EQ(upgrade_.settle()->kind, Kind::Upgraded);
    EXPECT_FALSE(path_exists(note_));
    const Json epoch = Json::parse(read_file(folder_.path() + "/epoch").value()).value();
    EXPECT_EQ(epoch.integer_or("epoch"), 4);  // the guest's disks have changed hands
}

TEST_F(GuestUpgradeTest, TheGroupsOfAServerAreThoseThatWereNoted) {
    EXPECT_TRUE(noted_cgroup_procs(folder_).empty());
    ASSERT_TRUE(write_file_atomic(folder_.cgroups(), "[\"/sys/fs/cgroup/a\"]").ok());
    EXPECT_EQ(noted_cgroup_procs(folder_),
              std::vector<std::string>{"/sys/fs/cgroup/a/cgroup.procs"});
}

}  // namespace
}  // namespace kumoi::compute
