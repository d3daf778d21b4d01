#include "hypervisor/control/guest_events.h"

#include <vector>

#include <gtest/gtest.h>

namespace kumoi::hypervisor {
namespace {

class GuestEventsTest : public testing::Test {
protected:
    void storm(int count, std::string_view kind = "state") {
        for (int i = 0; i < count; ++i) {
            events_.tell(kind, {"reset", Json::object({{"number", ++number_}})});
        }
    }
    void pass(int64_t seconds) {
        for (int64_t i = 0; i < seconds; ++i) {
            clock_.advance(kNanosPerSecond);
            loop_.run_ready();
        }
    }

    ManualClock clock_;
    EventLoop loop_{clock_};
    std::vector<ControlEvent> published_;
    int64_t number_ = 0;
    GuestEvents events_{loop_, clock_, [this](const ControlEvent& e) { published_.push_back(e); }};
};

TEST_F(GuestEventsTest, AStormBecomesTenAndThenTheLastOne) {
    storm(1000);
    ASSERT_EQ(published_.size(), 10u);
    pass(9);
    EXPECT_EQ(published_.size(), 10u);
    pass(1);
    ASSERT_EQ(published_.size(), 11u);
    EXPECT_EQ(published_.back().data["number"], Json(1000));
    EXPECT_EQ(published_.back().data["suppressed"], Json(989));
    EXPECT_FALSE(published_.front().data.contains("suppressed"));
    pass(100);
    EXPECT_EQ(published_.size(), 11u);
}

TEST_F(GuestEventsTest, AStormThatNeverEndsIsOneInTenSeconds) {
    for (int second = 0; second < 1000; ++second) {
        storm(100);
        pass(1);
    }
    EXPECT_LE(published_.size(), 110u);
    EXPECT_GE(published_.size(), 100u);
}

TEST_F(GuestEventsTest, KindsDoNotDisturbEachOther) {
    storm(50, "state");
    storm(3, "watchdog");
    EXPECT_EQ(published_.size(), 13u);
}

TEST_F(GuestEventsTest, WhatIsForgottenIsNotPublished) {
    storm(50);
    events_.forget("state");
    events_.forget("never heard of");
    pass(20);
    EXPECT_EQ(published_.size(), 10u);
    storm(1);
    EXPECT_EQ(published_.size(), 11u);
}

TEST_F(GuestEventsTest, ANewOneDoesNotOvertakeTheOneThatWaits) {
    storm(11);
    pass(9);
    clock_.advance(5 * kNanosPerSecond);  // its turn has come, the loop has not
    storm(1);
    ASSERT_EQ(published_.size(), 10u);
    loop_.run_ready();
    ASSERT_EQ(published_.size(), 11u);
    EXPECT_EQ(published_.back().data["number"], Json(12));
}

TEST_F(GuestEventsTest, EndsWhileOneWaits) {
    auto events = std::make_unique<GuestEvents>(loop_, clock_, [](const ControlEvent&) {});
    for (int i = 0; i < 11; ++i) {
        events->tell("state", {"reset", Json::object()});
    }
    events.reset();
    pass(20);
}

}  // namespace
}  // namespace kumoi::hypervisor
