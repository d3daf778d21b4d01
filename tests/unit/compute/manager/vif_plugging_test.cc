#include "compute/manager/vif_plugging.h"

#include <gtest/gtest.h>

#include "compute/manager/external_events.h"

namespace kumoi::compute {
namespace {

TEST(ExternalEvents, AnEventThatComesBeforeTheWaitIsNotMissed) {
    ExternalEvents events;
    auto expected = events.expect("server", {"network-vif-plugged-a", "network-vif-plugged-b"});
    EXPECT_TRUE(events.deliver("server", "network-vif-plugged-a", "completed"));
    EXPECT_FALSE(events.deliver("server", "network-vif-plugged-a", "completed"));
    EXPECT_FALSE(events.deliver("other", "network-vif-plugged-b", "completed"));
    const auto missing = expected.wait(0);
    ASSERT_FALSE(missing.ok());
    EXPECT_EQ(missing.error().code, ErrorCode::Timeout);
    EXPECT_NE(missing.error().message.find("network-vif-plugged-b"), std::string::npos);
    EXPECT_TRUE(events.deliver("server", "network-vif-plugged-b", "completed"));
    EXPECT_TRUE(expected.wait(0).ok());
}

TEST(ExternalEvents, FailureAndDeletionEndTheWait) {
    ExternalEvents events;
    auto failed = events.expect("server", {"volume-extended-x"});
    EXPECT_TRUE(events.deliver("server", "volume-extended-x", "failed"));
    EXPECT_EQ(failed.wait(0).error().code, ErrorCode::Unavailable);
    auto cancelled = events.expect("server", {"network-vif-plugged-a"});
    events.cancel("server");
    EXPECT_EQ(cancelled.wait(0).error().code, ErrorCode::Cancelled);
}

TEST(ExternalEvents, NobodyWaitsAfterTheExpectationIsGone) {
    ExternalEvents events;
    { const auto expected = events.expect("server", {"a"}); }
    EXPECT_FALSE(events.deliver("server", "a", "completed"));
}

}  // namespace
}  // namespace kumoi::compute
