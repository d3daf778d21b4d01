#include "compute/manager/journal.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/file.h"

namespace kumoi::compute {
namespace {

class JournalTest : public testing::Test {
protected:
    std::unique_ptr<Journal> open(JournalOptions options = {}) {
        auto journal = Journal::open(path(), clock_, std::move(options));
        EXPECT_TRUE(journal.ok()) << (journal.ok() ? "" : journal.error().text());
        return journal.ok() ? std::move(*journal) : nullptr;
    }
    std::string path() const { return directory_.path() + "/journal"; }
    void append_raw(const std::string& text) {
        auto content = read_file(path());
        ASSERT_TRUE(write_file_atomic(path(), *content + text).ok());
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("journal").value();
    ManualClock clock_;
    RequestContext context_{"req-1", "user", "project", false};
};

TEST_F(JournalTest, RefusesToBeginWhenTheFileCannotBeWritten) {
    auto journal = Journal::open(directory_.path() + "/no/such/folder/journal", clock_);
    EXPECT_FALSE(journal.ok());
}

TEST_F(JournalTest, DropsATornLastRecordAndKeepsTheRest) {
    {
        auto journal = open();
        ASSERT_TRUE(journal->begin("build", "server-1", context_).ok());
    }
    append_raw("0123456789abcdef {\"op\":2,\"event\":\"beg");
    auto journal = open();
    ASSERT_EQ(journal->open_operations().size(), 1u);
    EXPECT_EQ(journal->damaged_records(), 0u);
    // What is appended next must not be glued to the torn record.
    ASSERT_TRUE(journal->begin("stop", "server-2", context_).ok());
    journal = open();
    EXPECT_EQ(journal->open_operations().size(), 2u);
    EXPECT_EQ(journal->damaged_records(), 0u);
}

TEST_F(JournalTest, SkipsAndCountsADamagedRecordInTheMiddle) {
    {
        auto journal = open();
        ASSERT_TRUE(journal->begin("build", "server-1", context_).ok());
    }
    append_raw("0123456789abcdef {\"op\":7,\"event\":\"begin\"}\nrubbish\n");
    {
        auto journal = open();
        EXPECT_EQ(journal->damaged_records(), 2u);
        EXPECT_EQ(journal->open_operations().size(), 1u);
    }
    EXPECT_EQ(open()->damaged_records(), 0u);  // they were cleaned away
}

TEST_F(JournalTest, FindsOpenOperationsWithTheirStepsAgain) {
    {
        auto journal = open();
        const uint64_t first = *journal->begin("build", "server-1", context_);
        const uint64_t second = *journal->begin("stop", "server-2", context_);
        journal->step(first, "networks");
        journal->step(first, "spawn");
        journal->done(second);
    }
    const auto operations = open()->open_operations();
    ASSERT_EQ(operations.size(), 1u);
    EXPECT_EQ(operations[0].verb, "build");
    EXPECT_EQ(operations[0].instance_uuid, "server-1");
    EXPECT_EQ(operations[0].context.request_id, "req-1");
    EXPECT_EQ(operations[0].steps, (std::vector<std::string>{"networks", "spawn"}));
}

TEST_F(JournalTest, NeverUsesTheNumberOfAnOpenOperationAgain) {
    const uint64_t first = *open()->begin("build", "server-1", context_);
    EXPECT_GT(*open()->begin("build", "server-2", context_), first);
}

TEST_F(JournalTest, CompactsToItsOpenOperations) {
    JournalOptions options;
    options.size_max = 2000;
    auto journal = open(options);
    const uint64_t open_one = *journal->begin("build", "keep", context_);
    journal->step(open_one, "networks");
    for (int count = 0; count < 100; ++count) {
        journal->done(*journal->begin("stop", "server", context_));
    }
    EXPECT_LT(*file_size(path()), 3000u);
    journal.reset();
    const auto operations = open()->open_operations();
    ASSERT_EQ(operations.size(), 1u);
    EXPECT_EQ(operations[0].instance_uuid, "keep");
    EXPECT_EQ(operations[0].steps.size(), 1u);
}

TEST_F(JournalTest, ManyThreadsLoseNothing) {
    constexpr int kThreads = 8;
    constexpr int kEach = 50;
    JournalOptions options;
    options.size_max = 20000;
    auto journal = open(options);
    std::vector<std::thread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
            for (int count = 0; count < kEach; ++count) {
                auto operation =
                    journal->begin("build", fmt::format("{}-{}", thread, count), context_);
                ASSERT_TRUE(operation.ok());
                journal->step(*operation, "networks");
                if (count % 2 == 0) {
                    journal->done(*operation);
                }
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    journal.reset();
    const auto operations = open()->open_operations();
    EXPECT_EQ(operations.size(), size_t{kThreads * kEach / 2});
    for (const OpenOperation& operation : operations) {
        EXPECT_EQ(operation.steps.size(), 1u);
    }
}

}  // namespace
}  // namespace kumoi::compute
