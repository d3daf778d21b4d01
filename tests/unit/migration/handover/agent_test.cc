#include "migration/handover/agent.h"

#include <gtest/gtest.h>

namespace kumoi::migration {
namespace {

using Outcome = SourceSettlement::Outcome;

struct Row {
    HandoverMark journal;
    DestinationView destination;
    Outcome outcome;
    std::optional<HandoverMark> mark;
};

TEST(HandoverAgent, SpeaksForADeadSource) {
    const Row rows[] = {
        {HandoverMark::Offered, DestinationView::Ready, Outcome::Commit, HandoverMark::Committed},
        {HandoverMark::Offered, DestinationView::Loading, Outcome::CrashedHere,
         HandoverMark::Aborted},
        {HandoverMark::Offered, DestinationView::Declined, Outcome::CrashedHere,
         HandoverMark::Aborted},
        {HandoverMark::Offered, DestinationView::Owner, Outcome::GivenAway, HandoverMark::Released},
        {HandoverMark::Offered, DestinationView::Unreachable, Outcome::Wait, {}},
        {HandoverMark::Committed, DestinationView::Ready, Outcome::Commit, {}},
        {HandoverMark::Committed, DestinationView::Owner, Outcome::GivenAway,
         HandoverMark::Released},
        {HandoverMark::Committed, DestinationView::Declined, Outcome::CrashedHere, {}},
        {HandoverMark::Committed, DestinationView::Unreachable, Outcome::Wait, {}},
        // Whatever the other side says: it had gone on here.
        {HandoverMark::Aborted, DestinationView::Ready, Outcome::CrashedHere, {}},
        {HandoverMark::Released, DestinationView::Unreachable, Outcome::GivenAway, {}},
    };
    for (const Row& row : rows) {
        const auto settled = settle_source(row.journal, row.destination);
        EXPECT_EQ(settled.outcome, row.outcome) << to_string(row.journal);
        EXPECT_EQ(settled.mark, row.mark) << to_string(row.journal);
    }
}

TEST(HandoverAgent, ADeadDestinationOwnedItOnlyIfItsJournalSaysSo) {
    EXPECT_TRUE(settle_destination(HandoverMark::Owner).owned);
    EXPECT_EQ(settle_destination(HandoverMark::Owner).mark, std::nullopt);
    EXPECT_FALSE(settle_destination(HandoverMark::Joined).owned);
    EXPECT_EQ(settle_destination(HandoverMark::Joined).mark, HandoverMark::Declined);
}

}  // namespace
}  // namespace kumoi::migration
