#include "compute/driver/guest_cgroup.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi::compute {
namespace {

class GuestCgroupsTest : public testing::Test {
protected:
    void SetUp() override {
        auto made = TemporaryDirectory::create("guest-cgroup");
        ASSERT_TRUE(made.ok());
        root_.emplace(std::move(made).value());
        ASSERT_TRUE(make_directories(folder().path()).ok());
        ASSERT_TRUE(make_directories(root_->path() + "/cpu").ok());
    }
    InstanceFolder folder() const { return InstanceFolder(root_->path() + "/instances", "a1"); }
    // A v1 host whose only controller is cpu; its files are ordinary ones.
    CgroupHost host() const {
        CgroupHost host;
        host.controllers["cpu"] = {CgroupHost::Version::V1, root_->path() + "/cpu", ""};
        return host;
    }
    std::string group() const { return root_->path() + "/cpu/kumoi/a1"; }
    void fill() const {
        ASSERT_TRUE(make_directories(group()).ok());
        ASSERT_TRUE(write_file_atomic(group() + "/cpu.shares", "").ok());
    }

    std::optional<TemporaryDirectory> root_;
};

TEST_F(GuestCgroupsTest, LimitsAndNotesWhereTheGroupIs) {
    fill();
    GuestCgroups cgroups("kumoi", host());
    GuestLimits limits;
    limits.required.cpu_shares = 300;
    limits.wished.memory_bytes = 1 << 30;  // no such controller: left out
    const auto procs = cgroups.make(folder(), "a1", limits);
    ASSERT_TRUE(procs.ok()) << procs.error().text();
    EXPECT_EQ(*procs, std::vector<std::string>{group() + "/cgroup.procs"});
    EXPECT_EQ(read_file(group() + "/cpu.shares").value(), "300");
    EXPECT_EQ(read_file(folder().cgroups()).value(), "[\"" + group() + "\"]");
}

TEST_F(GuestCgroupsTest, AnotherLifeOfTheDaemonRemovesIt) {
    GuestCgroups before("kumoi", host());
    ASSERT_TRUE(before.make(folder(), "a1", {}).ok());
    ASSERT_TRUE(path_exists(group()));
    GuestCgroups after("elsewhere", Error::unsupported("no control groups any more"));
    after.remove(folder());
    EXPECT_FALSE(path_exists(group()));
    EXPECT_FALSE(path_exists(folder().cgroups()));
    after.remove(folder());  // fine
}

TEST_F(GuestCgroupsTest, WhatTheHostCannotIsRefusedOnlyWhenAskedFor) {
    GuestLimits wished;
    wished.wished.pids = 10;
    GuestLimits required;
    required.required.pids = 10;
    GuestCgroups none("", host());
    GuestCgroups bare("kumoi", CgroupHost{});
    GuestCgroups odd("kumoi", Error::forbidden("reading the mounts"));
    GuestCgroups cpu_only("kumoi", host());
    for (GuestCgroups* cgroups : {&none, &bare, &odd, &cpu_only}) {
        EXPECT_TRUE(cgroups->make(folder(), "a1", wished).ok());
        const auto refused = cgroups->make(folder(), "a1", required);
        ASSERT_FALSE(refused.ok());
        EXPECT_NE(refused.error().hint.find("cgroup_parent"), std::string::npos);
        EXPECT_FALSE(path_exists(folder().cgroups()));
        EXPECT_FALSE(path_exists(group()));
    }
}

TEST_F(GuestCgroupsTest, ANoteThatIsNoneRemovesNothing) {
    GuestCgroups cgroups("kumoi", host());
    for (const char* text : {"", "{}", "[1]", "[\"/proc\"]", "[[]]"}) {
        ASSERT_TRUE(write_file_atomic(folder().cgroups(), text).ok());
        cgroups.remove(folder());
        EXPECT_TRUE(path_exists(folder().path())) << text;
    }
}

// The kernel's own groups, below the one this test runs in.
TEST_F(GuestCgroupsTest, AProcessLivesInItAndItGoesAfterwards) {
    const auto real = CgroupHost::detect();
    const std::string parent = fmt::format("kumoi-driver-test-{}", getpid());
    if (!real.ok() || !real->has("cpu") || !Cgroup::create(*real, parent).ok()) {
        GTEST_SKIP() << "no control group with the controller cpu can be made here";
    }
    GuestCgroups cgroups(parent, *real);
    GuestLimits limits;
    limits.required.cpu_shares = 700;
    limits.wished.memory_bytes = 256u << 20;
    limits.wished.pids = 64;
    DaemonOptions options;
    options.cgroup_procs = cgroups.make(folder(), "a1", limits).value();
    ASSERT_FALSE(options.cgroup_procs.empty());
    const auto pid = spawn_daemon({"/bin/sleep", "1000"}, options);
    ASSERT_TRUE(pid.ok()) << pid.error().text();
    const Cgroup group = Cgroup::create(*real, parent + "/a1").value();
    while (group.processes().value().empty()) {  // it joins before it executes
        ASSERT_TRUE(process_alive(*pid));
    }
    cgroups.remove(folder());  // too early: it stays, and noted
    EXPECT_EQ(group.processes().value(), std::vector<pid_t>{*pid});
    EXPECT_TRUE(path_exists(folder().cgroups()));
    ::kill(*pid, SIGKILL);
    ::waitpid(*pid, nullptr, 0);
    cgroups.remove(folder());
    EXPECT_FALSE(path_exists(folder().cgroups()));
    for (const std::string& path : group.folders()) {
        EXPECT_FALSE(path_exists(path)) << path;
    }
    EXPECT_TRUE(Cgroup::create(*real, parent).value().remove().ok());
}

}  // namespace
}  // namespace kumoi::compute
