// kumoi-relay: encrypts the connections of one live migration where the kernel cannot
// (docs/reference/migration-link.md). Started by kumoi-compute with its order on a socket; leaves
// it at once and lives until the migration's connections end.
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "hypervisor/sandbox/seccomp_filter.h"
#include "hypervisor/sandbox/thread_class.h"
#include "migration/link/relay.h"

namespace {

using namespace kumoi;

constexpr uint32_t kSolTls = 282;  // <linux/socket.h>

// What TLS and pumping need once all files have been read. Everything else fails.
Result<void> give_up_rights() {
    std::vector<hypervisor::SyscallRule> rules;
    for (const uint32_t number : {SYS_read,
                                  SYS_write,
                                  SYS_readv,
                                  SYS_writev,
                                  SYS_recvfrom,
                                  SYS_sendto,
                                  SYS_recvmsg,
                                  SYS_sendmsg,
                                  SYS_poll,
                                  SYS_ppoll,
                                  SYS_shutdown,
                                  SYS_close,
                                  SYS_futex,
                                  SYS_mmap,
                                  SYS_munmap,
                                  SYS_mremap,
                                  SYS_brk,
                                  SYS_madvise,
                                  SYS_mprotect,
                                  SYS_getrandom,
                                  SYS_clock_gettime,
                                  SYS_clock_nanosleep,
                                  SYS_gettimeofday,
                                  SYS_getpid,
                                  SYS_gettid,
                                  SYS_sched_yield,
                                  SYS_rt_sigprocmask,
                                  SYS_rt_sigreturn,
                                  SYS_rt_sigaction,
                                  SYS_exit,
                                  SYS_exit_group,
                                  SYS_restart_syscall,
                                  SYS_getsockopt,
                                  SYS_tgkill}) {
        rules.push_back({number});
    }
#if defined(KUMOI_SANITIZED)
    for (const uint32_t number : {SYS_pipe2, SYS_pipe, SYS_sigaltstack}) {  // of sanitizers
        rules.push_back({number});
    }
#endif
    rules.push_back({SYS_setsockopt, {{1, {IPPROTO_TCP, kSolTls}}}});
    rules.push_back({SYS_fcntl, {{1, {F_GETFL, F_SETFL}}}});
    const auto program =
        TRY(hypervisor::build_seccomp_filter(std::move(rules), SECCOMP_RET_ERRNO | EPERM));
    return hypervisor::install_seccomp_filter(program);
}

void harden() {
    (void)::prctl(PR_SET_DUMPABLE, 0);
    (void)::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const rlimit none{0, 0};
    (void)::setrlimit(RLIMIT_CORE, &none);
    (void)::setrlimit(RLIMIT_FSIZE, &none);
    (void)!::chdir("/");
}

}  // namespace

int main(int argc, char** argv) {
    int order_socket = -1;
    if (argc != 3 || std::strcmp(argv[1], "--order-fd") != 0 ||
        std::from_chars(argv[2], argv[2] + std::strlen(argv[2]), order_socket).ec != std::errc() ||
        order_socket < 3) {
        (void)std::fputs("usage: kumoi-relay --order-fd N; kumoi-compute starts it\n", stderr);
        return 2;
    }
    if (const pid_t child = ::fork(); child != 0) {
        return child > 0 ? 0 : 1;
    }
    harden();
    const auto done = link::run_relay(order_socket, give_up_rights);
    return done.ok() ? 0 : 1;
}
