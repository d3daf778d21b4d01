#include "compute/conductor/database.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <thread>

#include "base/file.h"

namespace kumoi::compute {
namespace {

const std::vector<std::string> kSchema{
    "CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, weight REAL, note "
    "TEXT)",
    "CREATE TABLE pets(owner INTEGER NOT NULL REFERENCES people(id)); CREATE INDEX pets_owner ON "
    "pets(owner)"};

class DatabaseTest : public testing::TestWithParam<bool> {
protected:
    void SetUp() override {
        directory_.emplace(TemporaryDirectory::create("database").value());
        path_ = GetParam() ? ":memory:" : directory_->path() + "/kumoi.db";
        database_ = Database::open(path_).value();
        ASSERT_TRUE(database_->migrate("test", kSchema).ok());
    }
    Result<void> add(const std::string& name) {
        return database_->write([&](SqlSession& sql) -> Result<void> {
            TRY(sql.run("INSERT INTO people(name) VALUES(?)", name));
            return {};
        });
    }
    int64_t count() {
        const auto row = database_->read(
            [&](SqlSession& sql) { return sql.query_one("SELECT count(*) FROM people"); });
        return row.value()->integer(0);
    }
    std::optional<TemporaryDirectory> directory_;
    std::string path_;
    std::unique_ptr<Database> database_;
};

TEST_P(DatabaseTest, ReportsAConstraintAsConflictAndKeepsNothing) {
    ASSERT_TRUE(add("ann").ok());
    const auto twice = add("ann");
    ASSERT_FALSE(twice.ok());
    EXPECT_EQ(twice.error().code, ErrorCode::Conflict);
    const auto orphan = database_->write([](SqlSession& sql) -> Result<void> {
        TRY(sql.run("INSERT INTO people(name) VALUES('bob')"));
        TRY(sql.run("INSERT INTO pets(owner) VALUES(?)", 999));
        return {};
    });
    ASSERT_FALSE(orphan.ok());
    EXPECT_EQ(orphan.error().code, ErrorCode::Conflict);
    EXPECT_EQ(count(), 1);
}

TEST_P(DatabaseTest, RollsBackWhenTheFunctionFails) {
    const auto outcome = database_->write([](SqlSession& sql) -> Result<int> {
        TRY(sql.run("INSERT INTO people(name) VALUES('ann')"));
        return Error::cancelled("changed our mind");
    });
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.error().code, ErrorCode::Cancelled);
    EXPECT_EQ(count(), 0);
}

TEST_P(DatabaseTest, RefusesBrokenSqlAndTheWrongNumberOfValues) {
    const auto broken = database_->read([](SqlSession& sql) { return sql.query("SELEKT 1"); });
    ASSERT_FALSE(broken.ok());
    EXPECT_EQ(broken.error().code, ErrorCode::Internal);
    const auto missing = database_->read([](SqlSession& sql) {
        return sql.query("SELECT * FROM people WHERE id = ? OR id = ?", 1);
    });
    ASSERT_FALSE(missing.ok());
    EXPECT_NE(missing.error().message.find("takes 2 values, 1 given"), std::string::npos);
}

TEST_P(DatabaseTest, KeepsEveryTypeAndNulls) {
    const std::string text_with_nul("a\0b", 3);
    const auto id = database_->write([&](SqlSession& sql) -> Result<int64_t> {
        TRY(sql.run("INSERT INTO people(id, name, weight, note) VALUES(?, ?, ?, ?)", INT64_MAX,
                    text_with_nul, 1.5, std::optional<std::string>()));
        return sql.last_insert_id();
    });
    EXPECT_EQ(id.value(), INT64_MAX);
    const auto row = database_->read(
        [](SqlSession& sql) { return sql.query_one("SELECT id, name, weight, note FROM people"); });
    ASSERT_TRUE(row.value().has_value());
    EXPECT_EQ(row.value()->integer(0), INT64_MAX);
    EXPECT_EQ(row.value()->text(1), text_with_nul);
    EXPECT_DOUBLE_EQ(row.value()->real(2), 1.5);
    EXPECT_TRUE(row.value()->is_null(3));
    EXPECT_EQ(row.value()->text(3), "");
    EXPECT_EQ(row.value()->text_or_null(3), std::nullopt);
}

TEST_P(DatabaseTest, ForgetsTheValuesOfAnEarlierUse) {
    ASSERT_TRUE(add("ann").ok());
    const auto found = database_->read([](SqlSession& sql) -> Result<int> {
        const std::string select = "SELECT id FROM people WHERE name = ?";
        const size_t first = TRY(sql.query(select, "ann")).size();
        const size_t second = TRY(sql.query(select, nullptr)).size();
        return static_cast<int>(first * 10 + second);
    });
    EXPECT_EQ(found.value(), 10);
}

TEST_P(DatabaseTest, AppliesOnlyNewStatementsAndRefusesTheFuture) {
    auto longer = kSchema;
    longer.push_back("ALTER TABLE people ADD COLUMN age INTEGER");
    ASSERT_TRUE(database_->migrate("test", longer).ok());
    ASSERT_TRUE(database_->migrate("test", longer).ok());
    const auto older = database_->migrate("test", kSchema);
    ASSERT_FALSE(older.ok());
    EXPECT_EQ(older.error().code, ErrorCode::Unsupported);
    EXPECT_FALSE(older.error().hint.empty());
}

TEST_P(DatabaseTest, RunsEveryStatementOfAMigrationStep) {
    const auto index = database_->read([](SqlSession& sql) {
        return sql.query(
            "SELECT 1 FROM sqlite_master WHERE type = 'index' AND name = 'pets_owner'");
    });
    EXPECT_EQ(index.value().size(), 1u);
}

TEST_P(DatabaseTest, LeavesNoHalfMigration) {
    const auto outcome =
        database_->migrate("other", {"CREATE TABLE one(id INTEGER)", "CREATE NONSENSE"});
    ASSERT_FALSE(outcome.ok());
    EXPECT_TRUE(database_->migrate("other", {"CREATE TABLE one(id INTEGER)"}).ok());
}

TEST_P(DatabaseTest, ServesManyThreadsAtOnce) {
    constexpr int kThreads = 12;  // more than there are reader connections
    constexpr int kRounds = 20;
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (int thread = 0; thread < kThreads; ++thread) {
        threads.emplace_back([&, thread] {
            for (int round = 0; round < kRounds; ++round) {
                failures += add(fmt::format("{}-{}", thread, round)).ok() ? 0 : 1;
                failures += count() > 0 ? 0 : 1;
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(failures, 0);
    EXPECT_EQ(count(), kThreads * kRounds);
}

INSTANTIATE_TEST_SUITE_P(FileAndMemory, DatabaseTest, testing::Values(false, true),
                         [](const auto& tested) { return tested.param ? "Memory" : "File"; });

TEST(DatabaseFile, SurvivesReopeningAndIsPrivate) {
    const auto directory = TemporaryDirectory::create("database").value();
    const std::string path = directory.path() + "/kumoi.db";
    for (int round = 0; round < 2; ++round) {
        auto database = Database::open(path).value();
        ASSERT_TRUE(database->migrate("test", kSchema).ok());
        const auto added = database->write([&](SqlSession& sql) {
            return sql.run("INSERT INTO people(name) VALUES(?)", std::to_string(round));
        });
        ASSERT_TRUE(added.ok());
        struct stat info {};
        for (const char* suffix : {"", "-wal", "-shm"}) {
            ASSERT_EQ(stat((path + suffix).c_str(), &info), 0) << suffix;
            EXPECT_EQ(info.st_mode & 0777, 0600u) << suffix;
        }
    }
    auto database = Database::open(path).value();
    const auto row = database->read(
        [](SqlSession& sql) { return sql.query_one("SELECT count(*) FROM people"); });
    EXPECT_EQ(row.value()->integer(0), 2);
}

TEST(DatabaseFile, SaysWhyItCannotBeOpened) {
    const auto directory = TemporaryDirectory::create("database").value();
    EXPECT_EQ(Database::open(directory.path() + "/no/such/folder.db").error().code,
              ErrorCode::NotFound);
    const std::string path = directory.path() + "/text.db";
    ASSERT_TRUE(write_file_atomic(path, std::string(8192, 'x')).ok());
    EXPECT_EQ(Database::open(path).error().code, ErrorCode::Corrupt);
}

TEST(DatabaseMemory, IsPrivateToItsOwner) {
    auto one = Database::open(":memory:").value();
    auto two = Database::open(":memory:").value();
    ASSERT_TRUE(one->migrate("test", kSchema).ok());
    EXPECT_FALSE(two->read([](SqlSession& sql) { return sql.query("SELECT * FROM people"); }).ok());
}

TEST(DatabaseReaders, CannotWrite) {
    const auto directory = TemporaryDirectory::create("database").value();
    auto database = Database::open(directory.path() + "/kumoi.db").value();
    ASSERT_TRUE(database->migrate("test", kSchema).ok());
    const auto outcome = database->read(
        [](SqlSession& sql) { return sql.run("INSERT INTO people(name) VALUES('x')"); });
    ASSERT_FALSE(outcome.ok());
}

}  // namespace
}  // namespace kumoi::compute
