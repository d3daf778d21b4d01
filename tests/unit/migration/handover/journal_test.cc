#include "migration/handover/journal.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/file.h"
#include "tests/unit/migration/handover/handover_world.h"

namespace kumoi::migration {
namespace {

constexpr HandoverTerms kTerms{.id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
                               .epoch = 41};

class JournalTest : public testing::Test {
protected:
    TemporaryDirectory directory_ = TemporaryDirectory::create("handover").value();
    std::string path_ = directory_.path() + "/handover.journal";
    ManualClock clock_;
};

TEST_F(JournalTest, AnotherProcessReadsItOnlyWhenItsOwnerIsGone) {
    {
        auto journal = HandoverJournal::create(path_, kTerms, clock_);
        ASSERT_TRUE(journal.ok()) << journal.error().text();
        ASSERT_TRUE(journal.value().record(HandoverMark::Committed).ok());
        EXPECT_FALSE(HandoverJournal::open_dead(path_, clock_).value().has_value());
        EXPECT_EQ(HandoverJournal::create(path_, kTerms, clock_).error().code, ErrorCode::Conflict);
    }
    auto found = HandoverJournal::open_dead(path_, clock_).value();
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->mark(), HandoverMark::Committed);
    EXPECT_EQ(found->terms().epoch, 41u);
    EXPECT_EQ(found->terms().id, kTerms.id);
    EXPECT_EQ(found->terms().role, HandoverRole::Source);
    ASSERT_TRUE(found->record(HandoverMark::Released).ok());
    found.reset();
    EXPECT_EQ(HandoverJournal::open_dead(path_, clock_).value()->mark(), HandoverMark::Released);
}

TEST_F(JournalTest, AllOfItIsThereBeforeTheGuestStops) {
    auto journal = HandoverJournal::create(path_, kTerms, clock_);
    const uint64_t size = file_size(path_).value();
    EXPECT_EQ(size, HandoverJournal::kRecords * HandoverJournal::kRecordSize);
    ASSERT_TRUE(journal.value().record(HandoverMark::Aborted).ok());
    EXPECT_EQ(file_size(path_).value(), size);
}

TEST_F(JournalTest, ATornRecordWasNeverWritten) {
    MemoryDisk disk;
    auto journal =
        HandoverJournal::over(std::make_unique<MemoryStore>(disk), kTerms, clock_).value();
    disk.next = MemoryDisk::Fault::Torn;
    EXPECT_FALSE(journal.record(HandoverMark::Committed).ok());
    EXPECT_EQ(journal.mark(), HandoverMark::Offered);
    auto again = HandoverJournal::read(std::make_unique<MemoryStore>(disk), clock_).value();
    EXPECT_EQ(again.mark(), HandoverMark::Offered);
    // The place is used up: what comes after goes behind it.
    ASSERT_TRUE(journal.record(HandoverMark::Aborted).ok());
    EXPECT_EQ(HandoverJournal::read(std::make_unique<MemoryStore>(disk), clock_).value().mark(),
              HandoverMark::Aborted);
}

TEST_F(JournalTest, WhatIsNoJournalIsRefused) {
    std::ofstream(path_) << std::string(5000, 'x');
    auto found = HandoverJournal::open_dead(path_, clock_);
    ASSERT_FALSE(found.ok());
    EXPECT_EQ(found.error().code, ErrorCode::Corrupt);
    EXPECT_EQ(HandoverJournal::open_dead(path_ + ".none", clock_).error().code,
              ErrorCode::NotFound);
}

TEST_F(JournalTest, ItEndsAfterItsRecords) {
    auto journal = HandoverJournal::create(path_, kTerms, clock_).value();
    for (uint32_t i = 1; i < HandoverJournal::kRecords; ++i) {
        ASSERT_TRUE(journal.record(HandoverMark::Offered).ok());
    }
    EXPECT_EQ(journal.record(HandoverMark::Committed).error().code, ErrorCode::Exhausted);
}

}  // namespace
}  // namespace kumoi::migration
