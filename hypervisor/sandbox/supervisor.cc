#include "hypervisor/sandbox/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <span>

#include "base/file.h"
#include "base/log.h"

namespace kumoi::hypervisor {

namespace {

constexpr int kExitFailed = 1;

sigset_t watched_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGTERM, SIGINT, SIGCHLD}) {
        sigaddset(&set, signal);
    }
    return set;
}

// Locks, TAPs and sockets must end with the machine and not with its supervisor. What its caller
// left open (a lock of his) and the log stay: they do not close on exec.
void close_what_is_the_machines(std::initializer_list<int> kept) {
    const auto names = list_directory("/proc/self/fd");
    for (const std::string& name : names ? *names : std::vector<std::string>()) {
        int fd = -1;
        std::from_chars(name.data(), name.data() + name.size(), fd);
        const int flags = fd > STDERR_FILENO ? ::fcntl(fd, F_GETFD) : -1;
        if (flags >= 0 && (flags & FD_CLOEXEC) != 0 && std::ranges::find(kept, fd) == kept.end()) {
            ::close(fd);
        }
    }
}

void forward(pid_t child, const signalfd_siginfo& info) {
    if (info.ssi_code == SI_KERNEL) {
        return;  // the terminal's: the whole process group has it
    }
    sigval value{};
    value.sival_int = kForwardedSignal;
    ::sigqueue(child, static_cast<int>(info.ssi_signo), value);
}

void machine_is_made(SupervisorPlan& plan, LeftFiles& left) {
    if (plan.pid_file.empty()) {
        return;
    }
    const std::string text = fmt::format("{}\n", plan.child);
    if (auto written = write_file_atomic(plan.pid_file, text); !written) {
        log_error("sandbox", "writing the pid file failed; ending the machine",
                  {{"error", written.error().text()}});
        ::kill(plan.child, SIGKILL);
        return;
    }
    left.add_file(plan.pid_file, text);
}

void serve(SupervisorPlan& plan, BrokerServer& broker, LeftFiles& left) {
    const auto after = broker.serve(plan.requests.get());
    if (after == BrokerServer::After::Goes) {
        return;
    }
    plan.requests.reset();  // for good; poll(2) skips a negative number
    for (const std::string& path : broker.sockets()) {
        left.add_socket(path);
    }
    if (after == BrokerServer::After::Made) {
        machine_is_made(plan, left);
    }
}

// The machine may have passed its end on: nobody is waited for.
bool is_readable(const UniqueFd& socket) {
    pollfd watched{socket.get(), POLLIN, 0};
    return ::poll(&watched, 1, 0) > 0;
}

// Backwards: one that is done with goes.
void serve_connectors(BrokerServer& broker, std::span<const pollfd> watched) {
    for (size_t i = watched.size(); i-- > 0;) {
        auto& connectors = broker.connectors();
        if (watched[i].revents != 0 && !broker.serve(connectors[i])) {
            connectors.erase(connectors.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }
}

[[noreturn]] void end_like(const SupervisorPlan& plan, const LeftFiles& left, int status) {
    left.remove();
    if (!WIFSIGNALED(status)) {
        log_flush();
        ::_exit(WEXITSTATUS(status));
    }
    const int signal = WTERMSIG(status);
    log_error("sandbox",
              signal == SIGSYS ? "the machine's process asked for a system call that the sandbox "
                                 "does not allow, and was killed"
                               : "the machine's process was killed",
              {{"pid", plan.child}, {"signal", ::strsignal(signal)}});
    log_flush();
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);  // the dump would be ours, not the machine's
    std::signal(signal, SIG_DFL);
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, signal);
    ::sigprocmask(SIG_UNBLOCK, &only, nullptr);
    ::kill(::getpid(), signal);
    constexpr int kSignalled = 128;
    ::_exit(kSignalled + signal);
}

}  // namespace

[[noreturn]] void supervise(SupervisorPlan plan) {
    const sigset_t set = watched_signals();
    const UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC));
    if (!signals.is_open()) {
        log_error("sandbox", "no signal descriptor", {{"error", std::strerror(errno)}});
        ::kill(plan.child, SIGKILL);
        ::_exit(kExitFailed);
    }
    LeftFiles left;
    for (const std::string& path : plan.remove) {
        left.add_socket(path);
    }
    close_what_is_the_machines({signals.get(), plan.requests.get()});
    BrokerServer broker(std::move(plan.rules), direct_files());
    ::prctl(PR_SET_NAME, "kumoi-launcher", 0, 0, 0);
    for (;;) {
        std::vector<pollfd> watched = {{signals.get(), POLLIN, 0},
                                       {plan.requests.get(), POLLIN, 0}};
        for (const auto& connector : broker.connectors()) {
            watched.push_back({connector.socket.get(), POLLIN, 0});
        }
        if (::poll(watched.data(), watched.size(), -1) < 0) {
            continue;  // EINTR
        }
        serve_connectors(broker, std::span(watched).subspan(2));
        if (watched[1].revents != 0) {
            serve(plan, broker, left);
        }
        signalfd_siginfo info{};
        if (watched[0].revents == 0 ||
            ::read(signals.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) {
            continue;
        }
        if (info.ssi_signo != SIGCHLD) {
            forward(plan.child, info);
            continue;
        }
        int status = 0;
        if (::waitpid(plan.child, &status, WNOHANG) == plan.child) {
            while (plan.requests.is_open() && is_readable(plan.requests)) {
                serve(plan, broker, left);  // what it asked last; then its end is closed
            }
            end_like(plan, left, status);
        }
    }
}

}  // namespace kumoi::hypervisor
