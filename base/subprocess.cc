#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"

namespace kumoi {
namespace {

constexpr int kExecFailed = 127;
constexpr int kGroupRefused = 126;

struct Pipe {
    UniqueFd read_end;
    UniqueFd write_end;
};

Result<Pipe> make_pipe() {
    std::array<int, 2> fds{};
    if (::pipe2(fds.data(), O_CLOEXEC) != 0) {
        return Error::from_errno(errno, "making a pipe");
    }
    return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

std::vector<char*> c_argv(const std::vector<std::string>& argv) {
    std::vector<char*> pointers;
    pointers.reserve(argv.size() + 1);
    for (const std::string& argument : argv) {
        pointers.push_back(const_cast<char*>(argument.c_str()));
    }
    pointers.push_back(nullptr);
    return pointers;
}

// Only async-signal-safe calls from here to exec: other threads may have held any lock at fork().
void reset_signals() {
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    for (const int number : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGUSR1, SIGUSR2}) {
        ::signal(number, SIG_DFL);
    }
}

// Closes every descriptor from 3 up except `kept` (sorted, without duplicates).
void close_others(const int* kept, size_t count) {
    unsigned next = 3;
    for (size_t index = 0; index < count; ++index) {
        const auto fd = static_cast<unsigned>(kept[index]);
        if (fd > next) {
            ::close_range(next, fd - 1, 0);
        }
        next = std::max(next, fd + 1);
    }
    ::close_range(next, ~0U, 0);
}

// Writing "0" to cgroup.procs moves the writer. False when a group does not take us.
bool join_groups(const std::vector<UniqueFd>& groups) {
    bool joined = true;
    for (const UniqueFd& group : groups) {
        joined = ::write(group.get(), "0", 1) == 1 && joined;
    }
    return joined;
}

void set_nonblocking(int fd) {
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

// Moves what is readable into `out`; false at end of file.
bool drain(int fd, std::string& out, size_t output_max) {
    std::array<char, 16384> buffer;
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0) {
        return errno == EINTR || errno == EAGAIN;
    }
    const size_t room = output_max > out.size() ? output_max - out.size() : 0;
    out.append(buffer.data(), std::min(static_cast<size_t>(count), room));
    return count > 0;
}

struct Child {
    pid_t pid = -1;
    Pipe in, out, err;
};

Result<Child> start_child(const std::vector<std::string>& argv, const CommandOptions& options) {
    Child child;
    child.in = TRY(make_pipe());
    child.out = TRY(make_pipe());
    child.err = TRY(make_pipe());
    const std::string program =
        argv[0].find('/') == std::string::npos ? TRY(find_program(argv[0])) : argv[0];
    const auto pointers = c_argv(argv);
    child.pid = ::fork();
    if (child.pid < 0) {
        return Error::from_errno(errno, "starting " + argv[0]);
    }
    if (child.pid == 0) {
        reset_signals();
        ::dup2(child.in.read_end.get(), 0);
        ::dup2(child.out.write_end.get(), 1);
        ::dup2(child.err.write_end.get(), 2);
        close_others(nullptr, 0);
        if (options.directory.empty() || ::chdir(options.directory.c_str()) == 0) {
            ::execv(program.c_str(), pointers.data());
        }
        ::_exit(kExecFailed);
    }
    child.in.read_end.reset();
    child.out.write_end.reset();
    child.err.write_end.reset();
    return child;
}

int wait_for(pid_t pid) {
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void feed(Child& child, const std::string& input, size_t& written) {
    const ssize_t count =
        ::write(child.in.write_end.get(), input.data() + written, input.size() - written);
    if (count > 0) {
        written += static_cast<size_t>(count);
    }
    const bool broken = count < 0 && errno != EAGAIN && errno != EINTR;
    if (broken || written == input.size()) {
        child.in.write_end.reset();
    }
}

// Exchanges data until both outputs are closed; false when the time is up.
bool exchange(Child& child, const CommandOptions& options, CommandOutput& output) {
    const SystemClock clock;
    const int64_t deadline = clock.monotonic_ns() + options.timeout_ms * kNanosPerMilli;
    size_t written = 0;
    set_nonblocking(child.in.write_end.get());
    if (options.input.empty()) {
        child.in.write_end.reset();
    }
    while (child.out.read_end.is_open() || child.err.read_end.is_open()) {
        std::array<pollfd, 3> fds = {{{child.out.read_end.get(), POLLIN, 0},
                                      {child.err.read_end.get(), POLLIN, 0},
                                      {child.in.write_end.get(), POLLOUT, 0}}};
        const int64_t left_ms = (deadline - clock.monotonic_ns()) / kNanosPerMilli;
        if (left_ms <= 0) {
            return false;
        }
        if (::poll(fds.data(), fds.size(), static_cast<int>(std::min<int64_t>(left_ms, 60'000))) <=
            0) {
            continue;
        }
        if (fds[0].revents != 0 && !drain(fds[0].fd, output.out, options.output_max)) {
            child.out.read_end.reset();
        }
        if (fds[1].revents != 0 && !drain(fds[1].fd, output.err, options.output_max)) {
            child.err.read_end.reset();
        }
        if (fds[2].revents != 0) {
            feed(child, options.input, written);
        }
    }
    return true;
}

std::string command_text(const std::vector<std::string>& argv) {
    std::string text;
    for (const std::string& argument : argv) {
        text += (text.empty() ? "" : " ") + argument;
    }
    return text.size() > 200 ? text.substr(0, 200) + "..." : text;
}

std::string tail(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    return text.size() > 500 ? "..." + text.substr(text.size() - 500) : text;
}

}  // namespace

Result<CommandOutput> run_command(const std::vector<std::string>& argv,
                                  const CommandOptions& options) {
    KUMOI_ASSERT(!argv.empty());
    ::signal(SIGPIPE, SIG_IGN);  // a child that stops reading its input must not end us
    Child child = TRY(start_child(argv, options));
    CommandOutput output;
    if (!exchange(child, options, output)) {
        ::kill(child.pid, SIGKILL);
        wait_for(child.pid);
        return Error::timeout("'{}' did not finish within {} ms and was killed", command_text(argv),
                              options.timeout_ms);
    }
    output.exit_code = wait_for(child.pid);
    return output;
}

Result<std::string> run_checked(const std::vector<std::string>& argv,
                                const CommandOptions& options) {
    CommandOutput output = TRY(run_command(argv, options));
    if (output.exit_code != 0) {
        return Error::io("'{}' ended with status {}: {}", command_text(argv), output.exit_code,
                         tail(output.err.empty() ? output.out : output.err));
    }
    return std::move(output.out);
}

Result<pid_t> spawn_daemon(const std::vector<std::string>& argv, const DaemonOptions& options) {
    KUMOI_ASSERT(!argv.empty());
    const std::string program =
        argv[0].find('/') == std::string::npos ? TRY(find_program(argv[0])) : argv[0];
    const UniqueFd null = TRY(open_file("/dev/null", O_RDWR));
    UniqueFd log;
    if (!options.log_path.empty()) {
        log = TRY(open_file(options.log_path, O_WRONLY | O_CREAT | O_APPEND, 0640));
    }
    std::vector<UniqueFd> groups;
    for (const std::string& file : options.cgroup_procs) {
        groups.push_back(TRY_CONTEXT(open_file(file, O_WRONLY), "joining a control group"));
    }
    std::vector<int> kept = options.inherited_fds;
    std::sort(kept.begin(), kept.end());
    const auto pointers = c_argv(argv);
    const pid_t pid = ::fork();
    if (pid < 0) {
        return Error::from_errno(errno, "starting " + argv[0]);
    }
    if (pid == 0) {
        reset_signals();
        if (options.new_session) {
            ::setsid();
        }
        if (!join_groups(groups)) {
            ::_exit(kGroupRefused);  // better no program than one without its limits
        }
        const int output = log.is_open() ? log.get() : null.get();
        ::dup2(null.get(), 0);
        ::dup2(output, 1);
        ::dup2(output, 2);
        for (const int fd : kept) {
            ::fcntl(fd, F_SETFD, 0);
        }
        close_others(kept.data(), kept.size());
        if (options.directory.empty() || ::chdir(options.directory.c_str()) == 0) {
            ::execv(program.c_str(), pointers.data());
        }
        ::_exit(kExecFailed);
    }
    return pid;
}

namespace {

// The fields of /proc/pid/stat after the command name, which may hold anything.
Result<std::vector<std::string>> stat_fields(pid_t pid) {
    const std::string text = TRY(read_file(fmt::format("/proc/{}/stat", pid), 4096));
    const size_t end_of_name = text.rfind(')');
    if (end_of_name == std::string::npos || end_of_name + 2 >= text.size()) {
        return Error::corrupt("/proc/{}/stat has no command name", pid);
    }
    std::vector<std::string> fields;
    size_t begin = end_of_name + 2;
    while (begin < text.size()) {
        const size_t end = std::min(text.find(' ', begin), text.size());
        fields.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return fields;
}

}  // namespace

bool process_alive(pid_t pid) {
    const auto fields = stat_fields(pid);
    return fields.ok() && !fields->empty() && fields->front() != "Z" && fields->front() != "X";
}

Result<uint64_t> process_start_ticks(pid_t pid) {
    const auto fields = TRY(stat_fields(pid));
    constexpr size_t kStartTime = 22 - 3;  // field 22; the list begins with field 3
    if (fields.size() <= kStartTime) {
        return Error::corrupt("/proc/{}/stat has only {} fields", pid, fields.size());
    }
    uint64_t ticks = 0;
    const std::string& text = fields[kStartTime];
    if (std::from_chars(text.data(), text.data() + text.size(), ticks).ec != std::errc()) {
        return Error::corrupt("/proc/{}/stat has no start time", pid);
    }
    return ticks;
}

Result<std::string> find_program(std::string_view name) {
    const char* path = std::getenv("PATH");
    const std::string all = fmt::format("{}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin",
                                        path != nullptr ? path : "");
    size_t begin = 0;
    while (begin <= all.size()) {
        const size_t end = std::min(all.find(':', begin), all.size());
        const std::string candidate = fmt::format("{}/{}", all.substr(begin, end - begin), name);
        if (end > begin && ::access(candidate.c_str(), X_OK) == 0) {
            return candidate;
        }
        begin = end + 1;
    }
    return Error::not_found("the program {} is not installed", name)
        .with_hint(fmt::format("Install the package that holds it, or add its folder to PATH."));
}

}  // namespace kumoi
