// Descriptors, files, subprocesses and log lines against the real kernel.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/subprocess.h"

namespace kumoi {
namespace {

TEST(FileLock, IsHeldByOneDescriptorAtATime) {
    const auto folder = TemporaryDirectory::create("kumoi-lock").value();
    auto first = try_lock_file(folder.path() + "/lock");
    ASSERT_TRUE(first.ok() && first->has_value());
    auto second = try_lock_file(folder.path() + "/lock");
    ASSERT_TRUE(second.ok());
    EXPECT_FALSE(second->has_value());
    first->reset();
    EXPECT_TRUE(try_lock_file(folder.path() + "/lock")->has_value());
    EXPECT_FALSE(try_lock_file(folder.path() + "/absent/lock").ok());
}

TEST(UniqueFd, ClosesOnceAndMoves) {
    UniqueFd first = std::move(make_eventfd()).value();
    const int number = first.get();
    UniqueFd second = std::move(first);
    EXPECT_FALSE(first.is_open());
    EXPECT_EQ(second.get(), number);
    second.reset();
    EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

TEST(Files, AtomicWriteReplacesTheWholeFile) {
    const auto directory = std::move(TemporaryDirectory::create("kumoi-test-")).value();
    const std::string path = directory.path() + "/deep/er/file";
    ASSERT_TRUE(make_directories(directory.path() + "/deep/er").ok());
    ASSERT_TRUE(write_file_atomic(path, "first, longer text").ok());
    ASSERT_TRUE(write_file_atomic(path, "second").ok());
    EXPECT_EQ(*read_file(path), "second");
    EXPECT_EQ(list_directory(directory.path() + "/deep/er")->size(), 1U);
    EXPECT_EQ(read_file(path, 3).error().code, ErrorCode::TooLarge);
    EXPECT_EQ(read_file(path + "x").error().code, ErrorCode::NotFound);
}

TEST(Files, AtomicWriteIntoAMissingFolderLeavesNothing) {
    const auto directory = std::move(TemporaryDirectory::create("kumoi-test-")).value();
    EXPECT_FALSE(write_file_atomic(directory.path() + "/absent/file", "x").ok());
    EXPECT_TRUE(list_directory(directory.path())->empty());
}

TEST(RunCommand, ReturnsOutputStatusAndFeedsInput) {
    const auto output = run_command({"sh", "-c", "cat; echo oops >&2; exit 3"}, {.input = "hello"});
    ASSERT_TRUE(output.ok()) << output.error().text();
    EXPECT_EQ(output->out, "hello");
    EXPECT_EQ(output->err, "oops\n");
    EXPECT_EQ(output->exit_code, 3);
}

TEST(RunCommand, KillsWhatTakesTooLong) {
    EXPECT_EQ(run_command({"sleep", "60"}, {.timeout_ms = 50}).error().code, ErrorCode::Timeout);
}

TEST(RunCommand, KeepsABoundedAmountOfOutput) {
    const auto output = run_command({"head", "-c", "100000", "/dev/zero"}, {.output_max = 10});
    EXPECT_EQ(output->out.size(), 10U);
}

TEST(RunCommand, MissingProgramIsAnErrorThatNamesIt) {
    const auto output = run_command({"no-such-program-here"});
    EXPECT_EQ(output.error().code, ErrorCode::NotFound);
    EXPECT_NE(output.error().message.find("no-such-program-here"), std::string::npos);
}

TEST(RunChecked, QuotesTheProgramsOwnWords) {
    const auto result = run_checked({"sh", "-c", "echo disk on fire >&2; exit 1"});
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.error().message.find("disk on fire"), std::string::npos);
}

TEST(SpawnDaemon, LivesInItsOwnSessionWithOnlyTheGivenDescriptors) {
    const auto directory = std::move(TemporaryDirectory::create("kumoi-test-")).value();
    const UniqueFd event = std::move(make_eventfd()).value();
    const UniqueFd kept(::fcntl(event.get(), F_DUPFD_CLOEXEC, 20));
    DaemonOptions options;
    options.log_path = directory.path() + "/log";
    options.inherited_fds = {kept.get()};
    const auto pid = spawn_daemon({"ls", "/proc/self/fd"}, options);
    ASSERT_TRUE(pid.ok());
    EXPECT_TRUE(process_start_ticks(*pid).ok());
    int status = 0;
    ASSERT_EQ(::waitpid(*pid, &status, 0), *pid);
    EXPECT_FALSE(process_alive(*pid));
    // 3 is the folder that ls itself has open.
    EXPECT_EQ(*read_file(options.log_path), fmt::format("0\n1\n2\n{}\n3\n", kept.get()));
}

TEST(Log, OneLineWithScopeFieldsAndEscapes) {
    const auto directory = std::move(TemporaryDirectory::create("kumoi-test-")).value();
    const std::string path = directory.path() + "/log";
    ASSERT_TRUE(log_init({.level = LogLevel::Info, .file = path}).ok());
    {
        const LogScope scope({{"request", "req-1"}, {"server", "abc"}});
        log_warn("compute", "two\nlines", {{"why", "a \"b\"\nc"}, {"count", 7}});
        log_debug("compute", "not shown");
    }
    ASSERT_TRUE(log_init({.level = LogLevel::Info, .file = path, .json = true}).ok());
    log_info("compute", "plain", {{"n", 1}});
    const std::string text = *read_file(path);
    const size_t newline = text.find('\n');
    EXPECT_EQ(
        text.substr(28, newline - 28),
        "warn  compute two\\x0alines request=req-1 server=abc why=\"a \\\"b\\\"\\nc\" count=7");
    const auto json = Json::parse(text.substr(newline + 1));
    ASSERT_TRUE(json.ok());
    EXPECT_EQ(json->string_or("message"), "plain");
    EXPECT_EQ(json->string_or("n"), "1");
}

}  // namespace
}  // namespace kumoi
