#include "compute/driver/guest_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "base/fd.h"
#include "base/file.h"
#include "base/file_lock.h"
#include "base/log.h"
#include "base/subprocess.h"

namespace kumoi::compute {
namespace {

constexpr int kPollStepMs = 10;     // between two looks at a process that cannot be waited for
constexpr int kWaitStepMs = 1'000;  // when the kernel tells of its end
constexpr int64_t kLockPatienceMs = 500;  // a fork of ours may hold the lock until it execs
constexpr int64_t kQuitTimeoutMs = 3'000;
constexpr int64_t kKillTimeoutMs = 10'000;
constexpr int64_t kUpgradeMs = 60'000;
constexpr size_t kLogTail = 600;  // bytes quoted in errors
constexpr size_t kSmallFileMax = 64 << 10;

void pass_time(int milliseconds) {
    ::poll(nullptr, 0, milliseconds);
}

// A live upgrade (guest_upgrade.h) is over within moments; until then it is not known which of two
// processes to end.
void wait_for_upgrade(const InstanceFolder& folder, const Clock& clock) {
    const int64_t deadline = clock.monotonic_ns() + kUpgradeMs * kNanosPerMilli;
    while (path_exists(folder.path() + "/upgrade.json") && clock.monotonic_ns() < deadline) {
        pass_time(kPollStepMs);
    }
}

void reap(pid_t pid) {
    int status = 0;
    ::waitpid(pid, &status, WNOHANG);  // ours only until the daemon is restarted; then init reaps
}

}  // namespace

Result<bool> GuestProcess::is_alive() const {
    if (!path_exists(folder_.lock())) {
        return false;
    }
    auto lock = TRY(try_lock_file(folder_.lock()));
    return !lock.has_value() && other_host(written_down()).empty();
}

Result<void> GuestProcess::start(const std::vector<std::string>& more,
                                 const std::vector<std::string>& cgroup_procs) const {
    const int64_t deadline = clock_.monotonic_ns() + kLockPatienceMs * kNanosPerMilli;
    auto lock = TRY(try_lock_file(folder_.lock()));
    while (!lock && clock_.monotonic_ns() < deadline) {
        pass_time(kPollStepMs);
        lock = TRY(try_lock_file(folder_.lock()));
    }
    if (!lock) {
        const std::string other = other_host(written_down());
        return other.empty()
                   ? Error::conflict("A kumoi-vmm process runs this guest already")
                   : Error::conflict("A kumoi-vmm process on host {} runs this guest", other)
                         .with_hint(
                             "Stop it there, or evacuate the server when that host is down.");
    }
    for (const std::string& stale : {folder_.control_socket(), folder_.console_socket(),
                                     folder_.pid_file(), folder_.process()}) {
        TRY(remove_file(stale));
    }
    DaemonOptions daemon;
    daemon.log_path = folder_.vmm_log();
    daemon.inherited_fds = {lock->get()};
    daemon.directory = folder_.path();
    daemon.cgroup_procs = cgroup_procs;
    Identity process;
    std::vector<std::string> argv = {options_.vmm_path, "--config", folder_.guest_config(),
                                     "--keep-fd", std::to_string(lock->get())};
    argv.insert(argv.end(), more.begin(), more.end());
    process.pid = TRY(spawn_daemon(argv, daemon));
    process.launcher = process.pid;
    const auto ticks = process_start_ticks(process.pid);
    process.start_ticks = ticks.ok() ? *ticks : 0;
    auto started = [&]() -> Result<void> {
        TRY(remember(process));
        TRY(wait_running(process));
        return remember_inner(process);
    }();
    if (!started.ok()) {
        // Our own child and not reaped yet: the pid is still its. The machine ends with it.
        ::kill(process.launcher, SIGKILL);
        ::waitpid(process.launcher, nullptr, 0);
    }
    return started;
}

Result<void> GuestProcess::remember(const Identity& process) const {
    const Json json = Json::object({{"pid", process.pid},
                                    {"start_ticks", process.start_ticks},
                                    {"launcher", process.launcher},
                                    {"host", options_.host}});
    return write_file_atomic(folder_.process(), json.dump(), 0600);
}

// The launcher's pid was known first and would do; the machine itself knows better. It may have
// ended already: a guest that powers off at once has been started all the same.
Result<void> GuestProcess::remember_inner(Identity process) const {
    const auto hello = call("hello");
    const auto inner = static_cast<pid_t>(hello.ok() ? hello->integer_or("pid") : 0);
    const auto ticks = process_start_ticks(inner);
    if (inner <= 1 || inner == process.pid || !ticks.ok()) {
        return {};
    }
    process.pid = inner;
    process.start_ticks = *ticks;
    return remember(process);
}

Result<void> GuestProcess::wait_running(const Identity& process) const {
    const int64_t deadline = clock_.monotonic_ns() + options_.start_timeout_ms * kNanosPerMilli;
    while (clock_.monotonic_ns() < deadline) {
        const auto state = call("state");
        const std::string word = state.ok() ? state->string_or("state") : "";
        if (!word.empty() && word != "empty" && word != "created") {
            return {};
        }
        if (!process_alive(process.pid)) {
            return Error::unavailable("kumoi-vmm ended while it started: {}", log_tail());
        }
        pass_time(kPollStepMs);
    }
    return Error::timeout("kumoi-vmm did not start the guest within {} ms: {}",
                          options_.start_timeout_ms, log_tail())
        .with_hint(
            "See vmm.log in the server's folder; raise [kumoi] start_timeout on a slow host.");
}

Result<Json> GuestProcess::call(std::string_view method, const Json& params,
                                std::span<const hypervisor::NamedDescriptor> passed) const {
    auto client = TRY(
        hypervisor::ControlClient::connect(folder_.control_socket(), options_.control_timeout_ms));
    return client.call(method, params, options_.control_timeout_ms, passed);
}

Result<bool> GuestProcess::wait_end(int64_t timeout_ms) const {
    const int64_t deadline = clock_.monotonic_ns() + timeout_ms * kNanosPerMilli;
    const auto process = identity();
    const auto last = recorded();
    UniqueFd pid_fd;
    if (process) {
        pid_fd.reset(static_cast<int>(::syscall(SYS_pidfd_open, process->pid, 0)));
    }
    while (TRY(is_alive())) {
        const int64_t left_ms = (deadline - clock_.monotonic_ns()) / kNanosPerMilli;
        if (left_ms <= 0) {
            return false;
        }
        const int step_max = pid_fd.is_open() ? kWaitStepMs : kPollStepMs;
        pollfd ended{pid_fd.get(), POLLIN, 0};  // a closed one is skipped by poll(2)
        if (::poll(&ended, 1, static_cast<int>(std::min<int64_t>(left_ms, step_max))) > 0) {
            pid_fd.reset();  // it ended: only the lock's release is left to see
        }
    }
    if (last && last->launcher > 1) {
        reap(last->launcher);
    }
    return true;
}

Result<void> GuestProcess::stop() const {
    wait_for_upgrade(folder_, clock_);
    if (!TRY(is_alive())) {
        return {};
    }
    const auto asked = call("quit");
    if (asked.ok() && TRY(wait_end(kQuitTimeoutMs))) {
        return {};
    }
    return kill();
}

Result<void> GuestProcess::kill() const {
    const auto process = identity();
    if (!process) {
        if (!TRY(is_alive())) {
            return {};
        }
        return Error::unavailable("A kumoi-vmm process holds {} and cannot be identified",
                                  folder_.lock())
            .with_hint("Find it with fuser, end it, and try again.");
    }
    const UniqueFd pid_fd(static_cast<int>(::syscall(SYS_pidfd_open, process->pid, 0)));
    // Between the look and the open the pid may have changed hands; the start time tells.
    const auto ticks = process_start_ticks(process->pid);
    if (pid_fd.is_open() && ticks.ok() && *ticks == process->start_ticks) {
        log_warn("driver", "killing a kumoi-vmm that does not quit", {{"pid", process->pid}});
        ::syscall(SYS_pidfd_send_signal, pid_fd.get(), SIGKILL, nullptr, 0);
    }
    if (!TRY(wait_end(kKillTimeoutMs))) {
        return Error::timeout("kumoi-vmm process {} does not end even when killed", process->pid)
            .with_hint("It may wait for a device; look at its kernel stack in /proc.");
    }
    return {};
}

std::optional<bool> GuestProcess::ended_well(int64_t timeout_ms) const {
    const auto process = recorded();
    const int64_t deadline = clock_.monotonic_ns() + timeout_ms * kNanosPerMilli;
    while (process && process->launcher > 1) {
        int status = 0;
        if (const pid_t ended = ::waitpid(process->launcher, &status, WNOHANG); ended != 0) {
            return ended > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
        }
        if (clock_.monotonic_ns() >= deadline) {
            break;
        }
        pass_time(kPollStepMs);
    }
    return std::nullopt;
}

std::optional<GuestProcess::Identity> GuestProcess::identity() const {
    const auto found = recorded();
    if (!found || found->pid <= 1) {
        return std::nullopt;
    }
    const auto ticks = process_start_ticks(found->pid);
    return ticks.ok() && *ticks == found->start_ticks ? found : std::nullopt;
}

// process.json; nothing when it is not there, an empty object when it is damaged.
std::optional<Json> GuestProcess::written_down() const {
    const auto text = read_file(folder_.process(), kSmallFileMax);
    if (!text.ok()) {
        return std::nullopt;
    }
    auto json = Json::parse(*text);
    return json.ok() ? std::move(json).value() : Json::object();
}

// The host whose process was written down, if it is not this one.
std::string GuestProcess::other_host(const std::optional<Json>& record) const {
    const std::string host = record ? record->string_or("host") : "";
    return options_.host.empty() || host == options_.host ? "" : host;
}

// From process.json; when a crash came before that was written, from the pid file of the machine
// itself.
std::optional<GuestProcess::Identity> GuestProcess::recorded() const {
    const std::optional<Json> record = written_down();
    if (!other_host(record).empty()) {
        return std::nullopt;  // its pid means nothing here
    }
    Identity found;
    if (record) {
        found.pid = static_cast<pid_t>(record->integer_or("pid"));
        found.start_ticks = static_cast<uint64_t>(record->integer_or("start_ticks"));
        found.launcher = static_cast<pid_t>(record->integer_or("launcher", found.pid));
    } else if (const auto pid = read_file(folder_.pid_file(), kSmallFileMax); pid.ok()) {
        std::from_chars(pid->data(), pid->data() + pid->size(), found.pid);
        const auto command = read_file(fmt::format("/proc/{}/cmdline", found.pid), kSmallFileMax);
        const auto ticks = process_start_ticks(found.pid);
        if (!command.ok() || command->find(folder_.guest_config()) == std::string::npos ||
            !ticks.ok()) {
            return std::nullopt;
        }
        found.start_ticks = *ticks;
        found.launcher = found.pid;
    }
    return found;
}

std::string GuestProcess::log_tail() const {
    const auto text = read_file(folder_.vmm_log());
    if (!text.ok() || text->empty()) {
        return "it left no log";
    }
    return text->size() > kLogTail ? "..." + text->substr(text->size() - kLogTail) : *text;
}

}  // namespace kumoi::compute
