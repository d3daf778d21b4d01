#include "compute/manager/live_migrations.h"

#include <gtest/gtest.h>

#include <vector>

#include "compute/live_migration_options.h"

namespace kumoi::compute {
namespace {

using Stage = LiveMigrations::Stage;

class LiveMigrationsTest : public testing::Test {
protected:
    Result<void> enqueue(LiveMigrations& migrations, const std::string& uuid, int64_t id) {
        return migrations.enqueue(uuid, id, [this, uuid] {
            started.push_back(uuid);
            return Result<void>();
        });
    }
    std::vector<std::string> started;
};

TEST_F(LiveMigrationsTest, OneAfterTheOtherInTheirOrder) {
    LiveMigrations migrations(1);
    ASSERT_TRUE(enqueue(migrations, "a", 1).ok());
    ASSERT_TRUE(enqueue(migrations, "b", 2).ok());
    ASSERT_TRUE(enqueue(migrations, "c", 3).ok());
    EXPECT_EQ(started, std::vector<std::string>{"a"});
    migrations.finished("a");
    migrations.finished("b");
    EXPECT_EQ(started, (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_EQ(migrations.migration_of("a"), std::nullopt);
    EXPECT_EQ(migrations.migration_of("c"), 3);
}

TEST_F(LiveMigrationsTest, AServerHasOnlyOne) {
    LiveMigrations migrations(0);
    ASSERT_TRUE(enqueue(migrations, "a", 1).ok());
    EXPECT_EQ(enqueue(migrations, "a", 2).error().fault, "InvalidMigrationState");
    ASSERT_TRUE(enqueue(migrations, "b", 3).ok());
    EXPECT_EQ(started.size(), 2u);
}

TEST_F(LiveMigrationsTest, AnAbortFindsItWhereItIs) {
    LiveMigrations migrations(1);
    ASSERT_TRUE(enqueue(migrations, "a", 1).ok());
    ASSERT_TRUE(enqueue(migrations, "b", 2).ok());
    EXPECT_EQ(migrations.abort("a", 7).error().fault, "InvalidMigrationState");
    EXPECT_EQ(migrations.abort("x", 1).error().fault, "InvalidMigrationState");
    EXPECT_EQ(*migrations.abort("b", 2), Stage::Queued);  // gone with that
    EXPECT_EQ(migrations.migration_of("b"), std::nullopt);
    EXPECT_TRUE(migrations.advance("a", Stage::Preparing));
    EXPECT_EQ(*migrations.abort("a", 1), Stage::Preparing);
    EXPECT_FALSE(migrations.advance("a", Stage::Running));
    migrations.finished("a");
    EXPECT_EQ(started, std::vector<std::string>{"a"});
}

TEST_F(LiveMigrationsTest, OneThatRunsIsAbortedByTheDriver) {
    LiveMigrations migrations(1);
    migrations.adopt("a", 1);  // found at the start of the daemon
    EXPECT_EQ(*migrations.abort("a", 1), Stage::Running);
    ASSERT_TRUE(enqueue(migrations, "b", 2).ok());
    EXPECT_TRUE(started.empty());  // it has the only turn
    migrations.finished("a");
    EXPECT_EQ(started, std::vector<std::string>{"b"});
}

TEST_F(LiveMigrationsTest, OneThatCannotStartGivesItsTurnBack) {
    LiveMigrations migrations(1);
    ASSERT_TRUE(
        migrations
            .enqueue("a", 1, []() -> Result<void> { return Error::unavailable("shutting down"); })
            .ok());
    ASSERT_TRUE(enqueue(migrations, "b", 2).ok());
    EXPECT_EQ(started, std::vector<std::string>{"b"});
}

TEST(LiveMigrationSettings, TimesGrowWithWhatIsCopied) {
    LiveMigrationSettings settings;
    settings.bandwidth_mib_s = 3;
    settings.timeout_action = "force_complete";
    Instance server;
    server.flavor.memory_mb = 512;
    server.flavor.root_gb = 20;
    const auto shared = settings.for_server(server, false);
    EXPECT_EQ(shared.completion_timeout_s, 2 * 800);  // at least two GiB
    EXPECT_EQ(shared.downtime_delay_s, 2 * 75);
    EXPECT_EQ(shared.bandwidth_bytes_s, 3u << 20);
    EXPECT_EQ(shared.timeout_action, LiveMigrationOptions::TimeoutAction::ForceComplete);
    EXPECT_EQ(settings.for_server(server, true).completion_timeout_s, 21 * 800);
    settings.completion_timeout_s = 0;
    EXPECT_EQ(settings.for_server(server, true).completion_timeout_s, 0);
}

}  // namespace
}  // namespace kumoi::compute
