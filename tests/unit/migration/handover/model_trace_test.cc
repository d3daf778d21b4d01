// The code against runs of its model (migration/handover/model): each step of the model is done by
// the state machines, and each must lead to the states, journals, locks, lease and runners that the
// model shows. migration/handover/model/make_traces.sh makes the runs.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>

#include "migration/handover/agent.h"
#include "migration/handover/destination.h"
#include "migration/handover/source.h"

namespace kumoi::migration {
namespace {

struct Shared {
    bool disks_shared = true;
    std::string lock = "Source";
    uint64_t lease = 0;
};

class ModelHost final : public HandoverHost {
public:
    ModelHost(Shared& shared, std::string who, std::string journal)
        : shared_(shared), who_(std::move(who)), journal(std::move(journal)) {}

    bool record(HandoverMark mark) override {
        if (mark == HandoverMark::Released) {
            return true;  // a note that the model leaves out
        }
        const std::string fault = faults.empty() ? "" : faults.front();
        if (!faults.empty()) {
            faults.erase(faults.begin());
        }
        if (fault != "disk_fails_empty") {
            journal = to_string(mark);
        }
        return fault.empty();
    }
    DiskTake take_disks(const LeaseStep& step) override {
        if (shared_.disks_shared) {
            if (shared_.lock != "None" && shared_.lock != who_) {
                return DiskTake::Busy;
            }
            if (shared_.lease != step.before && shared_.lease != step.peer) {
                return DiskTake::Superseded;
            }
        }
        shared_.lock = who_;
        shared_.lease = step.after;
        return DiskTake::Taken;
    }
    DiskTake hold_disks(uint64_t epoch) override {
        if (shared_.disks_shared &&
            ((shared_.lock != "None" && shared_.lock != who_) || shared_.lease != epoch)) {
            return DiskTake::Busy;
        }
        shared_.lock = who_;
        return DiskTake::Taken;
    }
    void drop_disks() override {
        if (shared_.lock == who_) {
            shared_.lock = "None";
        }
    }
    void send(HandoverMessage) override {}  // the model says what arrives
    void run_guest() override { runs = true; }
    void discard_guest() override {}

private:
    Shared& shared_;
    const std::string who_;

public:
    std::string journal;
    std::vector<std::string> faults;  // of the next writes; empty string: none
    bool runs = false;
};

class Replay {
public:
    explicit Replay(bool disks_shared) { shared_.disks_shared = disks_shared; }

    void step(const std::string& who, const std::string& what) {
        if (who == "source") {
            source_step(what);
        } else if (who == "destination") {
            destination_step(what);
        } else if (who == "source_agent") {
            const auto settled = settle_source(mark(source_host_.journal), view());
            if (settled.mark && *settled.mark != HandoverMark::Released) {
                source_host_.journal = to_string(*settled.mark);
            }
        } else if (who == "destination_agent") {
            const auto settled = settle_destination(mark(destination_host_.journal));
            if (settled.mark) {
                destination_host_.journal = to_string(*settled.mark);
            }
        } else {
            ASSERT_EQ(who, "link");
        }
    }
    void disk_fails(const std::string& who, const std::string& what) {
        (who == "source" ? source_host_ : destination_host_).faults.push_back(what);
    }
    std::string shows() const {
        std::ostringstream line;
        line << to_string(source_.state()) << ' ' << to_string(destination_.state()) << ' '
             << source_host_.journal << ' ' << destination_host_.journal << ' ' << shared_.lock
             << ' ' << shared_.lease << ' ' << source_host_.runs << ' ' << destination_host_.runs;
        return line.str();
    }
    bool all_faults_used() const {
        return source_host_.faults.empty() && destination_host_.faults.empty();
    }

private:
    static HandoverMark mark(const std::string& text) {
        for (int value = 1; value <= 7; ++value) {
            if (to_string(static_cast<HandoverMark>(value)) == text) {
                return static_cast<HandoverMark>(value);
            }
        }
        return HandoverMark::Joined;
    }
    DestinationView view() const {
        return destination_alive_ ? view_of(destination_.state())
                                  : view_of_dead(mark(destination_host_.journal));
    }
    void die(ModelHost& host) {
        host.runs = false;
        host.drop_disks();
    }
    void source_step(const std::string& what) {
        const std::map<std::string, HandoverMessage> messages = {
            {"prepared", HandoverMessage::Prepared},
            {"running", HandoverMessage::Running},
            {"refused", HandoverMessage::Refused}};
        if (const auto message = messages.find(what); message != messages.end()) {
            source_.message(message->second);
        } else if (what == "freeze") {
            source_host_.runs = false;
            source_.freeze();
        } else if (what == "cancel") {
            EXPECT_TRUE(source_.cancel());
        } else if (what == "retry") {
            source_.retry();
        } else if (what == "link_lost") {
            source_.link_lost();
        } else if (what == "peer_declined") {
            source_.peer_declined();
        } else if (what == "peer_owns") {
            source_.peer_owns();
        } else if (what == "peer_fenced") {
            source_.peer_fenced(shared_.lease);
        } else {
            ASSERT_TRUE(what == "kill" || what == "fence") << what;
            die(source_host_);
        }
    }
    void destination_step(const std::string& what) {
        const std::map<std::string, HandoverMessage> messages = {
            {"prepare", HandoverMessage::Prepare},
            {"commit", HandoverMessage::Commit},
            {"abort", HandoverMessage::Abort}};
        if (const auto message = messages.find(what); message != messages.end()) {
            destination_.message(message->second);
        } else if (what == "fail") {
            destination_.fail();
        } else if (what == "link_lost") {
            destination_.link_lost();
        } else if (what == "link_up") {
            destination_.link_up();
        } else if (what == "peer_committed") {
            destination_.peer_committed();
        } else if (what == "peer_aborted") {
            destination_.peer_aborted();
        } else if (what == "peer_fenced") {
            destination_.peer_fenced();
        } else {
            ASSERT_TRUE(what == "kill" || what == "fence") << what;
            destination_alive_ = false;
            die(destination_host_);
        }
    }

    Shared shared_;
    ModelHost source_host_{shared_, "Source", "Offered"};
    ModelHost destination_host_{shared_, "Destination", "None"};
    SourceHandover source_{source_host_, 0};
    DestinationHandover destination_{destination_host_, 0};
    bool destination_alive_ = true;

public:
    void guest_runs_at_source() { source_host_.runs = true; }
};

TEST(ModelTrace, TheCodeDoesWhatTheModelDoes) {
    std::ifstream file("tests/data/handover/traces.txt");
    ASSERT_TRUE(file) << "run the test from the root of the tree";
    std::optional<Replay> replay;
    std::vector<std::string> story;
    std::pair<std::string, std::string> pending;  // done when it is known which writes fail
    int runs = 0;
    int steps = 0;
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string kind;
        std::string who;
        std::string what;
        words >> kind >> who >> what;
        story.push_back(line);
        if (kind == "run") {
            replay.emplace(who == "shared=1");
            replay->guest_runs_at_source();
            story.assign(1, line);
            ++runs;
        } else if (kind == "step" && what.starts_with("disk_fails")) {
            replay->disk_fails(who, what);
        } else if (kind == "step") {
            pending = {who, what};
        } else {
            ASSERT_EQ(kind, "is");
            replay->step(pending.first, pending.second);
            ASSERT_EQ(replay->shows(), line.substr(3)) << testing::PrintToString(story);
            ASSERT_TRUE(replay->all_faults_used()) << testing::PrintToString(story);
            ++steps;
        }
    }
    EXPECT_GT(runs, 200);
    EXPECT_GT(steps, 2000);
}

}  // namespace
}  // namespace kumoi::migration
