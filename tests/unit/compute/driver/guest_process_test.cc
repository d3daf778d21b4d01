// Whose process a server's folder tells of, where several hosts share the folders.
#include "compute/driver/guest_process.h"

#include <gtest/gtest.h>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/file_lock.h"
#include "base/subprocess.h"

namespace kumoi::compute {
namespace {

// A process that holds the folder's lock and is written down there by `host`.
class GuestProcessTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(make_directories(folder_.path()).ok());
        child_ = ::fork();
        ASSERT_GE(child_, 0);
        if (child_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::pause();
            ::_exit(0);
        }
        lock_ = try_lock_file(folder_.lock()).value();
        ASSERT_TRUE(lock_.has_value());
    }
    void TearDown() override {
        ::kill(child_, SIGKILL);
        ::waitpid(child_, nullptr, 0);
    }
    void write_down(const Json& host) {
        Json record = Json::object({{"pid", child_},
                                    {"start_ticks", process_start_ticks(child_).value()},
                                    {"launcher", child_}});
        if (host.is_string()) {
            record.set("host", host);
        }
        ASSERT_TRUE(write_file_atomic(folder_.process(), record.dump()).ok());
    }
    bool child_lives() const { return ::waitpid(child_, nullptr, WNOHANG) == 0; }

    TemporaryDirectory directory_ = TemporaryDirectory::create("guest-process").value();
    InstanceFolder folder_{directory_.path(), "11111111-2222-3333-4444-555555555555"};
    SystemClock clock_;
    const GuestProcessOptions options_{.vmm_path = "/bin/false", .host = "here"};
    GuestProcess process_{options_, folder_, clock_};
    std::optional<UniqueFd> lock_;
    pid_t child_ = -1;
};

TEST_F(GuestProcessTest, OursIsAlive) {
    write_down("here");
    EXPECT_TRUE(process_.is_alive().value());
}

TEST_F(GuestProcessTest, OneOfBeforeHostsWereWrittenDownIsOurs) {
    write_down(Json());
    EXPECT_TRUE(process_.is_alive().value());
}

TEST_F(GuestProcessTest, ThatOfAnotherHostIsNeitherAliveHereNorEndedFromHere) {
    write_down("there");
    EXPECT_FALSE(process_.is_alive().value());
    EXPECT_TRUE(process_.stop().ok());
    EXPECT_TRUE(child_lives());
}

TEST_F(GuestProcessTest, NoneIsStartedWhileTheOtherHostsLives) {
    write_down("there");
    const auto started = process_.start();
    ASSERT_FALSE(started.ok());
    EXPECT_EQ(started.error().code, ErrorCode::Conflict);
    EXPECT_NE(started.error().message.find("there"), std::string::npos) << started.error().message;
    EXPECT_TRUE(path_exists(folder_.process()));
    EXPECT_TRUE(child_lives());
}

}  // namespace
}  // namespace kumoi::compute
