#include "hypervisor/sandbox/sandbox.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <ctime>

#include "base/file.h"
#include "base/log.h"
#include "hypervisor/sandbox/supervisor.h"
#include "hypervisor/sandbox/thread_class.h"

namespace kumoi::hypervisor {

namespace {

constexpr uint64_t kDescriptorsMax = 4096;
constexpr uint64_t kThreadsSpare = 64;

// As the host sees it: the proc file system is still the host's.
pid_t host_pid() {
    std::array<char, 32> text{};
    const ssize_t size = ::readlink("/proc/self", text.data(), text.size());
    pid_t pid = 0;
    if (size > 0) {
        std::from_chars(text.data(), text.data() + size, pid);
    }
    return pid > 0 ? pid : ::getpid();
}

Result<void> block_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGTERM, SIGINT, SIGCHLD}) {
        sigaddset(&set, signal);
    }
    if (pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) {
        return Error::internal("blocking signals failed");
    }
    return {};
}

// What libraries look up in files when they first need it, which may be in an hour.
void prepare_libraries() {
    // Arenas of threads read /proc when they shrink, and count processors when there are nine. A
    // single one costs a lock now and then, for most is kept by the threads, and less memory.
    ::mallopt(M_ARENA_MAX, 1);
}

}  // namespace

Result<void> Sandbox::enter(const SandboxPlan& plan) {
    if (entered_) {
        return Error::conflict("the sandbox of this process is closed already");
    }
    required_ = plan.config.require;
    root_ = ::geteuid() == 0;
    auto pid_namespace = enter_pid_namespace();
    if (!pid_namespace) {  // not root, or root in a container: a user namespace gives what it takes
        if (const auto user = enter_user_namespace(); user) {
            root_ = false;
            pid_namespace = enter_pid_namespace();
        }
    }
    TRY(take(SandboxPiece::Pid, pid_namespace));
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return Error::from_errno(errno, "making a pair of sockets");
    }
    UniqueFd launcher_end(ends[0]);
    UniqueFd machine_end(ends[1]);
    TRY(block_signals());
    ::tzset();  // reads /etc/localtime: the log's first line would
    log_flush();
    const pid_t child = ::fork();
    if (child < 0) {
        return Error::from_errno(errno, "starting the sandboxed process");
    }
    if (child != 0) {
        machine_end.reset();
        supervise({child, std::move(launcher_end), plan.rules, plan.pid_file, plan.socket_files});
    }
    entered_ = true;
    pid_ = host_pid();
    broker_ = BrokerFiles(std::move(machine_end));
    launcher_end.reset();
    return isolate(plan);
}

Result<void> Sandbox::isolate(const SandboxPlan& plan) {
    const uint32_t uid = sandbox_uid(plan.config, static_cast<uint32_t>(pid_));
    const uint32_t gid = plan.config.gid != 0 ? plan.config.gid : uid;
    TRY(take(SandboxPiece::Network, enter_network_namespace()));
    TRY(take(SandboxPiece::Ipc, enter_ipc_namespaces()));
    TRY(take(SandboxPiece::Mount, enter_empty_root()));
    const auto bounds = drop_bounding_set();
    const auto user =
        root_ ? become_user(uid, gid)
              : Result<void>(Error::forbidden("only root can give a guest a user of its own"));
    TRY(take(SandboxPiece::User, user));
    TRY(limit_resources(
        {.descriptors = kDescriptorsMax, .threads = user ? plan.threads + kThreadsSpare : 0}));
    uid_ = ::getuid();
    const auto privileges = drop_privileges();
    TRY(take(SandboxPiece::Caps, privileges ? bounds : privileges));
    TRY(die_with_launcher());
    return take(SandboxPiece::Landlock, close_landlock());
}

Result<void> Sandbox::close() {
    if (!entered_) {
        return {};
    }
    prepare_libraries();
    TRY(take(SandboxPiece::Seccomp,
             close_seccomp(mode_ == SandboxMode::Log ? SeccompAction::Log : SeccompAction::Kill)));
    std::vector<std::string_view> missing;
    for (const SandboxPiece piece : missing_) {
        missing.push_back(to_string(piece));
    }
    log_info(
        "sandbox", mode_ == SandboxMode::Log ? "closed, logging only" : "closed",
        {{"pid", pid_},
         {"uid", uid_},
         {"missing", missing.empty() ? "nothing" : fmt::format("{}", fmt::join(missing, ","))}});
    return {};
}

void Sandbox::machine_made() {
    broker_.machine_made();
}

Result<void> Sandbox::take(SandboxPiece piece, const Result<void>& result) {
    if (result) {
        return {};
    }
    if (std::ranges::find(required_, piece) != required_.end()) {
        return Error::unavailable("the sandbox lacks \"{}\", which is required: {}",
                                  to_string(piece), result.error().text())
            .with_hint("see sandbox.require in the guest's configuration");
    }
    missing_.push_back(piece);
    // Without root rights there never is a user of its own: nothing odd about that.
    const bool expected = piece == SandboxPiece::User && !root_;
    log_line(expected ? LogLevel::Info : LogLevel::Warn, "sandbox", "a piece is missing",
             {{"piece", to_string(piece)}, {"reason", result.error().text()}});
    return {};
}

// A launcher that was killed between the fork and this line has closed its end of the socket.
Result<void> Sandbox::die_with_launcher() const {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) {
        return Error::from_errno(errno, "asking to end with the launcher");
    }
    pollfd launcher{broker_.fd(), 0, 0};
    if (::poll(&launcher, 1, 0) > 0 && (launcher.revents & POLLHUP) != 0) {
        return Error::cancelled("the launcher has ended");
    }
    return {};
}

void close_inherited_descriptors(const std::vector<int>& kept) {
    const auto names = list_directory("/proc/self/fd");
    for (const std::string& name : names ? *names : std::vector<std::string>()) {
        int fd = -1;
        std::from_chars(name.data(), name.data() + name.size(), fd);
        if (fd > STDERR_FILENO && std::ranges::find(kept, fd) == kept.end()) {
            ::close(fd);
        }
    }
}

}  // namespace kumoi::hypervisor
