#include "hypervisor/sandbox/thread_class.h"

#include "hypervisor/kvm/kvm_abi.h"  // sizes as the kernel has them, and so the numbers

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <system_error>

#include "base/log.h"
#include "base/worker_pool.h"

namespace kumoi::hypervisor {

namespace {

using Checks = std::vector<ArgumentCheck>;

// Which kinds of thread: control, vCPU, device I/O, worker, snapshot, migration.
enum Kinds : uint8_t { C = 1, V = 2, I = 4, W = 8, S = 16, M = 32, All = 63 };

struct Row {
    std::string_view name;
    uint32_t number;
    uint8_t kinds;
};

// Control has every right of the others: they start with its filter.
constexpr Row kPlain[] = {
    {"accept4", SYS_accept4, C | I},
    {"brk", SYS_brk, All},
    {"clock_gettime", SYS_clock_gettime, All},
    {"clock_nanosleep", SYS_clock_nanosleep, All},
    {"close", SYS_close, All},
    {"epoll_create1", SYS_epoll_create1, C | V | I | M},
    {"epoll_ctl", SYS_epoll_ctl, C | V | I | M},
    {"epoll_wait", SYS_epoll_wait, C | I | M},
    {"eventfd2", SYS_eventfd2, C | V | I | M},
    {"exit", SYS_exit, All},
    {"exit_group", SYS_exit_group, All},
    {"fallocate", SYS_fallocate, C | I | W | M},
    {"fdatasync", SYS_fdatasync, All},
    {"fsync", SYS_fsync, C | I | W | S | M},
    {"ftruncate", SYS_ftruncate, C | I | W | S | M},
    {"futex", SYS_futex, All},
    {"getpid", SYS_getpid, All},
    {"getrandom", SYS_getrandom, All},
    {"gettid", SYS_gettid, All},
    {"io_uring_enter", SYS_io_uring_enter, C | I},
    {"lseek", SYS_lseek, C | I | W | S | M},
    {"madvise", SYS_madvise, All},
    {"membarrier", SYS_membarrier, C | M},
    {"mincore", SYS_mincore, C | M},
    {"munmap", SYS_munmap, All},
    {"mremap", SYS_mremap, All},
    {"ppoll", SYS_ppoll, C | I | W | S | M},
    {"poll", SYS_poll, C | I | W | S | M},
    {"pread64", SYS_pread64, C | I | W | S | M},
    {"preadv", SYS_preadv, C | I | W | S | M},
    {"pwrite64", SYS_pwrite64, All},
    {"pwritev", SYS_pwritev, C | I | W | S | M},
    {"read", SYS_read, All},
    {"readv", SYS_readv, C | I | W | M},
    {"recvfrom", SYS_recvfrom, C | I | M},
    {"recvmsg", SYS_recvmsg, C | I | M},
    {"restart_syscall", SYS_restart_syscall, All},
    {"rseq", SYS_rseq, All},
    {"rt_sigaction", SYS_rt_sigaction, All},
    {"rt_sigprocmask", SYS_rt_sigprocmask, All},
    {"rt_sigreturn", SYS_rt_sigreturn, All},
    {"sched_getaffinity", SYS_sched_getaffinity, C},
    {"sched_setaffinity", SYS_sched_setaffinity, C | I},
    {"sched_yield", SYS_sched_yield, All},
    {"sendmsg", SYS_sendmsg, C | I | M},
    {"sendto", SYS_sendto, C | I | M},
    {"set_robust_list", SYS_set_robust_list, All},
    {"shutdown", SYS_shutdown, C | I | M},
    {"sigaltstack", SYS_sigaltstack, All},
    {"write", SYS_write, All},
    {"writev", SYS_writev, C | I | W | M},
};

constexpr uint32_t number_of(unsigned long request) {
    return static_cast<uint32_t>(request);
}

// What a vCPU thread does to its processor.
const std::vector<uint32_t> kVcpuIoctls = {
    number_of(KVM_RUN),       number_of(KVM_GET_REGS),        number_of(KVM_SET_REGS),
    number_of(KVM_GET_SREGS), number_of(KVM_SET_SREGS),       number_of(KVM_GET_MP_STATE),
    number_of(KVM_GET_LAPIC), number_of(KVM_GET_VCPU_EVENTS), number_of(KVM_GET_FPU),
    number_of(KVM_TRANSLATE), number_of(KVM_GET_DEBUGREGS),   number_of(KVM_GET_MSRS),
    number_of(KVM_GET_CPUID2)};

// What devices do on a vCPU thread, in answer to the guest's accesses: interrupt routes, doorbells.
const std::vector<uint32_t> kVmIoctls = {number_of(KVM_IRQFD),
                                         number_of(KVM_IOEVENTFD),
                                         number_of(KVM_SET_GSI_ROUTING),
                                         number_of(KVM_IRQ_LINE),
                                         number_of(KVM_SET_USER_MEMORY_REGION),
                                         number_of(KVM_RESET_DIRTY_RINGS),
                                         number_of(KVM_SIGNAL_MSI)};

const std::vector<uint32_t> kControlIoctls = {
    // Making a machine.
    number_of(KVM_GET_API_VERSION), number_of(KVM_CREATE_VM), number_of(KVM_CHECK_EXTENSION),
    number_of(KVM_GET_VCPU_MMAP_SIZE), number_of(KVM_GET_SUPPORTED_CPUID),
    number_of(KVM_CREATE_VCPU), number_of(KVM_SET_TSS_ADDR), number_of(KVM_SET_IDENTITY_MAP_ADDR),
    number_of(KVM_CREATE_IRQCHIP), number_of(KVM_CREATE_PIT2), number_of(KVM_ENABLE_CAP),
    number_of(KVM_SET_CPUID2), number_of(KVM_GET_MSR_INDEX_LIST),
    // Its state, for pause, reset, save, restore and dirty pages.
    number_of(KVM_SET_MP_STATE), number_of(KVM_SET_LAPIC), number_of(KVM_SET_VCPU_EVENTS),
    number_of(KVM_SET_FPU), number_of(KVM_SET_DEBUGREGS), number_of(KVM_SET_MSRS),
    number_of(KVM_NMI), number_of(KVM_GET_CLOCK), number_of(KVM_SET_CLOCK),
    number_of(KVM_GET_IRQCHIP), number_of(KVM_SET_IRQCHIP), number_of(KVM_GET_PIT2),
    number_of(KVM_SET_PIT2), number_of(KVM_GET_XSAVE), number_of(KVM_GET_XSAVE2),
    number_of(KVM_GET_SREGS2), number_of(KVM_SET_SREGS2), number_of(KVM_SET_XSAVE),
    number_of(KVM_GET_XCRS), number_of(KVM_SET_XCRS), number_of(KVM_GET_TSC_KHZ),
    number_of(KVM_SET_TSC_KHZ), number_of(KVM_KVMCLOCK_CTRL), number_of(KVM_GET_DEVICE_ATTR),
    number_of(KVM_SET_DEVICE_ATTR), number_of(KVM_HAS_DEVICE_ATTR), number_of(UFFDIO_API),
    number_of(UFFDIO_REGISTER), 0xaa00 /* USERFAULTFD_IOC_NEW, Linux 6.1 */,
    // Disks, cards, the terminal of --serial stdio.
    number_of(BLKGETSIZE64), number_of(BLKSSZGET), number_of(TUNSETVNETHDRSZ), number_of(TUNGETIFF),
    number_of(TCGETS), number_of(TCSETS)};

// linux/vhost.h is no C++.
namespace vhost {
constexpr unsigned kType = 0xaf;
using VringState = uint32_t[2];
using VringFile = uint32_t[2];
using VringAddress = uint64_t[5];
constexpr uint32_t kIoctls[] = {
    _IO(kType, 0x01),                 // VHOST_SET_OWNER
    _IO(kType, 0x02),                 // VHOST_RESET_OWNER
    _IOR(kType, 0x00, uint64_t),      // VHOST_GET_FEATURES
    _IOW(kType, 0x00, uint64_t),      // VHOST_SET_FEATURES
    _IOW(kType, 0x03, uint64_t),      // VHOST_SET_MEM_TABLE
    _IOW(kType, 0x10, VringState),    // VHOST_SET_VRING_NUM
    _IOW(kType, 0x11, VringAddress),  // VHOST_SET_VRING_ADDR
    _IOW(kType, 0x12, VringState),    // VHOST_SET_VRING_BASE
    _IOWR(kType, 0x12, VringState),   // VHOST_GET_VRING_BASE
    _IOW(kType, 0x20, VringFile),     // VHOST_SET_VRING_KICK
    _IOW(kType, 0x21, VringFile),     // VHOST_SET_VRING_CALL
    _IOW(kType, 0x22, VringFile),     // VHOST_SET_VRING_ERR
    _IOW(kType, 0x30, VringFile),     // VHOST_NET_SET_BACKEND
};
}  // namespace vhost

const std::vector<uint32_t> kIoIoctls = {number_of(TUNSETOFFLOAD), number_of(TUNSETQUEUE),
                                         number_of(BLKDISCARD), number_of(BLKZEROOUT),
                                         number_of(BLKGETSIZE64)};

// Pages of guest memory on demand, and writes that wait until a page is saved.
const std::vector<uint32_t> kPageIoctls = {number_of(UFFDIO_COPY), number_of(UFFDIO_ZEROPAGE),
                                           number_of(UFFDIO_WAKE), number_of(UFFDIO_WRITEPROTECT),
                                           number_of(UFFDIO_UNREGISTER)};

// Which pages were written; the rings' reset is above, for vCPUs whose ring is full need it too.
const std::vector<uint32_t> kDirtyIoctls = {
    number_of(KVM_GET_DIRTY_LOG), number_of(KVM_CLEAR_DIRTY_LOG), number_of(KVM_RESET_DIRTY_RINGS),
    number_of(KVM_SET_USER_MEMORY_REGION), number_of(UFFDIO_CONTINUE)};

std::vector<uint32_t> ioctls_of(ThreadClass kind) {
    std::vector<uint32_t> all;
    const auto add = [&all](const std::vector<uint32_t>& more) {
        for (const uint32_t number : more) {
            if (std::find(all.begin(), all.end(), number) == all.end()) {
                all.push_back(number);
            }
        }
    };
    if (kind == ThreadClass::Vcpu || kind == ThreadClass::Control) {
        add(kVcpuIoctls);
    }
    if (kind == ThreadClass::Snapshot) {
        return kPageIoctls;
    }
    if (kind == ThreadClass::Migration) {
        add(kPageIoctls);
        add(kDirtyIoctls);
        return all;
    }
    add(kVmIoctls);
    if (kind != ThreadClass::Vcpu) {
        add(kIoIoctls);
        add({std::begin(vhost::kIoctls), std::end(vhost::kIoctls)});
    }
    if (kind == ThreadClass::Control) {
        add(kPageIoctls);
        add(kDirtyIoctls);
        add(kControlIoctls);
    }
    return all;
}

// glibc's pthread_create, and nothing else that clone(2) can do: no process, no namespace.
constexpr uint32_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                  CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID |
                                  CLONE_CHILD_CLEARTID;

// Not an owner or signal of a descriptor, no leases, no pipes of any size.
const std::vector<uint32_t> kFcntls = {F_GETFD,     F_SETFD,      F_GETFL,     F_SETFL,
                                       F_OFD_SETLK, F_OFD_SETLKW, F_OFD_GETLK, F_DUPFD_CLOEXEC};

constexpr uint32_t kAtEmptyPath = AT_EMPTY_PATH;
constexpr uint32_t kRegisterEventFd = 4;  // IORING_REGISTER_EVENTFD
constexpr uint32_t kUnregisterEventFd = 5;
constexpr uint32_t kRegisterEventFdAsync = 7;
constexpr uint32_t kRegisterEnableRings = 12;

#if defined(KUMOI_SANITIZED)
// What the sanitizers' run-time does when threads come and go.
constexpr Row kSanitizers[] = {{"prlimit64", SYS_prlimit64, All},
                               {"sched_getaffinity", SYS_sched_getaffinity, All},
                               {"getrusage", SYS_getrusage, All},
                               {"sysinfo", SYS_sysinfo, All},
                               {"pipe2", SYS_pipe2, All}};  // to see whether memory can be read
#else
constexpr std::array<Row, 0> kSanitizers{};
#endif

void add_checked(std::vector<AllowedCall>& calls, ThreadClass kind, uint32_t own_pid) {
    const auto add = [&calls](std::string_view name, long number, Checks checks) {
        calls.push_back({name, {static_cast<uint32_t>(number), std::move(checks)}});
    };
    const bool control = kind == ThreadClass::Control;
    add("ioctl", SYS_ioctl, {{1, ioctls_of(kind)}});
    // Memory is data or code, and code was there before: W^X for good.
    add("mmap", SYS_mmap, {{2, {}, PROT_EXEC}});
    add("mprotect", SYS_mprotect, {{2, {}, PROT_EXEC}});
    add("fcntl", SYS_fcntl, {{1, kFcntls}});
    add("newfstatat", SYS_newfstatat, {{3, {kAtEmptyPath}}});  // fstat(): no path
    add("tgkill", SYS_tgkill, {{0, {own_pid}}});               // kicks of our own threads
    if (kind != ThreadClass::Worker && kind != ThreadClass::Snapshot &&
        kind != ThreadClass::Migration) {
        add("socketpair", SYS_socketpair, {{0, {AF_UNIX}}});  // to a vhost-user back end
    }
    add("prctl", SYS_prctl, {{0, {PR_SET_NAME}}});
    // Rings come from ring_source.h only; who asks for another uses threads instead.
    calls.push_back({"io_uring_setup", {SYS_io_uring_setup, {}, ENOSYS}});
    if (kind == ThreadClass::Io || control) {
        add("io_uring_register", SYS_io_uring_register,
            {{1,
              {kRegisterEventFd, kUnregisterEventFd, kRegisterEventFdAsync,
               kRegisterEnableRings}}});
    }
    if (control) {
        add("clone", SYS_clone, {{0, {kThreadFlags}}});
        // Its flags are in memory, where a filter cannot look: glibc falls back to clone.
        calls.push_back({"clone3", {SYS_clone3, {}, ENOSYS}});
        add("seccomp", SYS_seccomp, {{0, {SECCOMP_SET_MODE_FILTER}}});  // to lose rights
        add("memfd_create", SYS_memfd_create, {});
        add("mbind", SYS_mbind, {});
        add("userfaultfd", SYS_userfaultfd, {});
        add("getsockopt", SYS_getsockopt,
            {{1, {SOL_SOCKET}}, {2, {SO_TYPE, SO_ACCEPTCONN, SO_DOMAIN}}});  // what was passed?
    }
    if (control || kind == ThreadClass::Io) {  // viewers of the display
        add("setsockopt", SYS_setsockopt, {{1, {IPPROTO_TCP}}, {2, {TCP_NODELAY}}});
    }
}

// Starts threads for those that may not. Lives until the process ends.
class Spawner {
public:
    Spawner() : thread_([this] { run(); }) {}

    std::thread start(std::function<void()> function) {
        Order order{std::move(function), {}};
        std::future<std::thread> started = order.started.get_future();
        {
            const std::lock_guard lock(mutex_);
            orders_.push_back(std::move(order));
        }
        changed_.notify_one();
        return started.get();
    }

private:
    struct Order {
        std::function<void()> function;
        std::promise<std::thread> started;
    };

    void run() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, nullptr);
        pthread_setname_np(pthread_self(), "spawner");
        for (;;) {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [this] { return !orders_.empty(); });
            Order order = std::move(orders_.front());
            orders_.pop_front();
            lock.unlock();
            try {
                order.started.set_value(std::thread(std::move(order.function)));
            } catch (const std::system_error&) {
                order.started.set_exception(std::current_exception());
            }
        }
    }

    std::mutex mutex_;  // guards orders_
    std::condition_variable changed_;
    std::deque<Order> orders_;
    std::thread thread_;  // last: everything above exists when it starts
};

// Each kind's program is built when its first thread starts: a guest waits for the first ones.
class Closed {
public:
    explicit Closed(uint32_t otherwise) : otherwise_(otherwise) {}

    Result<void> install(ThreadClass kind) {
        std::vector<sock_filter>& program = programs_[static_cast<size_t>(kind)];
        const std::lock_guard lock(mutex_);
        if (program.empty()) {
            std::vector<SyscallRule> rules;
            for (AllowedCall& call : allowed_calls(kind, static_cast<uint32_t>(::getpid()))) {
                rules.push_back(std::move(call.rule));
            }
            program = TRY(build_seccomp_filter(std::move(rules), otherwise_));
        }
        return install_seccomp_filter(program);
    }
    Spawner& spawner() { return *spawner_; }
    void start_spawner() { spawner_ = std::make_unique<Spawner>(); }

private:
    const uint32_t otherwise_;
    std::mutex mutex_;  // guards programs_
    std::array<std::vector<sock_filter>, kThreadClasses> programs_;
    std::unique_ptr<Spawner> spawner_;
};
thread_local bool t_confined = false;  // may not start threads
// Written once, before other threads are; never freed: threads may start until the process ends.
std::atomic<Closed*> g_closed{nullptr};

}  // namespace

#if defined(KUMOI_SANITIZED)
// The leak check at the end looks at /proc and traces this process: it cannot in a sandbox.
extern "C" __attribute__((visibility("default"), used)) int __lsan_is_turned_off() {
    return seccomp_closed() ? 1 : 0;
}
#endif

std::string_view to_string(ThreadClass kind) {
    constexpr std::string_view kNames[] = {"control", "vcpu",     "io",
                                           "worker",  "snapshot", "migration"};
    return kNames[static_cast<size_t>(kind)];
}

std::vector<AllowedCall> allowed_calls(ThreadClass kind, uint32_t own_pid) {
    std::vector<AllowedCall> calls;
    const auto bit = static_cast<uint8_t>(1u << static_cast<unsigned>(kind));
    for (const Row& row : kPlain) {
        if ((row.kinds & bit) != 0 || kind == ThreadClass::Control) {
            calls.push_back({row.name, {row.number}});
        }
    }
    for (const Row& row : kSanitizers) {
        if (std::ranges::none_of(calls, [&](const auto& call) { return call.name == row.name; })) {
            calls.push_back({row.name, {row.number}});
        }
    }
    add_checked(calls, kind, own_pid);
    return calls;
}

Result<void> close_seccomp(SeccompAction action) {
    if (seccomp_closed()) {
        return Error::conflict("the seccomp filters are installed already");
    }
    const uint32_t otherwise =
        action == SeccompAction::Kill ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_LOG;
    auto closed = std::make_unique<Closed>(otherwise);
    TRY(closed->install(ThreadClass::Control));
    try {
        closed->start_spawner();
    } catch (const std::system_error& error) {
        return Error::exhausted("cannot start a thread: {}", error.what());
    }
    WorkerPool::set_starter([](std::function<void()> function) {
        return start_thread(ThreadClass::Worker, std::move(function));
    });
    g_closed.store(closed.release(), std::memory_order_release);
    return {};
}

bool seccomp_closed() {
    return g_closed.load(std::memory_order_acquire) != nullptr;
}

std::thread start_thread(ThreadClass kind, std::function<void()> function) {
    auto confined = [kind, function = std::move(function)] {
        enter_thread_class(kind);
        function();
    };
    Closed* closed = g_closed.load(std::memory_order_acquire);
    if (closed == nullptr || !t_confined) {
        return std::thread(std::move(confined));
    }
    return closed->spawner().start(std::move(confined));
}

void enter_thread_class(ThreadClass kind) {
    Closed* closed = g_closed.load(std::memory_order_acquire);
    if (closed == nullptr) {
        return;
    }
    t_confined = true;
    if (auto installed = closed->install(kind); !installed) {
        log_error("sandbox", "a thread could not be confined; ending",
                  {{"kind", to_string(kind)}, {"error", installed.error().text()}});
        std::abort();
    }
}

}  // namespace kumoi::hypervisor
