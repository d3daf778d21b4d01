#include "base/cgroup.h"

#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/file.h"
#include "base/subprocess.h"

namespace kumoi {
namespace {

// Folders that look like mounted hierarchies: what we write to the files can be read back.
class CgroupTest : public testing::Test {
protected:
    void SetUp() override {
        auto made = TemporaryDirectory::create("cgroup");
        ASSERT_TRUE(made.ok());
        folder_.emplace(std::move(made).value());
    }
    std::string path(const std::string& name) const { return folder_->path() + "/" + name; }
    void write(const std::string& name, const std::string& text) const {
        const std::string full = path(name);
        ASSERT_TRUE(make_directories(full.substr(0, full.rfind('/'))).ok());
        ASSERT_TRUE(write_file_atomic(full, text).ok());
    }
    std::string read(const std::string& name) const {
        auto text = read_file(path(name));
        return text ? *text : "(absent)";
    }
    // What the kernel would have put into a new group.
    void fill(const std::string& group, std::initializer_list<const char*> files) const {
        for (const char* file : files) {
            write(group + "/" + file, "");
        }
    }
    CgroupHost host(const std::string& mounts) const {
        write("mounts", mounts);
        write("own", own_);
        auto found = CgroupHost::detect(path("mounts"), path("own"));
        EXPECT_TRUE(found.ok());
        return found ? *found : CgroupHost{};
    }
    std::string v1_line(const std::string& name, const std::string& options) const {
        return "cgroup " + path(name) + " cgroup rw,relatime," + options + " 0 0\n";
    }
    CgroupHost v1_host() const {
        fill("cpuset", {});
        write("cpuset/cpuset.cpus", "0-7\n");
        write("cpuset/cpuset.mems", "0\n");
        return host("proc /proc proc rw 0 0\n" + v1_line("cpu,cpuacct", "cpu,cpuacct") +
                    v1_line("cpuset", "cpuset") + v1_line("memory", "memory") +
                    v1_line("pids", "pids") + v1_line("systemd", "name=systemd"));
    }

    std::optional<TemporaryDirectory> folder_;
    std::string own_;  // as in /proc/self/cgroup
};

TEST_F(CgroupTest, FindsEachControllerWhereItIsMounted) {
    write("unified/cgroup.controllers", "memory pids hugetlb\n");
    const auto found =
        host(v1_line("cpu,cpuacct", "cpu,cpuacct") + v1_line("cpuset", "cpuset,noprefix") +
             "cgroup2 " + path("unified") + " cgroup2 rw 0 0\n");
    EXPECT_EQ(found.controllers.at("cpu").root, path("cpu,cpuacct"));
    EXPECT_EQ(found.controllers.at("cpu").version, CgroupHost::Version::V1);
    EXPECT_EQ(found.controllers.at("memory").root, path("unified"));
    EXPECT_EQ(found.controllers.at("memory").version, CgroupHost::Version::V2);
    EXPECT_EQ(found.controllers.size(), 4u);
    EXPECT_TRUE(host("proc /proc proc rw 0 0\n").controllers.empty());
}

TEST_F(CgroupTest, VersionOneFilesGetTheValues) {
    const auto found = v1_host();
    for (const char* root : {"cpu,cpuacct", "memory", "pids"}) {
        ASSERT_TRUE(make_directories(path(root)).ok());
    }
    fill("cpu,cpuacct/kumoi/g", {"cpu.shares", "cpu.cfs_period_us", "cpu.cfs_quota_us"});
    fill("cpuset/kumoi", {"cpuset.cpus", "cpuset.mems"});
    fill("cpuset/kumoi/g", {"cpuset.cpus", "cpuset.mems"});
    fill("memory/kumoi/g", {"memory.limit_in_bytes"});
    fill("pids/kumoi/g", {"pids.max"});
    const auto group = Cgroup::create(found, "kumoi/g");
    ASSERT_TRUE(group.ok()) << group.error().text();
    EXPECT_EQ(read("cpuset/kumoi/cpuset.cpus"), "0-7");  // inherited, or it would take no process
    EXPECT_EQ(read("cpuset/kumoi/g/cpuset.mems"), "0");
    const auto applied = group->apply({.cpu_shares = 2048,
                                       .cpu_period_us = 50'000,
                                       .cpu_quota_us = 25'000,
                                       .cpus = "2-3",
                                       .memory_nodes = "0",
                                       .memory_bytes = 1u << 30,
                                       .pids = 64});
    ASSERT_TRUE(applied.ok()) << applied.error().text();
    EXPECT_EQ(read("cpu,cpuacct/kumoi/g/cpu.shares"), "2048");
    EXPECT_EQ(read("cpu,cpuacct/kumoi/g/cpu.cfs_period_us"), "50000");
    EXPECT_EQ(read("cpu,cpuacct/kumoi/g/cpu.cfs_quota_us"), "25000");
    EXPECT_EQ(read("cpuset/kumoi/g/cpuset.cpus"), "2-3");
    EXPECT_EQ(read("memory/kumoi/g/memory.limit_in_bytes"), "1073741824");
    EXPECT_EQ(read("pids/kumoi/g/pids.max"), "64");
    EXPECT_EQ(group->procs_files().size(), 4u);
}

TEST_F(CgroupTest, VersionTwoFilesGetTheValuesAndParentsHandDown) {
    write("unified/cgroup.controllers", "cpu cpuset memory pids\n");
    write("unified/cgroup.subtree_control", "memory\n");
    write("unified/kumoi/cgroup.subtree_control", "");
    write("unified/kumoi/cgroup.controllers", "cpu cpuset memory pids\n");
    fill("unified/kumoi/g", {"cpu.weight", "cpuset.cpus", "cpuset.mems", "memory.max", "pids.max"});
    write("unified/kumoi/g/cpu.max", "max 100000\n");
    const auto found = host("cgroup2 " + path("unified") + " cgroup2 rw 0 0\n");
    const auto group = Cgroup::create(found, "kumoi/g");
    ASSERT_TRUE(group.ok()) << group.error().text();
    // One write, only what was missing (the fake file keeps the first bytes' overwrite).
    EXPECT_EQ(read("unified/cgroup.subtree_control"), "+cpu +cpuset +pids");
    EXPECT_EQ(read("unified/kumoi/cgroup.subtree_control"), "+cpu +cpuset +memory +pids");
    ASSERT_TRUE(group->apply({.cpu_shares = 1024, .cpu_quota_us = 200'000, .pids = 9}).ok());
    EXPECT_EQ(read("unified/kumoi/g/cpu.weight"), "39");
    EXPECT_EQ(read("unified/kumoi/g/cpu.max"), "200000 100000");
    ASSERT_TRUE(group->apply({.cpu_period_us = 50'000, .cpu_quota_us = -1}).ok());
    EXPECT_EQ(read("unified/kumoi/g/cpu.max").substr(0, 9), "max 50000");
    EXPECT_EQ(group->procs_files().size(), 1u);
}

TEST_F(CgroupTest, GroupsAreMadeBelowOurOwnOrFromTheRoot) {
    own_ = "3:cpu,cpuacct:/system/daemon\n2:pids:/gone\n1:name=systemd:/x\n0::/y\n";
    ASSERT_TRUE(make_directories(path("cpu,cpuacct/system/daemon")).ok());
    ASSERT_TRUE(make_directories(path("pids")).ok());
    const auto found = host(v1_line("cpu,cpuacct", "cpu,cpuacct") + v1_line("pids", "pids"));
    EXPECT_EQ(found.controllers.at("cpu").own, "/system/daemon");
    EXPECT_EQ(found.controllers.at("pids").own, "");  // of a part that is not mounted here
    const auto below = Cgroup::create(found, "kumoi/g");
    ASSERT_TRUE(below.ok()) << below.error().text();
    EXPECT_EQ(below->folders(), (std::vector<std::string>{path("cpu,cpuacct/system/daemon/kumoi/g"),
                                                          path("pids/kumoi/g")}));
    EXPECT_EQ(list_cgroups(found, "kumoi").value(), std::vector<std::string>{"kumoi/g"});
    const auto absolute = Cgroup::create(found, "/kumoi/g");
    ASSERT_TRUE(absolute.ok());
    EXPECT_EQ(absolute->folders(),
              (std::vector<std::string>{path("cpu,cpuacct/kumoi/g"), path("pids/kumoi/g")}));
    const auto folders = below->folders();
    EXPECT_TRUE(remove_cgroup_folders(folders).ok());
    EXPECT_FALSE(path_exists(folders.front()));
    EXPECT_TRUE(remove_cgroup_folders(folders).ok());
}

// The kernel refuses to let a group with processes hand controllers down; here its file is missing.
TEST_F(CgroupTest, VersionTwoGroupsAreMadeBesideAGroupThatHasProcesses) {
    own_ = "0::/system/daemon\n";
    write("unified/cgroup.controllers", "cpu pids\n");
    ASSERT_TRUE(make_directories(path("unified/system/daemon")).ok());
    write("unified/system/cgroup.subtree_control", "pids");
    write("unified/system/cgroup.controllers", "pids");  // no cpu for this slice
    write("unified/system/kumoi/cgroup.subtree_control", "");
    write("unified/system/kumoi/cgroup.controllers", "pids");
    const auto found = host("cgroup2 " + path("unified") + " cgroup2 rw 0 0\n");
    const auto group = Cgroup::create(found, "kumoi/g");
    ASSERT_TRUE(group.ok()) << group.error().text();
    EXPECT_EQ(group->folders(), std::vector<std::string>{path("unified/system/kumoi/g")});
    EXPECT_EQ(read("unified/system/cgroup.subtree_control"), "pids");
    EXPECT_EQ(read("unified/system/kumoi/cgroup.subtree_control"), "+pids");
    fill("unified/system/kumoi/g", {"pids.max"});
    EXPECT_TRUE(group->apply({.pids = 5}).ok());
    EXPECT_FALSE(group->apply({.cpu_shares = 500}).ok());  // its file is not there
}

TEST_F(CgroupTest, RefusesBeforeAnythingIsChanged) {
    const auto found = host(v1_line("pids", "pids"));
    ASSERT_TRUE(make_directories(path("pids")).ok());
    fill("pids/kumoi", {"pids.max"});
    const auto group = Cgroup::create(found, "kumoi");
    ASSERT_TRUE(group.ok());
    const auto refused = group->apply({.cpu_shares = 1024, .pids = 5});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::Unsupported);
    EXPECT_EQ(read("pids/kumoi/pids.max"), "");
    EXPECT_EQ(group->missing({.cpus = "0", .memory_bytes = 1}),
              (std::vector<std::string>{"cpuset", "memory"}));
    EXPECT_FALSE(group->apply({.cpu_shares = 1}).ok());
    EXPECT_FALSE(group->apply({.cpu_quota_us = 999}).ok());
    EXPECT_FALSE(group->apply({.cpu_period_us = 2'000'000}).ok());
    for (const char* name : {"", "/", "a/../b"}) {
        EXPECT_FALSE(Cgroup::create(found, name).ok()) << name;
    }
}

TEST(CgroupWeight, SpansTheWholeScale) {
    EXPECT_EQ(cgroup_weight_of_shares(0), 1u);
    EXPECT_EQ(cgroup_weight_of_shares(2), 1u);
    EXPECT_EQ(cgroup_weight_of_shares(262'144), 10'000u);
    EXPECT_EQ(cgroup_weight_of_shares(UINT64_MAX), 10'000u);
}

// The kernel's own control groups, where we may make some.
class RealCgroup : public testing::Test {
protected:
    void SetUp() override {
        auto host = CgroupHost::detect();
        if (!host || !host->has("cpu") || !host->has("pids")) {
            GTEST_SKIP() << "this host has mounted no cgroup controllers cpu and pids";
        }
        name_ = fmt::format("kumoi-test/{}", getpid());
        auto group = Cgroup::create(*host, name_);
        if (!group) {
            GTEST_SKIP() << "no control group can be made here: " << group.error().text();
        }
        host_ = std::move(host).value();
        group_ = std::move(group).value();
    }
    void TearDown() override {
        if (group_) {
            EXPECT_TRUE(group_->remove().ok());
            EXPECT_TRUE(group_->remove().ok());  // twice is fine
            if (const auto parent = Cgroup::create(host_, "kumoi-test"); parent) {
                EXPECT_TRUE(parent->remove().ok());
            }
        }
    }
    std::string name_;
    CgroupHost host_;
    std::optional<Cgroup> group_;
};

TEST_F(RealCgroup, HoldsAProgramFromItsFirstInstruction) {
    ASSERT_TRUE(group_->apply({.cpu_shares = 512, .cpu_quota_us = 50'000, .pids = 7}).ok());
    DaemonOptions options;
    options.cgroup_procs = group_->procs_files();
    const auto pid = spawn_daemon({"/bin/sleep", "1000"}, options);
    ASSERT_TRUE(pid.ok()) << pid.error().text();
    // The child joins before it executes, which we see from the outside as a list that fills.
    while (group_->processes().value().empty()) {
        ASSERT_TRUE(process_alive(*pid));
        sched_yield();
    }
    EXPECT_EQ(group_->processes().value(), std::vector<pid_t>{*pid});
    ASSERT_TRUE(group_->apply({.cpu_quota_us = -1, .pids = 9}).ok());  // live
    const auto busy = group_->remove();
    ASSERT_FALSE(busy.ok());
    EXPECT_EQ(busy.error().code, ErrorCode::Conflict);
    // A daemon that starts again finds the group and takes it over.
    EXPECT_EQ(list_cgroups(host_, "kumoi-test").value(), std::vector<std::string>{name_});
    const auto again = Cgroup::create(host_, name_);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->processes().value(), std::vector<pid_t>{*pid});
    ::kill(*pid, SIGKILL);
    ::waitpid(*pid, nullptr, 0);
}

}  // namespace
}  // namespace kumoi
