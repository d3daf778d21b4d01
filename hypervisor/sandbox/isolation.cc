#include "hypervisor/sandbox/isolation.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>

#include "base/fd.h"

namespace kumoi::hypervisor {

namespace {

constexpr std::string_view kPieceNames[kSandboxPieces] = {"pid",  "mount", "network",  "ipc",
                                                          "user", "caps",  "landlock", "seccomp"};

Result<void> unshare_namespaces(int flags, std::string_view what) {
    if (::unshare(flags) != 0) {
        return Error::from_errno(errno, fmt::format("making {}", what))
            .with_hint("start kumoi-vmm as root, or allow user namespaces");
    }
    return {};
}

Result<void> write_proc(const char* path, std::string_view text) {
    const UniqueFd fd = TRY(open_file(path, O_WRONLY));
    return write_all(fd.get(), std::as_bytes(std::span(text)));
}

// Any directory that is there will do to hang the empty root on; only this process sees it.
Result<std::string> mount_point() {
    for (const char* path : {"/proc", "/tmp", "/run", "/dev"}) {
        struct stat status {};
        if (::stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
            return std::string(path);
        }
    }
    return Error::not_found("no directory to mount an empty root on");
}

// Linux Documentation/userspace-api/landlock.rst; Debian 12's header knows ABI 2 and kernels more.
namespace landlock {
struct RulesetAttributes {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};
constexpr long kCreateRuleset = 444;
constexpr long kRestrictSelf = 446;
constexpr unsigned kVersionFlag = 1;
constexpr int kAbiRefer = 2;
constexpr int kAbiTruncate = 3;
constexpr int kAbiNetwork = 4;
constexpr int kAbiIoctl = 5;
constexpr int kAbiScopes = 6;

uint64_t file_rights(int abi) {
    unsigned count = 13;  // execute to make_sym
    count += abi >= kAbiRefer ? 1u : 0u;
    count += abi >= kAbiTruncate ? 1u : 0u;
    count += abi >= kAbiIoctl ? 1u : 0u;
    return (uint64_t{1} << count) - 1;
}

size_t attributes_size(int abi) {
    if (abi < kAbiNetwork) {
        return sizeof(uint64_t);
    }
    return abi < kAbiScopes ? 2 * sizeof(uint64_t) : sizeof(RulesetAttributes);
}
}  // namespace landlock

}  // namespace

std::string_view to_string(SandboxPiece piece) {
    return kPieceNames[static_cast<size_t>(piece)];
}

Result<SandboxPiece> sandbox_piece(std::string_view name) {
    const auto* found = std::ranges::find(kPieceNames, name);
    if (found == std::end(kPieceNames)) {
        return Error::invalid("\"{}\" is no piece of the sandbox", name)
            .with_hint("pid, mount, network, ipc, user, caps, landlock or seccomp");
    }
    return static_cast<SandboxPiece>(found - std::begin(kPieceNames));
}

Result<void> enter_user_namespace() {
    const uid_t uid = ::geteuid();
    const gid_t gid = ::getegid();
    TRY(unshare_namespaces(CLONE_NEWUSER, "a user namespace"));
    TRY(write_proc("/proc/self/setgroups", "deny"));
    TRY(write_proc("/proc/self/uid_map", fmt::format("{} {} 1\n", uid, uid)));
    return write_proc("/proc/self/gid_map", fmt::format("{} {} 1\n", gid, gid));
}

Result<void> enter_pid_namespace() {
    return unshare_namespaces(CLONE_NEWPID, "a pid namespace");
}

Result<void> enter_network_namespace() {
    return unshare_namespaces(CLONE_NEWNET, "a network namespace");
}

Result<void> enter_ipc_namespaces() {
    return unshare_namespaces(CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
                              "IPC, UTS and cgroup namespaces");
}

// pivot_root(2): the old root ends up on top of the new one and is detached, so that no path and no
// ".." leads to it any more.
Result<void> enter_empty_root() {
    const std::string at = TRY(mount_point());
    TRY(unshare_namespaces(CLONE_NEWNS, "a mount namespace"));
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        return Error::from_errno(errno, "making the mounts private");
    }
    constexpr unsigned long kFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    if (::mount("kumoi-vmm", at.c_str(), "tmpfs", kFlags | MS_RDONLY,
                "size=4k,nr_inodes=1,mode=0555") != 0) {
        return Error::from_errno(errno, "mounting an empty root");
    }
    if (::chdir(at.c_str()) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0 ||
        ::umount2(".", MNT_DETACH) != 0 || ::chdir("/") != 0) {
        return Error::from_errno(errno, "changing to the empty root");
    }
    return {};
}

Result<void> become_user(uid_t uid, gid_t gid) {
    if (::setgroups(0, nullptr) != 0 || ::setresgid(gid, gid, gid) != 0 ||
        ::setresuid(uid, uid, uid) != 0) {
        return Error::from_errno(errno, fmt::format("becoming user {} and group {}", uid, gid));
    }
    return {};
}

Result<void> drop_bounding_set() {
    constexpr int kCapabilitiesMax = 63;
    for (int capability = 0; capability <= kCapabilitiesMax; ++capability) {
        const int held = ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
        if (held < 0) {
            break;  // the kernel knows no more
        }
        if (held == 1 && ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0) {
            return Error::from_errno(errno, "dropping a capability for good");
        }
    }
    return {};
}

Result<void> drop_privileges() {
    ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
    if (::syscall(SYS_capset, &header, none) != 0) {
        return Error::from_errno(errno, "dropping the capabilities");
    }
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return Error::from_errno(errno, "setting no_new_privs");
    }
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
        return Error::from_errno(errno, "making the process not dumpable");
    }
    return {};
}

Result<void> close_landlock() {
    const auto abi = static_cast<int>(
        ::syscall(landlock::kCreateRuleset, nullptr, size_t{0}, landlock::kVersionFlag));
    if (abi < 0) {
        return Error::from_errno(errno, "asking for landlock")
            .with_hint("needs Linux 5.13 with landlock among its security modules");
    }
    landlock::RulesetAttributes attributes{};
    attributes.handled_access_fs = landlock::file_rights(abi);
    attributes.handled_access_net = 3;  // bind and connect of TCP
    attributes.scoped = 3;              // abstract unix sockets, signals
    const UniqueFd ruleset(static_cast<int>(
        ::syscall(landlock::kCreateRuleset, &attributes, landlock::attributes_size(abi), 0)));
    if (!ruleset.is_open()) {
        return Error::from_errno(errno, "making a landlock ruleset");
    }
    // No rule is added: nothing is allowed.
    if (::syscall(landlock::kRestrictSelf, ruleset.get(), 0) != 0) {
        return Error::from_errno(errno, "entering landlock");
    }
    return {};
}

Result<void> limit_resources(const ProcessLimits& limits) {
    const auto set = [](__rlimit_resource resource, rlim_t value) {
        rlimit now{};
        if (::getrlimit(resource, &now) != 0) {
            return false;
        }
        const rlim_t most = std::min(value, now.rlim_max);
        const rlimit wanted{most, most};
        return ::setrlimit(resource, &wanted) == 0;
    };
    if (!set(RLIMIT_CORE, 0) || !set(RLIMIT_NOFILE, limits.descriptors) ||
        !set(RLIMIT_MSGQUEUE, 0) || (limits.threads != 0 && !set(RLIMIT_NPROC, limits.threads))) {
        return Error::from_errno(errno, "setting resource limits");
    }
    return {};
}

}  // namespace kumoi::hypervisor
