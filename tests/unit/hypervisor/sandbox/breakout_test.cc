// Tries to break out of the sandbox in every way we know, from every kind of thread. Each attempt
// runs in a process of its own that has entered the very sandbox a kumoi-vmm enters; it must be
// killed or refused. Those that would harm the host if they succeeded are harmless by their
// arguments. The same attempts outside of the sandbox tell that they would have worked.
#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/io_uring.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>

#include "base/file.h"
#include "base/log.h"
#include "hypervisor/sandbox/file_source.h"
#include "hypervisor/sandbox/ring_source.h"
#include "hypervisor/sandbox/sandbox.h"
#include "hypervisor/sandbox/thread_class.h"

namespace kumoi::hypervisor {
namespace {

// What an attempt is aimed at; all of it lives outside.
struct Target {
    std::string file;
    std::string socket;
    std::string abstract;
    uint16_t port = 0;
    pid_t process = 0;
};

// True: it got out.
struct Attempt {
    const char* name;
    std::function<bool(const Target&)> run;
};

enum Outcome { kEscaped = 10, kRefused = 11, kNoSandbox = 12 };

bool opens(const std::string& path) {
    return ::syscall(SYS_openat, AT_FDCWD, path.c_str(), O_RDONLY, 0) >= 0;
}

bool connects_unix(const std::string& path, bool abstract) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + (abstract ? 1 : 0), path.data(), path.size());
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    return fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0;
}

bool connects_tcp(uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    return fd >= 0 &&
           ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

// An operation on a ring this process was given: no system call of ours names it.
bool ring_does(const std::function<void(io_uring_sqe*)>& prepare) {
    auto ring = take_ring();
    if (!ring) {
        return false;
    }
    io_uring_sqe* entry = io_uring_get_sqe(&*ring);
    prepare(entry);
    if (io_uring_submit(&*ring) != 1) {
        return false;
    }
    io_uring_cqe* done = nullptr;
    return io_uring_wait_cqe(&*ring, &done) == 0 && done->res >= 0;
}

bool maps(int protection) {
    return ::mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

// The old way into a 64-bit kernel, where other numbers mean other calls: 11 is execve there.
bool old_entry_works() {
    long result = 20;  // getpid
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
    return result > 0;
}

bool child_of(long pid) {
    if (pid == 0) {
        ::_exit(0);
    }
    return pid > 0;
}

const std::vector<Attempt>& file_attempts() {
    static const std::vector<Attempt> attempts = {
        {"open", [](const Target& target) { return opens(target.file); }},
        {"open_system_file", [](const Target&) { return opens("/etc/passwd"); }},
        {"open_above_the_root", [](const Target&) { return opens("../../../../etc/passwd"); }},
        {"open_proc",
         [](const Target& target) {
             return opens("/proc/self/root/etc/passwd") || opens("/proc/1/environ") ||
                    opens(fmt::format("/proc/{}/mem", target.process));
         }},
        {"create", [](const Target&) { return ::open("/x", O_CREAT | O_RDWR, 0600) >= 0; }},
        {"unlink", [](const Target& target) { return ::unlink(target.file.c_str()) == 0; }},
        {"connect_unix", [](const Target& target) { return connects_unix(target.socket, false); }},
        {"connect_abstract",
         [](const Target& target) { return connects_unix(target.abstract, true); }},
        {"connect_tcp", [](const Target& target) { return connects_tcp(target.port); }},
        {"signal", [](const Target& target) { return ::kill(target.process, 0) == 0; }},
        {"ptrace",
         [](const Target& target) {
             return ::ptrace(PTRACE_SEIZE, target.process, nullptr, nullptr) == 0;
         }},
        {"ring_open",
         [](const Target& target) {
             return ring_does([&](io_uring_sqe* entry) {
                 io_uring_prep_openat(entry, AT_FDCWD, target.file.c_str(), O_RDONLY, 0);
             });
         }},
        {"exec",
         [](const Target&) {
             const char* arguments[] = {"/bin/true", nullptr};
             if (::fork() == 0) {
                 ::execv(arguments[0], const_cast<char**>(arguments));
                 ::_exit(1);
             }
             int status = 0;
             return ::wait(&status) > 0 && status == 0;
         }},
    };
    return attempts;
}

const std::vector<Attempt>& kernel_attempts() {
    static const std::vector<Attempt> attempts = {
        {"exec_directly",
         [](const Target&) {
             const char* arguments[] = {"/bin/sh", "-c", "exit 10", nullptr};
             return ::execv(arguments[0], const_cast<char**>(arguments)) == 0;
         }},
        {"exec_memory",
         [](const Target&) {
             const char* arguments[] = {"x", nullptr};
             return ::syscall(SYS_execveat, STDIN_FILENO, "", arguments, arguments,
                              AT_EMPTY_PATH) == 0;
         }},
        {"socket", [](const Target&) { return ::socket(AF_INET, SOCK_DGRAM, 0) >= 0; }},
        {"netlink", [](const Target&) { return ::socket(AF_NETLINK, SOCK_RAW, 0) >= 0; }},
        {"vsock", [](const Target&) { return ::socket(AF_VSOCK, SOCK_STREAM, 0) >= 0; }},
        {"fork", [](const Target&) { return child_of(::syscall(SYS_fork)); }},
        {"vfork_like",
         [](const Target&) { return child_of(::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }},
        {"clone3",
         [](const Target&) {
             uint64_t arguments[11] = {};
             arguments[4] = SIGCHLD;
             return child_of(::syscall(SYS_clone3, arguments, sizeof arguments));
         }},
        {"user_namespace", [](const Target&) { return ::unshare(CLONE_NEWUSER) == 0; }},
        {"mount_namespace", [](const Target&) { return ::unshare(CLONE_NEWNS) == 0; }},
        {"setns", [](const Target&) { return ::setns(0, 0) == 0; }},
        {"mount", [](const Target&) { return ::mount("proc", "/", "proc", 0, nullptr) == 0; }},
        {"umount", [](const Target&) { return ::umount2("/", MNT_DETACH) == 0; }},
        {"chroot", [](const Target&) { return ::chroot("/") == 0; }},
        {"setuid", [](const Target&) { return ::setresuid(0, 0, 0) == 0; }},
        {"setgid", [](const Target&) { return ::setresgid(0, 0, 0) == 0; }},
        {"capset", [](const Target&) { return ::syscall(SYS_capset, nullptr, nullptr) == 0; }},
        {"signal_all", [](const Target&) { return ::kill(-1, 0) == 0; }},
        {"signal_thread",
         [](const Target& target) {
             return ::syscall(SYS_tgkill, target.process, target.process, 0) == 0;
         }},
        {"trace_me", [](const Target&) { return ::ptrace(PTRACE_TRACEME, 0, 0, 0) == 0; }},
        {"read_other_memory",
         [](const Target& target) {
             char byte = 0;
             const iovec local{&byte, 1};
             const iovec remote{const_cast<Target*>(&target), 1};
             return ::process_vm_readv(target.process, &local, 1, &remote, 1, 0) == 1;
         }},
        {"pidfd",
         [](const Target& target) { return ::syscall(SYS_pidfd_open, target.process, 0) >= 0; }},
    };
    return attempts;
}

const std::vector<Attempt>& code_attempts() {
    static const std::vector<Attempt> attempts = {
        {"bpf", [](const Target&) { return ::syscall(SYS_bpf, 0, nullptr, 0) >= 0; }},
        {"perf",
         [](const Target&) {
             perf_event_attr attributes{};
             attributes.size = sizeof attributes;
             return ::syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0) >= 0;
         }},
        {"keys", [](const Target&) { return ::syscall(SYS_keyctl, 0, -3, 1) >= 0; }},
        {"new_ring",
         [](const Target&) {
             io_uring_params parameters{};
             return ::syscall(SYS_io_uring_setup, 4, &parameters) >= 0;
         }},
        {"ring_socket",
         [](const Target&) {
             return ring_does([](io_uring_sqe* entry) {
                 std::memset(entry, 0, sizeof *entry);
                 constexpr uint8_t kOpSocket = 45;  // IORING_OP_SOCKET, Linux 5.19
                 entry->opcode = kOpSocket;
                 entry->fd = AF_INET;
                 entry->off = SOCK_STREAM;
             });
         }},
        {"ring_fixed_file",
         [](const Target&) {
             auto ring = take_ring();
             const int fd = STDERR_FILENO;
             return ring.ok() && ::syscall(SYS_io_uring_register, ring->ring_fd,
                                           IORING_REGISTER_FILES, &fd, 1) == 0;
         }},
        {"code_writable", [](const Target&) { return maps(PROT_READ | PROT_WRITE | PROT_EXEC); }},
        {"code_new", [](const Target&) { return maps(PROT_READ | PROT_EXEC); }},
        {"code_later",
         [](const Target&) {
             void* page =
                 ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
             return ::mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0;
         }},
        {"code_by_personality", [](const Target&) { return ::syscall(SYS_personality, 0) >= 0; }},
        {"type_on_terminal",
         [](const Target&) {
             char byte = 'x';
             return ::ioctl(STDERR_FILENO, TIOCSTI, &byte) == 0;
         }},
        {"own_signals_of_descriptor",
         [](const Target& target) {
             return ::fcntl(STDERR_FILENO, F_SETOWN, target.process) == 0;
         }},
        {"handle",
         [](const Target&) { return ::syscall(SYS_open_by_handle_at, AT_FDCWD, nullptr, 0) >= 0; }},
        {"dumpable", [](const Target&) { return ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0; }},
        {"module", [](const Target&) { return ::syscall(SYS_init_module, nullptr, 0, "") == 0; }},
        {"ports", [](const Target&) { return ::syscall(SYS_iopl, 3) == 0; }},
        {"x32_numbers", [](const Target&) { return ::syscall(0x4000'0000 + SYS_getpid) > 0; }},
        {"old_entry", [](const Target&) { return old_entry_works(); }},
        {"limits",
         [](const Target&) {
             const rlimit most{RLIM_INFINITY, RLIM_INFINITY};
             return ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &most, nullptr) == 0;
         }},
    };
    return attempts;
}

class BreakoutTest : public ::testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(write_file_atomic(target_.file, "secret").ok());
        unix_ = direct_files().listen(target_.socket).value();
        tcp_ = direct_files().listen_tcp("127.0.0.1", 0).value();
        sockaddr_in bound{};
        socklen_t size = sizeof bound;
        ASSERT_EQ(::getsockname(tcp_.get(), reinterpret_cast<sockaddr*>(&bound), &size), 0);
        target_.port = ntohs(bound.sin_port);
        listen_abstract();
        target_.process = ::getpid();
        ASSERT_TRUE(log_init({LogLevel::Error, "/dev/null", false}).ok());
    }

    void listen_abstract() {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path + 1, target_.abstract.data(), target_.abstract.size());
        const auto length =
            static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + target_.abstract.size() + 1);
        abstract_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        ASSERT_EQ(::bind(abstract_.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
        ASSERT_EQ(::listen(abstract_.get(), 8), 0);
    }

    // The wait status of a process that made the attempt inside, on a thread of this kind. That it
    // came as far as the attempt is checked: a sandbox that kills everything would hold, too.
    int attempt_inside(const Attempt& attempt, ThreadClass kind, bool with_seccomp) {
        int started[2];
        EXPECT_EQ(::pipe(started), 0);
        const UniqueFd reader(started[0]);
        const pid_t child = ::fork();
        if (child == 0) {
            Sandbox sandbox(SandboxMode::On);
            SandboxPlan plan;
            if (!sandbox.enter(plan) || !prepare_rings(1) || (with_seccomp && !sandbox.close())) {
                ::_exit(kNoSandbox);
            }
            Outcome outcome = kNoSandbox;
            const auto run = [&] {
                if (::write(started[1], "s", 1) == 1) {
                    outcome = attempt.run(target_) ? kEscaped : kRefused;
                }
            };
            if (kind == ThreadClass::Control) {
                run();
            } else {
                start_thread(kind, run).join();
            }
            ::_exit(outcome);
        }
        int status = 0;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        ::close(started[1]);
        char byte = 0;
        EXPECT_EQ(::read(reader.get(), &byte, 1), 1) << attempt.name << " was not reached";
        return status;
    }

    int attempt_outside(const Attempt& attempt) {
        const pid_t child = ::fork();
        if (child == 0) {
            ::_exit(attempt.run(target_) ? kEscaped : kRefused);
        }
        int status = 0;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        return status;
    }

    static bool was_held(int status) {
        return (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) ||
               (WIFEXITED(status) && WEXITSTATUS(status) == kRefused);
    }
    static std::string story(int status) {
        return WIFSIGNALED(status) ? fmt::format("killed by {}", WTERMSIG(status))
                                   : fmt::format("exit code {}", WEXITSTATUS(status));
    }

    TemporaryDirectory directory_ = TemporaryDirectory::create("breakout").value();
    Target target_{directory_.path() + "/secret", directory_.path() + "/door",
                   fmt::format("kumoi-breakout-{}", ::getpid()), 0, 0};
    UniqueFd unix_;
    UniqueFd tcp_;
    UniqueFd abstract_;
};

TEST_F(BreakoutTest, OutsideTheseWork) {
    for (const Attempt& attempt : file_attempts()) {
        const std::string name = attempt.name;
        if (name == "unlink" || name == "create" || name == "ptrace" || name == "ring_open") {
            continue;  // would change what the others need; or a rule of this host
        }
        const int status = attempt_outside(attempt);
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kEscaped)
            << name << ": " << story(status);
    }
}

TEST_F(BreakoutTest, NoThreadGetsOut) {
    for (const ThreadClass kind :
         {ThreadClass::Control, ThreadClass::Vcpu, ThreadClass::Io, ThreadClass::Worker,
          ThreadClass::Snapshot, ThreadClass::Migration}) {
        for (const auto* attempts : {&file_attempts(), &kernel_attempts(), &code_attempts()}) {
            for (const Attempt& attempt : *attempts) {
                const int status = attempt_inside(attempt, kind, true);
                EXPECT_TRUE(was_held(status))
                    << attempt.name << " on a " << to_string(kind) << " thread: " << story(status);
            }
        }
    }
}

// Namespaces, user and landlock hold what is outside by themselves: the filters are a second wall.
TEST_F(BreakoutTest, WithoutTheFiltersTheRestHolds) {
    for (const Attempt& attempt : file_attempts()) {
        const int status = attempt_inside(attempt, ThreadClass::Control, false);
        EXPECT_TRUE(was_held(status)) << attempt.name << ": " << story(status);
    }
}

TEST_F(BreakoutTest, WhatAThreadNeedsStillWorks) {
    const Attempt work{"work", [](const Target&) {
                           std::vector<std::byte> memory(1 << 20);
                           const auto event = make_eventfd();
                           return event.ok() && memory.size() == 1 << 20;
                       }};
    for (const ThreadClass kind : {ThreadClass::Control, ThreadClass::Vcpu, ThreadClass::Io}) {
        const int status = attempt_inside(work, kind, true);
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kEscaped) << story(status);
    }
    // A confined thread gets others started, each confined to its own kind.
    const Attempt start{"start", [](const Target&) {
                            int count = 0;
                            start_thread(ThreadClass::Worker, [&count] { ++count; }).join();
                            return count == 1;
                        }};
    const int status = attempt_inside(start, ThreadClass::Vcpu, true);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == kEscaped) << story(status);
}

}  // namespace
}  // namespace kumoi::hypervisor
