// Cgroup: one control group that holds processes to CPU, memory and process limits, on hosts with
// cgroup v1, v2 or both (a controller is used where the host has mounted it).
//
//     auto host  = TRY(CgroupHost::detect());
//     auto group = TRY(Cgroup::create(host, "kumoi/5a1e..."));
//     TRY(group.apply({.cpu_shares = 2048, .cpus = "0-1"}));
//     daemon.cgroup_procs = group.procs_files();       // the child joins before it executes
//     ...
//     TRY(group.apply({.cpu_quota_us = 50'000}));      // live
//     TRY(group.remove());                             // after its processes have ended
//
// Nothing is kept in memory but paths, so a group that a daemon's earlier life made is taken over
// by create() and removed like any other. Values; blocking file operations; one thread a group.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace kumoi {

// Where each controller is: "cpu", "cpuset", "memory", "pids".
struct CgroupHost {
    enum class Version { V1, V2 };
    struct Place {
        Version version = Version::V2;
        std::string root;  // mount point
        std::string own;   // our own group below it: "/system.slice/x", or empty
    };
    std::map<std::string, Place> controllers;

    // From the mount table and, for v2, from cgroup.controllers of its root.
    static Result<CgroupHost> detect(const std::string& mounts_path = "/proc/self/mounts",
                                     const std::string& own_path = "/proc/self/cgroup");
    bool has(const std::string& controller) const { return controllers.contains(controller); }
};

// What is absent is left as it is.
struct CgroupLimits {
    std::optional<uint64_t> cpu_shares;     // 2 to 262144, 1024 is one normal share (v1's scale)
    std::optional<uint64_t> cpu_period_us;  // 1000 to 1000000
    std::optional<int64_t> cpu_quota_us;    // in each period, of all CPUs together; -1: no limit
    std::optional<std::string> cpus;        // list format: "0-3,8"
    std::optional<std::string> memory_nodes;
    std::optional<uint64_t> memory_bytes;
    std::optional<uint64_t> pids;
};

class Cgroup {
public:
    // `name` is a path without "..": "/kumoi/1" below each controller's root, "kumoi/1" below the
    // group we run in ourselves. With v2, where a group with processes hands nothing down, that is
    // beside our group. Makes what is missing; fine when it is there. Exhausted or Forbidden when
    // the host does not let us.
    static Result<Cgroup> create(const CgroupHost& host, const std::string& name);

    // The controllers that a limit needs and the host has not mounted, for a warning or a refusal.
    std::vector<std::string> missing(const CgroupLimits& limits) const;
    // Unsupported, before anything is changed, when the host has not mounted a controller.
    Result<void> apply(const CgroupLimits& limits) const;
    Result<void> add_process(pid_t pid) const;
    // For DaemonOptions::cgroup_procs: writing "0" there joins the writer.
    std::vector<std::string> procs_files() const;
    // Where it is, for remove_cgroup_folders() of another process.
    std::vector<std::string> folders() const;
    Result<std::vector<pid_t>> processes() const;
    // Gone everywhere; fine when it is gone already. Conflict while processes live in it.
    Result<void> remove() const;

    const std::string& name() const { return name_; }

private:
    struct Folder {
        CgroupHost::Version version;
        std::string path;
    };
    Cgroup(std::string name) : name_(std::move(name)) {}
    const Folder* folder(const std::string& controller) const;
    Result<void> apply_cpu(const CgroupLimits& limits) const;
    Result<void> apply_rest(const CgroupLimits& limits) const;

    std::string name_;
    std::map<std::string, Folder> folders_;  // by controller; several may share one
};

// The folders of a group and nothing that lives in it. Fine when they are gone; Conflict while
// processes are in it.
Result<void> remove_cgroup_folders(const std::vector<std::string>& folders);

// The names of the groups below `parent`: what an earlier life of a daemon may have left.
Result<std::vector<std::string>> list_cgroups(const CgroupHost& host, const std::string& parent);

// v1's shares on v2's scale of 1 to 10000, as systemd and the container runtimes translate them.
uint64_t cgroup_weight_of_shares(uint64_t shares);

}  // namespace kumoi
